"""Whether all that two states of an NTFS volume store apart is accounted for.

Then a file whose MFT record is the same is the same file, and tens of thousands of them need no look at their
extents. A file's bytes may change without its record (a write past the file system): such clusters are left
over here, and every file is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from byre.differences.blocks import Blocks
from byre.disks.writer import Int64Array
from byre.errors import ByreError
from byre.filesystems.base import Entry, FileSystem
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.records import REFERENCE_MASK
from byre.filesystems.ntfs.runs import decode_runs

MAX_LEFT_OVER = 32 << 20
"""Bytes that are read, at most, to see that they are the same although nothing accounts for them."""


class Untouched:
    """Knows of each file whether nothing of it can differ. ``all_told`` False: it can't say so of any."""

    def __init__(self, old: FileSystem, new: FileSystem, blocks: Blocks | None) -> None:
        self.blocks = blocks
        self.files = new if isinstance(new, NtfsFileSystem) else None
        self.pair = tuple(each for each in (old, new) if isinstance(each, NtfsFileSystem))
        self.all_told = False

    def learn(self, old: Iterable[Entry], new: Iterable[Entry]) -> None:
        """Take stock: ``old`` and ``new`` are all entries of both states, the file system's own ones too."""
        if self.blocks is None or len(self.pair) != 2:
            return
        try:
            known = [self._used(files, rows) for files, rows in zip(self.pair, (old, new), strict=True)]
            free = _both([_free(files) for files in self.pair])
            volume = self.pair[0].volume
            stop = volume.start + self.pair[0].boot.clusters * self.pair[0].boot.cluster_size
            apart = self.blocks.within(volume.start, stop)
        except ByreError:
            return  # what can't be read is met again, and told, when the files are compared
        left = _left_over(_union([*known, free]), apart)
        if sum(high - low for low, high in left) <= MAX_LEFT_OVER:
            # Images store whole clusters apart: what lies beside a change in one is mostly the same.
            self.all_told = not any(self.blocks.differ(low, high) for low, high in left)

    def is_same(self, old: Entry, new: Entry) -> bool:
        """Whether two entries are one file of which nothing is stored apart."""
        return self.all_told and old.id == new.id and not self._record_touched(new)

    def _record_touched(self, entry: Entry) -> bool:
        assert self.files is not None and self.blocks is not None
        number = entry.id & REFERENCE_MASK
        return any(
            self.blocks.touches(place, place + files.boot.record_size)
            for files in self.pair
            if number < files.mft.count
            for place in (files.mft.place(number),)
        )

    def _used(self, files: NtfsFileSystem, entries: Iterable[Entry]) -> Int64Array:
        """What the file system's own files, all folders, and files with another record take on the disk."""
        rows: list[tuple[int, int]] = []
        seen: set[int] = set()
        for entry in entries:
            number = entry.id & REFERENCE_MASK
            own = number < 24 or entry.path.startswith("/$")
            if number not in seen and (own or entry.is_dir or self._record_touched(entry)):
                seen.add(number)
                rows += _runs(files, number)
        return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _runs(files: NtfsFileSystem, number: int) -> Iterator[tuple[int, int]]:
    size, start = files.boot.cluster_size, files.volume.start
    for each in files.attributes(number):
        if not each.resident:
            for _, lcn, count in decode_runs(each.value, each.lowest_vcn, files.boot.clusters):
                if lcn >= 0:
                    yield start + lcn * size, start + (lcn + count) * size


def _free(files: NtfsFileSystem) -> Int64Array:
    pieces = [np.stack((table["disk"], table["disk"] + table["length"]), axis=1) for table in files.free_extents()]
    return np.concatenate(pieces) if pieces else np.zeros((0, 2), dtype=np.int64)


def _union(tables: list[Int64Array]) -> Int64Array:
    """Ranges joined where they touch, ascending."""
    rows = np.concatenate(tables)
    if not len(rows):
        return rows
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    reach = np.maximum.accumulate(rows[:, 1])
    heads = np.flatnonzero(np.concatenate(([True], rows[1:, 0] > reach[:-1])))
    tails = np.concatenate((heads[1:] - 1, [len(rows) - 1]))
    return np.stack((rows[heads, 0], reach[tails]), axis=1)


def _both(tables: list[Int64Array]) -> Int64Array:
    """What lies in each of two tables of ranges."""
    one, other = (_union([table]) for table in tables)
    edges = np.concatenate((one.reshape(-1), other.reshape(-1)))
    steps = np.concatenate((np.tile([1, -1], len(one)), np.tile([1, -1], len(other))))
    order = np.lexsort((steps, edges))  # at one place the end of a range comes before the start of the next
    edges, depth = edges[order], np.cumsum(steps[order])
    starts = np.flatnonzero(depth == 2)
    ranges = np.stack((edges[starts], edges[starts + 1]), axis=1) if len(starts) else np.zeros((0, 2), dtype=np.int64)
    return ranges.astype(np.int64)


def _left_over(known: Int64Array, wanted: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of ``wanted`` lies in no range of ``known``, whose ranges are joined and ascending."""
    starts, stops = known[:, 0], known[:, 1]
    left = []
    for start, stop in wanted:
        position = start
        low, high = int(np.searchsorted(stops, start, side="right")), int(np.searchsorted(starts, stop))
        for first, last in known[low:high].tolist():
            if position < first:
                left.append((position, first))
            position = max(position, last)
        if position < stop:
            left.append((position, stop))
    return left
