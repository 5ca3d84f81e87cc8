"""Everything that Byre raises on purpose.

    ByreError                     70  (never raised itself; a bug shows as 70)
    ├── UsageError                64  the request makes no sense
    ├── CorruptImageError         65  the image breaks its own format
    ├── MissingError              66  a file, snapshot or parent isn't there
    ├── UnsupportedError          69  well-formed, but nothing here reads or does it
    ├── ExistsError               73  the target is there already
    ├── StorageError              74  the operating system said no: read, write, disk full
    ├── LockedError               75  somebody else is using the image
    ├── RefusedReferenceError     77  an image names a file outside its folder
    └── InterruptedByUserError   130  Ctrl-C

One exit status for each branch; 0 to 3 are left to the verbs' own verdicts. *Unsupported* is not *corrupt*:
an image that is merely newer than Byre must never be called broken.
"""

from __future__ import annotations

from os import PathLike, fspath
from typing import ClassVar


class ByreError(Exception):
    """One sentence on what went wrong, with the facts that a program or a test wants beside it.

    ``what`` is the sentence; ``path`` the file; ``offset`` the host offset in bytes where it was seen;
    ``found`` and ``expected`` the two values that disagree; ``hint`` the next step for the user.
    """

    exit_code: ClassVar[int] = 70
    kind: ClassVar[str] = "internal"

    def __init__(
        self,
        what: str,
        *,
        path: str | PathLike[str] | None = None,
        offset: int | None = None,
        found: object = None,
        expected: object = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.path = None if path is None else fspath(path)
        self.offset = offset
        self.found = found
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        text = self.what
        if self.path is not None:
            text = f"{self.path}: {text}"
        details = []
        if self.offset is not None:
            details.append(f"at offset {self.offset:#x}")
        if self.found is not None:
            details.append(f"found {_shown(self.found)}")
        if self.expected is not None:
            details.append(f"expected {_shown(self.expected)}")
        if details:
            text += f" ({', '.join(details)})"
        if not text.endswith((".", "!", "?")):
            text += "."
        return f"{text} {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.fields()))

    def fields(self) -> dict[str, object]:
        """The keyword arguments that make this error again."""
        return {
            "path": self.path,
            "offset": self.offset,
            "found": self.found,
            "expected": self.expected,
            "hint": self.hint,
        }


def _rebuild(cls: type[ByreError], what: str, fields: dict[str, object]) -> ByreError:
    return cls(what, **fields)  # type: ignore[arg-type]


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value[:32].hex(" ") + (" ..." if len(value) > 32 else "")
    return str(value)


class UsageError(ByreError):
    """The request makes no sense: an unknown option, a size that can't be, a pair that excludes itself."""

    exit_code = 64
    kind = "usage"


class CorruptImageError(ByreError):
    """The image breaks its own format."""

    exit_code = 65
    kind = "corrupt"


class MissingError(ByreError):
    """A file, a snapshot, a backing image or a parent is not there."""

    exit_code = 66
    kind = "missing"


class UnsupportedError(ByreError):
    """Well-formed as far as can be told, but Byre can't read it or can't do that with it."""

    exit_code = 69
    kind = "unsupported"


class ExistsError(ByreError):
    """The target exists and nobody said that it may be replaced."""

    exit_code = 73
    kind = "exists"


class StorageError(ByreError):
    """The operating system refused: read error, short read, disk full, no permission."""

    exit_code = 74
    kind = "io"


class LockedError(ByreError):
    """Another program, usually a running machine, has the image open."""

    exit_code = 75
    kind = "locked"


class RefusedReferenceError(ByreError):
    """An image names another file that lies outside its folder and outside every ``--allow-path``."""

    exit_code = 77
    kind = "refused-reference"


class InterruptedByUserError(ByreError):
    """Ctrl-C or SIGTERM; whatever was half made is gone."""

    exit_code = 130
    kind = "interrupted"
