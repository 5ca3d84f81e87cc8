"""The refcounts that an image stores: its refcount table and blocks, read and written in ranges of clusters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from byre.disks.findings import CORRUPTION, Findings
from byre.disks.qcow2.entries import BoolArray, I64Array, U64Array
from byre.disks.qcow2.header import Header
from byre.disks.qcow2.l2_walk import read_clusters, read_table
from byre.disks.qcow2.refcounts import (
    TABLE_OFFSET_MASK,
    TABLE_RESERVED,
    block_entries,
    max_refcount,
    pack_refcounts,
    unpack_refcounts,
)
from byre.errors import CorruptImageError
from byre.storage.base import Storage

SLICE_ENTRIES = 1 << 19
"""Refcounts handled at once: 4 MB as words."""


class StoredRefcounts:
    """The refcount table and access to the blocks. ``blocks`` holds host offsets in bytes, 0 where a block is
    missing or can't be used. Mutable: blocks may be written and the table may get new ones."""

    def __init__(self, storage: Storage, header: Header, blocks: I64Array) -> None:
        self.storage = storage
        self.cluster_size = header.cluster_size
        self.cluster_bits = header.cluster_bits
        self.order = header.refcount_order
        self.blocks = blocks
        self.per_block = block_entries(header.cluster_bits, header.refcount_order)
        self.maximum = max_refcount(header.refcount_order)

    @property
    def covered(self) -> int:
        """Clusters that the table could count."""
        return len(self.blocks) * self.per_block

    def slices(self, start: int, stop: int) -> Iterator[tuple[int, U64Array]]:
        """(first cluster, refcounts) pieces that cover the clusters of ``[start, stop)``, whole blocks each
        (so a piece may begin before ``start`` and end after ``stop``). Missing blocks count 0."""
        step = max(1, SLICE_ENTRIES // self.per_block)
        last = min(len(self.blocks), -(-stop // self.per_block))
        for first in range(start // self.per_block, last, step):
            end = min(first + step, last)
            yield first * self.per_block, self.read_blocks(first, end)

    def read_blocks(self, first: int, stop: int) -> U64Array:
        """The refcounts of the blocks ``[first, stop)``."""
        offsets = self.blocks[first:stop]
        present = offsets != 0
        if present.all():
            return unpack_refcounts(read_clusters(self.storage, offsets, self.cluster_size), self.order)
        values = np.zeros((stop - first, self.per_block), dtype=np.uint64)
        if present.any():
            packed = read_clusters(self.storage, offsets[present], self.cluster_size)
            values[present] = unpack_refcounts(packed, self.order).reshape(-1, self.per_block)
        return values.reshape(-1)

    def write_blocks(self, first: int, values: U64Array, changed: BoolArray) -> None:
        """Write the blocks from index ``first`` on whose flag in ``changed`` (one a block) is set."""
        rows = values.reshape(len(changed), -1)
        for index in np.flatnonzero(changed).tolist():
            offset = int(self.blocks[first + index])
            if offset == 0:
                raise CorruptImageError(
                    "a cluster in use has no refcount block",
                    path=self.storage.name,
                    offset=(first + index) * self.per_block * self.cluster_size,
                    hint=f"Run 'byre check --repair all {self.storage.name}'.",
                )
            self.storage.write(offset, pack_refcounts(rows[index], self.order))


def load_stored(storage: Storage, header: Header, findings: Findings) -> StoredRefcounts:
    """The stored refcounts; entries of the table that can't be used are reported and count as missing."""
    entries = (header.refcount_table_clusters << header.cluster_bits) // 8
    table = read_table(storage, header.refcount_table_offset, entries)
    reserved = (table & TABLE_RESERVED) != 0
    if reserved.any():
        findings.add(
            CORRUPTION,
            "refcount-table-reserved-bits",
            "an entry of the refcount table has reserved bits set",
            offset=header.refcount_table_offset + 8 * int(np.flatnonzero(reserved)[0]),
            count=int(reserved.sum()),
            repairable=True,
        )
    masked = table & TABLE_OFFSET_MASK
    size = np.uint64(max(0, storage.size))
    misaligned = (masked & np.uint64(header.cluster_size - 1)) != 0
    outside = ~misaligned & (masked >= size)
    for bad, code, message in (
        (misaligned, "refcount-block-misaligned", "a refcount block is not aligned to a cluster"),
        (outside, "refcount-block-outside", "a refcount block lies outside the file"),
    ):
        if bad.any():
            findings.add(
                CORRUPTION,
                code,
                message,
                offset=int(np.uint64(header.refcount_table_offset) + np.uint64(8 * int(np.flatnonzero(bad)[0]))),
                count=int(bad.sum()),
                repairable=True,
            )
    usable = np.where(misaligned | outside | reserved, np.uint64(0), masked).astype(np.int64)
    return StoredRefcounts(storage, header, usable)
