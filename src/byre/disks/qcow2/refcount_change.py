"""Takes the stored refcounts from what is referred to before a change to what is referred to after it.

The order keeps every cut harmless: ``raise_first`` before the switch makes each refcount the larger of the two,
``lower_after`` behind it makes it the new one. In between a cluster can only be counted too often: a leak.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from byre.disks.qcow2.census import WindowCounts, count_window, windows
from byre.disks.qcow2.entries import BoolArray, U64Array
from byre.disks.qcow2.l2_walk import L2Walk, TableSet
from byre.disks.qcow2.survey import Survey
from byre.errors import CorruptImageError, UnsupportedError
from byre.units import ceil_div


class RefcountChange:
    """Differences in references: L2 trees (``tables`` with signed weights) and runs of clusters. Mutable: runs
    are added until the change is planned; the last window's differences are kept."""

    def __init__(self, found: Survey, tables: TableSet) -> None:
        self.found = found
        self.tables = tables.without_zero()
        self._walk = L2Walk(found.storage, found.header.geometry, self.tables)
        self._runs: list[tuple[int, int, int]] = []
        self._kept: WindowCounts | None = None
        self.freed = 0
        """Clusters that ``lower_after`` has brought to 0."""

    def add(self, offset: int, length: int, count: int) -> None:
        """``count`` references more (or fewer) to the clusters of ``length`` bytes at host offset ``offset``."""
        bits = self.found.header.cluster_bits
        if length:
            self._runs.append((offset >> bits, (offset + length - 1 >> bits) + 1, count))
            self._kept = None

    def plan(self) -> None:
        """Raise UnsupportedError where a refcount would not fit its width, before anything is written."""
        for _ in self._slices():
            pass

    def raise_first(self) -> None:
        """Write every refcount that grows. Doesn't flush."""
        for first, old, new in self._slices():
            self._write(first, old, np.maximum(old, new))

    def lower_after(self, *, punch: bool = True) -> None:
        """Write every refcount that falls, and give the space of freed clusters back. Doesn't flush."""
        bits = self.found.header.cluster_bits
        for first, old, new in self._slices(raised=True):
            self._write(first, old, new)
            freed = (new == 0) & (old != 0)
            if not freed.any():
                continue
            self.freed += int(freed.sum())
            edges = np.flatnonzero(np.diff(np.concatenate(([False], freed, [False])))).reshape(-1, 2)
            for start, stop in edges.tolist():
                if punch:
                    punch = self.found.storage.punch((first + start) << bits, (stop - start) << bits)

    def _write(self, first: int, old: U64Array, new: U64Array) -> None:
        per_block = self.found.stored.per_block
        changed: BoolArray = (old != new).reshape(-1, per_block).any(axis=1)
        if changed.any():
            self.found.stored.write_blocks(first // per_block, new, changed)

    def _slices(self, *, raised: bool = False) -> Iterable[tuple[int, U64Array, U64Array]]:
        """(first cluster, refcounts as stored, refcounts as they will be) where they differ; ``raised``: growing
        ones are stored already."""
        stored = self.found.stored
        end = max([self.found.file_clusters, *(stop for _, stop, _ in self._runs)])
        end = min(ceil_div(end, stored.per_block) * stored.per_block, stored.covered)
        for window in windows(end, stored.per_block):
            delta = self._delta(window)
            for first, old in stored.slices(*window):
                start = first - window[0]
                piece = delta.counts[start : start + len(old)]
                if not piece.any():
                    continue
                wide = piece.astype(np.int64)
                if raised:
                    wide = np.minimum(wide, 0)
                yield first, old, self._applied(first, old, wide)

    def _applied(self, first: int, old: U64Array, delta: np.ndarray[tuple[int], np.dtype[np.int64]]) -> U64Array:
        stored = self.found.stored
        if stored.order == 6:
            new = old + delta.view(np.uint64)  # wraps round: right for either sign
            under = (delta < 0) & (old < (-delta).view(np.uint64))
            over = (delta > 0) & (new < old)
        else:
            signed = old.view(np.int64) + delta
            under, over = signed < 0, signed > stored.maximum
            new = signed.view(np.uint64)
        if under.any():
            at = first + int(np.flatnonzero(under)[0])
            raise CorruptImageError(
                "a refcount would fall below zero",
                path=self.found.storage.name,
                offset=at << stored.cluster_bits,
                hint=f"Run 'byre check {self.found.storage.name}'.",
            )
        if over.any():
            at = first + int(np.flatnonzero(over)[0])
            raise UnsupportedError(
                f"a refcount of {1 << stored.order} bits can't hold one more reference",
                path=self.found.storage.name,
                offset=at << stored.cluster_bits,
                found=int(old[at - first]),
                expected=f"at most {stored.maximum}",
                hint="Convert the image to one with wider refcounts (refcount_bits=16).",
            )
        return new

    def _delta(self, window: tuple[int, int]) -> WindowCounts:
        if self._kept is not None and (self._kept.start, self._kept.stop) == window:
            return self._kept
        self._kept = None
        found = self.found
        into = count_window(self._walk, window, max(found.file_clusters, window[1]))
        clusters = self.tables.offsets >> found.header.cluster_bits
        inside = (clusters >= window[0]) & (clusters < window[1])
        np.add.at(into.counts, clusters[inside] - window[0], self.tables.weights[inside].astype(np.int32))
        for first, stop, count in self._runs:
            start, end = max(first, window[0]), min(stop, window[1])
            if end > start:
                into.counts[start - window[0] : end - window[0]] += count
        self._kept = into
        return into
