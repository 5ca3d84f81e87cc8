"""Reading L1 and L2 tables: bounded slices for scans, a bounded cache for random access. Thread-safe."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from byre.disks.disk import SLICE_ROWS
from byre.disks.qcow2.entries import OFFSET_MASK, SUBCLUSTERS, Geometry, U64Array, decode_table, encode_table
from byre.disks.qcow2.mapping import Layout, map_range
from byre.errors import CorruptImageError
from byre.extents import ExtentTable, Kind, one_extent
from byre.storage.base import Storage

CACHE_BYTES = 32 << 20
"""Room for 512 tables of 64 KiB clusters: they map 256 GiB, more than a job touches at random."""


def read_l1(
    storage: Storage, geometry: Geometry, offset: int, entries: int, *, what: str = "the L1 table"
) -> U64Array:
    """An L1 table of ``entries`` 8-byte entries. Raises CorruptImageError where it leaves the file, or names more
    L2 tables than the file has clusters: a small file that names one of them a million times would keep a scan
    busy for minutes."""
    if not entries:
        return np.zeros(0, dtype=np.uint64)
    if offset == 0 or offset + entries * 8 > storage.size:
        raise CorruptImageError(
            f"{what} leaves the file" if offset else f"{what} has entries but no place",
            path=storage.name,
            offset=offset,
            found=f"{entries} entries",
            expected=f"within {storage.size} bytes",
            hint=f"Run 'byre check {storage.name}'.",
        )
    table = decode_table(storage.read(offset, entries * 8))
    named, clusters = int(np.count_nonzero(table & OFFSET_MASK)), storage.size >> geometry.cluster_bits
    if named > clusters:
        raise CorruptImageError(
            f"{what} names more L2 tables than the file has clusters",
            path=storage.name,
            offset=offset,
            found=named,
            expected=f"at most {clusters}",
            hint=f"Run 'byre check {storage.name}'.",
        )
    return table


class TableReader:
    """The L2 tables of one file, shared by today's disk and its snapshots. Mutable: a cache."""

    def __init__(self, storage: Storage, layout: Layout) -> None:
        self.storage = storage
        self.layout = layout
        self.geometry: Geometry = layout.geometry
        self.pinned: dict[int, U64Array] = {}
        """Tables that a writer has changed and the disk doesn't have yet, by host offset."""
        self._cache: OrderedDict[int, U64Array] = OrderedDict()
        self._room = max(4, CACHE_BYTES >> self.geometry.cluster_bits)
        self._lock = threading.Lock()

    def table(self, offset: int) -> U64Array:
        """One L2 table, from the cache where it is there. Not to be changed in place."""
        pinned = self.pinned.get(offset)
        if pinned is not None:
            return pinned
        with self._lock:
            found = self._cache.get(offset)
            if found is not None:
                self._cache.move_to_end(offset)
                return found
        self.check_offset(offset)
        table = self._shape(self.storage.read(offset, self.geometry.cluster_size))
        self.store(offset, table)
        return table

    def store(self, offset: int, table: U64Array) -> None:
        """Put what was just read or written into the cache."""
        with self._lock:
            self._cache[offset] = table
            self._cache.move_to_end(offset)
            while len(self._cache) > self._room:
                self._cache.popitem(last=False)

    def forget(self) -> None:
        """Empty the cache."""
        with self._lock:
            self._cache.clear()

    def check_offset(self, offset: int) -> None:
        """Raise CorruptImageError where no L2 table can be."""
        if offset % self.geometry.cluster_size or offset + self.geometry.cluster_size > self.storage.size:
            raise CorruptImageError(
                "an L1 entry points where no L2 table can be",
                path=self.storage.name,
                found=f"{offset:#x}",
                expected=f"a whole cluster within {self.storage.size} bytes",
                hint=f"Run 'byre check {self.storage.name}'.",
            )

    def rows(self, l1: U64Array, start: int, stop: int) -> Iterator[ExtentTable]:
        """The image's own extents of ``[start, stop)``, its backing image not looked at, in bounded slices."""
        geometry = self.geometry
        coverage = geometry.l2_coverage
        per_slice = max(1, SLICE_ROWS // (SUBCLUSTERS if geometry.extended_l2 else 1) // geometry.l2_entries)
        position = start
        while position < stop:
            index = position // coverage
            last = -(-stop // coverage)
            window = l1[index : min(last, index + _L1_WINDOW)]
            offsets = window & OFFSET_MASK
            if not len(window) or offsets[0] == 0:
                empty = _run(offsets == 0) if len(window) else last - index
                end = min(stop, (index + empty) * coverage)
                yield one_extent(position, end - position, Kind.UNALLOCATED)
            else:
                count = _run(offsets[:per_slice] != 0)
                end = min(stop, (index + count) * coverage)
                tables = self._tables([int(offset) for offset in offsets[:count]], end - position)
                yield from self._mapped(tables, index * coverage, position, end)
            position = end

    def _mapped(self, entries: U64Array, guest: int, start: int, stop: int) -> Iterator[ExtentTable]:
        """One slice, or several where a single table has more entries than a slice may have rows."""
        step = SLICE_ROWS // (SUBCLUSTERS if self.geometry.extended_l2 else 1) << self.geometry.cluster_bits
        position = start
        while position < stop:
            end = min(stop, position + step)
            yield map_range(self.layout, entries, guest, position, end)
            position = end

    def _tables(self, offsets: list[int], wanted: int) -> U64Array:
        """The entries of these tables one after the other; contiguous tables in one read.

        A scan goes past the cache: it would only push out what random access needs.
        """
        if len(offsets) == 1 and wanted < self.geometry.l2_coverage:
            return self.table(offsets[0])
        size = self.geometry.cluster_size
        data = bytearray(len(offsets) * size)
        view = memoryview(data)
        first = 0
        while first < len(offsets):
            after = first + 1
            pinned = self.pinned.get(offsets[first])
            if pinned is not None:
                view[first * size : after * size] = encode_table(pinned)
                first = after
                continue
            while (
                after < len(offsets)
                and offsets[after] == offsets[after - 1] + size
                and offsets[after] not in self.pinned
            ):
                after += 1
            self.check_offset(offsets[first])
            self.check_offset(offsets[after - 1])
            self.storage.read_into(offsets[first], view[first * size : after * size])
            first = after
        return self._shape(data)

    def _shape(self, data: bytes | bytearray) -> U64Array:
        entries = decode_table(data)
        return entries.reshape(-1, 2) if self.geometry.extended_l2 else entries


_L1_WINDOW = 1 << 16


def _run(holds: np.ndarray) -> int:
    """How many of the first values are true."""
    return len(holds) if holds.all() else int(np.argmin(holds))
