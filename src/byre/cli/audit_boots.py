"""``byre audit --boot``: each image booted on each machine that was asked for, and what differs from the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from byre.cli.output import Output, Printer, printable

if TYPE_CHECKING:
    from byre.audit.judging import Report
    from byre.audit.running import Failure
    from byre.machine.boot_trial import Trial
    from byre.machine.watch.observation import Step
    from byre.reports.html.sections import BootSection

Trials: TypeAlias = "Mapping[str, Sequence[Trial]]"
"""Image, as its report names it -> a trial for each target."""


def check_can_boot() -> None:
    """Before anything is audited: MissingError says how to get QEMU."""
    from byre.machine.qemu.process import find_qemu

    find_qemu()


def try_all(results: Sequence[Report | Failure], opening: dict[str, Any], out: Output) -> Trials:
    """Boot every image that could be audited, one machine after the other. ``opening`` is what ``open_disk`` gets."""
    from byre.audit.judging import Report
    from byre.machine.boot import BootOptions
    from byre.machine.boot_trial import try_target

    opening = {name: value for name, value in opening.items() if name != "force_unlocked"}

    def tell(step: Step) -> None:
        out.notice(f"{step.seconds:6.1f} s  {step.what}")

    return {
        report.image: tuple(
            try_target(report.image, each, BootOptions(), tell=tell, note=out.notice, **opening)
            for each in report.predictions
            if each.target in report.targets
        )
        for report in results
        if isinstance(report, Report)
    }


def with_boots(payload: dict[str, Any], trials: Trials) -> dict[str, Any]:
    """The JSON of one image's report with its boot tests, where there were any."""
    if payload["image"] not in trials:
        return payload
    from byre.reports.boot_trials import trials_json

    return {**payload, "boots": trials_json(trials[payload["image"]])}


def sections(trials: Trials) -> Mapping[str, BootSection]:
    """What the page shows of them."""
    if not trials:
        return {}
    from byre.reports.boot_trials import trials_section

    return {image: trials_section(each) for image, each in trials.items() if each}


def print_trials(console: Printer, trials: Trials) -> None:
    """What was foretold and what happened, a line each."""
    for image, each in trials.items():
        console.print()
        console.print(f"boot test of {printable(image)}")
        for trial in each:
            mark = {True: "agrees", False: "DIFFERS", None: "open"}[trial.agrees]
            console.print(f"  {mark:<8}{printable(trial.sentence)}")


def status_of(trials: Trials) -> int:
    """2 where a machine that was tried didn't start, or nothing proves that it did."""
    tried = [each for row in trials.values() for each in row if each.result is not None]
    return 2 if any(each.started is not True for each in tried) else 0
