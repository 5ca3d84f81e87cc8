"""Progress on stderr: a bar on a terminal, JSON lines when asked for, nothing otherwise."""

from __future__ import annotations

import json
import sys
import time

from byre.units import format_size

QUIET_SECONDS = 1.0
"""Jobs shorter than this show nothing: a bar that flashes is noise."""
REDRAW_SECONDS = 0.1


class Progress:
    """Counts bytes done; subclasses draw. ``advance`` is called from one thread and costs a clock read."""

    def __init__(self, what: str, total: int | None) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self.started = time.monotonic()
        self._next_draw = self.started + QUIET_SECONDS

    def advance(self, amount: int) -> None:
        self.done += amount
        now = time.monotonic()
        if now >= self._next_draw:
            self._next_draw = now + REDRAW_SECONDS
            self.draw(now)

    def draw(self, now: float) -> None:
        """Show the state; the base draws nothing."""

    def close(self) -> None:
        """Leave the line clean."""


class _JsonProgress(Progress):
    def __init__(self, what: str, total: int | None) -> None:
        super().__init__(what, total)
        self._next_draw = self.started

    def draw(self, now: float) -> None:
        self._say(now, finished=False)

    def close(self) -> None:
        self._say(time.monotonic(), finished=True)

    def _say(self, now: float, *, finished: bool) -> None:
        state = {
            "schema": "byre/progress/1",
            "what": self.what,
            "done": self.done,
            "total": self.total,
            "seconds": round(now - self.started, 3),
            "finished": finished,
        }
        print(json.dumps(state), file=sys.stderr, flush=True)


class _BarProgress(Progress):
    _drawn = False

    def draw(self, now: float) -> None:
        self._drawn = True
        rate = self.done / max(now - self.started, 1e-9)
        if self.total:
            share = min(1.0, self.done / self.total)
            filled = int(share * 24)
            left = (self.total - self.done) / rate if rate else 0
            tail = f"{'█' * filled}{'░' * (24 - filled)} {share:4.0%}  {format_size(int(rate))}/s  {left:.0f} s left"
        else:
            tail = f"{format_size(self.done)}  {format_size(int(rate))}/s"
        print(f"\r\x1b[K{self.what} {tail}", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def start_progress(what: str, total: int | None, *, mode: str) -> Progress:
    """The right kind for ``mode`` (auto, json, none) and for what stderr is."""
    if mode == "json":
        return _JsonProgress(what, total)
    if mode == "auto" and sys.stderr.isatty():
        return _BarProgress(what, total)
    return Progress(what, total)
