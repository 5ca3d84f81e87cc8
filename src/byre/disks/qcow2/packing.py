"""Handing out host clusters of a new image in rising order, and packing compressed streams into them."""

from __future__ import annotations

import numpy as np

from byre.disks.qcow2.entries import I64Array

_ARENA = 1 << 20
"""Bytes of clusters that compressed streams get at a time. Streams follow each other without a gap only inside
an arena, and plain clusters go between arenas: larger ones waste less, smaller ones leave less unused."""
_COUNT_CAP = 60_000
"""Streams in one cluster; the counts are uint16 here, wider refcounts could hold more."""


class Allocator:
    """Knows how often each host cluster is referenced. Mutable: that is what it is for.

    ``most`` is the largest refcount that the image can hold.
    """

    def __init__(self, cluster_bits: int, most: int) -> None:
        self._bits = cluster_bits
        self._most = min(most, _COUNT_CAP)
        self._counts = np.zeros(1 << 12, dtype=np.uint16)
        self.used = 0
        """Clusters handed out, those of the current arena included."""
        self._arena_at = self._arena_end = 0  # host bytes

    def clusters(self, count: int) -> int:
        """The host offset of ``count`` clusters in a row, each referenced once."""
        start = self._reserve(count)
        self._counts[start : start + count] = 1
        return start << self._bits

    def counts(self) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
        """References of every cluster handed out so far."""
        return self._counts[: self.used]

    def pack(self, lengths: I64Array) -> I64Array:
        """Host offsets for streams of these lengths (each at most a cluster), one after the other."""
        host = np.empty(len(lengths), dtype=np.int64)
        done = 0
        while done < len(lengths):
            if self._most == 1:
                host[done:] = self._one_each(len(lengths) - done)
                break
            ends = self._arena_at + np.cumsum(lengths[done:])
            fits = int(np.searchsorted(ends, self._arena_end, side="right"))
            if fits:
                fits = self._take(host[done : done + fits], ends[:fits], lengths[done : done + fits])
            if not fits:
                self._new_arena()
            done += fits
        return host

    def close_arena(self) -> None:
        """No more streams: hand back the clusters of the last arena that none has reached."""
        if self._arena_end == self.used << self._bits:
            self.used = (self._arena_at + (1 << self._bits) - 1) >> self._bits
            self._arena_end = self._arena_at

    def _take(self, host: I64Array, ends: I64Array, lengths: I64Array) -> int:
        """Place streams that fit into the arena by length; fewer where a cluster's refcount would overflow."""
        starts = ends - lengths
        first, last = starts >> self._bits, (ends - 1) >> self._bits
        base = int(first[0])
        touched = np.bincount(first - base, minlength=int(last[-1]) - base + 1)
        crossing = last[last > first] - base
        np.add.at(touched, crossing, 1)
        totals = self._counts[base : base + len(touched)] + touched
        if (totals > self._most).any():
            full = int(np.argmax(totals > self._most)) + base
            room = self._most - int(self._counts[full])
            # Streams up to the one that would be one too many in that cluster; it starts in the next one.
            hits = np.flatnonzero((first == full) | (last == full))
            kept = int(hits[room]) if room < len(hits) else len(lengths)
            if kept == 0:
                self._arena_at = min((full + 1) << self._bits, self._arena_end)
                return 0
            ends, lengths = ends[:kept], lengths[:kept]
            return self._take(host[:kept], ends, lengths)
        self._counts[base : base + len(touched)] = totals
        host[:] = starts
        self._arena_at = int(ends[-1])
        return len(lengths)

    def _one_each(self, count: int) -> I64Array:
        """With refcounts of one bit no two streams share a cluster."""
        offsets: I64Array = self.clusters(count) + (np.arange(count, dtype=np.int64) << self._bits)
        return offsets

    def _new_arena(self) -> None:
        count = max(2, _ARENA >> self._bits)
        if self._arena_at < self._arena_end == self.used << self._bits:
            # Nothing came behind the old arena: it just grows, and no byte is lost between the two.
            self._reserve(count)
            self._arena_end += count << self._bits
            return
        start = self._reserve(count)
        self._arena_at = start << self._bits
        self._arena_end = (start + count) << self._bits

    def _reserve(self, count: int) -> int:
        start = self.used
        self.used += count
        if self.used > len(self._counts):
            grown = np.zeros(max(self.used, 2 * len(self._counts)), dtype=np.uint16)
            grown[:start] = self._counts[:start]
            self._counts = grown
        return start
