"""From L1 and L2 entries to extents, whole tables at a time. Pure.

Where QEMU refuses to read a cluster (an offset that is not a cluster's, a zero flag in version 2, impossible
subclusters, a data file whose offsets aren't the guest's) this raises CorruptImageError; reserved bits are
left to ``check``, as QEMU leaves them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from byre.disks.qcow2.entries import (
    COMPRESSED,
    OFFSET_MASK,
    SUBCLUSTERS,
    ZERO_FLAG,
    ClusterType,
    Geometry,
    I64Array,
    U8Array,
    U64Array,
    classify,
    compressed_lengths,
    compressed_offsets,
    host_offsets,
)
from byre.errors import CorruptImageError
from byre.extents import ExtentTable, Kind, clip, make_table, merge

_KINDS = np.zeros(8, dtype=np.uint8)
_KINDS[ClusterType.UNALLOCATED] = Kind.UNALLOCATED
_KINDS[ClusterType.ZERO] = Kind.ZERO
_KINDS[ClusterType.ZERO_ALLOCATED] = Kind.ZERO
_KINDS[ClusterType.DATA] = Kind.DATA
_KINDS[ClusterType.COMPRESSED] = Kind.COMPRESSED

_LOW_HALF = np.uint64(0xFFFF_FFFF)
_HIGH = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Layout:
    """What the mapping needs to know besides the entries. ``data_file_index`` is the ``file`` of plain data."""

    geometry: Geometry
    name: str
    data_file_index: int = 0


def map_entries(layout: Layout, entries: U64Array, guest_start: int) -> ExtentTable:
    """The extents of consecutive L2 entries, the first of which maps ``guest_start``; neighbours merged.

    ``entries`` is (n,), with extended L2 (n, 2). Unallocated rows have depth -1: what is below may hold them.
    """
    geometry = layout.geometry
    if geometry.extended_l2:
        return _map_extended(layout, entries[:, 0], entries[:, 1], guest_start)
    kinds = _KINDS[classify(entries, geometry)]
    size = geometry.cluster_size
    hosts = np.full(len(entries), -1, dtype=np.int64)
    data = kinds == Kind.DATA
    hosts[data] = host_offsets(entries[data])
    starts = guest_start + np.arange(len(entries), dtype=np.int64) * size
    _check_entries(layout, entries, starts)
    packed = kinds == Kind.COMPRESSED
    if packed.any():
        hosts[packed] = compressed_offsets(entries[packed], geometry)
        stored = np.where(data, size, 0)
        stored[packed] = compressed_lengths(entries[packed], geometry)
        return merge(_table(layout, starts, np.full(len(entries), size), kinds, hosts, stored))
    # No compressed cluster: join neighbours before a table is built, which is many times faster.
    joins = (kinds[1:] == kinds[:-1]) & (~data[1:] | (hosts[:-1] + size == hosts[1:]))
    heads = np.concatenate(([0], np.flatnonzero(~joins) + 1))
    lengths = np.diff(np.concatenate((heads, [len(entries)]))) * size
    return _table(layout, starts[heads], lengths, kinds[heads], hosts[heads], None)


def map_range(layout: Layout, entries: U64Array, guest_start: int, start: int, stop: int) -> ExtentTable:
    """As ``map_entries``, for entries of which only guest bytes ``[start, stop)`` are wanted."""
    bits = layout.geometry.cluster_bits
    first = max(0, (start - guest_start) >> bits)
    last = -(-(stop - guest_start) >> bits)
    table = map_entries(layout, entries[first:last], guest_start + (first << bits))
    return clip(table, start, stop)


def zero_past_end(table: ExtentTable, file: int, size: int, lost_from: int | None) -> ExtentTable:
    """The same table with plain data that lies past the ``size`` bytes of its file said to be zeros: that is
    how QEMU reads it. Rows that reach past host offset ``lost_from`` stay: reading them is an error."""
    ends = table["host"] + table["length"]
    past = (table["kind"] == Kind.DATA) & (table["file"] == file) & (ends > size)
    if lost_from is not None:
        past &= ends <= lost_from
    if not past.any():
        return table
    inside = np.clip(size - table["host"], 0, table["length"])
    whole = past & (inside == 0)
    straddles = past & (inside > 0)
    counts = np.where(straddles, 2, 1)
    out: ExtentTable = np.repeat(table, counts)
    at = np.cumsum(counts) - counts
    heads, tails = at[straddles], at[straddles] + 1
    kept = inside[straddles]
    out["length"][heads] = out["stored"][heads] = kept
    out["start"][tails] += kept
    out["length"][tails] -= kept
    gone = np.concatenate((at[whole], tails))
    out["kind"][gone] = Kind.ZERO
    out["host"][gone] = -1
    out["stored"][gone] = 0
    out["file"][gone] = -1
    return merge(out)


def overlay(top: ExtentTable, below: ExtentTable, *, file_shift: int) -> ExtentTable:
    """``top`` with its unallocated rows filled from ``below``; both cover the same range.

    Files and depths of ``below`` are shifted to where they stand in the chain.
    """
    edges = np.union1d(top["start"], below["start"])
    stop = int(top["start"][-1] + top["length"][-1])
    lengths = np.diff(np.append(edges, stop))
    above = np.searchsorted(top["start"], edges, side="right") - 1
    under = np.searchsorted(below["start"], edges, side="right") - 1
    through = top["kind"][above] == Kind.UNALLOCATED
    rows: ExtentTable = np.where(through, below[under], top[above])
    held = through & (rows["depth"] >= 0)
    rows["depth"][held] += 1
    filed = through & (rows["file"] >= 0)
    rows["file"][filed] += file_shift
    data = rows["kind"] == Kind.DATA
    rows["host"][data] += (edges - rows["start"])[data]
    rows["stored"][data] = lengths[data]
    rows["start"] = edges
    rows["length"] = lengths
    # An edge in the one table must not cut a stream of the other in two.
    source = np.where(through, under + len(top), above)
    joins = (source[1:] == source[:-1]) & (rows["kind"][1:] == Kind.COMPRESSED)
    if joins.any():
        heads = np.flatnonzero(np.concatenate(([True], ~joins)))
        rows = rows[heads]
        rows["length"] = np.add.reduceat(lengths, heads)
    return merge(rows)


def _map_extended(layout: Layout, entries: U64Array, bitmaps: U64Array, guest_start: int) -> ExtentTable:
    geometry = layout.geometry
    kinds = classify(entries, geometry, bitmaps)
    starts = guest_start + np.arange(len(entries), dtype=np.int64) * geometry.cluster_size
    _check_entries(layout, entries, starts)
    held = kinds == ClusterType.DATA
    packed = kinds == ClusterType.COMPRESSED
    alloc, zero = bitmaps & _LOW_HALF, bitmaps >> _HIGH
    wrong = (~packed & ((alloc & zero) != 0)) | (~packed & ~held & (alloc != 0))
    if wrong.any():
        _refuse(layout, "an impossible subcluster bitmap", starts, bitmaps, wrong)
    mixed = ~packed & ~(((alloc == _LOW_HALF) & (zero == 0)) | ((alloc == 0) & ((zero == _LOW_HALF) | (zero == 0))))
    counts = np.where(mixed, SUBCLUSTERS, 1)
    rows = np.repeat(np.arange(len(entries)), counts)
    sub = np.arange(len(rows), dtype=np.int64) - np.repeat(np.cumsum(counts) - counts, counts)
    bit = sub.astype(np.uint64)
    is_alloc = ((alloc[rows] >> bit) & np.uint64(1)) != 0
    is_zero = ((zero[rows] >> bit) & np.uint64(1)) != 0
    row_kinds = np.where(is_alloc, np.uint8(Kind.DATA), np.uint8(Kind.UNALLOCATED))
    row_kinds[is_zero] = Kind.ZERO
    row_kinds[packed[rows]] = Kind.COMPRESSED
    within = sub * geometry.subcluster_size
    lengths = np.where(mixed[rows], geometry.subcluster_size, geometry.cluster_size)
    hosts = np.full(len(rows), -1, dtype=np.int64)
    data = row_kinds == Kind.DATA
    hosts[data] = host_offsets(entries)[rows[data]] + within[data]
    stored = np.where(data, lengths, 0)
    squeezed = row_kinds == Kind.COMPRESSED
    if squeezed.any():
        hosts[squeezed] = compressed_offsets(entries[rows[squeezed]], geometry)
        stored[squeezed] = compressed_lengths(entries[rows[squeezed]], geometry)
    return merge(_table(layout, starts[rows] + within, lengths, row_kinds, hosts, stored))


def _table(
    layout: Layout, starts: I64Array, lengths: I64Array, kinds: U8Array, hosts: I64Array, stored: I64Array | None
) -> ExtentTable:
    files = np.full(len(starts), -1, dtype=np.int32)
    files[kinds == Kind.DATA] = layout.data_file_index
    files[kinds == Kind.COMPRESSED] = 0
    depths = np.where(kinds == Kind.UNALLOCATED, -1, 0)
    return make_table(starts, lengths, kinds, host=hosts, stored=stored, file=files, depth=depths)


def _check_entries(layout: Layout, entries: U64Array, starts: I64Array) -> None:
    geometry = layout.geometry
    plain = (entries & COMPRESSED) == 0
    inside = np.uint64(geometry.cluster_size - 1)
    misaligned = plain & ((entries & OFFSET_MASK & inside) != 0)
    if misaligned.any():
        _refuse(layout, "a host offset that is not a cluster's", starts, entries, misaligned)
    if not geometry.zero_flag and not geometry.extended_l2:
        flagged = plain & ((entries & ZERO_FLAG) != 0)
        if flagged.any():
            _refuse(layout, "a zero flag, which version 2 doesn't have", starts, entries, flagged)
    if geometry.data_file:
        if not plain.all():
            _refuse(layout, "a compressed cluster beside an external data file", starts, entries, ~plain)
        hosts = host_offsets(entries)
        elsewhere = (hosts != 0) & (hosts != starts)
        if elsewhere.any():
            _refuse(layout, "an offset into the data file that isn't the guest's", starts, entries, elsewhere)


def _refuse(layout: Layout, what: str, starts: I64Array, values: U64Array, where: np.ndarray) -> None:
    first = int(np.argmax(where))
    raise CorruptImageError(
        f"the L2 entry for guest offset {int(starts[first]):#x} has {what}",
        path=layout.name,
        found=f"{int(values[first]):#018x}",
        hint=f"Run 'byre check {layout.name}'.",
    )
