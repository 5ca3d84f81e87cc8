"""Progress on stderr: a bar on a terminal, JSON lines when asked for, nothing otherwise."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from byre.units import format_size

QUIET_SECONDS = 1.0
"""Jobs shorter than this show nothing: a bar that flashes is noise."""
REDRAW_SECONDS = 0.1
TICK_SECONDS = 0.25


class Progress:
    """Counts what is done; subclasses draw. ``advance`` is called from one thread and costs a clock read.

    ``unit`` is what is counted: bytes, whose speed is shown, or things such as images, of which only the number is.
    """

    def __init__(self, what: str, total: int | None, unit: str = "bytes") -> None:
        self.what = what
        self.total = total
        self.unit = unit
        self.done = 0
        self.started = time.monotonic()
        self._next_draw = self.started + QUIET_SECONDS

    def advance(self, amount: int) -> None:
        self.done += amount
        self.redraw()

    def redraw(self) -> None:
        """Draw where it is time to; counts nothing, so that another thread may call it meanwhile."""
        now = time.monotonic()
        if now >= self._next_draw:
            self._next_draw = now + REDRAW_SECONDS
            self.draw(now)

    def draw(self, now: float) -> None:
        """Show the state; the base draws nothing."""

    def close(self, *, finished: bool = True) -> None:
        """Leave the line clean. ``finished`` False: the job was cut short."""


class _JsonProgress(Progress):
    def __init__(self, what: str, total: int | None, unit: str = "bytes") -> None:
        super().__init__(what, total, unit)
        self._next_draw = self.started

    def draw(self, now: float) -> None:
        self._say(now, finished=False)

    def close(self, *, finished: bool = True) -> None:
        self._say(time.monotonic(), finished=finished)

    def _say(self, now: float, *, finished: bool) -> None:
        import json  # here and not above: bars need none

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
        line = bar_line(self, now - self.started, _columns() - 1, unicode=_speaks_unicode())
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    def close(self, *, finished: bool = True) -> None:
        if self._drawn:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def ticking(bar: Progress) -> Iterator[None]:
    """Draw the bar while one step takes long: work that goes by stages or images says nothing in between.

    The one thread that draws is this one: the work sets ``what`` and ``done`` and never calls ``advance``."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(TICK_SECONDS):
            bar.redraw()

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def bar_line(progress: Progress, seconds: float, width: int, *, unicode: bool = True) -> str:
    """The line to draw, never wider than ``width`` columns: a line that wraps can't be drawn over."""
    rate = progress.done / max(seconds, 1e-9)
    speed = f"{format_size(int(rate))}/s"
    if not progress.total and progress.unit != "bytes":
        counted = f"{progress.done} {progress.unit}  " if progress.done else ""
        return f"{progress.what}  {counted}{_duration(seconds)}"[:width]
    if not progress.total:
        return f"{progress.what}  {format_size(progress.done)}  {speed}"[:width]
    share = min(1.0, progress.done / progress.total)
    left = (progress.total - progress.done) / rate if rate else 0.0
    facts = f"{share:4.0%}  {speed}  {_duration(left)} left"
    if progress.unit != "bytes":
        facts = f"{progress.done} of {progress.total}  {_duration(seconds)}"
    room = min(24, width - len(progress.what) - len(facts) - 2)
    if room < 4:
        return f"{progress.what} {share:.0%}"[:width]
    filled = int(share * room)
    full, empty = ("█", "░") if unicode else ("#", "-")
    return f"{progress.what} {full * filled}{empty * (room - filled)} {facts}"


def _duration(seconds: float) -> str:
    whole = max(0, int(seconds + 0.5))
    if whole < 100:
        return f"{whole} s"
    minutes = (whole + 30) // 60
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _speaks_unicode() -> bool:
    return (sys.stderr.encoding or "").lower().startswith("utf")


def start_progress(what: str, total: int | None, *, mode: str, unit: str = "bytes") -> Progress:
    """The right kind for ``mode`` (auto, json, none) and for what stderr is."""
    if mode == "json":
        return _JsonProgress(what, total, unit)
    if mode == "auto" and sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        return _BarProgress(what, total, unit)
    return Progress(what, total, unit)
