"""The loop of a boot test: look, remember, judge, until there is a verdict or the time is up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from byre.machine.watch.expectation import Expectation
from byre.machine.watch.observation import Observation, Step, Verdict
from byre.machine.watch.picture import Picture
from byre.machine.watch.probe import Probe
from byre.machine.watch.timeline import Pace, Watched, advance, give_up, judge

INTERVAL = 0.5
"""Seconds between looks. One look takes 20 to 50 ms of the guest's time; a loader's message stays for ever, and the
screen before a reset as long as the frozen machine does."""


@dataclass(frozen=True, slots=True, eq=False)
class Watching:
    """How it ended: the verdict, all that was remembered, the last look and the last picture."""

    verdict: Verdict
    watched: Watched
    seen: Observation
    picture: Picture | None


def watch(
    probe: Probe,
    expected: Expectation,
    *,
    timeout: float,
    pace: Pace | None = None,
    shell: str = "explorer.exe",
    tell: Callable[[Step], None] = lambda step: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Watching:
    """Watch until a verdict. ``tell`` hears of every new step; a reset without a verdict is let happen."""
    pace = pace or Pace()
    watched = Watched(shell=shell)
    picture: Picture | None = None
    while True:
        began = time.monotonic()
        seen = probe.look()
        picture = seen.picture or picture
        before = len(watched.steps)
        watched = advance(watched, seen)
        for step in watched.steps[before:]:
            tell(step)
        verdict = judge(watched, seen, pace, expected)
        if verdict is None and seen.seconds >= timeout:
            verdict = give_up(watched, seen, timeout)
        if verdict is not None:
            last = Step(seen.seconds, verdict.stage, f"verdict: {verdict.sentence}")
            tell(last)
            return Watching(verdict, replace(watched, steps=(*watched.steps, last)), seen, picture)
        if seen.reset:
            probe.resume()
        sleep(max(0.05, INTERVAL - (time.monotonic() - began)))
