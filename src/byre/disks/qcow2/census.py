"""Counts every reference to every host cluster, a window of clusters at a time, and judges L2 entries on the way.

A window bounds the memory: its counts take 4 bytes a cluster whatever the size of the image. The tables that
reach into it are all that is read for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from byre.disks.findings import CORRUPTION, Findings
from byre.disks.qcow2.entries import (
    COMPRESSED,
    COPIED,
    L2_RESERVED,
    OFFSET_MASK,
    ZERO_FLAG,
    BoolArray,
    Geometry,
    I64Array,
    U8Array,
    U64Array,
    compressed_lengths,
    compressed_offsets,
)
from byre.disks.qcow2.l2_walk import Batch, L2Walk
from byre.units import align_down

Int32Array: TypeAlias = np.ndarray[Any, np.dtype[np.int32]]

WINDOW_CLUSTERS = 3 << 23
"""Host clusters counted at once: 100 MB of counts. A 1 TiB image of 64 KiB clusters takes one window."""
COUNT_LIMIT = (1 << 31) - 1
_SPARSE = 8
"""Counting goes through a dense array of the batch's span up to this many times its entries, else through a sort."""


def windows(clusters: int, per_block: int, size: int | None = None) -> list[tuple[int, int]]:
    """The windows that cover ``clusters`` host clusters, each starting at a refcount block."""
    step = max(per_block, align_down(WINDOW_CLUSTERS if size is None else size, per_block))
    return [(start, min(start + step, clusters)) for start in range(0, clusters, step)]


class WindowCounts:
    """References to the clusters of one window; negative counts are differences. Mutable: a counter."""

    def __init__(self, window: tuple[int, int]) -> None:
        self.start, self.stop = window
        self.counts: Int32Array = np.zeros(self.stop - self.start, dtype=np.int32)

    def add(self, clusters: I64Array, weight: int) -> None:
        """Count each of these host clusters ``weight`` times; those outside the window are left out."""
        if not len(clusters) or not weight:
            return
        low, high = int(clusters.min()), int(clusters.max())
        if low < self.start or high >= self.stop:
            clusters = clusters[(clusters >= self.start) & (clusters < self.stop)]
            if not len(clusters):
                return
            low, high = int(clusters.min()), int(clusters.max())
        if high - low + 1 == len(clusters) and _ascending(clusters):
            self._add_counts(slice(low - self.start, high + 1 - self.start), 1, weight)
        elif high - low < _SPARSE * len(clusters) + 4096:
            binned = np.bincount(clusters - low)
            self._add_counts(slice(low - self.start, high + 1 - self.start), binned, weight)
        else:
            unique, counts = np.unique(clusters, return_counts=True)
            self._add_counts(unique - self.start, counts, weight)

    def _add_counts(self, where: slice | I64Array, counts: I64Array | int, weight: int) -> None:
        if isinstance(counts, int) or int(counts.max()) * abs(weight) < 1 << 20:
            amount: Any = counts * weight if isinstance(counts, int) else (counts * weight).astype(np.int32)
            total = self.counts[where] + np.int32(amount) if isinstance(amount, int) else self.counts[where] + amount
            if abs(weight) < 1 << 20 and total.max() < 1 << 29 and total.min() > -(1 << 29):
                self.counts[where] = total
                return
        wide = self.counts[where].astype(np.int64) + np.asarray(counts, dtype=np.int64) * weight
        self.counts[where] = np.clip(wide, -COUNT_LIMIT, COUNT_LIMIT).astype(np.int32)


def _ascending(clusters: I64Array) -> bool:
    return bool((np.diff(clusters) == 1).all())


@dataclass(slots=True)
class Fragmentation:
    """How the active disk's clusters lie, as qemu-img counts them. Mutable: a counter."""

    allocated: int = 0
    fragmented: int = 0
    compressed: int = 0


@dataclass(frozen=True, slots=True)
class Reached:
    """The host clusters that a batch of L2 tables reaches. ``clusters`` has the entries' shape, 0 where an entry
    has none of its own; ``full`` says that none is 0. Compressed streams come as (row, first, last) columns."""

    clusters: I64Array
    full: bool
    compressed: BoolArray | None
    stream_rows: I64Array
    stream_first: I64Array
    stream_last: I64Array


_NONE: I64Array = np.zeros(0, dtype=np.int64)


def reach(batch: Batch, geometry: Geometry, file_clusters: int) -> Reached:
    """Which host clusters the entries refer to; those that are misaligned or outside the file are left out."""
    entries = batch.entries
    seen = int(np.bitwise_or.reduce(entries, axis=None))
    clusters = ((entries & OFFSET_MASK) >> np.uint64(geometry.cluster_bits)).view(np.int64)
    if geometry.data_file:
        return Reached(np.zeros_like(clusters), False, None, _NONE, _NONE, _NONE)
    compressed = None
    streams = (_NONE, _NONE, _NONE)
    drop = None
    if seen & int(COMPRESSED):
        compressed = (entries & COMPRESSED) != 0
        drop = compressed
        streams = _streams(entries, compressed, geometry, file_clusters)
    if seen & (geometry.cluster_size - 1) & int(OFFSET_MASK):
        misaligned = (entries & np.uint64((geometry.cluster_size - 1) & int(OFFSET_MASK))) != 0
        drop = misaligned if drop is None else drop | misaligned
    if int(clusters.max(initial=0)) >= file_clusters:
        outside = clusters >= file_clusters
        drop = outside if drop is None else drop | outside
    if drop is not None:
        clusters = np.where(drop, 0, clusters)
    return Reached(clusters, bool(clusters.all()), compressed, *streams)


def _streams(
    entries: U64Array, compressed: BoolArray, geometry: Geometry, file_clusters: int
) -> tuple[I64Array, I64Array, I64Array]:
    rows, _ = np.nonzero(compressed)
    values = entries[compressed]
    offsets = compressed_offsets(values, geometry)
    first = offsets >> geometry.cluster_bits
    last = (offsets + compressed_lengths(values, geometry) - 1) >> geometry.cluster_bits
    inside = first < file_clusters
    return rows[inside], first[inside], np.minimum(last[inside], file_clusters - 1)


def note_spans(walk: L2Walk, batch: Batch, reached: Reached) -> None:
    """Tell the walk which clusters each table of the batch reaches."""
    clusters = reached.clusters
    high = clusters.max(axis=1)
    if reached.full:
        low = clusters.min(axis=1)
    else:
        low = np.where(clusters == 0, COUNT_LIMIT << 20, clusters).min(axis=1)
    if len(reached.stream_rows):
        np.minimum.at(low, reached.stream_rows, reached.stream_first)
        np.maximum.at(high, reached.stream_rows, reached.stream_last)
    walk.note_span(batch, low, np.where(high == 0, -1, high))


def count_batch(reached: Reached, weights: I64Array, into: WindowCounts) -> None:
    """Count what the batch reaches, each table as often as its weight says."""
    for weight in np.unique(weights).tolist():
        rows = weights == weight
        every = bool(rows.all())
        clusters = (reached.clusters if every else reached.clusters[rows]).reshape(-1)
        into.add(clusters if reached.full else clusters[clusters != 0], weight)
        if len(reached.stream_rows):
            chosen = rows[reached.stream_rows]
            first, last = reached.stream_first[chosen], reached.stream_last[chosen]
            for step in range(int((last - first).max(initial=-1)) + 1):
                into.add((first + step)[first + step <= last], weight)


def count_window(walk: L2Walk, window: tuple[int, int], file_clusters: int) -> WindowCounts:
    """What the walk's tables refer to in the window, by their weights; the tables themselves aren't counted."""
    into = WindowCounts(window)
    weights = walk.tables.weights
    for batch in walk.batches(window):
        reached = reach(batch, walk.geometry, file_clusters)
        note_spans(walk, batch, reached)
        count_batch(reached, weights[batch.first : batch.stop], into)
    return into


def count_fragments(reached: Reached, rows: BoolArray, into: Fragmentation) -> None:
    """Add the active tables among the batch to the counts of allocated, fragmented and compressed clusters."""
    clusters = reached.clusters[rows]
    if reached.compressed is not None:
        compressed = int(reached.compressed[rows].sum())
        into.compressed += compressed
        into.allocated += compressed
        into.fragmented += compressed
    if reached.full:
        into.allocated += clusters.size
        into.fragmented += int((np.diff(clusters, axis=1) != 1).sum())
        return
    _count_present(clusters, clusters != 0, into)


def count_data_file(batch: Batch, rows: BoolArray, geometry: Geometry, into: Fragmentation) -> None:
    """The same for clusters that lie in an external data file, where offset 0 is a place like any other."""
    entries = batch.entries[rows]
    clusters = ((entries & OFFSET_MASK) >> np.uint64(geometry.cluster_bits)).view(np.int64)
    _count_present(clusters, (clusters != 0) | ((entries & COPIED) != 0), into)


def _count_present(clusters: I64Array, present_mask: BoolArray, into: Fragmentation) -> None:
    row, column = np.nonzero(present_mask)
    present = clusters[row, column]
    into.allocated += len(present)
    into.fragmented += int(((np.diff(present) != 1) & (np.diff(row) == 0)).sum())


def judge_entries(batch: Batch, walk: L2Walk, file_clusters: int, findings: Findings) -> None:
    """Report entries that break the format, whatever they refer to."""
    geometry = walk.geometry
    entries = batch.entries
    seen = int(np.bitwise_or.reduce(entries, axis=None))
    in_cluster = (geometry.cluster_size - 1) & int(OFFSET_MASK)
    suspicious = int(L2_RESERVED) | in_cluster | int(COMPRESSED)
    if not geometry.zero_flag or geometry.extended_l2:
        suspicious |= int(ZERO_FLAG)
    highest = int((entries & OFFSET_MASK).max(initial=np.uint64(0))) >> geometry.cluster_bits
    if not seen & suspicious and batch.bitmaps is None and (geometry.data_file or highest < file_clusters):
        return
    compressed = (entries & COMPRESSED) != 0
    plain = ~compressed
    offset = entries & OFFSET_MASK
    misaligned = plain & ((offset & np.uint64(in_cluster)) != 0)
    checks = [
        (plain & ((entries & L2_RESERVED) != 0), "l2-reserved-bits", "an L2 entry has reserved bits set"),
        (misaligned, "cluster-misaligned", "an L2 entry points into the middle of a cluster"),
        (compressed & ((entries & COPIED) != 0), "compressed-copied", "a compressed cluster has the COPIED flag"),
    ]
    zero = plain & ((entries & ZERO_FLAG) != 0)
    if geometry.extended_l2:
        checks.append((zero, "l2-reserved-bits", "an L2 entry has reserved bits set"))
    elif not geometry.zero_flag:
        checks.append((zero, "zero-flag-in-version-2", "version 2 has no zero clusters, but an L2 entry is one"))
    if geometry.data_file:
        checks.append((compressed, "compressed-in-data-file", "a cluster of a data file is marked compressed"))
    else:
        outside = plain & ~misaligned & ((offset >> np.uint64(geometry.cluster_bits)) >= np.uint64(file_clusters))
        checks.append((outside, "cluster-outside", "an L2 entry points outside the file"))
        checks.append(
            (
                _streams_outside(entries, compressed, geometry, file_clusters),
                "compressed-outside",
                "a compressed cluster leaves the file",
            )
        )
    if batch.bitmaps is not None:
        checks += _subcluster_checks(entries, batch.bitmaps, compressed)
    _report(checks, batch, walk, findings)


def _streams_outside(entries: U64Array, compressed: BoolArray, geometry: Geometry, file_clusters: int) -> BoolArray:
    last = (
        compressed_offsets(entries, geometry) + compressed_lengths(entries, geometry) - 1
    ) >> geometry.cluster_bits
    return compressed & (last >= file_clusters)


def _subcluster_checks(
    entries: U64Array, bitmaps: U64Array, compressed: BoolArray
) -> list[tuple[BoolArray, str, str]]:
    allocated = bitmaps & np.uint64(0xFFFF_FFFF)
    unallocated = ~compressed & ((entries & OFFSET_MASK) == 0) & ((entries & COPIED) == 0)
    return [
        (
            ~compressed & ((allocated & (bitmaps >> np.uint64(32))) != 0),
            "subcluster-both",
            "a subcluster is marked both allocated and zero",
        ),
        (compressed & (bitmaps != 0), "subcluster-compressed", "a compressed cluster has subclusters"),
        (unallocated & (allocated != 0), "subcluster-unallocated", "a subcluster is allocated, its cluster isn't"),
    ]


def _report(checks: list[tuple[BoolArray, str, str]], batch: Batch, walk: L2Walk, findings: Findings) -> None:
    entry_size = walk.geometry.l2_entry_size
    for bad, code, message in checks:
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            offset = int(walk.tables.offsets[batch.first + row]) + column * entry_size
            findings.add(CORRUPTION, code, message, offset=offset, count=int(bad.sum()))


def wrong_copied(
    batch: Batch, reached: Reached, single: U8Array, window: tuple[int, int]
) -> tuple[BoolArray, BoolArray] | None:
    """Entries of the batch whose COPIED flag is set though the refcount isn't 1, and those where it could be set.

    ``single`` is 1 where a cluster of the window has a stored refcount of 1. None: all are right.
    """
    clusters = reached.clusters
    inside = None
    if not reached.full or int(clusters.min(initial=0)) < window[0] or int(clusters.max(initial=0)) >= window[1]:
        inside = (clusters != 0) & (clusters >= window[0]) & (clusters < window[1])
        clusters = np.where(inside, clusters, window[0])
    expected = single[clusters - window[0]].view(np.bool_)
    actual = batch.entries.view(np.int64) < 0  # COPIED is the sign bit
    wrong = expected != actual
    if inside is not None:
        wrong &= inside
    if not wrong.any():
        return None
    return wrong & actual, wrong & expected


def unflagged_in_data_file(batch: Batch) -> BoolArray:
    """Entries of clusters in an external data file whose COPIED flag is missing: nothing there is ever shared."""
    entries = batch.entries
    missing: BoolArray = ((entries & OFFSET_MASK) != 0) & ((entries & (COPIED | COMPRESSED)) == 0)
    return missing
