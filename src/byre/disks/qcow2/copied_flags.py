"""Rewrites the COPIED flags of L1 and L2 tables in place.

Flags are cleared before refcounts rise and set after they have fallen (with a flush between), so that a flag may
be missing where it could be set, never the reverse. Only that one bit of an entry ever changes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from byre.disks.qcow2.census import note_spans, reach, unflagged_in_data_file, windows
from byre.disks.qcow2.entries import COPIED, OFFSET_MASK, U8Array, U64Array, encode_table
from byre.disks.qcow2.l2_walk import RAW_COPIED, L2Walk, RawArray, TableSet
from byre.disks.qcow2.survey import Survey


def clear_flags(found: Survey, tables: TableSet) -> None:
    """Clear every COPIED flag in these L2 tables. Doesn't flush."""
    walk = L2Walk(found.storage, found.header.geometry, tables)
    for batch in walk.batches((0, 0)):
        flags = _entry_words(batch.raw, found)
        rows = np.flatnonzero((flags & RAW_COPIED).any(axis=1))
        if len(rows):
            flags &= ~RAW_COPIED
            walk.write_back(batch, rows)


def clear_l1_flags(found: Survey, l1: U64Array) -> None:
    """Clear the COPIED flags of the active L1 table ``l1`` (its first entries), in the file. Doesn't flush."""
    cleared: U64Array = l1 & ~COPIED
    if (cleared != l1).any():
        found.storage.write(found.header.l1_table_offset, encode_table(cleared))


SingleSource = Callable[[Survey, tuple[int, int]], U8Array]
"""1 for each cluster of a window that has exactly one reference."""


def rebuild_flags(
    found: Survey, l1: U64Array, *, clear_only: bool = False, single_source: SingleSource | None = None
) -> None:
    """Make the flags of the active L1 table ``l1`` and of its L2 tables agree with the stored refcounts.

    ``clear_only`` clears wrong ones and sets none; ``single_source`` says otherwise where refcounts are 1.
    Doesn't flush. Clusters in a data file aren't counted: theirs are always set.
    """
    tables = TableSet.of(l1)
    walk = L2Walk(found.storage, found.header.geometry, tables)
    stored = found.stored
    new_l1 = l1.copy()
    l1_clusters = ((l1 & OFFSET_MASK) >> np.uint64(stored.cluster_bits)).astype(np.int64)
    for window in windows(found.file_clusters, stored.per_block):
        single = (single_source or single_refcounts)(found, window)
        inside = (l1_clusters != 0) & (l1_clusters >= window[0]) & (l1_clusters < window[1])
        own = single[l1_clusters[inside] - window[0]] != 0
        wanted = np.where(own, l1[inside] | COPIED, l1[inside] & ~COPIED)
        new_l1[inside] = l1[inside] & wanted if clear_only else wanted
        if not found.header.geometry.data_file:
            _rebuild_window(walk, window, single, found, clear_only=clear_only)
    if found.header.geometry.data_file and not clear_only:
        _flag_data_file(walk, found)
    if (new_l1 != l1).any():
        found.storage.write(found.header.l1_table_offset, encode_table(new_l1))


def single_refcounts(found: Survey, window: tuple[int, int]) -> U8Array:
    """1 for each cluster of the window whose stored refcount is 1."""
    single = np.zeros(window[1] - window[0], dtype=np.uint8)
    for first, values in found.stored.slices(*window):
        start = first - window[0]
        stop = min(start + len(values), len(single))
        single[start:stop] = values[: stop - start] == 1
    return single


def _rebuild_window(
    walk: L2Walk, window: tuple[int, int], single: U8Array, found: Survey, *, clear_only: bool
) -> None:
    for batch in walk.batches(window):
        reached = reach(batch, walk.geometry, found.file_clusters)
        note_spans(walk, batch, reached)
        clusters = reached.clusters
        inside = (clusters != 0) & (clusters >= window[0]) & (clusters < window[1])
        own = single[np.where(inside, clusters, window[0]) - window[0]] != 0
        flags = _entry_words(batch.raw, found)
        wanted = np.where(own, flags | RAW_COPIED, flags & ~RAW_COPIED)
        if clear_only:
            wanted &= flags
        changed = inside & (wanted != flags)
        if reached.compressed is not None:
            marked = reached.compressed & ((flags & RAW_COPIED) != 0)
            wanted[marked] &= ~RAW_COPIED
            changed |= marked
        rows = np.flatnonzero(changed.any(axis=1))
        if len(rows):
            flags[changed] = wanted[changed]
            walk.write_back(batch, rows)


def _flag_data_file(walk: L2Walk, found: Survey) -> None:
    for batch in walk.batches((0, 0)):
        missing = unflagged_in_data_file(batch)
        rows = np.flatnonzero(missing.any(axis=1))
        if len(rows):
            _entry_words(batch.raw, found)[missing] |= RAW_COPIED
            walk.write_back(batch, rows)


def _entry_words(raw: RawArray, found: Survey) -> RawArray:
    """The entries among the words of a batch: every other one with extended L2."""
    return raw[:, ::2] if found.header.geometry.extended_l2 else raw
