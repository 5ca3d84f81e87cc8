"""What may be handed in for the page beside the audit: the outcome of a boot test."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BootRow:
    """One line of a boot test's timeline. ``seconds`` since the machine was switched on."""

    seconds: float
    what: str


@dataclass(frozen=True, slots=True)
class BootSection:
    """A boot test: its verdict in a sentence, whether it reached what it was to reach (None: can't be told), what
    happened when, and the last picture of the screen as PNG bytes."""

    verdict: str
    reached: bool | None
    timeline: tuple[BootRow, ...] = ()
    screenshot: bytes | None = None
