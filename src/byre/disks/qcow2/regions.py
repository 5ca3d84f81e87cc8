"""What the header, the snapshot table and the bitmap directory say is in use: metadata regions and L2 tables."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from byre.disks.findings import CORRUPTION, NOTE, Findings
from byre.disks.qcow2.bitmap_directory import (
    TABLE_RESERVED,
    BitmapDirectory,
    bitmap_data_offsets,
    load_bitmap_directory,
    read_bitmap_table,
)
from byre.disks.qcow2.bitmaps import IN_USE
from byre.disks.qcow2.entries import COPIED, L1_RESERVED, OFFSET_MASK, I64Array, U64Array
from byre.disks.qcow2.header import BITMAPS, CORRUPT, CRYPT_LUKS, DIRTY, EXT_BITMAPS, EXT_ENCRYPTION, Header
from byre.disks.qcow2.l2_walk import TableSet, clusters_of, read_table
from byre.disks.qcow2.snapshot_table import Snapshot, pack_snapshot_table, read_snapshot_table
from byre.disks.qcow2.stored_refcounts import StoredRefcounts
from byre.errors import CorruptImageError
from byre.storage.base import Storage

_ENCRYPTION = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class Region:
    """Host clusters ``[first, stop)`` that metadata of one ``role`` takes."""

    first: int
    stop: int
    role: str


@dataclass(frozen=True, slots=True)
class Roots:
    """Everything from which references start. ``active`` is the active L1 table, native entries; ``tables`` all
    L2 tables of all L1s with the number of references to each; ``active_tables`` those of the active L1."""

    snapshots: tuple[Snapshot, ...]
    active: U64Array
    tables: TableSet
    active_tables: TableSet
    regions: tuple[Region, ...]
    scattered: I64Array
    """Clusters of metadata that come one by one: refcount blocks, bitmap data. Once for each reference."""
    bitmaps: BitmapDirectory | None

    def metadata_counts(self) -> tuple[I64Array, I64Array]:
        """(clusters ascending, references to each) of all metadata but the L2 tables."""
        spans = [np.arange(region.first, region.stop, dtype=np.int64) for region in self.regions]
        clusters, counts = np.unique(np.concatenate((*spans, self.scattered)), return_counts=True)
        return clusters, counts.astype(np.int64)


def load_roots(storage: Storage, header: Header, stored: StoredRefcounts, findings: Findings) -> Roots:
    """Read all roots; what is wrong with them goes to ``findings`` and is left out.

    Raises CorruptImageError where nothing can be said at all: tables that overlap so much that they can't all
    lie in the file.
    """
    collector = _Collector(storage, header, findings)
    collector.region(0, header.cluster_size, "header")
    collector.region(
        header.refcount_table_offset, header.refcount_table_clusters << header.cluster_bits, "refcount table"
    )
    collector.flags()
    snapshots = collector.snapshot_table()
    needed = header.geometry.l1_entries_for(header.size)
    if header.l1_size < needed:
        findings.add(
            CORRUPTION,
            "l1-too-small",
            f"the L1 table has {header.l1_size} entries, and the disk needs {needed}",
            offset=36,
        )
    active = collector.l1_table(header.l1_table_offset, header.l1_size, "active L1 table")
    active_tables = collector.usable_tables(active, header.l1_table_offset)
    tables = active_tables
    for snapshot in snapshots:
        entries = collector.l1_table(snapshot.l1_table_offset, snapshot.l1_size, "L1 table of a snapshot")
        tables = tables.plus(collector.usable_tables(entries, snapshot.l1_table_offset))
    bitmaps = collector.bitmaps()
    collector.encryption()
    blocks = stored.blocks[stored.blocks != 0] >> header.cluster_bits
    if len(np.unique(blocks)) != len(blocks):
        findings.add(
            CORRUPTION,
            "refcount-block-shared",
            "a refcount block is used twice",
            count=len(blocks) - len(np.unique(blocks)),
            repairable=True,
        )
    scattered = np.concatenate((blocks, *collector.scattered))
    return Roots(snapshots, active, tables, active_tables, tuple(collector.regions), scattered, bitmaps)


class _Collector:
    """Gathers regions while the roots are read. Mutable."""

    def __init__(self, storage: Storage, header: Header, findings: Findings) -> None:
        self.storage = storage
        self.header = header
        self.findings = findings
        self.regions: list[Region] = []
        self.scattered: list[I64Array] = []
        self._l1_bytes = 0

    def region(self, start: int, length: int, role: str) -> int:
        """Count the bytes as metadata; returns how many of them lie in the file."""
        inside = max(0, min(length, self.storage.size - start))
        if length and length - inside >= self.header.cluster_size:
            self.findings.add(CORRUPTION, "metadata-outside", f"the {role} leaves the file", offset=start)
        if inside:
            self.regions.append(Region(*clusters_of(start, inside, self.header.cluster_size), role))
        return inside

    def flags(self) -> None:
        if self.header.incompatible & DIRTY:
            self.findings.add(NOTE, "dirty", "the dirty flag is set: refcounts may be out of date", repairable=True)
        if self.header.incompatible & CORRUPT:
            self.findings.add(NOTE, "corrupt-flag", "the corrupt flag is set: QEMU won't write", repairable=True)

    def snapshot_table(self) -> tuple[Snapshot, ...]:
        try:
            snapshots = read_snapshot_table(self.storage, self.header)
        except CorruptImageError as error:
            self.findings.add(CORRUPTION, "snapshot-table", error.what, offset=error.offset)
            return ()
        if snapshots:
            self.region(self.header.snapshots_offset, len(pack_snapshot_table(snapshots)), "snapshot table")
        return snapshots

    def l1_table(self, offset: int, entries: int, role: str) -> U64Array:
        """The table's entries inside the file."""
        self._l1_bytes += entries * 8
        if self._l1_bytes > self.storage.size + (entries * 8):
            raise CorruptImageError(
                "the L1 tables can't all lie in the file: some overlap",
                path=self.storage.name,
                offset=offset,
                found=f"{self._l1_bytes} bytes of tables",
                expected=f"at most the {self.storage.size} bytes of the file",
            )
        if entries and offset == 0:
            self.findings.add(CORRUPTION, "l1-outside", f"the {role} has entries but no place", offset=offset)
            return np.zeros(0, dtype=np.uint64)
        inside = self.region(offset, entries * 8, role)
        return read_table(self.storage, offset, inside // 8)

    def usable_tables(self, l1: U64Array, l1_offset: int) -> TableSet:
        offsets = l1 & OFFSET_MASK
        present = offsets != 0
        misaligned = (offsets & np.uint64(self.header.cluster_size - 1)) != 0
        outside = present & ~misaligned & (offsets >= np.uint64(self.storage.size))
        reserved = (l1 & L1_RESERVED) != 0
        lost = ~present & ((l1 & COPIED) != 0)
        for bad, code, message in (
            (lost, "l1-flag-alone", "an L1 entry has a flag but no L2 table"),
            (reserved, "l1-reserved-bits", "an L1 entry has reserved bits set"),
            (misaligned, "l2-table-misaligned", "an L2 table is not aligned to a cluster"),
            (outside, "l2-table-outside", "an L2 table lies outside the file"),
        ):
            if bad.any():
                first = int(np.flatnonzero(bad)[0])
                self.findings.add(CORRUPTION, code, message, offset=l1_offset + 8 * first, count=int(bad.sum()))
        return TableSet.of(np.where(misaligned | outside, np.uint64(0), l1))

    def bitmaps(self) -> BitmapDirectory | None:
        try:
            directory = load_bitmap_directory(self.storage, self.header)
        except CorruptImageError as error:
            self.findings.add(CORRUPTION, "bitmap-directory", error.what, offset=error.offset)
            return None
        if directory is None:
            if self.header.extension(EXT_BITMAPS) is not None and not self.header.autoclear & BITMAPS:
                self.findings.add(NOTE, "bitmaps-void", "a program that doesn't know bitmaps has written since")
            return None
        self.region(directory.offset, directory.size, "bitmap directory")
        for entry in directory.entries:
            self.region(entry.table_offset, entry.table_size * 8, "bitmap table")
            table = read_bitmap_table(self.storage, entry)
            offsets = bitmap_data_offsets(table).astype(np.int64)
            bad = ((table & TABLE_RESERVED) != 0).sum() + ((offsets % self.header.cluster_size) != 0).sum()
            outside = offsets >= self.storage.size
            if bad or outside.any():
                self.findings.add(
                    CORRUPTION,
                    "bitmap-table",
                    "an entry of a bitmap's table is wrong",
                    offset=entry.table_offset,
                    count=int(bad) + int(outside.sum()),
                )
            self.scattered.append(offsets[~outside] >> self.header.cluster_bits)
            if entry.flags & IN_USE:
                self.findings.add(NOTE, "bitmap-inconsistent", "a bitmap is marked as in use: it can't be trusted")
        return directory

    def encryption(self) -> None:
        data = self.header.extension(EXT_ENCRYPTION)
        if self.header.crypt_method != CRYPT_LUKS or data is None or len(data) < _ENCRYPTION.size:
            return
        offset, length = _ENCRYPTION.unpack_from(data)
        self.region(offset, length, "encryption header")
