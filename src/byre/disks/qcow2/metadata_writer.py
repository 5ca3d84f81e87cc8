"""What a writer has changed in memory, and the order in which it reaches the disk.

A commit goes in steps, so that a cut at any write leaves an image that opens, with old or new guest data and
at worst leaked clusters:

1. guest data into clusters that nothing points to (done before), raised refcounts, new L2 tables;
   new refcount blocks are flushed before the refcount table names them, a moved refcount table before the
   header names it;
2. flush;
3. L2 entries in place and L1 entries: the switch, one 8-byte or 16-byte entry at a time;
4. flush, and only then
5. dropped refcounts, and the freed clusters' space given back to the host.

``hold`` keeps steps 3 to 5 back over any number of commits, until ``release`` shows all of them by one write of the
header: then a cut leaves either everything or nothing.
"""

from __future__ import annotations

import struct
from dataclasses import replace

import numpy as np

from byre.disks.qcow2.allocator import Allocator, read_refcount_table
from byre.disks.qcow2.bitmaps import directory_place, mark_inconsistent
from byre.disks.qcow2.entries import COPIED, OFFSET_MASK, I64Array, U64Array, encode_table
from byre.disks.qcow2.header import (
    BITMAPS,
    EXT_BITMAPS,
    KNOWN_AUTOCLEAR,
    MAX_L1_BYTES,
    POINTERS_OFFSET,
    Header,
)
from byre.disks.qcow2.reading import Source
from byre.disks.qcow2.refcounts import TABLE_OFFSET_MASK
from byre.disks.qcow2.snapshot_table import Snapshot, pack_snapshot_table
from byre.disks.qcow2.tables import read_l1
from byre.errors import CorruptImageError, StorageError, UsageError
from byre.units import SECTOR, align_down, align_up, ceil_div

_PINNED_BYTES = 16 << 20
_MAX_PENDING = 1 << 16
_MAX_SNAPSHOT_L1_BYTES = 64 << 20
_AUTOCLEAR_OFFSET = 88
_REFCOUNT_POINTER = struct.Struct(">QI")
_REFCOUNT_POINTER_OFFSET = 48
_L1_POINTER = struct.Struct(">IQ")


class MetadataWriter:
    """The changed tables of an image that is being written. Mutable: it is the unit of commit."""

    def __init__(self, source: Source, l1: U64Array, snapshots: tuple[Snapshot, ...]) -> None:
        self.source = source
        self.storage = source.storage
        self.tables = source.tables
        self.geometry = source.geometry
        self.l1 = l1
        table = read_refcount_table(self.storage, source.header)
        self.allocator = Allocator(self.storage, source.header, table, _protected(source, l1, snapshots, table))
        self._fresh: set[int] = set()
        self._dirty_l2: dict[int, tuple[int, int]] = {}
        self._dirty_l1: set[int] = set()
        self._drops: list[I64Array] = []
        self._pending = 0
        self._begun = False
        self._held = False
        self._unflushed = False
        self._limit = max(4, _PINNED_BYTES >> self.geometry.cluster_bits)

    def begin(self) -> None:
        """Before the first change: clear the autoclear bits of what we don't keep up, and mark the bitmaps that
        are switched on as not to be trusted."""
        if self._begun:
            return
        header = self.source.header
        written = mark_inconsistent(self.storage, header)
        kept = header.autoclear & KNOWN_AUTOCLEAR
        if header.extension(EXT_BITMAPS) is None:
            kept &= ~BITMAPS
        if kept != header.autoclear:
            self.storage.write(_AUTOCLEAR_OFFSET, struct.pack(">Q", kept))
            self.source.header = replace(header, autoclear=kept)
            written = True
        if written:
            self.storage.flush()
        self._begun = True

    def touched(self) -> None:
        """Guest data was written: the next step that points to it has to wait for a flush."""
        self._unflushed = True

    def writable_table(self, index: int) -> tuple[int, U64Array]:
        """(host offset, entries) of the L2 table for L1 index ``index``, made or unshared as need be; the caller
        changes it and calls ``changed``."""
        entry = self.l1[index]
        offset = int(entry & OFFSET_MASK)
        pinned = self.tables.pinned.get(offset) if offset else None
        if pinned is not None:
            return offset, pinned
        if offset:
            table = self.tables.table(offset).copy()
            if self.is_exclusive(bool(entry & COPIED), offset, "L2 table"):
                self.tables.pinned[offset] = table
                return offset, table
        else:
            table = self.empty_table()
        cluster = self.allocator.allocate(1)
        self.allocator.protect(cluster)
        fresh = int(cluster[0]) << self.geometry.cluster_bits
        self.tables.pinned[fresh] = table
        self._fresh.add(fresh)
        self._dirty_l2[fresh] = (0, self.geometry.l2_entries)
        self.l1[index] = np.uint64(fresh) | COPIED
        self._dirty_l1.add(index)
        if offset:
            self.drop(np.array([offset >> self.geometry.cluster_bits]))
        return fresh, table

    def empty_table(self) -> U64Array:
        shape = (self.geometry.l2_entries, 2) if self.geometry.extended_l2 else (self.geometry.l2_entries,)
        return np.zeros(shape, dtype=np.uint64)

    def is_exclusive(self, copied: bool, offset: int, what: str) -> bool:
        """Whether the cluster may be changed in place: its reference says COPIED, and its refcount is 1."""
        if not copied:
            return False
        count = int(self.allocator.refcounts(np.array([offset >> self.geometry.cluster_bits]))[0])
        if count != 1:
            raise self.miscounted(what, offset, count)
        return True

    def miscounted(self, what: str, offset: int, count: int) -> CorruptImageError:
        """The error for a cluster that says it isn't shared while its refcount says otherwise."""
        return CorruptImageError(
            f"a {what} is flagged COPIED but isn't referenced once",
            path=self.storage.name,
            offset=offset,
            found=f"refcount {count}",
            expected="refcount 1",
            hint=f"Run 'byre check --repair all {self.storage.name}'.",
        )

    def changed(self, offset: int, first: int, stop: int) -> None:
        """Entries ``[first, stop)`` of this table, which ``writable_table`` gave, are new."""
        low, high = self._dirty_l2.get(offset, (first, stop))
        self._dirty_l2[offset] = (min(low, first), max(high, stop))

    def drop(self, clusters: I64Array) -> None:
        """One reference less to each of these host clusters, once the disk no longer has it."""
        if len(clusters):
            self._drops.append(clusters)
            self._pending += len(clusters)

    def commit_if_large(self) -> None:
        """Keep what waits in memory bounded."""
        if (
            len(self.tables.pinned) > self._limit
            or (self._pending > _MAX_PENDING and not self._held)
            or len(self.allocator.dirty_blocks) > self._limit
        ):
            self.commit()

    def commit(self) -> None:
        """Bring everything to the disk in an order that may be cut anywhere. Guest data is durable afterwards, but
        shows only after ``release`` where the switch is held."""
        self._write_new()
        self._flush()
        self._write_switch()
        self._flush()
        if not self._held:
            self._write_drops()

    def hold(self) -> None:
        """Keep the switch back: until ``release`` the file goes on showing the disk as it is now.

        Only where each L2 table is shared with a snapshot, so that every change makes a new one: take one just
        before. UsageError otherwise.
        """
        if self.source.data is not self.storage or bool((self.l1 & COPIED).any()):
            raise UsageError("changes can be held back only right after a snapshot was taken", path=self.storage.name)
        self.begin()
        self.commit()
        self._held = True

    def release(self) -> None:
        """Show everything written since ``hold``, by one write of the header. Clusters that can't be given back after
        it are leaks, and no error: what was asked for is there."""
        if not self._held:
            raise UsageError("no changes are held back", path=self.storage.name)
        self.commit()
        self._held = False
        before = self.source.header.l1_table_offset
        try:
            self._move_l1(len(self.l1))
        except StorageError:
            if self.source.header.l1_table_offset == before:
                raise

    def grow_l1(self, entries: int) -> None:
        """Move the L1 table to a place with room for ``entries``, and switch to it by one write of the header."""
        if entries * 8 > MAX_L1_BYTES:
            raise UsageError(
                "the disk can't be that large with these clusters",
                path=self.storage.name,
                found=f"an L1 table of {entries * 8} bytes",
                expected=f"at most {MAX_L1_BYTES}",
            )
        if entries <= len(self.l1):
            return
        self.begin()
        self.commit()
        self._move_l1(entries)

    def _move_l1(self, entries: int) -> None:
        """Write the L1 table with room for ``entries`` to a new place, and let the header name it."""
        bits = self.geometry.cluster_bits
        place = self.allocator.allocate_contiguous(ceil_div(entries * 8, 1 << bits))
        self.allocator.protect(place)
        l1 = np.zeros(entries, dtype=np.uint64)
        l1[: len(self.l1)] = self.l1
        offset = int(place[0]) << bits
        self._write(offset, encode_table(l1).ljust(len(place) << bits, b"\0"))
        self._write_new()
        self._flush()
        self._write(POINTERS_OFFSET, _L1_POINTER.pack(entries, offset))
        self._flush()
        header = self.source.header
        old = header.l1_table_offset >> bits
        if header.l1_size:
            self.drop(np.arange(old, old + ceil_div(header.l1_size * 8, 1 << bits)))
        self.source.header = replace(header, l1_size=entries, l1_table_offset=offset)
        self.l1 = l1
        self._write_drops()

    def _write(self, offset: int, data: bytes) -> None:
        self._unflushed = True
        self.storage.write(offset, data)

    def _flush(self) -> None:
        if self._unflushed:
            if self.source.data is not self.storage:
                self.source.data.flush()
            self.storage.flush()
            self._unflushed = False

    def _write_refcounts(self) -> None:
        for offset, data in self.allocator.dirty_pieces():
            self._write(offset, data)

    def _write_new(self) -> None:
        allocator = self.allocator
        self._write_refcounts()
        for offset in self._fresh:
            self._write(offset, encode_table(self.tables.pinned[offset]))
        if allocator.table_moved:
            self._write(allocator.table_offset, encode_table(allocator.table))
            self._flush()
            pointer = _REFCOUNT_POINTER.pack(allocator.table_offset, allocator.table_clusters)
            self._write(_REFCOUNT_POINTER_OFFSET, pointer)
            self.source.header = replace(
                self.source.header,
                refcount_table_offset=allocator.table_offset,
                refcount_table_clusters=allocator.table_clusters,
            )
            for clusters in allocator.retired:
                self.drop(clusters)
            allocator.retired.clear()
            allocator.table_written()
        elif allocator.dirty_table:
            self._flush()
            self._write_entries(allocator.table_offset, allocator.table, allocator.dirty_table)
            allocator.table_written()
        allocator.blocks_written()

    def _write_switch(self) -> None:
        entry_size = self.geometry.l2_entry_size
        for offset, (low, high) in sorted(self._dirty_l2.items()):
            if offset not in self._fresh:
                self._write(offset + low * entry_size, encode_table(self.tables.pinned[offset][low:high]))
        if not self._held:
            self._write_entries(self.source.header.l1_table_offset, self.l1, self._dirty_l1)
        for offset, table in self.tables.pinned.items():
            self.tables.store(offset, table)
        self.tables.pinned.clear()
        self._fresh.clear()
        self._dirty_l2.clear()
        self._dirty_l1.clear()

    def _write_drops(self) -> None:
        if not self._drops:
            return
        drops = np.concatenate(self._drops)
        self._drops.clear()
        self._pending = 0
        freed = self.allocator.drop(drops)
        self._write_refcounts()
        self.allocator.blocks_written()
        if len(freed):
            self.allocator.unprotect(freed)
            self.source.forget()
            self._punch(np.sort(freed))

    def _punch(self, clusters: I64Array) -> None:
        bits = self.geometry.cluster_bits
        for run in np.split(clusters, np.flatnonzero(np.diff(clusters) != 1) + 1):
            start = int(run[0]) << bits
            stop = min(start + (len(run) << bits), self.storage.size)
            if start < stop and not self.storage.punch(start, stop - start):
                return

    def _write_entries(self, offset: int, entries: U64Array, indices: set[int]) -> None:
        """The sectors of a table in place in which one of these entries is."""
        each = SECTOR // 8
        for first in sorted({align_down(index, each) for index in indices}):
            self._write(offset + first * 8, encode_table(entries[first : first + each]))


def _protected(source: Source, l1: U64Array, snapshots: tuple[Snapshot, ...], table: U64Array) -> I64Array:
    """The host clusters of all metadata that the tables name, whatever their refcounts say."""
    header: Header = source.header
    bits = header.cluster_bits
    places: list[tuple[int, int]] = [
        (0, 1),
        (header.l1_table_offset, header.l1_size * 8),
        (header.refcount_table_offset, header.refcount_table_clusters << bits),
    ]
    if snapshots:
        places.append((header.snapshots_offset, len(pack_snapshot_table(snapshots))))
    bitmaps = directory_place(header)
    if bitmaps is not None:
        places.append(bitmaps[1:])
    pointers = [l1 & OFFSET_MASK, table & TABLE_OFFSET_MASK]
    budget = _MAX_SNAPSHOT_L1_BYTES
    for snapshot in snapshots:
        places.append((snapshot.l1_table_offset, snapshot.l1_size * 8))
        budget -= snapshot.l1_size * 8
        if budget >= 0 and snapshot.l1_size:
            pointers.append(
                read_l1(source.storage, source.geometry, snapshot.l1_table_offset, snapshot.l1_size) & OFFSET_MASK
            )
    ranges = [
        np.arange(start >> bits, align_up(min(start + length, source.storage.size), 1 << bits) >> bits)
        for start, length in places
    ]
    named = np.concatenate(pointers)
    clusters = (named[named != 0] >> np.uint64(bits)).astype(np.int64)
    found: I64Array = np.unique(np.concatenate([*ranges, clusters]))
    return found
