"""Mends carried out on a scratch disk: looked at, planned, applied, looked at again. The only part that writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from byre.audit.finding import Finding
from byre.audit.gathering import gather
from byre.audit.judging import judge
from byre.audit.platforms import PLATFORMS, Platform
from byre.disks.disk import Disk
from byre.disks.scratch import ScratchDisk
from byre.filesystems.fat.filesystem import FatFileSystem
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.opening import OpenVolume
from byre.lite.advance import Advance, quiet
from byre.lite.applying import apply_changes, check_changes, refuse_sleeping
from byre.lite.changes import Applied, Change, MakeFolder, Move, Overwrite, Put, Remove
from byre.lite.guards import refuse_files
from byre.lite.hive_editor import DeleteKey, DeleteValue, Edit, MakeKey, SetValue
from byre.lite.mending.disk import plan_disk
from byre.lite.mending.plan import Mend, Options, Patient, Plan, Refusal, Step, WriteSector
from byre.lite.mending.sessions import plan_session
from byre.lite.mending.sources import GuestSources
from byre.lite.outcome import prove_outcome
from byre.lite.registry_changes import hive_changes
from byre.windows.inspection import Inspection

MAX_ROUNDS = 8
"""Signature, code, flag, boot sector from its copy, its code and fields; then nothing is left."""
Progress = Callable[[str], None]


def _quiet(stage: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Mending:
    """One mend with its findings and its plan. ``findings`` are those of the audit before anything was done."""

    mend: Mend
    findings: tuple[Finding, ...]
    plan: Plan


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was found and planned. ``refusals`` are about the disk as a whole; ``volumes``: what is to be
    done in each, by the disk as it is now."""

    mendings: tuple[Mending, ...]
    refusals: tuple[Refusal, ...]
    volumes: tuple[tuple[OpenVolume, tuple[Change, ...]], ...]
    sectors: tuple[WriteSector, ...]
    every: tuple[OpenVolume, ...]
    """All volumes of the disk, changed or not."""

    def refuse_unsafe(self) -> None:
        """Raise where a volume may not be changed, or not so: dirty, hibernated, damaged, full."""
        if self.volumes:
            refuse_sleeping(self.every)
        for volume, changes in self.volumes:
            if changes:
                check_changes(volume, changes)


def prepare(
    work: ScratchDisk,
    mends: Sequence[Mend],
    options: Options,
    *,
    image: str,
    drivers: Path | None = None,
    progress: Progress = _quiet,
) -> Prepared:
    """Look, and plan. What lies below the file systems is written to ``work`` at once, since the rest can be seen
    only then; nothing else is."""
    findings = breaches(work, mends, image=image, progress=progress)
    names = [mend.name for mend in mends]
    below = _mend_disk(work, options) if "boot" in names else Plan()
    session = _discard_session(work, options, image) if "hibernation" in names else Plan()
    facts = gather(work, name=image, progress=progress)
    inspection = Inspection(work, name=image)
    system = next((pair for pair in inspection.roots if _is(pair, facts.guest)), None)
    plans = {mend.name: Plan() for mend in mends}
    refusals: tuple[Refusal, ...] = ()
    if system is not None:
        volume, root = system
        active = next((each for each in inspection.volumes if each.partition.active and each.filesystem), volume)
        assert volume.filesystem is not None and active.filesystem is not None
        source = GuestSources(volume.filesystem, root, drivers)
        patient = Patient(facts, volume.filesystem, active.filesystem, root, source, options)
        plans = {mend.name: mend.plan(patient) for mend in mends}
        first = next((name for name in ("portable", "boot") if name in plans), None)
        if drivers is not None and first is not None and not (source.used or plans[first].refusals):
            plans[first] += Plan(notes=(source.of_no_use(drivers),))
    else:
        reason = "no installed Windows or ReactOS was found"
        remedy = "see 'byre inspect' and 'byre audit' for what can't be read"
        refusals = (Refusal("the system", reason, remedy),)
    if "boot" in plans:
        plans["boot"] = below + plans["boot"]
    if session.steps or session.refusals:
        plans["hibernation"] = session
    mendings = tuple(Mending(mend, _of(findings, mend), plans[mend.name]) for mend in mends)
    steps = [step for each in mendings for step in each.plan.steps]
    sectors = tuple(step.action for step in steps if isinstance(step.action, WriteSector))
    volumes = _by_volume(steps, system, inspection, image) if system is not None else ()
    return Prepared(mendings, refusals, volumes, sectors, tuple(inspection.volumes))


def _is(pair: tuple[OpenVolume, str], guest: object) -> bool:
    return guest is not None and (pair[0].partition.index, pair[1]) == (
        getattr(guest, "volume", None),
        getattr(guest, "root", None),
    )


def _mend_disk(work: ScratchDisk, options: Options) -> Plan:
    whole = Plan()
    for _ in range(MAX_ROUNDS):
        plan = plan_disk(work, options)
        if not plan.steps:
            return whole + plan
        whole += Plan(plan.steps, (), plan.notes)
        for step in plan.steps:
            assert isinstance(step.action, WriteSector)
            work.write(step.action.offset, step.action.data)
    return whole


def _discard_session(work: ScratchDisk, options: Options, image: str) -> Plan:
    """Written at once as well: as long as a session is there, no volume of the disk is changed. Of other systems'
    volumes too."""
    inspection = Inspection(work, name=image)
    own = inspection.roots[0][0] if inspection.roots else None
    plan = Plan()
    for volume in inspection.volumes:
        if isinstance(volume.filesystem, (NtfsFileSystem, FatFileSystem)):
            where = "" if volume is own else f" of partition {volume.partition.index}"
            plan += plan_session(volume.filesystem, options, where=where)
    for step in plan.steps:
        assert isinstance(step.action, WriteSector)
        work.write(step.action.offset, step.action.data)
    return plan


def _by_volume(
    steps: Sequence[Step], system: tuple[OpenVolume, str], inspection: Inspection, image: str
) -> tuple[tuple[OpenVolume, tuple[Change, ...]], ...]:
    """The changes of each volume; every hive that is edited is written once, whatever logs it had."""
    volume, root = system
    assert volume.filesystem is not None
    active = next((each for each in inspection.volumes if each.partition.active and each.filesystem), volume)
    edits: list[Edit] = [
        step.action for step in steps if isinstance(step.action, (SetValue, DeleteValue, DeleteKey, MakeKey))
    ]
    own = hive_changes(volume.filesystem, root, edits, image=image) if edits else []
    there = {change.path for change in own}
    loader: list[Change] = []
    for step in steps:
        if isinstance(step.action, (Remove, MakeFolder, Put, Move, Overwrite)) and step.action.path not in there:
            (loader if step.loader and active is not volume else own).append(step.action)
    asked = [
        step.action
        for step in steps
        if isinstance(step.action, (Put, Move, Remove)) and step.action.path not in there
    ]
    refuse_files([change for change in asked if change in own], volume.filesystem, image=image)
    rows = ((volume, tuple(own)), (active, tuple(loader)))
    return tuple((each, changes) for each, changes in rows if changes)


def carry_out(work: ScratchDisk, prepared: Prepared, *, advance: Advance = quiet) -> tuple[Applied, ...]:
    """Make the changes on the scratch disk; on any error it is to be thrown away. Sectors come last: they may lie in
    a file of a volume, which is then as it was planned."""
    prepared.refuse_unsafe()
    done = tuple(apply_changes(work, volume, changes, advance=advance) for volume, changes in prepared.volumes)
    for sector in prepared.sectors:
        work.write(sector.offset, sector.data)
    prove_outcome(work, prepared.volumes)
    return done


def left_over(work: ScratchDisk, prepared: Prepared, *, image: str) -> tuple[Finding, ...]:
    """What the audit still finds after the mends, for the machines that they are meant for: those with IDE, and those
    whose controller was named just now."""
    keys = {
        step.action.key.rpartition("\\")[2]
        for each in prepared.mendings
        for step in each.plan.steps
        if isinstance(step.action, SetValue)
    }
    platforms = [each for each in PLATFORMS if "primary_ide_channel" in each.chain or keys.intersection(each.ids)]
    return breaches(work, [each.mend for each in prepared.mendings], image=image, platforms=platforms)


def breaches(
    disk: Disk,
    mends: Sequence[Mend],
    *,
    image: str,
    platforms: Sequence[Platform] = PLATFORMS,
    progress: Progress = _quiet,
) -> tuple[Finding, ...]:
    """What the audit finds against the rules of these mends."""
    wanted = {rule for mend in mends for rule in mend.rules}
    report = judge(gather(disk, name=image, progress=progress), platforms)
    return tuple(each.finding for each in report.findings if each.rule.id in wanted)


def _of(findings: Sequence[Finding], mend: Mend) -> tuple[Finding, ...]:
    return tuple(each for each in findings if each.rule in mend.rules)
