"""Whether a changed disk still starts: its boot test, held against that of the disk as it was where it has to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from byre.disks.disk import Disk
from byre.machine.boot import BootOptions, boot_disk, machine_for
from byre.machine.watch.expectation import Expectation
from byre.machine.watch.observation import STAGES, BootResult, Step

STARTED = Expectation(("desktop", "logon", "prompt"), words="desktop, logon or prompt")
"""What a start is where nothing else was said: most real machines stop at their logon."""


@dataclass(frozen=True, slots=True, eq=False)
class StartProof:
    """``outcome``: ``starts``, the result came to what was expected; ``worse``, it didn't, and the image as it was
    did, or got further, or elsewhere; ``unproven``, neither did, and the result ends as the image does or later.
    ``before`` is None where nobody had to ask."""

    outcome: str
    sentence: str
    after: BootResult
    before: BootResult | None = None


def prove_start(
    before: Disk,
    after: Disk,
    name: str,
    options: BootOptions,
    *,
    tell: Callable[[str, Step], None] = lambda which, step: None,
    note: Callable[[str], None] = lambda sentence: None,
) -> StartProof:
    """Boot ``after`` and, only where that doesn't come to what is expected, ``before``: on the same machine, the one
    that the disk as it was wants. ``name`` is its address; ``tell`` hears ``result`` or ``image`` with each step."""
    machine = machine_for(before, name, options)

    def boot(which: str, disk: Disk, how: BootOptions) -> BootResult:
        return boot_disk(disk, name, how, machine=machine, tell=lambda step: tell(which, step), note=note)

    result = boot("result", after, options)
    if result.met:
        return compare_starts(result, None)
    note("the result didn't come to that; the image as it was is tried, to tell whether that is slimming's doing")
    return compare_starts(result, boot("image", before, options))


def compare_starts(after: BootResult, before: BootResult | None) -> StartProof:
    """The outcome, in a sentence. Pure; ``before`` may be None only where ``after`` came to what was expected."""
    if after.met:
        return StartProof("starts", f"the result starts: {after.verdict.sentence}", after, before)
    assert before is not None
    ends = f"the image: {before.verdict.sentence}; the result: {after.verdict.sentence}"
    if before.met:
        return StartProof("worse", f"the image starts, and its result doesn't: {ends}", after, before)
    reached = [STAGES.index(each.verdict.stage) for each in (before, after)]
    if _end(before) == _end(after) or reached[1] > reached[0]:
        return StartProof("unproven", f"neither starts, so nothing is proven: {ends}", after, before)
    return StartProof("worse", f"neither starts, and the result ends otherwise: {ends}", after, before)


def _end(result: BootResult) -> tuple[object, ...]:
    """What makes two failures one. Texts aren't compared: they may hold times and addresses."""
    verdict = result.verdict
    return (verdict.kind, verdict.stage, verdict.stop.code if verdict.stop is not None else None)
