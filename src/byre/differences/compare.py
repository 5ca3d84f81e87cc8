"""Two disks compared as machines: ``diff_disks``."""

from __future__ import annotations

from dataclasses import dataclass, replace

from byre.differences.blocks import Blocks
from byre.differences.facts import FactChange, compare_guests
from byre.differences.files import FileChange, FileComparison
from byre.differences.registry import HiveComparison, KeyChange
from byre.disks.disk import Problem
from byre.errors import ByreError
from byre.filesystems.opening import OpenVolume
from byre.volumes.problems import Problems
from byre.windows.fact import absent
from byre.windows.guest import read_guest
from byre.windows.hives import MACHINE_HIVES, UserHive, list_folder, read_hive
from byre.windows.inspection import Inspection

_UNCOMPARED = ("differences.listing", "differences.unreadable", "differences.hive")
"""Problems of what is there on both sides and couldn't be compared."""
_LOGS = (".log", ".log1", ".log2")
_PROFILES = ("/Documents and Settings", "/Users")


@dataclass(frozen=True, slots=True)
class RangeChange:
    """A part of the disk that no file system tells of. Guest bytes; ``where`` says what lies there."""

    where: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class BlockSummary:
    """``apart``: bytes that may differ, from the images' tables alone, in ``ranges`` ranges; ``compared``: bytes
    read from each disk for comparing, apart from the file systems' own structures and the hives."""

    apart: int
    ranges: int
    compared: int


@dataclass(frozen=True, slots=True)
class VolumeChanges:
    """The files of one partition that differ."""

    partition: int
    type: str
    files: tuple[FileChange, ...]


@dataclass(frozen=True, slots=True)
class SystemChanges:
    """The registry and the facts of one installed system."""

    partition: int
    root: str
    registry: tuple[KeyChange, ...]
    facts: tuple[FactChange, ...]


@dataclass(frozen=True, slots=True)
class Differences:
    """All that differs, what is folded away too (it has a ``noise``)."""

    sizes: tuple[int, int]
    blocks: BlockSummary
    disk: tuple[RangeChange, ...]
    volumes: tuple[VolumeChanges, ...]
    systems: tuple[SystemChanges, ...]
    problems: tuple[Problem, ...]
    complete: bool
    """Whether all files could be listed, and all that had to be compared could be."""

    def same(self, *, everything: bool = False) -> bool:
        """Whether nothing differs; without ``everything`` nothing but what is folded away."""
        rows = [change for volume in self.volumes for change in volume.files]
        told: list[FileChange | KeyChange | FactChange] = [*rows]
        for system in self.systems:
            told += [*system.registry, *system.facts]
        if self.disk or self.sizes[0] != self.sizes[1]:
            return False
        return not any(everything or change.noise is None for change in told)


def diff_disks(first: Inspection, second: Inspection, *, everything: bool = False) -> Differences:
    """What changed from the first disk to the second.

    Ranges that both take from the same place of the same file are never read. ``everything`` compares the file
    systems' own files and free space as well. Raises only where a disk itself can't be read.
    """
    return _Comparison(first, second, everything).run()


class _Comparison:
    """One comparison. Mutable: it gathers problems and counts what is read."""

    def __init__(self, first: Inspection, second: Inspection, everything: bool) -> None:
        self.first = first
        self.second = second
        self.everything = everything
        self.blocks = Blocks(first.disk, second.disk)
        self.problems = Problems()
        self.read = 0
        self.compared_hives: set[str] = set()

    def run(self) -> Differences:
        pairs, disk = self._pairs()
        volumes: list[VolumeChanges] = []
        systems: list[SystemChanges] = []
        for old, new in pairs:
            if old.filesystem is None or new.filesystem is None:
                if old.filesystem is not new.filesystem or _same_place(old, new):
                    disk += self._ranges(f"partition {new.partition.index}", new.partition.start, new.partition.stop)
                continue
            blocks = self.blocks if _same_place(old, new) else None
            files = FileComparison(old.filesystem, new.filesystem, blocks, self.problems, everything=self.everything)
            changes = files.changes()
            self._tell_hidden(old, new, blocks)
            self.read += files.bytes_read
            told = self._systems(old, new, changes)
            systems += told
            changes = [self._folded(change) for change in changes]
            volumes.append(VolumeChanges(new.partition.index, new.filesystem.type, tuple(changes)))
        return Differences(
            (self.first.disk.size, self.second.disk.size),
            BlockSummary(self.blocks.bytes_apart, len(self.blocks.apart), self.blocks.bytes_compared + self.read),
            tuple(disk),
            tuple(volumes),
            tuple(systems),
            tuple(self.problems),
            not any(self.problems.count(code) for code in _UNCOMPARED),
        )

    def _tell_hidden(self, old: OpenVolume, new: OpenVolume, blocks: Blocks | None) -> None:
        """Where a damaged volume doesn't list all of its files: those look removed or added, or aren't compared."""
        if blocks is not None and not blocks.touches(new.partition.start, new.partition.stop):
            return  # the same bytes: what can't be listed doesn't differ
        for inspection, volume in ((self.first, old), (self.second, new)):
            if volume.filesystem is not None and volume.filesystem.problems.hide_names:
                where = f"{inspection.name}, partition {volume.partition.index}"
                reason = next(iter(volume.filesystem.problems)).message
                self.problems.add("differences.listing", f"{where}: not all files can be listed: {reason}")

    def _folded(self, change: FileChange) -> FileChange:
        """A hive whose keys were compared is told by them; the file itself is folded away."""
        if change.noise is None and change.kind != "added" and change.path.casefold() in self.compared_hives:
            return replace(change, noise="registry hive: told by its keys")
        return change

    # The disk around the file systems

    def _pairs(self) -> tuple[list[tuple[OpenVolume, OpenVolume]], list[RangeChange]]:
        """Partitions of both that belong together, by where they start, else by number; and what else differs."""
        left = list(self.first.volumes)
        pairs = []
        disk: list[RangeChange] = []
        for new in self.second.volumes:
            same = [old for old in left if old.partition.start == new.partition.start]
            same = same or [old for old in left if _serial(old) and _serial(old) == _serial(new)]
            same = same or [old for old in left if old.partition.index == new.partition.index]
            if same:
                left.remove(same[0])
                pairs.append((same[0], new))
                if not _same_place(same[0], new):
                    disk.append(_whole("moved or resized", new))
            else:
                disk.append(_whole("added", new))
        disk += [_whole("removed", old) for old in left]
        position = 0
        for start, stop in [*self._taken(), (max(self.first.disk.size, self.second.disk.size), 0)]:
            name = "start of the disk: boot code and partition table" if not position else "outside every partition"
            disk += self._ranges(name, position, start)
            position = max(position, stop)
        return pairs, disk

    def _taken(self) -> list[tuple[int, int]]:
        parts = [each.partition for each in (*self.first.volumes, *self.second.volumes)]
        return sorted((part.start, part.stop) for part in parts if part.length > 0)

    def _ranges(self, where: str, start: int, stop: int) -> list[RangeChange]:
        stop = min(stop, max(self.first.disk.size, self.second.disk.size))
        return [RangeChange(where, low, high - low) for low, high in self.blocks.differing(start, stop)]

    # The systems on a volume

    def _systems(self, old: OpenVolume, new: OpenVolume, changes: list[FileChange]) -> list[SystemChanges]:
        before = {root.casefold(): root for volume, root in self.first.roots if volume is old}
        after = {root.casefold(): root for volume, root in self.second.roots if volume is new}
        touched = {path.casefold() for change in changes for path in _paths(change)}
        found = []
        for name in before.keys() & after.keys():
            if touched:
                found.append(self._system(old, new, (before[name], after[name]), touched))
        for name in before.keys() ^ after.keys():
            self.problems.add("differences.system", f"only one of them has a system in {name}")
        return found

    def _system(self, old: OpenVolume, new: OpenVolume, roots: tuple[str, str], touched: set[str]) -> SystemChanges:
        assert old.filesystem is not None and new.filesystem is not None
        registry: list[KeyChange] = []
        for name in MACHINE_HIVES:
            mounted = r"HKU\.DEFAULT" if name == "DEFAULT" else rf"HKLM\{name}"
            paths = [f"{root}/system32/config/{name}" for root in roots]
            registry += self._hive(name, mounted, old, new, paths, touched)
        for user in self._users(old, new, roots):
            registry += self._hive("NTUSER.DAT", rf"HKU\{user.user}", old, new, [user.path] * 2, touched)
        kernel = any(f"{roots[1]}/system32/{name}".casefold() in touched for name in ("hal.dll", "ntoskrnl.exe"))
        guests = [
            read_guest(volume.filesystem, root, volume=volume.partition.index, with_programs=kernel)
            for volume, root in zip((old, new), roots, strict=True)
            if volume.filesystem is not None
        ]
        facts = compare_guests(guests[0], guests[1], self.problems, with_programs=kernel)
        return SystemChanges(new.partition.index, roots[1], tuple(registry), tuple(facts))

    def _users(self, old: OpenVolume, new: OpenVolume, roots: tuple[str, str]) -> list[UserHive]:
        """The profiles that both have, without reading their hives."""
        assert old.filesystem is not None and new.filesystem is not None
        found = []
        for folder in (*_PROFILES, f"{roots[1]}/Profiles"):
            known = {entry.name.casefold() for entry in list_folder(old.filesystem, folder) if entry.is_dir}
            for entry in list_folder(new.filesystem, folder):
                if entry.name.casefold() in known and entry.reparse is None:
                    found.append(UserHive(entry.name, f"{entry.path}/NTUSER.DAT", absent()))
        return found

    def _hive(
        self, name: str, shown: str, old: OpenVolume, new: OpenVolume, paths: list[str], touched: set[str]
    ) -> list[KeyChange]:
        assert old.filesystem is not None and new.filesystem is not None
        if not any(path.casefold() + end in touched for path in paths for end in ("", *_LOGS)):
            return []
        before, after = read_hive(old.filesystem, paths[0]), read_hive(new.filesystem, paths[1])
        if before.value is None or after.value is None:
            if before.state != after.state or "unknown" in (before.state, after.state):
                reason = before.reason or after.reason or "only one of them has it"
                self.problems.add("differences.hive", f"{shown} can't be compared: {reason}")
            return []
        try:
            found = HiveComparison(name, shown, self.problems).compare(before.value, after.value)
            self.compared_hives.add(paths[1].casefold())
            return found
        except ByreError as error:
            self.problems.add("differences.hive", f"{shown} can't be compared: {error}")
            return []


def _serial(volume: OpenVolume) -> str | None:
    return volume.filesystem.facts().serial if volume.filesystem is not None else None


def _same_place(old: OpenVolume, new: OpenVolume) -> bool:
    one, other = old.partition, new.partition
    return (one.start, one.length, old.type) == (other.start, other.length, new.type)


def _whole(what: str, volume: OpenVolume) -> RangeChange:
    part = volume.partition
    return RangeChange(f"partition {part.index} {what}", part.start, part.length)


def _paths(change: FileChange) -> list[str]:
    return [change.path] if change.old_path is None else [change.path, change.old_path]
