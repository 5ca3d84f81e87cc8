"""Which files of two states of an NTFS volume can't differ, told in bulk by their MFT records and clusters.

A file is the same in both states where its MFT records are the same, byte for byte, and none of its clusters is
apart: tens of thousands of them need no look at their extents. Whatever else changes on the volume, and by whatever
way it was written, has no part in that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from byre.disks.writer import BoolArray, Int64Array
from byre.errors import ByreError
from byre.filesystems.base import Entry, FileSystem
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.mft import SLICE_BYTES, Mft
from byre.filesystems.ntfs.names import IS_DIRECTORY
from byre.filesystems.ntfs.records import REFERENCE_MASK
from byre.filesystems.ntfs.tree import FIRST_USER_RECORD, ROOT
from byre.ranges import touched
from byre.volumes.problems import Problems

_BASE_REFERENCE = slice(32, 40)
"""Where a record names the record that it extends."""


class Untouched:
    """Knows of each file whether nothing of it can differ. Mutable: ``learn`` fills it; before that, and where it
    can't be told, it says so of none.

    ``apart`` are the ranges (start, stop) of guest bytes, ascending and apart, outside which both disks hold the same
    bytes; None: nobody knows.
    """

    def __init__(self, old: FileSystem, new: FileSystem, apart: Int64Array | None) -> None:
        self.apart = apart
        self.pair = tuple(each for each in (old, new) if isinstance(each, NtfsFileSystem))
        self._suspect: BoolArray | None = None
        """For each record number whether its file has to be looked at."""

    def learn(self) -> None:
        """Compare the two MFTs, and every file's clusters with what is stored apart."""
        if self.apart is None or len(self.pair) != 2 or self.pair[0].boot != self.pair[1].boot:
            return
        old, new = self.pair
        try:
            suspect = self._differing_records(old.mft, new.mft)
            self._add_clusters(new, suspect)
        except ByreError:
            return  # what can't be read is met again, and told, when the files are compared
        self._suspect = suspect

    def is_same(self, old: Entry, new: Entry) -> bool:
        """Whether two entries are one file of which nothing differs."""
        number = new.id & REFERENCE_MASK
        known = self._suspect
        return known is not None and old.id == new.id and number < len(known) and not known[number]

    def settle(self, looked_at: Iterable[Entry] = (), *, sample: int = 0) -> Settled:
        """The files of which nothing differs, neither anything in them nor their place among the directories.

        ``looked_at`` are left out with all their names, and so is one in so many that there are about ``sample``.
        """
        suspect = self._suspect
        if suspect is None:
            return Settled(None, 0)
        chosen = ~suspect
        chosen[:FIRST_USER_RECORD] = False
        for entry in looked_at:
            chosen[entry.id & REFERENCE_MASK] = False
        old, new = (_single_names(files, len(suspect)) for files in self.pair)
        # A record that is the same holds the same names: so which of them counts is told by its directory alone.
        chosen &= (old == new) & ((old >= FIRST_USER_RECORD) | (old == ROOT))  # not NTFS's own, in $Extend
        for files in self.pair:
            flags = files.table.facts["flags"]
            chosen[: len(flags)] &= flags & IS_DIRECTORY == 0
        if sample:
            numbers = np.flatnonzero(chosen)
            chosen[numbers[:: max(1, len(numbers) // sample)]] = False
        streams = self.pair[1].table.streams["record"]
        return Settled(chosen, int(chosen.sum()) + int(chosen[streams].sum()))

    def _differing_records(self, old: Mft, new: Mft) -> BoolArray:
        """Records whose bytes differ, and those that such a record extends. Only records that one state stores
        apart from the other are read."""
        assert self.apart is not None
        count, size = min(old.count, new.count), old.boot.record_size
        places = [_places(mft, count) for mft in (old, new)]
        apart = (places[0] != places[1]) | touched(self.apart, places[0], places[0] + size)
        suspect = np.zeros(max(old.count, new.count), dtype=np.bool_)
        suspect[count:] = True
        for first, stop in _groups(apart, SLICE_BYTES // size):
            rows = [_rows(mft, first, stop - first) for mft in (old, new)]
            differs = (rows[0] != rows[1]).any(axis=1)
            suspect[first:stop] = differs
            for table in rows:
                base = table[differs, _BASE_REFERENCE].copy().view("<u8")[:, 0] & np.uint64(REFERENCE_MASK)
                suspect[base[(base > 0) & (base < len(suspect))].astype(np.int64)] = True
        return suspect

    def _add_clusters(self, files: NtfsFileSystem, suspect: BoolArray) -> None:
        """Files with clusters that are stored apart. Where the records are the same, so are their runs."""
        assert self.apart is not None
        size, start = files.boot.cluster_size, files.volume.start
        broken = Problems()
        for runs in files.mft_runs(broken):
            low = start + runs["lcn"] * size
            hit = runs["record"][touched(self.apart, low, low + runs["clusters"] * size)]
            suspect[hit[hit < len(suspect)]] = True
        if broken:
            suspect[:] = True  # some runs are unknown: every file is looked at


@dataclass(frozen=True, slots=True)
class Settled:
    """Files of both states that nobody needs to look at: ``records`` says so of each MFT record, None of none of
    them. ``streams``: how many they have, named ones too.

    What holds of them all: the record is the same in both states, and lies in the same directory under the same one
    name. Their paths are the same where their directories' are; no directory is among them.
    """

    records: BoolArray | None
    streams: int

    def walk(self, files: FileSystem) -> Iterator[Entry]:
        """The other entries of one of the two states."""
        if self.records is None or not isinstance(files, NtfsFileSystem):
            return files.walk()
        return files.walk("/", left_out=self.records)


def _single_names(files: NtfsFileSystem, count: int) -> Int64Array:
    """For each of ``count`` records the record of its directory; -1 where it isn't listed exactly once."""
    names = files.table.names[files.tree.index.order]
    found: Int64Array = np.full(count, -1, dtype=np.int64)
    found[names["record"]] = names["parent"]
    found[np.bincount(names["record"], minlength=count)[:count] != 1] = -1
    return found


def _places(mft: Mft, count: int) -> Int64Array:
    """Where each of the first records lies on the disk."""
    starts = np.arange(count, dtype=np.int64) * mft.boot.record_size
    row = np.searchsorted(mft.extents["start"], starts, side="right") - 1
    places: Int64Array = mft.extents["disk"][row] + starts - mft.extents["start"][row]
    return places


def _rows(mft: Mft, first: int, count: int) -> np.ndarray:
    return np.frombuffer(mft.raw(first, count), dtype=np.uint8).reshape(count, -1)


def _groups(chosen: BoolArray, most: int) -> list[tuple[int, int]]:
    """Runs of chosen numbers, ``(first, stop)``, of at most ``most`` each."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], chosen, [False])).astype(np.int8)))
    return [
        (start, min(start + most, stop))
        for first, stop in edges.reshape(-1, 2).tolist()
        for start in range(first, stop, most)
    ]
