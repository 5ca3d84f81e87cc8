"""Writing into an existing VMDK: flat extents and hosted sparse ones.

What a cut may leave is always readable: new grains are written and flushed before the tables that name them, new
tables before the directory that names them. Changed entries wait in memory for the next flush.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from byre.disks.blockmap import check_range
from byre.disks.vmdk.descriptor import replace_cid
from byre.disks.vmdk.extent import Extent, FlatExtent, SparseExtent
from byre.disks.vmdk.layout import GTE_ZEROED, MAX_CAPACITY, SparseHeader
from byre.disks.vmdk.options import new_cid
from byre.disks.vmdk.tables import EntryArray, read_directory
from byre.disks.writer import Int64Array
from byre.errors import CorruptImageError, StorageError, UnsupportedError, UsageError
from byre.extents import Kind, merged_slices
from byre.storage.base import Buffer, Storage
from byre.units import SECTOR, align_up

if TYPE_CHECKING:
    from byre.disks.vmdk.disk import VmdkDisk

MAX_PENDING = 64
"""Chunks of changed entries (128 KiB each) before they are written without being asked."""
MAX_SECTOR = (1 << 32) - 1
_ZEROS = bytes(1 << 20)


class Editor:
    """Writes for one open disk. Mutable: remembers whether the CID was changed already."""

    def __init__(self, disk: VmdkDisk) -> None:
        self._disk = disk
        self._marked = False
        self._parts = [_editor(part, disk, index) for index, part in enumerate(disk.parts)]

    @classmethod
    def for_disk(cls, disk: VmdkDisk) -> Editor:
        """Raises UnsupportedError for what is only read: streams, COWD, seSparse, change-tracked disks."""
        if not disk.writable:
            raise StorageError("was opened read-only", path=disk.source.storage.name)
        return cls(disk)

    def part(self, index: int) -> _FlatEditor | SparseEditor:
        return self._parts[index]

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        check_range(self._disk.source.storage.name, offset, len(view), self._disk.size)
        if not len(view):
            return
        self.mark_changed()
        for index, local, start, length in self._pieces(offset, len(view)):
            self._parts[index].write(local, view[start : start + length])

    def write_zeroes(self, offset: int, length: int, *, only_if_cheap: bool = False) -> None:
        check_range(self._disk.source.storage.name, offset, length, self._disk.size)
        if not length:
            return
        self.mark_changed()
        for index, local, _, count in self._pieces(offset, length):
            self._parts[index].write_zeroes(local, count, only_if_cheap=only_if_cheap)

    def discard(self, offset: int, length: int) -> None:
        self.write_zeroes(offset, length, only_if_cheap=True)

    def flush(self) -> None:
        for part in self._parts:
            part.flush()

    def mark_changed(self) -> None:
        """A new CID before the first change: children of the old contents must not open over the new ones."""
        if self._marked:
            return
        source = self._disk.source
        old = source.storage.read(source.descriptor_offset, source.descriptor_bytes)
        new = replace_cid(old, new_cid())
        if source.descriptor_offset:
            new = new.rstrip(b"\0").ljust(source.descriptor_bytes, b"\0")
        if new != old and len(new) >= len(old):
            source.storage.write(source.descriptor_offset, new)
            source.storage.flush()
        self._marked = True

    def _pieces(self, offset: int, length: int) -> list[tuple[int, int, int, int]]:
        """(extent, offset in it, offset in the request, length) for each extent that the range touches."""
        pieces = []
        for index, (base, part) in enumerate(zip(self._disk.starts, self._disk.parts, strict=True)):
            begin, end = max(offset, base), min(offset + length, base + part.size)
            if begin < end:
                pieces.append((index, begin - base, begin - offset, end - begin))
        return pieces


def _editor(part: Extent, disk: VmdkDisk, index: int) -> _FlatEditor | SparseEditor:
    name = disk.source.storage.name
    if isinstance(part, FlatExtent):
        return _FlatEditor(part, name)
    if not isinstance(part, SparseExtent) or part.header is None or part.compressed:
        what = "a compressed stream" if getattr(part, "compressed", False) else f"an extent of type {part.kind}"
        raise UnsupportedError(
            f"{what} isn't written to", path=name, hint="Convert it to subformat=monolithicSparse first."
        )
    if part.header.version == 3:
        raise UnsupportedError(
            "keeps track of changed blocks (header version 3), which a write would break",
            path=name,
            hint="Convert it first.",
        )
    return SparseEditor(part, disk, disk.starts[index])


class _FlatEditor:
    def __init__(self, extent: FlatExtent, image: str) -> None:
        self._extent = extent
        assert extent.storage is not None
        self._storage: Storage = extent.storage
        self._image = image

    def _check(self) -> None:
        if not self._storage.writable:
            raise UsageError("lies in an extent that is read-only", path=self._image, found=self._storage.name)

    def write(self, offset: int, data: memoryview) -> None:
        self._check()
        self._storage.write(self._extent.offset + offset, data)

    def write_zeroes(self, offset: int, length: int, *, only_if_cheap: bool) -> None:
        self._check()
        clear(self._storage, self._extent.offset + offset, length, only_if_cheap=only_if_cheap)

    def flush(self) -> None:
        if self._storage.writable:
            self._storage.flush()


class SparseEditor:
    """Writes for one hosted sparse extent, both copies of its tables. Mutable: where the next grain goes, and the
    directory entries that are still to be written."""

    def __init__(self, extent: SparseExtent, disk: VmdkDisk, base: int) -> None:
        assert extent.header is not None
        self.extent = extent
        self.storage = extent.file
        self._disk = disk
        self._base = base
        self.header = extent.header
        self.mirror: Int64Array | None = None
        if self.header.redundant:
            self.mirror = redundant_directory(self.storage, self.header)
            if len(self.mirror) and int(self.mirror.max()) + extent.tables.table_bytes > self.storage.size:
                raise CorruptImageError(
                    "has redundant grain tables outside the file, so it isn't written to",
                    path=self.storage.name,
                    hint="Convert it to a new image.",
                )
        self._new_tables: list[int] = []
        self._next = align_up(self.storage.size, extent.grain_bytes)
        self._dirty = False

    def write(self, offset: int, data: memoryview) -> None:
        self._dirty = True
        stop = offset + len(data)
        for table in merged_slices(self.extent.rows(offset, stop)):
            for start, length, kind, host, *_ in table.tolist():
                piece = data[start - offset : start - offset + length]
                if kind == Kind.DATA:
                    self.storage.write(host, piece)
                else:
                    self._allocate(start, piece, hidden=kind == Kind.ZERO)
        if self.extent.tables.pending > MAX_PENDING:
            self.flush()

    def write_zeroes(self, offset: int, length: int, *, only_if_cheap: bool) -> None:
        self._dirty = True
        grain = self.extent.grain_bytes
        for table in merged_slices(self.extent.rows(offset, offset + length)):
            for start, count, kind, host, *_ in table.tolist():
                if kind == Kind.DATA:
                    clear(self.storage, host, count, only_if_cheap=only_if_cheap)
                elif kind == Kind.UNALLOCATED and self._disk.parent is not None and not only_if_cheap:
                    end = start + count
                    first, last = align_up(start, grain), end if end == self.extent.size else end - end % grain
                    if self.extent.zeroed_grains and first < last:
                        self._write_zeros(start, first - start)
                        grains = -(-last // grain) - first // grain
                        self._enter(first // grain, np.full(grains, GTE_ZEROED, dtype="<u4"))
                        self._write_zeros(last, end - last)
                    else:
                        self._write_zeros(start, count)

    def _write_zeros(self, offset: int, length: int) -> None:
        for position in range(offset, offset + length, len(_ZEROS)):
            self.write(position, memoryview(_ZEROS)[: min(len(_ZEROS), offset + length - position)])

    def _allocate(self, start: int, data: memoryview, *, hidden: bool) -> None:
        """New grains for ``data`` at ``start``; what of them it doesn't cover is filled from the parent."""
        grain = self.extent.grain_bytes
        first, stop = start // grain, -(-(start + len(data)) // grain)
        begin, end = first * grain, min(stop * grain, self.extent.size)
        host = self._next
        if (host + (stop - first) * grain) // SECTOR > MAX_SECTOR:
            raise UnsupportedError("a sparse VMDK file can't be larger than 2 TiB", path=self.storage.name)
        head = self._below(begin, start - begin, hidden=hidden)
        tail = self._below(start + len(data), end - start - len(data), hidden=hidden)
        self._next = host + (stop - first) * grain
        if head:
            self.storage.write(host, head)
        self.storage.write(host + start - begin, data)
        if tail:
            self.storage.write(host + start - begin + len(data), tail)
        if self.storage.size < self._next:
            self.storage.truncate(self._next)
        sectors = (host + np.arange(stop - first, dtype=np.int64) * grain) // SECTOR
        self._enter(first, sectors.astype("<u4"))

    def _below(self, offset: int, length: int, *, hidden: bool) -> bytes:
        if not length:
            return b""
        if hidden or self._disk.parent is None:
            return bytes(length)
        return self._disk.read(self._base + offset, length)

    def _enter(self, first: int, values: EntryArray) -> None:
        tables = self.extent.tables
        per_table = tables.gtes_per_gt
        for number in range(first // per_table, (first + len(values) - 1) // per_table + 1):
            if not tables.directory[number]:
                self._new_table(number)
        tables.set(first, values)

    def _new_table(self, number: int) -> None:
        """Room for a grain table, and its copy, at the end; the directory learns of it at the next flush."""
        tables = self.extent.tables
        length = align_up(tables.table_bytes, SECTOR)
        copies = 1 if self.mirror is None else 2
        at = self._next
        self.storage.write(at, bytes(copies * length))
        self._next = align_up(at + copies * length, self.extent.grain_bytes)
        self.storage.truncate(self._next)
        tables.directory[number] = at
        if self.mirror is not None:
            self.mirror[number] = at + length
        self._new_tables.append(number)

    def touch(self) -> None:
        """Tables were changed by another hand: the next flush has something to do."""
        self._dirty = True

    def flush(self) -> None:
        """Bring data, then tables, then directories to the disk."""
        if not self._dirty:
            return
        self.storage.flush()
        tables = self.extent.tables
        dirty = tables.dirty_tables()
        for directory in (self.mirror, tables.directory):
            if directory is None or not dirty:
                continue
            for number in dirty:
                # A missing redundant table is left missing: check names it.
                if int(directory[number]):
                    self.storage.write(int(directory[number]), tables.table(number).tobytes())
            self.storage.flush()
        tables.clean()
        for number in self._new_tables:
            if self.mirror is not None:
                self._point(self.header.rgd_offset, number, int(self.mirror[number]))
            self._point(self.header.gd_offset, number, int(tables.directory[number]))
        if self._new_tables:
            self.storage.flush()
        self._new_tables.clear()
        self._dirty = False

    def _point(self, directory: int, number: int, offset: int) -> None:
        self.storage.write(directory * SECTOR + number * 4, (offset // SECTOR).to_bytes(4, "little"))


def clear(storage: Storage, offset: int, length: int, *, only_if_cheap: bool = False) -> None:
    """Zeros over a range of a file, by a hole where that can be done."""
    if storage.punch(offset, length) or only_if_cheap:
        return
    for position in range(offset, offset + length, len(_ZEROS)):
        storage.write(position, memoryview(_ZEROS)[: min(len(_ZEROS), offset + length - position)])


def redundant_directory(storage: Storage, header: SparseHeader) -> Int64Array:
    """The byte offsets of the redundant grain tables. Raises CorruptImageError where the directory has no room."""
    entries = read_directory(
        storage,
        min(header.rgd_offset, MAX_CAPACITY) * SECTOR,
        header.grain_tables,
        dtype="<u4",
        path=storage.name,
        what="redundant grain directory",
    )
    return entries.astype(np.int64) * SECTOR
