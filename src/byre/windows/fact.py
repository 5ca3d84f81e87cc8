"""A fact about a guest: known, absent, or unknown with the reason. Unknown is never taken for fine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from byre.errors import ByreError

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """``state`` is ``known`` (``value`` holds it), ``absent`` (looked for, not there) or ``unknown`` (``reason``)."""

    state: str
    value: T | None = None
    reason: str | None = None

    @property
    def is_known(self) -> bool:
        return self.state == "known"

    def map(self, change: Callable[[T], U]) -> Fact[U]:
        """The fact with its value changed, where it has one."""
        if self.state == "known" and self.value is not None:
            return Fact("known", change(self.value))
        return Fact(self.state, None, self.reason)


def known(value: T) -> Fact[T]:
    """What was read."""
    return Fact("known", value)


def absent() -> Fact[T]:
    """Looked for, and not there."""
    return Fact("absent")


def unknown(reason: str) -> Fact[T]:
    """What couldn't be looked at, and why."""
    return Fact("unknown", None, reason)


def known_or_absent(value: T | None) -> Fact[T]:
    """Known where there is a value, absent where it is None."""
    return Fact("absent") if value is None else Fact("known", value)


def attempt(read: Callable[[], T | None]) -> Fact[T]:
    """What ``read`` returns as a fact: None is absent, an error of Byre's own is unknown."""
    try:
        return known_or_absent(read())
    except ByreError as error:
        return Fact("unknown", None, str(error))
