"""Changing a FAT12, FAT16 or FAT32 volume: directory entries, every copy of the table, and the FSInfo sector.

Source: Microsoft, FAT: General Overview of On-Disk Format 1.03. It happens on a scratch disk, so that the order of
the writes doesn't matter.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from byre.disks.scratch import ScratchDisk
from byre.errors import UnsupportedError, UsageError
from byre.filesystems.base import Entry
from byre.filesystems.fat.filesystem import ROOT_ID, FatFileSystem
from byre.filesystems.fat.table import END, FREE
from byre.lite.advance import Advance, quiet
from byre.lite.changes import Applied, Change, Content, MakeFolder, Move, Put, Remove
from byre.lite.fat_folder import Folder, dots, slots_needed, with_content
from byre.lite.guards import from_inside
from byre.lite.planned_names import Made, PlannedNames, Where, movable, new_name, where
from byre.units import ceil_div

PIECE = 1 << 20
MAX_FILE = (1 << 32) - 1
NEAR = 1 << 16
"""Clusters behind the last one given that are looked at before all others: a table may have 268 million."""


def refuse_unsafe(files: FatFileSystem) -> None:
    """Raise UnsupportedError where the volume may not be changed from outside."""
    facts = files.facts()
    name = files.volume.name
    inside = from_inside(name)
    if facts.hibernated is not False:
        raise UnsupportedError("holds a hibernated session: it must not be changed", path=name, hint=inside)
    if facts.dirty is not False:
        raise UnsupportedError(
            "the volume is marked dirty: the guest wants to check it first", path=name, hint=inside
        )


def apply(work: ScratchDisk, files: FatFileSystem, changes: Iterable[Change], *, advance: Advance = quiet) -> Applied:
    """Make the changes. Raises MissingError for what isn't there, UsageError for what can't be, UnsupportedError
    where the volume is full; the scratch disk is then to be thrown away."""
    writer = _Writer(work, files)
    writer.make(changes, advance)
    writer.finish(work)
    return Applied(tuple(writer.removed), tuple(writer.written), writer.freed)


def check(files: FatFileSystem, changes: Iterable[Change]) -> None:
    """Raise what ``apply`` would, but for what reading the contents may bring; nothing is read or written of them."""
    _Writer(None, files).make(changes)


class _Writer:
    """One volume being changed. Mutable: folders and the table stay in memory until ``finish``. ``work``: where the
    contents of files go; nowhere without."""

    def __init__(self, work: ScratchDisk | None, files: FatFileSystem) -> None:
        self.work = work
        self.files = files
        self.boot = files.boot
        self.start = files.volume.start
        self.next: npt.NDArray[np.int32] = files.chains.next.copy()
        self.removed: list[str] = []
        self.written: list[str] = []
        self.freed = 0
        self.names = PlannedNames(files)
        self._folders: dict[Where, Folder] = {}
        self._hint = 2

    # Changes

    def make(self, changes: Iterable[Change], advance: Advance = quiet) -> None:
        for change in changes:
            if isinstance(change, Remove):
                self.remove(change.path)
            elif isinstance(change, MakeFolder):
                self.make_folder(change.path)
            elif isinstance(change, Put):
                self.put(change.path, change.content)
            elif isinstance(change, Move):
                self.move(change)
            advance(1)

    def remove(self, path: str) -> None:
        entry = self.names.existing(path)
        if entry is None:
            return
        if entry.id == ROOT_ID:
            raise UsageError("the root folder can't be removed", path=self.files.volume.name)
        below = list(self.files.walk(entry)) if entry.is_dir else []
        folders = {each.path: each for each in (entry, *below)}
        folders[_above(entry)] = self.files.lookup(_above(entry))
        for each in [*reversed(below), entry]:
            if not self.names.is_gone(each):
                self._remove_one(each, self._folder(folders[_above(each)]))

    def _remove_one(self, entry: Entry, folder: Folder) -> None:
        offset = folder.position(entry.id)
        first = self._first_cluster(folder.entry(offset))
        folder.erase(offset)
        self._release(first)
        self._folders.pop(entry.path, None)
        self.names.remove(entry)
        self.removed.append(entry.path)
        self.freed += entry.allocated

    def make_folder(self, path: str) -> None:
        there = self.names.find(path)
        if there is not None:
            if not there.is_dir:
                raise UsageError("a file of that name is there", path=self.files.volume.name, found=there.path)
            return
        name = new_name(path, self.files.volume.name)
        place = self.names.folder(path)
        above = self._folder(place)
        clusters = self._allocate(1)
        size = self.boot.cluster_size
        is_root = isinstance(place, Entry) and place.id == ROOT_ID
        fresh = Folder(bytearray(), [], int(clusters[0]), fixed=False)
        fresh.grow([self._place(int(clusters[0]))], size)
        for at, raw in enumerate(_halves(dots(int(clusters[0]), 0 if is_root else above.cluster))):
            fresh.put(at * 32, raw)
        self._add_name(above, name, cluster=int(clusters[0]), size=0, folder=True)
        made = self.names.make(path, place, is_dir=True, operation=0)
        self._folders[made.number] = fresh
        self.written.append(path)

    def put(self, path: str, content: Content) -> None:
        if content.size > MAX_FILE:
            raise UsageError("FAT holds no file of 4 GiB or more", path=path, found=f"{content.size} bytes")
        there = self.names.find(path)
        if there is not None and (there.is_dir or isinstance(there, Made)):
            what = "a folder of that name is there" if there.is_dir else "an earlier change puts a file there"
            raise UsageError(what, path=self.files.volume.name, found=there.path)
        place = self.names.folder(there.path if there is not None else path)
        folder = self._folder(place)
        if isinstance(there, Entry):
            self._release(self._first_cluster(folder.entry(folder.position(there.id))))
        clusters = self._allocate(ceil_div(content.size, self.boot.cluster_size))
        if self.work is not None:
            self._fill(self.work, clusters, content)
        first = int(clusters[0]) if len(clusters) else 0
        if isinstance(there, Entry):
            offset = folder.position(there.id)
            folder.put(offset, with_content(folder.entry(offset), first, content.size))
        else:
            name = new_name(path, self.files.volume.name)
            self._add_name(folder, name, cluster=first, size=content.size, folder=False)
            self.names.make(path, place, is_dir=False, operation=0)
        self.written.append(there.path if there is not None else path)

    def move(self, change: Move) -> None:
        """The entry with all that it says, under another name: its clusters stay."""
        entry = movable(self.names, change, self.files.volume.name)
        name = new_name(change.target, self.files.volume.name)
        place = self.names.folder(change.target)
        old = self._folder(self.files.lookup(_above(entry)))
        offset = old.position(entry.id)
        raw = old.entry(offset)
        self._add_name(self._folder(place), name, cluster=0, size=0, folder=False, like=raw)
        old.erase(offset)
        self.names.remove(entry)
        self.names.make(change.target, place, is_dir=False, operation=0)
        self.removed.append(entry.path)
        self.written.append(change.target)

    def _add_name(
        self, above: Folder, name: str, *, cluster: int, size: int, folder: bool, like: bytes | None = None
    ) -> None:
        if above.has(name, wide=self.boot.kind == "fat32", codepage=self.files.codepage):
            raise UsageError("that name is there already", path=self.files.volume.name, found=repr(name))
        needed = slots_needed(name)
        offset = above.free_slots(needed)
        while offset is None:
            if above.fixed:
                raise UnsupportedError("the root folder has no room for another name", path=self.files.volume.name)
            more = self._allocate(1)
            last = self._chain(above.cluster)[-1]
            self.next[last] = int(more[0])
            above.grow([self._place(int(more[0]))], self.boot.cluster_size)
            offset = above.free_slots(needed)
        above.add(name, offset, cluster=cluster, size=size, folder=folder, like=like)

    # The table

    def _chain(self, first: int) -> list[int]:
        """The clusters from ``first`` on, as the table now is."""
        found, here = [], first
        seen: set[int] = set()
        while here != END:
            if not 2 <= here < len(self.next) or here in seen:
                raise UnsupportedError("a chain of clusters is broken", path=self.files.volume.name, found=here)
            seen.add(here)
            found.append(here)
            here = int(self.next[here])
        return found

    def _release(self, first: int) -> None:
        if first:
            self.next[np.array(self._chain(first))] = FREE

    def _allocate(self, count: int) -> npt.NDArray[np.int64]:
        """``count`` free clusters, chained; one run where there is one from the last on."""
        if not count:
            return np.zeros(0, dtype=np.int64)
        near = np.flatnonzero(self.next[self._hint : self._hint + max(NEAR, 2 * count)] == FREE) + self._hint
        free = near if len(near) >= count else np.flatnonzero(self.next[2:] == FREE) + 2
        if len(free) < count:
            raise UnsupportedError(
                "the guest's volume has no room for it",
                path=self.files.volume.name,
                found=f"{len(free) * self.boot.cluster_size} bytes free",
                expected=f"{count * self.boot.cluster_size}",
            )
        at = int(np.searchsorted(free, self._hint))
        at = at if at + count <= len(free) else 0
        found = free[at : at + count]
        self.next[found[:-1]] = found[1:]
        self.next[found[-1]] = END
        self._hint = int(found[-1]) + 1
        return found

    def _first_cluster(self, raw: bytes) -> int:
        high, low = struct.unpack_from("<H", raw, 20)[0], struct.unpack_from("<H", raw, 26)[0]
        return int(low | (high << 16 if self.boot.kind == "fat32" else 0))

    # Bytes

    def _place(self, cluster: int) -> int:
        """The offset in the volume of a cluster."""
        return self.boot.data_offset + (cluster - 2) * self.boot.cluster_size

    def _fill(self, work: ScratchDisk, clusters: npt.NDArray[np.int64], content: Content) -> None:
        size = self.boot.cluster_size
        edges = [0, *(np.flatnonzero(np.diff(clusters) != 1) + 1).tolist(), len(clusters)] if len(clusters) else [0]
        for low, high in pairwise(edges):
            begin, end = low * size, high * size
            for offset in range(begin, end, PIECE):
                length = min(PIECE, end - offset)
                wanted = max(0, min(length, content.size - offset))
                data = content.read(offset, wanted)
                if len(data) != wanted:
                    raise UsageError("a file that is put in became shorter", found=len(data), expected=wanted)
                place = self._place(int(clusters[low])) + offset - begin
                work.write(self.start + place, data.ljust(length, b"\0"))

    def _folder(self, place: Entry | Made) -> Folder:
        """A folder's bytes: of one that is new, and of one that was touched before, as they are by now."""
        found = self._folders.get(where(place))
        if found is None:
            assert isinstance(place, Entry)
            found = self._folders[place.path] = self._load(place)
        return found

    def _load(self, entry: Entry) -> Folder:
        table = self.files.extents(entry)
        rows = [(start, disk - self.start, length) for start, length, _, disk, _ in table.tolist()]
        data = bytearray().join(self.files.volume.read(place, length) for _, place, length in rows)
        fixed = entry.id == ROOT_ID and self.boot.kind != "fat32"
        if entry.id == ROOT_ID:
            cluster = 0 if fixed else self.boot.root_cluster
        else:
            cluster = self._first_cluster(self.files.volume.read(entry.id, 32))
        return Folder(data, rows, cluster, fixed)

    # The end

    def finish(self, work: ScratchDisk) -> None:
        """Write folders, tables and the free count."""
        for folder in self._folders.values():
            for offset in sorted(folder.changed):
                start, place, _ = next(row for row in reversed(folder.rows) if row[0] <= offset)
                work.write(self.start + place + offset - start, folder.entry(offset))
        changed = np.flatnonzero(self.next != self.files.chains.next)
        if not len(changed):
            return
        for copy in range(self.boot.fats):
            self._write_table(work, self.boot.fat_offset + copy * self.boot.fat_size, changed)
        if self.boot.fsinfo_offset is not None:
            self._write_free_count(work, self.boot.fsinfo_offset)

    def _write_table(self, work: ScratchDisk, offset: int, changed: npt.NDArray[np.int64]) -> None:
        """The changed entries of one copy; the others, and FAT32's upper four bits, stay what they are."""
        width = {"fat12": 3, "fat16": 4, "fat32": 8}[self.boot.kind]  # half-bytes
        data = bytearray(self.files.volume.read(offset, (len(self.next) * width + 1) // 2))
        before = bytes(data)
        values = self.next[changed]
        if self.boot.kind == "fat12":
            for cluster, value in zip(changed.tolist(), values.tolist(), strict=True):
                _set12(data, cluster, 0xFFF if value == END else value)
        elif self.boot.kind == "fat16":
            narrow = np.frombuffer(data, dtype="<u2")
            narrow[changed] = np.where(values == END, 0xFFFF, values).astype(np.uint16)
        else:
            wide = np.frombuffer(data, dtype="<u4")
            upper = wide[changed] & np.uint32(0xF0000000)
            wide[changed] = np.where(values == END, 0x0FFFFFFF, values).astype(np.uint32) | upper
        for at in range(0, len(data), 512):
            if data[at : at + 512] != before[at : at + 512]:
                work.write(self.start + offset + at, data[at : at + 512])

    def _write_free_count(self, work: ScratchDisk, offset: int) -> None:
        sector = bytearray(self.files.volume.read(offset, 512))
        if sector[:4] == b"RRaA" and sector[484:488] == b"rrAa":
            free = int(np.count_nonzero(self.next[2:] == FREE))
            struct.pack_into("<II", sector, 488, free, min(self._hint, len(self.next) - 1))
            work.write(self.start + offset, sector)


def _set12(data: bytearray, cluster: int, value: int) -> None:
    at = cluster * 3 // 2
    old = int.from_bytes(data[at : at + 2], "little")
    new = old & 0x000F | value << 4 if cluster & 1 else old & 0xF000 | value
    data[at : at + 2] = new.to_bytes(2, "little")


def _halves(entries: bytes) -> tuple[bytes, bytes]:
    return entries[:32], entries[32:]


def _above(entry: Entry) -> str:
    return entry.path[: -len(entry.name) - 1] or "/"
