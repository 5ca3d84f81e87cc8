"""An exFAT volume as a FileSystem. Source: Microsoft, exFAT file system specification (2019)."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from threading import RLock

import numpy as np

from byre.disks.disk import CheckReport
from byre.errors import ByreError, CorruptImageError, MissingError
from byre.filesystems.base import DIRECTORY, Entry, FileExtents, FreeExtents, VolumeFacts, free_from_bits, join_free
from byre.filesystems.capitals import capitals
from byre.filesystems.fat.clusters import ClusterUse, Fragments, fragment_extents, require_countable
from byre.filesystems.fat.entry_sets import FileSet, SystemEntry, parse_entry_sets
from byre.filesystems.fat.table import Chains, load_fat
from byre.filesystems.paths import join_path
from byre.filesystems.tree import TreeFileSystem, read_extents
from byre.units import ceil_div
from byre.volumes.partition import VolumeDisk
from byre.volumes.problems import Problems

ROOT_ID = 0
MAX_DIRECTORY = 1 << 28
"""256 MiB: exFAT's own limit, bytes."""
MAX_BITMAP = 1 << 29

_BOOT = struct.Struct("<QQIIIIIIHHBBBB")


@dataclass(frozen=True, slots=True)
class ExfatBoot:
    """Sizes in bytes and places as byte offsets in the volume."""

    sector_size: int
    cluster_size: int
    fat_offset: int
    fat_size: int
    data_offset: int
    clusters: int
    root_cluster: int
    total_size: int
    serial: int
    revision: str
    dirty: bool
    failed: bool
    fats: int
    active_fat: int

    @classmethod
    def parse(cls, sector: bytes) -> ExfatBoot:
        """From 512 bytes; raises CorruptImageError."""
        if sector[3:11] != b"EXFAT   ":
            raise CorruptImageError("no exFAT boot sector", offset=3, found=sector[3:11], expected=b"EXFAT   ")
        fields = _BOOT.unpack_from(sector, 0x40)
        _, total, fat, fat_length, heap, clusters, root, serial, revision, flags, shift, cluster_shift, fats, _ = (
            fields
        )
        if not 9 <= shift <= 12 or cluster_shift > 25 - shift:
            raise CorruptImageError(
                "impossible sector or cluster size", offset=0x6C, found=f"{shift}, {cluster_shift}"
            )
        size = 1 << shift
        cluster_size = size << cluster_shift
        if fats not in (1, 2) or not fat or heap < fat + fat_length * fats or not 0 < clusters <= 0xFFFFFFF5:
            raise CorruptImageError("impossible layout", offset=0x50, found=f"FAT {fat}+{fat_length}, heap {heap}")
        if not 2 <= root < clusters + 2 or total >= 1 << 52:
            raise CorruptImageError("the root directory lies outside the volume", offset=0x60, found=root)
        return cls(
            sector_size=size,
            cluster_size=cluster_size,
            fat_offset=fat * size,
            fat_size=fat_length * size,
            data_offset=heap * size,
            clusters=clusters,
            root_cluster=root,
            total_size=total * size,
            serial=serial,
            revision=f"{revision >> 8}.{revision & 0xFF}",
            dirty=bool(flags & 2),
            failed=bool(flags & 4),
            fats=fats,
            active_fat=flags & 1 if fats == 2 else 0,
        )


class ExfatFileSystem(TreeFileSystem):
    """The volume. An entry's ``id`` is the offset in the volume of its set of directory entries."""

    type = "exfat"

    def __init__(self, volume: VolumeDisk) -> None:
        self.volume = volume
        self.problems = Problems()
        self.boot = self._read_boot()
        self._lock = RLock()
        self._sets: dict[int, FileSet] = {}

    def _read_boot(self) -> ExfatBoot:
        """The main boot region, or the backup in sector 12 where its checksum or its first sector is wrong."""
        errors: list[ByreError] = []
        for first in (0, 12):
            for size in (self.volume.sector_size, 512, 4096):
                try:
                    boot = ExfatBoot.parse(self.volume.read(first * size, 512))
                    if first and boot.sector_size != size:
                        continue
                    self._check_region(first, boot.sector_size)
                except ByreError as error:
                    errors.append(error)
                    continue
                if errors:
                    self.problems.add(
                        "exfat.boot-sector", f"the boot region is broken, its copy is used: {errors[0]}"
                    )
                return boot
        try:
            boot = ExfatBoot.parse(self.volume.read(0, 512))
        except ByreError:
            raise CorruptImageError(str(errors[0]), path=self.volume.name) from errors[0]
        self.problems.add("exfat.boot-checksum", f"both boot regions fail their checksum: {errors[0]}")
        return boot

    def _check_region(self, first: int, size: int) -> None:
        data = self.volume.read(first * size, 12 * size)
        stored = struct.unpack_from("<I", data, 11 * size)[0]
        total = 0
        for index, byte in enumerate(data[: 11 * size]):
            if index not in (106, 107, 112):  # flags and percentage change all the time
                total = (total >> 1 | (total & 1) << 31) + byte & 0xFFFFFFFF
        if total != stored:
            raise CorruptImageError("the boot region fails its checksum", found=total, expected=stored)

    @cached_property
    def chains(self) -> Chains:
        boot = self.boot
        with self._lock:
            where = boot.fat_offset + boot.active_fat * boot.fat_size
            return Chains(load_fat(self.volume, "exfat", where, boot.fat_size, boot.clusters))

    @property
    def _first_byte(self) -> int:
        return self.volume.start + self.boot.data_offset

    # Names

    @cached_property
    def system(self) -> tuple[SystemEntry, ...]:
        """The root's own entries: label, allocation bitmap, up-case table."""
        data, _ = self._directory_bytes(self.root())
        return parse_entry_sets(data).system

    def _system_entry(self, kind: int) -> SystemEntry | None:
        return next((each for each in self.system if each.kind == kind), None)

    @cached_property
    def upcase(self) -> dict[int, int]:
        """Only the characters that change; out of the volume's compressed table, else ASCII's."""
        entry = self._system_entry(0x82)
        if entry is None or not 0 < entry.size <= 1 << 17:
            return {}
        try:
            data = self._bytes_of(entry.cluster, entry.size)
        except ByreError as error:
            self.problems.add("exfat.upcase", f"the up-case table can't be read: {error}")
            return {}
        table: dict[int, int] = {}
        here = 0
        words = np.frombuffer(data[: len(data) // 2 * 2], dtype="<u2").tolist()
        position = 0
        while position < len(words) and here < 0x10000:
            word = words[position]
            position += 1
            if word == 0xFFFF and position < len(words):
                here += words[position]
                position += 1
                continue
            if word != here:
                table[here] = word
            here += 1
        return table

    def fold(self, name: str) -> str:
        return name.translate(self.upcase) if self.upcase else capitals(name)

    def root(self) -> Entry:
        return Entry("/", "", ROOT_ID, True, 0, 0, DIRECTORY, None, None, None, None)

    def children(self, folder: Entry, *, deleted: bool = False) -> list[Entry]:
        data, fragments = self._directory_bytes(folder)
        parsed = parse_entry_sets(data, deleted=deleted)
        for wrong in parsed.problems:
            self.problems.add("exfat.entry-set", f"{folder.path!r}: {wrong}", hides_names=True)
        found = []
        for each in parsed.files:
            ident = self._place(fragments, each.offset)
            self._sets[ident] = each
            found.append(self._entry(each, ident, folder.path))
        return found

    def _entry(self, each: FileSet, ident: int, folder: str) -> Entry:
        size = self.boot.cluster_size
        return Entry(
            path=join_path(folder, each.name),
            name=each.name,
            id=ident,
            is_dir=bool(each.attributes & DIRECTORY),
            size=0 if each.attributes & DIRECTORY else each.size,
            allocated=ceil_div(each.size, size) * size,
            attributes=each.attributes,
            created=each.created,
            modified=each.modified,
            accessed=each.accessed,
            changed=None,
            deleted=each.deleted,
        )

    def directory_blocks(self, entry: Entry) -> Iterable[int]:
        size = self.boot.cluster_size
        if entry.id == ROOT_ID:
            hops: Iterable[tuple[int, int]] = self.chains.hops(self.boot.root_cluster, MAX_DIRECTORY // size)
        else:
            each = self._set_of(entry)
            wanted = ceil_div(min(each.size, MAX_DIRECTORY), size)
            hops = [(each.cluster, wanted)] if each.contiguous else self.chains.hops(each.cluster, wanted)
        return (cluster for first, count in hops for cluster in range(first, first + count))

    def _directory_fragments(self, folder: Entry) -> Fragments:
        if folder.id != ROOT_ID:
            each = self._set_of(folder)
            size = min(each.size, MAX_DIRECTORY)
            return self._fragments(each.cluster, size, each.contiguous, folder.path, hides_names=True)
        limit = max(1, MAX_DIRECTORY // self.boot.cluster_size)
        fragments, wrong = self.chains.follow(self.boot.root_cluster, limit)
        if wrong:
            self.problems.add("exfat.chain", f"the chain of '/' {wrong}", hides_names=True)
        return fragments

    def _directory_bytes(self, folder: Entry) -> tuple[bytes, Fragments]:
        fragments = self._directory_fragments(folder)
        size = self.boot.cluster_size
        total = min(MAX_DIRECTORY, sum(count for _, count in fragments) * size)
        table = fragment_extents(fragments, size, self._first_byte, total)
        return read_extents(self.volume, table, 0, total), fragments

    def _place(self, fragments: Fragments, offset: int) -> int:
        size = self.boot.cluster_size
        for cluster, count in fragments:
            if offset < count * size:
                return self.boot.data_offset + (cluster - 2) * size + offset
            offset -= count * size
        return -1

    def _set_of(self, entry: Entry) -> FileSet:
        known = self._sets.get(entry.id)
        if known is None:
            data = self.volume.read(entry.id, min(32 * 19, self.volume.size - entry.id))
            parsed = parse_entry_sets(data, deleted=True)
            if not parsed.files:
                raise MissingError(f"{entry.path!r} is no longer there", path=self.volume.name)
            known = parsed.files[0]
        return known

    # Bytes

    def _fragments(
        self, first: int, size: int, contiguous: bool, path: str, *, hides_names: bool = False
    ) -> Fragments:
        wanted = ceil_div(size, self.boot.cluster_size)
        if not wanted:
            return []
        if contiguous:
            if first < 2 or first + wanted > self.boot.clusters + 2:
                raise CorruptImageError(f"{path!r} leaves the volume", path=self.volume.name, found=first)
            return [(first, wanted)]
        fragments, wrong = self.chains.follow(first, wanted)
        if wrong:
            self.problems.add("exfat.chain", f"the chain of {path!r} {wrong}", hides_names=hides_names)
        return fragments

    def _bytes_of(self, first: int, size: int) -> bytes:
        fragments, _ = self.chains.follow(first, ceil_div(size, self.boot.cluster_size))
        table = fragment_extents(fragments, self.boot.cluster_size, self._first_byte, size)
        return read_extents(self.volume, table, 0, size)

    def extents(self, entry: Entry, stream: str = "", *, slack: bool = False) -> FileExtents:
        self.stream_size(entry, stream)
        size = self.boot.cluster_size
        if entry.is_dir:
            fragments = self._directory_fragments(entry)
            return fragment_extents(fragments, size, self._first_byte, sum(count for _, count in fragments) * size)
        each = self._set_of(entry)
        fragments = self._fragments(each.cluster, each.size, each.contiguous or entry.deleted, entry.path)
        if slack:
            return fragment_extents(fragments, size, self._first_byte, sum(count for _, count in fragments) * size)
        return fragment_extents(fragments, size, self._first_byte, each.size, written=each.valid)

    # The volume

    def facts(self) -> VolumeFacts:
        boot = self.boot
        label = None
        try:
            entry = self._system_entry(0x83)
            label = entry.label if entry else ""
        except ByreError as error:
            self.problems.add("exfat.root", f"the root directory can't be read: {error}")
        return VolumeFacts(
            type="exfat",
            size=boot.total_size,
            cluster_size=boot.cluster_size,
            sector_size=boot.sector_size,
            version=boot.revision,
            label=label,
            serial=f"{boot.serial:08X}",
            free=self._free(),
            dirty=boot.dirty,
            hibernated=False,
            details={"fats": boot.fats, "clusters": boot.clusters, "media_failure": boot.failed},
        )

    def _bitmap(self) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """A byte for each cluster, 1 where in use."""
        entry = next(
            (each for each in self.system if each.kind == 0x81 and each.flags & 1 == self.boot.active_fat), None
        )
        require_countable(self.boot.clusters)
        needed = ceil_div(self.boot.clusters, 8)
        if entry is None or not needed <= entry.size <= MAX_BITMAP:
            raise CorruptImageError("the allocation bitmap is missing or too short", path=self.volume.name)
        data = np.frombuffer(self._bytes_of(entry.cluster, needed), dtype=np.uint8)
        return np.unpackbits(data, bitorder="little")[: self.boot.clusters]

    def _free(self) -> int | None:
        try:
            return int(np.count_nonzero(self._bitmap() == 0)) * self.boot.cluster_size
        except ByreError as error:
            self.problems.add("exfat.bitmap", f"the allocation bitmap can't be read: {error}")
            return None

    def free_extents(self) -> Iterator[FreeExtents]:
        return join_free(iter([free_from_bits(self._bitmap(), self._first_byte, self.boot.cluster_size)]))

    def check(self) -> CheckReport:
        """The allocation bitmap against the clusters of everything that a walk finds."""
        use = ClusterUse(self.boot.clusters + 2)
        size = self.boot.cluster_size
        use.mark(self._directory_fragments(self.root()))
        for each in self.system:
            if each.size:
                use.mark(self.chains.follow(each.cluster, ceil_div(each.size, size))[0])
        for entry in self.walk():
            each_set = self._set_of(entry)
            try:
                fragments = self._fragments(each_set.cluster, each_set.size, each_set.contiguous, entry.path)
            except ByreError as error:
                self.problems.add("exfat.clusters", str(error))
                continue
            if use.mark(fragments):
                self.problems.add("exfat.cross-linked", f"{entry.path!r} claims clusters of another file")
        bits = self._bitmap()
        mine = use.used[2:]
        lost, stolen = int(np.count_nonzero(~mine & (bits != 0))), int(np.count_nonzero(mine & (bits == 0)))
        if lost:
            self.problems.add("exfat.lost-clusters", "clusters in use belong to no file", kind="leak", count=lost)
        if stolen:
            self.problems.add("exfat.bitmap-free", "clusters of files are free by the bitmap", count=stolen)
        found = tuple(self.problems)
        return CheckReport(
            format="exfat",
            corruptions=sum(each.count for each in found if each.kind == "corruption"),
            leaks=sum(each.count for each in found if each.kind == "leak"),
            problems=found,
            allocated_blocks=int(np.count_nonzero(bits)),
            total_blocks=self.boot.clusters,
        )
