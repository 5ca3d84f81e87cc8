"""Refcounts of an image that is being written: finding free clusters, growing the refcount structures.

Everything changes in memory first; ``dirty_blocks`` and friends say what the next commit has to write. A
cluster whose reference is dropped stays taken until ``drop`` is called, which is after nothing on the disk
points to it any more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np

from byre.disks.qcow2.entries import I64Array, U64Array, decode_table
from byre.disks.qcow2.header import MAX_HOST_OFFSET, MAX_REFCOUNT_TABLE_BYTES, Header
from byre.disks.qcow2.refcounts import (
    TABLE_OFFSET_MASK,
    UnsignedArray,
    block_entries,
    narrow_type,
    pack_refcounts,
    unpack_narrow,
)
from byre.errors import CorruptImageError, StorageError
from byre.storage.base import Storage
from byre.units import SECTOR, ceil_div

_CACHE_BYTES = 32 << 20
"""Decoded blocks kept: at 64 KiB clusters and 16 bits that is 128 blocks, which count 256 GiB."""

_SEARCH_STEP = 1 << 16
"""Entries looked at in one go for free ones: a block may have 16 million."""


class Allocator:
    """The refcounts of one image. Mutable: that is its purpose. Clusters are host cluster numbers."""

    def __init__(self, storage: Storage, header: Header, table: U64Array, protected: I64Array) -> None:
        self.storage = storage
        self.cluster_bits = header.cluster_bits
        self.cluster_size = header.cluster_size
        self.order = header.refcount_order
        self.per_block = block_entries(header.cluster_bits, header.refcount_order)
        self.table = table
        self.table_offset = header.refcount_table_offset
        self.table_clusters = header.refcount_table_clusters
        self.table_moved = False
        self.dirty_table: set[int] = set()
        """Indices of table entries that the disk doesn't have yet."""
        self.dirty_blocks: dict[int, tuple[int, int]] = {}
        """Block number to the range of its entries that changed."""
        self.retired: list[I64Array] = []
        """Clusters of old refcount tables, to be dropped once the header points to the new one."""
        self._protected = np.unique(protected)
        self._blocks: OrderedDict[int, UnsignedArray] = OrderedDict()
        self._room = max(2, _CACHE_BYTES // (self.per_block * narrow_type(self.order).itemsize))
        self._hint = 0
        self._tail: int | None = None

    def refcounts(self, clusters: I64Array) -> U64Array:
        """The refcount of each cluster; 0 where nothing counts it."""
        found = np.zeros(len(clusters), dtype=np.uint64)
        for number, chosen in self._by_block(clusters):
            if number < len(self.table) and self.table[number]:
                found[chosen] = self._block(number)[clusters[chosen] % self.per_block]
        return found

    def allocate(self, count: int) -> I64Array:
        """``count`` free clusters, ascending, now with refcount 1; contiguous where the free space is."""
        pieces: list[I64Array] = []
        missing = count
        for number in np.flatnonzero(self.table[self._hint // self.per_block :]) + self._hint // self.per_block:
            if not missing:
                break
            for free in self._free_in(int(number)):
                taken = free[:missing]
                self._take(taken)
                pieces.append(taken)
                missing -= len(taken)
                if not missing:
                    break
        if missing:
            pieces.append(self.allocate_contiguous(missing))
        if not pieces:
            return np.zeros(0, dtype=np.int64)
        found: I64Array = np.concatenate(pieces)
        self._hint = int(found[-1]) + 1
        return found

    def _free_in(self, number: int) -> Iterator[I64Array]:
        """The free clusters that one block counts, from the hint on, some at a time."""
        base = number * self.per_block
        block = self._block(number)
        limit = MAX_HOST_OFFSET >> self.cluster_bits
        for start in range(max(0, self._hint - base), self.per_block, _SEARCH_STEP):
            free = np.flatnonzero(block[start : start + _SEARCH_STEP] == 0) + (base + start)
            if len(free):
                yield free[free < limit]

    def allocate_contiguous(self, count: int) -> I64Array:
        """``count`` clusters in a row after the last used one, with the refcount blocks and the refcount table
        that they need."""
        first = self._end_of_used()
        blocks = table_clusters = 0
        while True:
            end = first + count + blocks + table_clusters
            numbers = range(first // self.per_block, ceil_div(end, self.per_block))
            absent = [number for number in numbers if number >= len(self.table) or not self.table[number]]
            wanted = self._table_clusters_for(numbers.stop)
            if len(absent) <= blocks and wanted <= table_clusters:
                break
            blocks, table_clusters = max(blocks, len(absent)), max(wanted, table_clusters)
        if end << self.cluster_bits >= MAX_HOST_OFFSET:
            raise StorageError("the image has no room for another cluster", path=self.storage.name)
        after_blocks = first + count + len(absent)
        if table_clusters:
            self._move_table(after_blocks, table_clusters)
        for index, number in enumerate(absent):
            self.table[number] = (first + count + index) << self.cluster_bits
            self._blocks[number] = np.zeros(self.per_block, dtype=narrow_type(self.order))
            self.dirty_blocks[number] = (0, self.per_block)
            self.dirty_table.add(number)
        self._take(np.arange(first, after_blocks + table_clusters))
        self.protect(np.arange(first + count, after_blocks + table_clusters))
        return np.arange(first, first + count)

    def drop(self, clusters: I64Array) -> I64Array:
        """Take one reference from each cluster (several where it stands several times); returns those that are
        free now. One that isn't counted as often as it is dropped stays as it is: a leak harms nobody."""
        numbers, times = np.unique(clusters, return_counts=True)
        freed: list[I64Array] = []
        for number, chosen in self._by_block(numbers):
            if number >= len(self.table) or not self.table[number]:
                continue
            block = self._block(number)
            inside = numbers[chosen] % self.per_block
            dropped = times[chosen].astype(np.uint64)
            sound = block[inside] >= dropped
            inside, dropped = inside[sound], dropped[sound]
            if not len(inside):
                continue
            block[inside] -= dropped.astype(block.dtype)
            self._mark(number, int(inside.min()), int(inside.max()) + 1)
            freed.append(inside[block[inside] == 0] + number * self.per_block)
        free = np.concatenate(freed) if freed else np.zeros(0, dtype=np.int64)
        if len(free):
            self._hint = min(self._hint, int(free.min()))
        return free

    def protect(self, clusters: I64Array) -> None:
        """These hold metadata: refuse to hand them out, whatever a refcount says."""
        self._protected = np.union1d(self._protected, clusters)

    def unprotect(self, clusters: I64Array) -> None:
        """These don't hold metadata any more."""
        self._protected = np.setdiff1d(self._protected, clusters)

    def dirty_pieces(self) -> Iterator[tuple[int, bytes]]:
        """(host offset, bytes) of all refcounts that the disk doesn't have yet, whole sectors."""
        per_sector = max(1, (SECTOR * 8) >> self.order)
        for number, (low, high) in sorted(self.dirty_blocks.items()):
            low -= low % per_sector
            high = min(self.per_block, ceil_div(high, per_sector) * per_sector)
            packed = pack_refcounts(self._block(number)[low:high], self.order)
            yield int(self.table[number] & TABLE_OFFSET_MASK) + ((low << self.order) >> 3), packed

    def blocks_written(self) -> None:
        """The disk has them all."""
        self.dirty_blocks.clear()
        while len(self._blocks) > self._room:
            self._blocks.popitem(last=False)

    def table_written(self) -> None:
        """The disk has the table, and the header points to it."""
        self.dirty_table.clear()
        self.table_moved = False

    def _table_clusters_for(self, entries: int) -> int:
        """Clusters of a new table, or 0 where today's has room; half as much again, so that it lasts."""
        if entries <= len(self.table):
            return 0
        size = ceil_div((entries + entries // 2 + 1) * 8, self.cluster_size)
        if size << self.cluster_bits > MAX_REFCOUNT_TABLE_BYTES:
            size = ceil_div(entries * 8, self.cluster_size)
        if size << self.cluster_bits > MAX_REFCOUNT_TABLE_BYTES:
            raise StorageError(
                "the image can't grow: its refcount table is as large as it may be",
                path=self.storage.name,
                expected=f"at most {MAX_REFCOUNT_TABLE_BYTES} bytes",
                hint="Convert it to larger clusters.",
            )
        return size

    def _move_table(self, first: int, clusters: int) -> None:
        table = np.zeros((clusters << self.cluster_bits) // 8, dtype=np.uint64)
        table[: len(self.table)] = self.table
        old = self.table_offset >> self.cluster_bits
        self.retired.append(np.arange(old, old + self.table_clusters))
        self.table = table
        self.table_offset = first << self.cluster_bits
        self.table_clusters = clusters
        self.table_moved = True

    def _take(self, clusters: I64Array) -> None:
        at = np.searchsorted(self._protected, clusters)
        at[at == len(self._protected)] = 0
        live = self._protected[at] == clusters if len(self._protected) else np.zeros(len(clusters), dtype=bool)
        if live.any():
            cluster = int(clusters[np.argmax(live)])
            raise CorruptImageError(
                "metadata lies in a cluster that is counted as free",
                path=self.storage.name,
                offset=cluster << self.cluster_bits,
                found="refcount 0",
                hint=f"Run 'byre check --repair all {self.storage.name}'.",
            )
        for number, chosen in self._by_block(clusters):
            inside = clusters[chosen] % self.per_block
            self._block(number)[inside] = 1
            self._mark(number, int(inside.min()), int(inside.max()) + 1)
        if self._tail is not None and len(clusters):
            self._tail = max(self._tail, int(clusters.max()) + 1)

    def _end_of_used(self) -> int:
        if self._tail is None:
            self._tail = 1
            for number in np.flatnonzero(self.table)[::-1]:
                used = np.flatnonzero(self._block(int(number)))
                if len(used):
                    self._tail = int(number) * self.per_block + int(used[-1]) + 1
                    break
            if len(self._protected):
                self._tail = max(self._tail, int(self._protected[-1]) + 1)
        return self._tail

    def _by_block(self, clusters: I64Array) -> Iterator[tuple[int, I64Array]]:
        """(block number, positions in ``clusters``) for each block that counts some of them."""
        numbers = clusters // self.per_block
        if not len(numbers):
            return
        if numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
            yield int(numbers[0]), np.arange(len(numbers))
            return
        for number in np.unique(numbers):
            yield int(number), np.flatnonzero(numbers == number)

    def _mark(self, number: int, low: int, high: int) -> None:
        before = self.dirty_blocks.get(number)
        self.dirty_blocks[number] = (low, high) if before is None else (min(low, before[0]), max(high, before[1]))

    def _block(self, number: int) -> UnsignedArray:
        """A refcount block, decoded; the one in memory is the truth while it is dirty."""
        block = self._blocks.get(number)
        if block is not None:
            self._blocks.move_to_end(number)
            return block
        offset = int(self.table[number])
        if offset % self.cluster_size or offset + self.cluster_size > self.storage.size:
            raise CorruptImageError(
                "the refcount table points where no block can be",
                path=self.storage.name,
                offset=self.table_offset + number * 8,
                found=f"{offset:#x}",
                expected=f"a whole cluster within {self.storage.size} bytes",
                hint=f"Run 'byre check --repair all {self.storage.name}'.",
            )
        block = unpack_narrow(self.storage.read(offset, self.cluster_size), self.order)
        self._blocks[number] = block
        for other in list(self._blocks):
            if len(self._blocks) <= self._room:
                break
            if other not in self.dirty_blocks and other != number:
                del self._blocks[other]
        return block


def read_refcount_table(storage: Storage, header: Header) -> U64Array:
    """The whole refcount table. Raises CorruptImageError where it leaves the file."""
    size = header.refcount_table_clusters << header.cluster_bits
    offset = header.refcount_table_offset
    if not size or not offset or offset + size > storage.size:
        raise CorruptImageError(
            "the refcount table leaves the file",
            path=storage.name,
            offset=48,
            found=f"{size} bytes at {offset:#x}",
            expected=f"within {storage.size} bytes",
        )
    return decode_table(storage.read(offset, size))
