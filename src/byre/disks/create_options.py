"""Reading the options of ``create``: from the command line they are text, from the library they may be typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from byre.errors import UsageError
from byre.units import parse_size


@dataclass(frozen=True, slots=True)
class CreateOptions:
    """The options of one new image; every complaint is a UsageError that names the option."""

    format: str
    path: str
    values: Mapping[str, object]
    known: Sequence[str]

    def __post_init__(self) -> None:
        for name in self.values:
            if name not in self.known:
                raise UsageError(
                    f"{self.format} has no option {name!r}", path=self.path, expected=", ".join(self.known)
                )

    def _wrong(self, name: str, expected: str) -> UsageError:
        return UsageError(
            f"the option {name!r} doesn't take this value",
            path=self.path,
            found=repr(self.values[name]),
            expected=expected,
        )

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        return None if value is None else str(value)

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        value = self.text(name)
        if value is None:
            return default
        if value not in allowed:
            raise self._wrong(name, " or ".join(allowed))
        return value

    def size(self, name: str, default: int) -> int:
        value = self.values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise self._wrong(name, "a size")
        return value if isinstance(value, int) else parse_size(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        said = switch(str(value))
        if said is None:
            raise self._wrong(name, "on or off")
        return said

    def uuid(self, name: str) -> UUID | None:
        value = self.values.get(name)
        if value is None or isinstance(value, UUID):
            return value
        try:
            return UUID(str(value))
        except ValueError:
            raise self._wrong(name, "a UUID, such as 7f6e0f70-53fb-4c8e-9d8f-6b1d7f3a2c11") from None

    def number(self, name: str, default: int, stop: int = 1 << 32) -> int:
        """A whole number from 0 up to but not including ``stop``."""
        value = self.values.get(name)
        if value is None:
            return default
        try:
            number = int(str(value))
        except ValueError:
            number = -1
        if not 0 <= number < stop:
            raise self._wrong(name, f"a number from 0 to {stop - 1}")
        return number


def switch(text: str) -> bool | None:
    """Whether a word means on or off; None where it means neither."""
    word = text.lower()
    return True if word in ("on", "true", "yes", "1") else False if word in ("off", "false", "no", "0") else None
