"""How hard a copy works, who hears of it, and who may stop it: from a conversion down to each of its copies."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from byre.errors import InterruptedByUserError


@dataclass(frozen=True, slots=True)
class Effort:
    """``threads`` None: one for each processor. ``advance`` is told the bytes of the source as they are done, on
    the calling thread; ``cancelled`` is asked now and then, and ends the copy."""

    threads: int | None = None
    advance: Callable[[int], None] | None = None
    cancelled: Callable[[], bool] | None = None

    def done(self, count: int) -> None:
        """So many bytes of the source more."""
        if self.advance is not None:
            self.advance(count)

    def check(self, path: str | os.PathLike[str]) -> None:
        """InterruptedByUserError where somebody wants it stopped; ``path`` is the source's."""
        if self.cancelled is not None and self.cancelled():
            raise InterruptedByUserError("cancelled; nothing half-made was left behind", path=path)
