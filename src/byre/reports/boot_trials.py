"""Boot tests beside an audit: as values for its JSON, and as the section of its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from byre.machine.boot_trial import Trial
from byre.reports.boot_json import boot_json
from byre.reports.html.sections import BootRow, BootSection


def trials_json(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The value of ``boots`` in ``byre/audit/1``."""
    return [
        {
            "target": each.target,
            "foretold": each.foretold,
            "started": each.started,
            "agrees": each.agrees,
            "sentence": each.sentence,
            "boot": boot_json(each.result) if each.result is not None else None,
        }
        for each in trials
    ]


def trials_section(trials: Sequence[Trial]) -> BootSection:
    """All targets as one section: the sentences, the timelines one after the other, and the picture of the first that
    didn't start, else of the first."""
    several = len(trials) > 1
    rows = [
        BootRow(step.seconds, f"{each.target}: {step.what}" if several else step.what)
        for each in trials
        if each.result is not None
        for step in each.result.steps
    ]
    tried = sorted((each for each in trials if each.result is not None), key=lambda each: each.started is True)
    reached = None if any(each.started is None for each in trials) else True
    return BootSection(
        verdict=" ".join(each.sentence.rstrip(".") + "." for each in trials),
        reached=False if any(each.started is False for each in trials) else reached,
        timeline=tuple(rows),
        screenshot=tried[0].result.screenshot if tried and tried[0].result is not None else None,
    )
