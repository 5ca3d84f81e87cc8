"""Packs an image in place: what lies high moves into free clusters further down, then the file is cut.

A cluster is copied before anything points to the copy, and both hold the same bytes until the last entry has
changed, so a cut at any write leaves an image that reads the same, with leaked clusters at worst. Compressed
streams stay where they are: several share a cluster, and one may reach into the next. So do the data of an encrypted
image, which can be decrypted only there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from byre.disks.qcow2.bitmap_directory import read_bitmap_table
from byre.disks.qcow2.census import reach
from byre.disks.qcow2.entries import COMPRESSED, OFFSET_MASK, ZERO_FLAG, BoolArray, I64Array, U8Array, U64Array
from byre.disks.qcow2.entries import encode_table as encode
from byre.disks.qcow2.l2_walk import L2Walk, RawArray, read_clusters, read_table, write_clusters
from byre.disks.qcow2.move_tables import move_bitmap_tables, move_tables_down
from byre.disks.qcow2.repair import apply_repair, plan_repair
from byre.disks.qcow2.snapshots import prepare, shorten
from byre.disks.qcow2.survey import Survey, survey
from byre.errors import UnsupportedError
from byre.storage.base import Storage

FREE, DATA, FIXED, L2_TABLE, REFCOUNT_BLOCK, BITMAP_DATA, STREAM = range(7)
"""What a host cluster holds. Fixed ones are tables of several clusters, which move otherwise; streams never move,
nor do encrypted data."""
ROUND_CLUSTERS = 1 << 20
"""Clusters moved between two flushes; their places take 16 MB."""
COPY_BYTES = 4 << 20
MAX_CLUSTERS = 1 << 28
"""One byte each for a map of the file; more than that (16 TiB at 64 KiB) needs '-o'."""


@dataclass(frozen=True, slots=True)
class CompactPlan:
    """What compacting would do. ``shorter`` is an estimate in bytes; ``unused`` host bytes that nothing needs."""

    file_size: int
    shorter: int
    unused: int
    moved_clusters: int
    zero_clusters: int


def plan_compact(storage: Storage) -> CompactPlan:
    """Look only. Raises what the change itself would raise before its first write."""
    found = survey(storage)
    found.require_sound("compacting")
    bits = found.header.cluster_bits
    zero = _zero_clusters(found)
    occupied = occupancy(found)
    used = found.used_clusters - zero
    above = occupied[used:]
    streams = _last_of(occupied, STREAM, used)
    end = int(streams[-1]) + 1 if len(streams) else used
    moved = int(((above != FREE) & (above != FIXED) & (above != STREAM)).sum())
    return CompactPlan(
        file_size=storage.size,
        shorter=max(0, storage.size - (end << bits)),
        unused=max(0, found.file_clusters - used) << bits,
        moved_clusters=moved,
        zero_clusters=zero,
    )


def compact_image(storage: Storage, *, advance: Callable[[int], None] = lambda amount: None) -> int:
    """Pack the image; returns the bytes by which the file became shorter."""
    before = storage.size
    found = prepare(storage, "compacting")
    if _drop_zero_clusters(found):
        storage.flush()
        found = survey(storage)
    if found.findings.has("leaked-cluster"):
        apply_repair(found, plan_repair(found, "leaks"))
        found = survey(storage)
    for kind, repoint in (
        (DATA, _repoint_l2),
        (BITMAP_DATA, _repoint_bitmaps),
        (L2_TABLE, _repoint_l1),
        (REFCOUNT_BLOCK, _repoint_refcount_table),
    ):
        while _move(found, kind, repoint, advance):
            found = survey(storage)
    move_tables_down(found)
    found = survey(storage)
    if move_bitmap_tables(found):
        found = survey(storage)
    shorten(storage)
    return max(0, before - storage.size)


def occupancy(found: Survey) -> U8Array:
    """What each host cluster holds, one byte each."""
    if found.file_clusters > MAX_CLUSTERS:
        raise UnsupportedError(
            "has too many clusters to be packed in place", path=found.storage.name, hint="Write a copy: -o OUT."
        )
    bits = found.header.cluster_bits
    kinds = _stored_flags(found)
    blocks = found.stored.blocks
    missing = np.flatnonzero(blocks == 0)
    per_block = found.stored.per_block
    for index in missing[missing * per_block < len(kinds)].tolist():
        kinds[index * per_block : (index + 1) * per_block] = FIXED  # free, but nothing there could be counted
    kinds[len(blocks) * per_block :] = FIXED
    for region in found.roots.regions:
        kinds[region.first : region.stop] = FIXED
    kinds[found.roots.tables.offsets >> bits] = L2_TABLE
    kinds[found.roots.scattered] = BITMAP_DATA
    kinds[blocks[blocks != 0] >> bits] = REFCOUNT_BLOCK
    for batch in L2Walk(found.storage, found.header.geometry, found.roots.tables).batches((0, 0)):
        reached = reach(batch, found.header.geometry, found.file_clusters)
        if len(reached.stream_first):
            for step in range(int((reached.stream_last - reached.stream_first).max()) + 1):
                kinds[np.minimum(reached.stream_first + step, reached.stream_last)] = STREAM
    if found.header.encryption is not None:
        # LUKS takes a cluster's host offset into its initialisation vector: elsewhere it decrypts to noise.
        kinds[kinds == DATA] = STREAM
    return kinds


def _stored_flags(found: Survey) -> U8Array:
    kinds: U8Array = np.zeros(found.file_clusters, dtype=np.uint8)
    for first, values in found.stored.slices(0, found.file_clusters):
        stop = min(first + len(values), len(kinds))
        kinds[first:stop] = values[: stop - first] != 0
    return kinds


_Repoint = Callable[[Survey, I64Array, I64Array], None]


def _move(found: Survey, kind: int, repoint: _Repoint, advance: Callable[[int], None]) -> bool:
    """Move one round of clusters of this kind down; True if there may be more."""
    kinds = occupancy(found)
    boundary = found.used_clusters
    sources = _last_of(kinds, kind, boundary)
    places = _first_free(kinds, boundary)
    count = min(len(sources), len(places))
    del kinds
    if not count:
        return False
    sources, places = sources[len(sources) - count :], places[:count]
    storage, stored = found.storage, found.stored
    if kind == REFCOUNT_BLOCK:  # the places are counted before the blocks are copied: the copies must say so
        _set_refcounts(found, places, np.ones(count, dtype=np.uint64))
        storage.flush()
        _copy(found, sources, places, advance)
    else:
        _copy(found, sources, places, advance)
        _set_refcounts(found, places, _refcounts_of(found, sources))
    storage.flush()
    repoint(found, sources, places)
    storage.flush()
    _set_refcounts(found, sources, np.zeros(count, dtype=np.uint64))
    for first, stop in _runs(np.diff(sources) != 1, count):
        start = int(sources[first]) << stored.cluster_bits
        storage.punch(start, min((stop - first) << stored.cluster_bits, max(0, storage.size - start)))
    storage.flush()
    return True


def _last_of(kinds: U8Array, kind: int, boundary: int) -> I64Array:
    """The highest clusters of this kind from ``boundary`` on, ascending, at most a round of them."""
    found: I64Array = np.zeros(0, dtype=np.int64)
    stop = len(kinds)
    while stop > boundary and len(found) < ROUND_CLUSTERS:
        start = max(boundary, stop - ROUND_CLUSTERS)
        found = np.concatenate((start + np.flatnonzero(kinds[start:stop] == kind), found))
        stop = start
    return found[-ROUND_CLUSTERS:]


def _first_free(kinds: U8Array, boundary: int) -> I64Array:
    """The lowest free clusters below ``boundary``, ascending, at most a round of them."""
    found: I64Array = np.zeros(0, dtype=np.int64)
    start = 0
    while start < boundary and len(found) < ROUND_CLUSTERS:
        stop = min(boundary, start + ROUND_CLUSTERS)
        found = np.concatenate((found, start + np.flatnonzero(kinds[start:stop] == FREE)))
        start = stop
    return found[:ROUND_CLUSTERS]


def _runs(breaks: BoolArray, count: int) -> list[tuple[int, int]]:
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), count]
    return list(zip(edges[:-1], edges[1:], strict=True))  # noqa: RUF007


def _copy(found: Survey, sources: I64Array, places: I64Array, advance: Callable[[int], None]) -> None:
    size = found.header.cluster_size
    step = max(1, COPY_BYTES // size)
    for first in range(0, len(sources), step):
        chosen = slice(first, min(first + step, len(sources)))
        data = read_clusters(found.storage, sources[chosen] * size, size)
        write_clusters(found.storage, places[chosen] * size, memoryview(data), size)
        advance(len(data))


def _refcounts_of(found: Survey, clusters: I64Array) -> U64Array:
    counts = np.zeros(len(clusters), dtype=np.uint64)
    for first, values in found.stored.slices(int(clusters[0]), int(clusters[-1]) + 1):
        inside = slice(*np.searchsorted(clusters, (first, first + len(values))).tolist())
        counts[inside] = values[clusters[inside] - first]
    return counts


def _set_refcounts(found: Survey, clusters: I64Array, counts: U64Array) -> None:
    """Store these refcounts; ``clusters`` ascends. Doesn't flush."""
    stored = found.stored
    for first, values in stored.slices(int(clusters[0]), int(clusters[-1]) + 1):
        inside = slice(*np.searchsorted(clusters, (first, first + len(values))).tolist())
        if inside.start == inside.stop:
            continue
        new = values.copy()
        new[clusters[inside] - first] = counts[inside]
        changed = (new != values).reshape(-1, stored.per_block).any(axis=1)
        stored.write_blocks(first // stored.per_block, new, changed)


def _moved(offsets: I64Array, sources: I64Array, places: I64Array, bits: int) -> tuple[BoolArray, I64Array]:
    """Which host offsets are of moved clusters, and all offsets as they are afterwards."""
    clusters = offsets >> bits
    at = np.minimum(np.searchsorted(sources, clusters), len(sources) - 1)
    hit = sources[at] == clusters
    return hit, np.where(hit, places[at] << bits, offsets)


def _repoint_l2(found: Survey, sources: I64Array, places: I64Array) -> None:
    geometry = found.header.geometry
    walk = L2Walk(found.storage, geometry, found.roots.tables)
    for batch in walk.batches((0, 0)):
        clusters = reach(batch, geometry, found.file_clusters).clusters
        hit, new = _moved(clusters << geometry.cluster_bits, sources, places, geometry.cluster_bits)
        _replace_entries(batch.raw, batch.entries, hit, new, extended=geometry.extended_l2)
        rows = np.flatnonzero(hit.any(axis=1))
        if len(rows):
            walk.write_back(batch, rows)


def _replace_entries(raw: RawArray, entries: U64Array, hit: BoolArray, offsets: I64Array, *, extended: bool) -> None:
    changed = (entries & ~OFFSET_MASK) | offsets.astype(np.uint64)
    words = raw[:, ::2] if extended else raw
    words[hit] = np.frombuffer(encode(changed[hit]), dtype=np.uint64)


def _repoint_table(
    storage: Storage, offset: int, table: U64Array, sources: I64Array, places: I64Array, bits: int
) -> None:
    hosts = (table & OFFSET_MASK).astype(np.int64)
    hit, new = _moved(hosts, sources, places, bits)
    hit &= hosts != 0
    if hit.any():
        storage.write(offset, encode(np.where(hit, (table & ~OFFSET_MASK) | new.astype(np.uint64), table)))


def _repoint_l1(found: Survey, sources: I64Array, places: I64Array) -> None:
    header = found.header
    tables = [(header.l1_table_offset, header.l1_size)]
    tables += [(entry.l1_table_offset, entry.l1_size) for entry in found.roots.snapshots]
    for offset, entries in tables:
        table = read_table(found.storage, offset, entries)
        _repoint_table(found.storage, offset, table, sources, places, header.cluster_bits)


def _repoint_bitmaps(found: Survey, sources: I64Array, places: I64Array) -> None:
    for entry in found.roots.bitmaps.entries if found.roots.bitmaps else ():
        table = read_bitmap_table(found.storage, entry)
        _repoint_table(found.storage, entry.table_offset, table, sources, places, found.header.cluster_bits)


def _repoint_refcount_table(found: Survey, sources: I64Array, places: I64Array) -> None:
    stored = found.stored
    hit, new = _moved(stored.blocks, sources, places, stored.cluster_bits)
    stored.blocks[hit] = new[hit]
    found.storage.write(found.header.refcount_table_offset, encode(stored.blocks.astype(np.uint64)))


def _zero_clusters(found: Survey) -> int:
    """Clusters that read as zeros and still have a place."""
    walk = L2Walk(found.storage, found.header.geometry, found.roots.tables)
    return sum(int(_is_zero_allocated(batch.entries, batch.bitmaps).sum()) for batch in walk.batches((0, 0)))


def _is_zero_allocated(entries: U64Array, bitmaps: U64Array | None) -> BoolArray:
    placed = ((entries & OFFSET_MASK) != 0) & ((entries & COMPRESSED) == 0)
    if bitmaps is not None:
        held: BoolArray = placed & ((bitmaps & np.uint64(0xFFFF_FFFF)) == 0)
        return held
    zero: BoolArray = placed & ((entries & ZERO_FLAG) != 0)
    return zero


def _drop_zero_clusters(found: Survey) -> bool:
    """Take the host clusters of zero clusters out of the L2 tables, in place; they are leaked until a repair."""
    geometry = found.header.geometry
    if not geometry.zero_flag:
        return False
    walk = L2Walk(found.storage, geometry, found.roots.tables)
    dropped = False
    for batch in walk.batches((0, 0)):
        zero = _is_zero_allocated(batch.entries, batch.bitmaps)
        if zero.any():
            words = batch.raw[:, ::2] if geometry.extended_l2 else batch.raw
            plain = np.array([0 if geometry.extended_l2 else 1], dtype=np.uint64)
            words[zero] = np.frombuffer(encode(plain), dtype=np.uint64)[0]
            walk.write_back(batch, np.flatnonzero(zero.any(axis=1)))
            dropped = True
    return dropped
