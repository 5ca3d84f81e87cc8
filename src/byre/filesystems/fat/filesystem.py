"""A FAT12, FAT16 or FAT32 volume as a FileSystem."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import cached_property
from threading import RLock

import numpy as np
import numpy.typing as npt

from byre.disks.disk import CheckReport
from byre.errors import ByreError, CorruptImageError, MissingError
from byre.extents import Kind
from byre.filesystems.base import (
    DIRECTORY,
    FILE_EXTENT,
    Entry,
    FileExtents,
    FreeExtents,
    VolumeFacts,
    free_from_bits,
    join_free,
)
from byre.filesystems.fat.boot import FatBoot
from byre.filesystems.fat.clusters import ClusterUse, Fragments, fragment_extents
from byre.filesystems.fat.directory import MAX_DIRECTORY, FatDirectory, FatEntry, parse_directory
from byre.filesystems.fat.table import FREE, Chains, load_fat
from byre.filesystems.hibernation import is_hibernated
from byre.filesystems.paths import join_path
from byre.filesystems.tree import TreeFileSystem, read_extents
from byre.units import ceil_div
from byre.volumes.partition import VolumeDisk
from byre.volumes.problems import Problems

ROOT_ID = 0
FREE_SLICE = 1 << 22


class FatFileSystem(TreeFileSystem):
    """The volume. An entry's ``id`` is the guest offset, in the volume, of its 32-byte directory entry."""

    def __init__(self, volume: VolumeDisk, codepage: str = "cp437") -> None:
        self.volume = volume
        self.problems = Problems()
        self.codepage = codepage
        self.boot = _read_boot(volume, self.problems)
        self.type = self.boot.kind
        self._lock = RLock()
        self._raw: dict[int, FatEntry] = {}

    @cached_property
    def chains(self) -> Chains:
        """The active FAT, or the other one where it can't be read."""
        with self._lock:
            boot = self.boot
            order = [boot.active_fat, *(each for each in range(boot.fats) if each != boot.active_fat)]
            errors: list[ByreError] = []
            for copy in order:
                try:
                    chains = Chains(self._fat(copy))
                except ByreError as error:
                    errors.append(error)
                    continue
                if errors:
                    self.problems.add("fat.copy-unreadable", f"FAT {copy} is used: {errors[0]}")
                return chains
            raise errors[0]

    def _fat(self, copy: int) -> npt.NDArray[np.int32]:
        boot = self.boot
        return load_fat(self.volume, boot.kind, boot.fat_offset + copy * boot.fat_size, boot.fat_size, boot.clusters)

    @property
    def _first_byte(self) -> int:
        return self.volume.start + self.boot.data_offset

    # Names

    def root(self) -> Entry:
        return Entry("/", "", ROOT_ID, True, 0, 0, DIRECTORY, None, None, None, None)

    def directory_blocks(self, entry: Entry) -> Iterable[int]:
        if entry.id == ROOT_ID and self.boot.kind != "fat32":
            return ()
        first = self.boot.root_cluster if entry.id == ROOT_ID else self._raw_of(entry).cluster
        hops = self.chains.hops(first, MAX_DIRECTORY // self.boot.cluster_size)
        return (cluster for first, count in hops for cluster in range(first, first + count))

    def children(self, folder: Entry, *, deleted: bool = False) -> list[Entry]:
        data, places = self._directory_bytes(folder)
        parsed = parse_directory(data, wide=self.boot.kind == "fat32", codepage=self.codepage, deleted=deleted)
        if parsed.orphaned_names:
            self.problems.add("fat.long-name", f"{folder.path!r} has long names without a file", kind="leak")
        found = []
        for raw in parsed.entries:
            ident = places(raw.offset)
            self._raw[ident] = raw
            found.append(self._entry(raw, ident, join_path(folder.path, raw.name)))
        return found

    def _entry(self, raw: FatEntry, ident: int, path: str) -> Entry:
        is_dir = bool(raw.attributes & DIRECTORY)
        size = self.boot.cluster_size
        return Entry(
            path=path,
            name=raw.name,
            id=ident,
            is_dir=is_dir,
            size=raw.size,
            allocated=ceil_div(raw.size, size) * size,
            attributes=raw.attributes,
            created=raw.created,
            modified=raw.modified,
            accessed=raw.accessed,
            changed=None,
            short_name=raw.short_name if raw.short_name != raw.name.upper() else None,
            deleted=raw.deleted,
        )

    def _directory_bytes(self, folder: Entry) -> tuple[bytes, _Places]:
        table = self._directory_extents(folder)
        total = int(table["start"][-1] + table["length"][-1]) if len(table) else 0
        return read_extents(self.volume, table, 0, total), _Places(table, self.volume.start)

    def _directory_extents(self, folder: Entry) -> FileExtents:
        boot = self.boot
        if folder.id == ROOT_ID and boot.kind != "fat32":
            length = boot.root_entries * 32
            return np.array([(0, length, Kind.DATA, self.volume.start + boot.root_offset, length)], dtype=FILE_EXTENT)
        fragments = self._directory_fragments(folder)
        return fragment_extents(fragments, boot.cluster_size, self._first_byte, MAX_DIRECTORY + boot.cluster_size)

    def _directory_fragments(self, folder: Entry) -> Fragments:
        boot = self.boot
        first = boot.root_cluster if folder.id == ROOT_ID else self._raw_of(folder).cluster
        if not 2 <= first < boot.clusters + 2:
            raise CorruptImageError(f"{folder.path!r} starts outside the volume", path=self.volume.name, found=first)
        fragments, wrong = self.chains.follow(first, max(1, MAX_DIRECTORY // boot.cluster_size))
        if wrong:
            self.problems.add("fat.chain", f"the chain of {folder.path!r} {wrong}", hides_names=True)
        return fragments

    def _raw_of(self, entry: Entry) -> FatEntry:
        raw = self._raw.get(entry.id)
        if raw is None:
            data = self.volume.read(entry.id, 32)
            parsed = parse_directory(data, wide=self.boot.kind == "fat32", codepage=self.codepage, deleted=True)
            if not parsed.entries:
                raise MissingError(f"{entry.path!r} is no longer there", path=self.volume.name)
            raw = parsed.entries[0]
        return raw

    # Bytes

    def extents(self, entry: Entry, stream: str = "", *, slack: bool = False) -> FileExtents:
        self.stream_size(entry, stream)
        if entry.is_dir:
            return self._directory_extents(entry)
        fragments = self.fragments(entry)
        size = self.boot.cluster_size
        length = sum(count for _, count in fragments) * size if slack else entry.size
        return fragment_extents(fragments, size, self._first_byte, length)

    def fragments(self, entry: Entry) -> Fragments:
        """A file's clusters. A deleted file's chain is gone: its clusters are taken to follow each other."""
        first = self._raw_of(entry).cluster
        wanted = ceil_div(entry.size, self.boot.cluster_size)
        if not wanted and not first:
            return []
        if entry.deleted:
            room = max(0, self.boot.clusters + 2 - first)
            return [(first, min(wanted, room))] if first >= 2 and room else []
        fragments, wrong = self.chains.follow(first, max(wanted, 1))
        if wrong:
            self.problems.add("fat.chain", f"the chain of {entry.path!r} {wrong}")
        return fragments

    # The volume

    def facts(self) -> VolumeFacts:
        boot = self.boot
        dirty, errors = self._dirty()
        return VolumeFacts(
            type=boot.kind,
            size=boot.total_size,
            cluster_size=boot.cluster_size,
            sector_size=boot.sector_size,
            label=self._label(),
            serial=None if boot.serial is None else f"{boot.serial:08X}",
            free=self._free(),
            dirty=dirty,
            hibernated=self._hibernated(),
            local_times=True,
            details={"fats": boot.fats, "clusters": boot.clusters, "hard_errors": errors},
        )

    def _label(self) -> str:
        try:
            data, _ = self._directory_bytes(self.root())
            parsed: FatDirectory = parse_directory(data, wide=self.boot.kind == "fat32", codepage=self.codepage)
        except ByreError:
            return self.boot.label
        return parsed.label if parsed.label is not None else self.boot.label.replace("NO NAME", "")

    def _dirty(self) -> tuple[bool | None, bool | None]:
        """Whether it wasn't unmounted, and whether a disk error was met: FAT entry 1's top bits are clear then."""
        boot = self.boot
        if boot.kind == "fat12":
            return boot.dirty, None
        try:
            at = boot.fat_offset + boot.active_fat * boot.fat_size
            if boot.kind == "fat16":
                value, clean, sound = struct.unpack("<H", self.volume.read(at + 2, 2))[0], 1 << 15, 1 << 14
            else:
                value, clean, sound = struct.unpack("<I", self.volume.read(at + 4, 4))[0], 1 << 27, 1 << 26
        except ByreError:
            return None, None
        return boot.dirty or not value & clean, not value & sound

    def _hibernated(self) -> bool | None:
        try:
            return is_hibernated(self.read(self.lookup("/hiberfil.sys"), length=4096))
        except MissingError:
            return False
        except ByreError:
            return None

    def _free(self) -> int | None:
        try:
            return int(np.count_nonzero(self.chains.next[2:] == FREE)) * self.boot.cluster_size
        except ByreError as error:
            self.problems.add("fat.unreadable", f"the FAT can't be read: {error}")
            return None

    def free_extents(self) -> Iterator[FreeExtents]:
        size = self.boot.cluster_size
        entries = self.chains.next[2:]
        return join_free(
            free_from_bits(
                (entries[first : first + FREE_SLICE] != FREE).astype(np.uint8), self._first_byte + first * size, size
            )
            for first in range(0, len(entries), FREE_SLICE)
        )

    def check(self) -> CheckReport:
        """Both FATs compared, lost and doubly used clusters, and what a walk finds."""
        self._compare_fats()
        use = ClusterUse(self.boot.clusters + 2)
        if self.boot.kind == "fat32":
            use.mark(self.chains.follow(self.boot.root_cluster, self.boot.clusters)[0])
        for entry in self.walk():
            self._check_entry(entry, use)
        allocated = self.chains.next != FREE
        allocated[:2] = False
        lost = int(np.count_nonzero(allocated & ~use.used & (self.chains.next != -2)))
        if lost:
            self.problems.add("fat.lost-clusters", "clusters in use belong to no file", kind="leak", count=lost)
        found = tuple(self.problems)
        return CheckReport(
            format=self.type,
            corruptions=sum(each.count for each in found if each.kind == "corruption"),
            leaks=sum(each.count for each in found if each.kind == "leak"),
            problems=found,
            allocated_blocks=int(np.count_nonzero(allocated)),
            total_blocks=self.boot.clusters,
        )

    def _check_entry(self, entry: Entry, use: ClusterUse) -> None:
        first = self._raw_of(entry).cluster
        if not first:
            if entry.size:
                self.problems.add("fat.no-chain", f"{entry.path!r} has a size but no clusters")
            return
        fragments, wrong = self.chains.follow(first, self.boot.clusters)
        if wrong:
            self.problems.add("fat.chain", f"the chain of {entry.path!r} {wrong}")
        held = sum(count for _, count in fragments) * self.boot.cluster_size
        if not entry.is_dir and not entry.size <= held < entry.size + self.boot.cluster_size:
            self.problems.add("fat.size", f"{entry.path!r} has {entry.size} bytes in clusters for {held}")
        if use.mark(fragments):
            self.problems.add("fat.cross-linked", f"{entry.path!r} claims clusters of another file")

    def _compare_fats(self) -> None:
        first = self.chains.next
        for copy in range(self.boot.fats):
            if copy == self.boot.active_fat:
                continue
            try:
                differ = int(np.count_nonzero(self._fat(copy)[2:] != first[2:]))
            except ByreError as error:
                self.problems.add("fat.copy-unreadable", f"FAT {copy} can't be read: {error}")
                continue
            if differ:
                self.problems.add("fat.copies-differ", f"FAT {copy} differs in {differ} clusters")


class _Places:
    """From an offset in a directory's bytes to the offset in the volume."""

    def __init__(self, table: FileExtents, origin: int) -> None:
        self._rows = [(start, disk - origin) for start, _, _, disk, _ in table.tolist()]

    def __call__(self, offset: int) -> int:
        start, place = next(row for row in reversed(self._rows) if row[0] <= offset)
        return int(place + offset - start)


def _read_boot(volume: VolumeDisk, problems: Problems) -> FatBoot:
    """The boot sector, or FAT32's copy in sector 6."""
    try:
        boot = FatBoot.parse(volume.read(0, 512))
    except CorruptImageError as error:
        for sector_size in (512, 4096):
            try:
                boot = FatBoot.parse(volume.read(6 * sector_size, 512))
            except ByreError:
                continue
            problems.add("fat.boot-sector", f"the boot sector is broken, its copy is used: {error}", offset=0)
            return boot
        error.path = volume.name
        raise
    if boot.total_size > volume.size:
        problems.add(
            "fat.truncated",
            f"the volume says {boot.total_size} bytes, the partition holds {volume.size}",
            offset=0x13,
        )
    return boot
