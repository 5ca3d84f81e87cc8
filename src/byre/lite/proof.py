"""Proof that a changed disk is what its plan said: checked, every kept file hashed, and held against the audit."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from byre.audit.catalogue import OWN
from byre.audit.facts import Facts
from byre.audit.gathering import gather
from byre.audit.judging import Report, judge
from byre.audit.platforms import platform_named
from byre.disks.disk import Disk
from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems.opening import open_volumes
from byre.filesystems.unneeded import hash_files
from byre.lite.changes import Applied, Change, Overwrite, Put

QUESTIONS = ("complete", "portable")


@dataclass(frozen=True, slots=True)
class Proof:
    """What was proved. ``compared``: streams of files that are what they were; ``written``: files that hold exactly
    what the plan wrote; ``gone``: files that are no longer there."""

    compared: int
    written: int
    gone: int
    grades: tuple[tuple[str, str, str], ...]
    """(question, verdict before, verdict after)."""


def prove_files(
    before: Disk,
    after: Disk,
    partition: int,
    changes: Sequence[Change],
    applied: Applied,
    *,
    leave_out: tuple[tuple[int, str], ...] = (),
) -> Proof:
    """Check every file system of ``after`` and compare every file but those of ``leave_out`` (partition, path), whose
    contents nobody needs. Raises CorruptImageError for the first thing that
    isn't as the plan says: then the result must not be published."""
    name = before.files[0].name
    for volume in open_volumes(after):
        report = volume.filesystem.check() if volume.filesystem is not None else None
        if report is not None and report.corruptions:
            said = next((each.message for each in report.problems if each.kind == "corruption"), "")
            raise _failed(name, f"partition {volume.partition.index} is damaged: {said}")
    old, new = hash_files(before, leave_out), hash_files(after, leave_out)
    gone = {path.lower() for path in applied.removed}
    contents = {each.path.lower(): _digest(each) for each in changes if isinstance(each, (Put, Overwrite))}
    lost = 0
    written = 0
    for key in old.keys() | new.keys():
        index, path, stream = key
        lower = path.lower()
        mine = index == partition
        if mine and not stream and lower in contents:
            if new.get(key) != contents[lower]:
                raise _failed(name, f"{path} doesn't hold what was to be written")
            written += 1
        elif mine and lower in gone:
            if key in new:
                raise _failed(name, f"{path} is still there")
            lost += not stream
        elif old.get(key) != new.get(key):
            raise _failed(name, f"{path} isn't what it was")
    return Proof(len(old.keys() & new.keys()) - written, written, lost, ())


def _digest(change: Put | Overwrite) -> str:
    if isinstance(change, Overwrite):
        return hashlib.sha256(change.data).hexdigest()
    return hashlib.sha256(change.content.read(0, change.content.size)).hexdigest()


def prove_audit(
    before: Facts, after: Disk, *, target: str, expected: Collection[str]
) -> tuple[tuple[str, str, str], ...]:
    """Complete and Portable before and after. Raises UnsupportedError where there is a finding that wasn't there:
    ``expected`` are titles of components whose absence is the plan itself (rule COMP-001)."""
    platforms = (platform_named(target),)
    old = judge(before, platforms, only=QUESTIONS, checks=OWN)
    new = judge(gather(after, name=before.image), platforms, only=QUESTIONS, checks=OWN)
    known = {each.fingerprint for each in old.findings}
    for each in new.findings:
        planned = each.finding.rule == "COMP-001" and each.finding.where in expected
        if each.fingerprint not in known and not planned and each.rule.question in QUESTIONS:
            raise UnsupportedError(
                f"the audit would find what it didn't before: {each.finding.rule} {each.finding.where}",
                path=before.image,
                found=each.finding.evidence,
                hint="Nothing was written. Keep the component with --keep; please report what the plan overlooked.",
            )
    return tuple(_verdicts(old, new))


def _verdicts(old: Report, new: Report) -> Iterator[tuple[str, str, str]]:
    after = {each.question: each.verdict for each in new.answers}
    for each in old.answers:
        if each.question in QUESTIONS:
            yield each.question, each.verdict, after[each.question]


def _failed(name: str, said: str) -> CorruptImageError:
    return CorruptImageError(
        f"the proof failed: {said}", path=name, hint="Nothing was written. Please report this with the image's audit."
    )
