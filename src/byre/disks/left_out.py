"""A disk of which some ranges are left out: they read as zeros, whatever lies there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from byre.disks.disk import Description, Disk, DiskDefaults
from byre.disks.writer import Int64Array
from byre.extents import ExtentTable, Kind, cut, merge
from byre.storage.base import Storage


class LeftOutDisk(DiskDefaults):
    """Another disk, read-only, with ``ranges`` as zeros. Doesn't own it.

    ``ranges`` are rows ``(start, stop)`` of guest bytes, ascending and apart.
    """

    def __init__(self, disk: Disk, ranges: Int64Array) -> None:
        self.disk = disk
        self.format = disk.format
        self.size = disk.size
        self.sector_size = disk.sector_size
        self.block_size = disk.block_size
        self._starts = np.ascontiguousarray(ranges[:, 0])
        self._stops = np.ascontiguousarray(ranges[:, 1])

    @property
    def files(self) -> tuple[Storage, ...]:
        return self.disk.files

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        for table in self.disk.extents(start, stop):
            yield self._overlay(table)

    def _overlay(self, table: ExtentTable) -> ExtentTable:
        first = int(table["start"][0])
        end = int(table["start"][-1] + table["length"][-1])
        low = int(np.searchsorted(self._stops, first, side="right"))
        high = int(np.searchsorted(self._starts, end, side="left"))
        if low >= high:
            return table
        edges = np.concatenate((self._starts[low:high], self._stops[low:high]))
        rows = cut(table, edges)
        at = np.searchsorted(self._starts, rows["start"], side="right") - 1
        out = (at >= 0) & (rows["start"] < self._stops[np.maximum(at, 0)]) & (rows["kind"] != Kind.UNALLOCATED)
        rows["kind"][out] = Kind.ZERO
        rows["host"][out] = -1
        rows["stored"][out] = 0
        rows["file"][out] = -1
        rows["depth"][out] = 0
        return merge(rows)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        self.disk.read_into(offset, view)
        end = offset + len(view)
        low = int(np.searchsorted(self._stops, offset, side="right"))
        high = int(np.searchsorted(self._starts, end, side="left"))
        for start, stop in zip(self._starts[low:high].tolist(), self._stops[low:high].tolist(), strict=True):
            head, tail = max(start, offset) - offset, min(stop, end) - offset
            view[head:tail] = bytes(tail - head)

    def describe(self) -> Description:
        return self.disk.describe()
