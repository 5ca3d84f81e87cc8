"""Proof that a changed disk is what its plan said: checked, every kept file accounted for, held against the audit.

A kept file is the same where its MFT records are the same, byte for byte, and none of its clusters was written or
left out: its bytes are then the very same bytes of the image, and needn't be read. All others are hashed before and
after, and so is a sample of those.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from byre.audit.catalogue import OWN
from byre.audit.facts import Facts
from byre.audit.gathering import gather
from byre.audit.judging import Report, judge
from byre.audit.platforms import platform_named
from byre.disks.scratch import ScratchDisk
from byre.disks.writer import Int64Array
from byre.errors import ByreError, CorruptImageError, UnsupportedError
from byre.extents import Kind
from byre.filesystems.base import Entry, FileSystem
from byre.filesystems.ntfs.untouched import Untouched
from byre.filesystems.opening import OpenVolume
from byre.filesystems.unneeded import stream_digest
from byre.lite.changes import Applied, Change, Overwrite, Put, Remove
from byre.lite.witnesses import Witness, asking
from byre.ranges import joined, touched
from byre.windows.inspection import Inspection

QUESTIONS = ("complete", "portable")
_BOOT_BYTES = {"ntfs": 8192}
"""The loader's own sectors at the start of a volume; of others the first one."""
SAMPLE = 50
"""About so many of the files that needn't be read are read all the same, spread over the volume."""
LeaveOut = tuple[tuple[int, str], ...]
"""Files whose contents nobody needs: partition, path."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What was to become of one partition."""

    partition: int
    changes: Sequence[Change]
    applied: Applied


@dataclass(frozen=True, slots=True)
class Compared:
    """What was proved of the files. ``compared``: streams that are what they were, ``read`` of them by their bytes;
    ``written``: files that hold exactly what the plan wrote; ``gone``: files that are no longer there."""

    compared: int
    read: int
    written: int
    gone: int


@dataclass(frozen=True, slots=True)
class Proof:
    """All that was proved. ``volumes``: of each partition with a file system, what was; ``grades``: question, verdict
    before, verdict after; ``readers``: who else has read the result and found what Byre finds."""

    volumes: Mapping[int, Compared]
    grades: tuple[tuple[str, str, str], ...]
    readers: tuple[Witness, ...]

    @property
    def files(self) -> Compared:
        """Those of all volumes together."""
        return together(self.volumes.values())


def together(found: Iterable[Compared]) -> Compared:
    listed = tuple(found)
    return Compared(*(sum(getattr(each, field) for each in listed) for field in Compared.__dataclass_fields__))


def prove(
    before: Inspection,
    after: Inspection,
    facts: Facts,
    planned: Sequence[Planned],
    *,
    apart: Int64Array,
    expected: Collection[str],
    leave_out: LeaveOut = (),
    read_all: bool = False,
) -> Proof:
    """Everything at once; ``planned``: of each volume that was to change; ``facts`` are those of the audit before,
    ``expected`` as for ``prove_audit``. ``read_all`` hashes the files that needn't be read too."""
    prove_frame(before, after, apart)
    with asking(after.disk, after.volumes, apart, [each.partition for each in planned]) as asked:
        files = prove_files(before, after, planned, apart=None if read_all else apart, leave_out=leave_out)
        removed = [path for each in planned for path in each.applied.removed]
        grades = prove_audit(facts, after, target="qemu", expected=expected, removed=removed)
        return Proof(files, grades, asked.answers())


def apart_of(work: ScratchDisk, left_out: Int64Array | None) -> Int64Array:
    """The ranges outside which the result holds the image's own bytes: all that was written or is left out."""
    pieces = [np.array(list(work.changes()), dtype=np.int64).reshape(-1, 2)]
    if left_out is not None:
        pieces.append(left_out)
    return joined(pieces)


def prove_frame(before: Inspection, after: Inspection, apart: Int64Array) -> None:
    """What starts the guest and is no file: nothing was written outside of the partitions, nor in one that Byre can't
    read, and their boot sectors are what they were. CorruptImageError otherwise."""
    name = before.disk.files[0].name
    stops = [0, *(each.partition.stop for each in before.volumes)]
    starts = [*(each.partition.start for each in before.volumes), before.disk.size]
    reach = np.maximum.accumulate(np.array(sorted(stops), dtype=np.int64))
    gaps = np.stack((reach, np.array(sorted(starts), dtype=np.int64)), axis=1)
    gaps = gaps[gaps[:, 0] < gaps[:, 1]]
    if touched(apart, gaps[:, 0], gaps[:, 1]).any():
        raise _failed(name, "what lies outside of its partitions isn't what it was")
    for each in before.volumes:
        bounds = (np.array([each.partition.start]), np.array([each.partition.stop]))
        if each.filesystem is None and each.partition.length and touched(apart, *bounds).any():
            raise _failed(name, f"partition {each.partition.index} isn't what it was")
        there = before.disk.size - each.partition.start  # a table may name what the disk hasn't
        size = min(_BOOT_BYTES.get(each.type or "", 512), each.partition.length, there)
        if size > 0 and before.disk.read(each.partition.start, size) != after.disk.read(each.partition.start, size):
            raise _failed(name, f"the boot sector of partition {each.partition.index} isn't what it was")


def prove_files(
    before: Inspection,
    after: Inspection,
    planned: Sequence[Planned],
    *,
    apart: Int64Array | None = None,
    leave_out: LeaveOut = (),
) -> dict[int, Compared]:
    """Check every file system of ``after`` and hold every file against ``before``: what was found, by partition. One
    that no plan is about has to be what it was. ``apart``, of ``apart_of``, tells what needn't be read; without it
    all is; ``leave_out``: files whose contents nobody needs. Raises CorruptImageError for the first thing that isn't
    as the plan says: then the result must not be published."""
    name = before.disk.files[0].name
    for volume in after.volumes:
        report = volume.filesystem.check() if volume.filesystem is not None else None
        if report is not None and report.corruptions:
            said = next((each.message for each in report.problems if each.kind == "corruption"), "")
            raise _failed(name, f"partition {volume.partition.index} is damaged: {said}")
    pairs = _pairs(before.volumes, after.volumes, name)
    plans = {each.partition: each for each in planned}
    found: dict[int, Compared] = {}
    for index, old, new in pairs:
        skipped = frozenset(path for partition, path in leave_out if partition == index)
        plan = plans.get(index, Planned(index, (), Applied((), (), 0)))
        found[index] = _Comparison(name, old, new, plan, apart, skipped).run()
    if plans.keys() - found.keys():
        raise _failed(name, f"partition {min(plans.keys() - found.keys())} can't be read")
    return found


def _pairs(
    before: Sequence[OpenVolume], after: Sequence[OpenVolume], name: str
) -> Iterator[tuple[int, FileSystem, FileSystem]]:
    """(partition, its file system before, after)."""
    left = {each.partition: each.filesystem for each in before}
    right = {each.partition: each.filesystem for each in after}
    if left.keys() != right.keys():
        raise _failed(name, "its partitions aren't what they were")
    for partition, old in left.items():
        new = right[partition]
        if (old is None) != (new is None):
            raise _failed(name, f"partition {partition.index} isn't what it was")
        if old is not None and new is not None:
            yield partition.index, old, new


@dataclass(slots=True)
class _Comparison:
    """One volume before and after. Mutable: it counts."""

    name: str
    old: FileSystem
    new: FileSystem
    planned: Planned
    apart: Int64Array | None
    skipped: Collection[str] = frozenset()
    gone: set[str] = field(default_factory=set)
    contents: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    same: int = 0
    read: int = 0

    def run(self) -> Compared:
        self.made = {path.lower() for path in self.planned.applied.written}
        changes = (each for each in self.planned.changes if isinstance(each, (Put, Overwrite)))
        self.contents = {each.path.lower(): _planned_digest(each) for each in changes}
        skipped = self.skipped
        untouched = Untouched(self.old, self.new, self.apart)
        untouched.learn()
        asked = self._asked()
        settled = untouched.settle([*asked, *self._written()], sample=SAMPLE)
        self.same = settled.streams
        entries = list(settled.walk(self.old))
        self.gone = _with_all_below({each.path for each in asked}, entries)
        was = {entry.path: entry for entry in entries if entry.path not in skipped or entry.path in self.gone}
        folders = {entry.id: entry.path for entry in entries if entry.is_dir}
        stride = max(1, len(was) // SAMPLE)
        written: set[str] = set()
        for number, entry in enumerate(settled.walk(self.new)):
            if entry.path in skipped and entry.path not in self.gone:
                continue
            if folders.get(entry.id, entry.path) != entry.path:
                raise _failed(self.name, f"{entry.path} was {folders[entry.id]}")
            old, lower = was.pop(entry.path, None), entry.path.lower()
            if entry.path in self.gone and lower not in self.made:
                raise _failed(self.name, f"{entry.path} is still there")
            if lower in self.contents:
                if entry.is_dir or stream_digest(self.new, entry, "") != self.contents[lower]:
                    raise _failed(self.name, f"{entry.path} doesn't hold what was to be written")
                written.add(lower)
            if old is None:
                if lower not in self.made:
                    raise _failed(self.name, f"{entry.path} wasn't there before")
                continue
            known = untouched.is_same(old, entry) and old == entry and number % stride != 0
            self._compare(old, entry, known=known, rewritten=lower in self.contents)
        if self.contents.keys() - written:
            raise _failed(self.name, f"{min(self.contents.keys() - written)} wasn't written")
        for path in was:
            if path not in self.gone:
                raise _failed(self.name, f"{path} is no longer there")
        lost = sum(not entry.is_dir for entry in was.values())
        return Compared(self.same, self.read, len(written), lost)

    def _asked(self) -> list[Entry]:
        """What the plan removes: as the plan says it, whatever the writer says it did."""
        return [self.old.lookup(each.path) for each in self.planned.changes if isinstance(each, Remove)]

    def _written(self) -> Iterator[Entry]:
        """What the plan writes, as either state has it."""
        for files in (self.old, self.new):
            for path in self.made | self.contents.keys():
                with suppress(ByreError):
                    yield files.lookup(path)

    def _compare(self, old: Entry, new: Entry, *, known: bool, rewritten: bool) -> None:
        """Every stream of a file that is in both; ``known``: nothing of it can differ."""
        if old.is_dir != new.is_dir:
            raise _failed(self.name, f"{new.path} isn't what it was")
        if not rewritten and _described(old) != _described(new):
            raise _failed(self.name, f"{new.path} hasn't the times and attributes that it had")
        streams = [each.name for each in old.streams]
        if sorted(streams) != sorted(each.name for each in new.streams):
            raise _failed(self.name, f"{new.path} hasn't the streams that it had")
        if not new.is_dir and not rewritten:
            streams.append("")
        self.same += len(streams)
        if known:
            return
        for stream in streams:
            if self._lies_untouched(old, new, stream):
                continue
            self.read += 1
            if stream_digest(self.old, old, stream) != stream_digest(self.new, new, stream):
                raise _failed(self.name, f"{new.path} isn't what it was")

    def _lies_untouched(self, old: Entry, new: Entry, stream: str) -> bool:
        """Whether a file that isn't NTFS's has all its bytes where it had them, none of them written or left out."""
        if self.apart is None or self.new.type == "ntfs":
            return False
        first, second = self.old.extents(old, stream), self.new.extents(new, stream)
        if old.size != new.size or not np.array_equal(first, second):
            return False
        held = second[second["kind"] != Kind.ZERO]
        return not touched(self.apart, held["disk"], held["disk"] + held["stored"]).any()


def _with_all_below(asked: set[str], entries: Sequence[Entry]) -> set[str]:
    gone: set[str] = set()
    for entry in entries:  # a folder comes before what it holds
        if entry.path in asked or entry.path[: -len(entry.name) - 1] in gone:
            gone.add(entry.path)
    return gone


def _described(entry: Entry) -> tuple[object, ...]:
    """What stays of a kept file beside its bytes; a folder's size and time change with what it holds."""
    kept = (entry.attributes, entry.created, entry.short_name, entry.reparse)
    return kept if entry.is_dir else (*kept, entry.size, entry.modified)


def _planned_digest(change: Put | Overwrite) -> str:
    if isinstance(change, Overwrite):
        return hashlib.sha256(change.data).hexdigest()
    return hashlib.sha256(change.content.read(0, change.content.size)).hexdigest()


def prove_audit(
    before: Facts, after: Inspection, *, target: str, expected: Collection[str], removed: Collection[str] = ()
) -> tuple[tuple[str, str, str], ...]:
    """Complete and Portable: question, verdict before, after. Raises UnsupportedError where there is a finding that
    wasn't there: ``expected`` are titles of components whose absence is the plan itself (rule COMP-001), ``removed``
    the guest paths that the plan took, which the media's list is no longer asked for (rule COMP-006)."""
    platforms = (platform_named(target),)
    old = judge(before, platforms, only=QUESTIONS, checks=OWN)
    facts = gather(after.disk, name=before.image, found=after, counting=False)
    new = judge(facts, platforms, only=QUESTIONS, checks=OWN)
    known = {each.fingerprint for each in old.findings}
    for each in new.findings:
        planned = each.finding.rule == "COMP-001" and each.finding.where in expected
        if each.finding.rule == "COMP-006":
            planned = not _lacks_more(facts, removed)
        if each.fingerprint not in known and not planned and each.rule.question in QUESTIONS:
            raise UnsupportedError(
                f"the audit would find what it didn't before: {each.finding.rule} {each.finding.where}",
                path=before.image,
                found=each.finding.evidence,
                hint="Nothing was written. Keep the component with --keep; please report what the plan overlooked.",
            )
    return tuple(_verdicts(old, new))


def _lacks_more(facts: Facts, removed: Collection[str]) -> bool:
    """Whether more of Setup's own list is missing than what the plan took."""
    gone = {path.rpartition("/")[2].lower() for path in removed}
    media = tuple(row for row in facts.media if gone.isdisjoint((row.name.lower(), (row.target or "").lower())))
    report = judge(replace(facts, media=media), (), only=QUESTIONS, checks=OWN)
    return any(each.finding.rule == "COMP-006" for each in report.findings)


def _verdicts(old: Report, new: Report) -> Iterator[tuple[str, str, str]]:
    after = {each.question: each.verdict for each in new.answers}
    for each in old.answers:
        if each.question in QUESTIONS:
            yield each.question, each.verdict, after[each.question]


def _failed(name: str, said: str) -> CorruptImageError:
    return CorruptImageError(
        f"the proof failed: {said}", path=name, hint="Nothing was written. Please report this with the image's audit."
    )
