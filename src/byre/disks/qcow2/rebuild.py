"""Writes a new refcount table and new blocks beside the old ones and switches to them with one write.

Used where the old ones can't be trusted (a dirty image, missing blocks) and where the table is too small. A cut
before the switch leaves the file longer, a cut after it leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from byre.disks.qcow2.entries import I64Array, U64Array, encode_table
from byre.disks.qcow2.header import MAX_REFCOUNT_TABLE_BYTES, POINTERS_OFFSET
from byre.disks.qcow2.refcounts import pack_refcounts
from byre.disks.qcow2.stored_refcounts import StoredRefcounts
from byre.disks.qcow2.survey import Survey
from byre.errors import UnsupportedError
from byre.units import ceil_div

ValueSource = Callable[[], Iterator[tuple[int, U64Array]]]
"""Pieces (first cluster, refcounts) in ascending order, each whole blocks; what isn't given is 0."""


def stored_values(found: Survey) -> ValueSource:
    """The refcounts as the image stores them."""
    return lambda: found.stored.slices(0, found.stored.covered)


def rebuild_refcounts(found: Survey, values: ValueSource, *, spare_clusters: int = 0) -> None:
    """Write refcounts ``values`` in new structures with room for ``spare_clusters`` more, and switch to them.

    The old structures are free afterwards. Everything written before is flushed with it.
    """
    stored = found.stored
    size = stored.cluster_size
    start = max(found.end_cluster, ceil_div(found.storage.size, size))
    wanted = _blocks_in_use(values, stored.per_block)
    table_clusters, blocks = _layout(stored, start, wanted, spare_clusters)
    if table_clusters * size > MAX_REFCOUNT_TABLE_BYTES:
        raise UnsupportedError(
            "the refcount table would grow past its limit",
            path=found.storage.name,
            found=f"{table_clusters * size} bytes",
            expected=f"at most {MAX_REFCOUNT_TABLE_BYTES}",
        )
    end = start + table_clusters + len(blocks)
    table = np.zeros(table_clusters * size // 8, dtype=np.int64)
    table[blocks] = (start + table_clusters + np.arange(len(blocks), dtype=np.int64)) << stored.cluster_bits
    old = _old_structures(found)
    freed = _write_blocks(found, table, blocks, values, old, (start, end))
    found.storage.write(start << stored.cluster_bits, encode_table(table.astype(np.uint64)))
    found.storage.flush()
    found.header = replace(
        found.header,
        refcount_table_offset=start << stored.cluster_bits,
        refcount_table_clusters=table_clusters,
    )
    found.storage.write(POINTERS_OFFSET, found.header.pack_pointers())
    found.storage.flush()
    found.stored = StoredRefcounts(found.storage, found.header, table)
    found.end_cluster = end
    found.file_clusters = max(found.file_clusters, end)
    found.give_back(freed)


def _blocks_in_use(values: ValueSource, per_block: int) -> I64Array:
    """Indices of the blocks with a refcount that isn't 0."""
    found = [np.zeros(0, dtype=np.int64)]
    for first, piece in values():
        rows = piece.reshape(-1, per_block).any(axis=1)
        found.append(first // per_block + np.flatnonzero(rows))
    return np.concatenate(found)


def _layout(stored: StoredRefcounts, start: int, wanted: I64Array, spare: int) -> tuple[int, I64Array]:
    """Clusters of the new table, and the indices of its blocks, such that they count themselves."""
    per_table_cluster = stored.cluster_size // 8
    table_clusters, blocks = 1, wanted
    while True:
        end = start + table_clusters + len(blocks) + spare
        own = np.arange(start // stored.per_block, ceil_div(end, stored.per_block), dtype=np.int64)
        more = np.union1d(wanted, own)
        room = ceil_div(int(more[-1]) + 1, per_table_cluster)
        if room <= table_clusters and len(more) == len(blocks):
            return table_clusters, more
        table_clusters, blocks = max(table_clusters, room), more


def _old_structures(found: Survey) -> I64Array:
    header = found.header
    first = header.refcount_table_offset >> header.cluster_bits
    table = np.arange(first, first + header.refcount_table_clusters, dtype=np.int64)
    blocks = found.stored.blocks[found.stored.blocks != 0] >> header.cluster_bits
    return np.unique(np.concatenate((table, blocks)))


def _write_blocks(
    found: Survey, table: I64Array, blocks: I64Array, values: ValueSource, old: I64Array, own: tuple[int, int]
) -> I64Array:
    """Write all blocks; returns the clusters of ``old`` that nothing else refers to."""
    stored = found.stored
    written: set[int] = set()
    freed = [np.zeros(0, dtype=np.int64)]
    for first, piece in values():
        rows = piece.reshape(-1, stored.per_block)
        for row in range(len(rows)):
            index = first // stored.per_block + row
            if index < len(table) and table[index]:
                written.add(index)
                freed.append(_write_block(found, int(table[index]), index, rows[row].copy(), old, own))
    for index in blocks.tolist():
        if index not in written:
            empty = np.zeros(stored.per_block, dtype=np.uint64)
            _write_block(found, int(table[index]), index, empty, old, own)
    return np.concatenate(freed)


def _write_block(
    found: Survey, offset: int, index: int, values: U64Array, old: I64Array, own: tuple[int, int]
) -> I64Array:
    per_block = found.stored.per_block
    first = index * per_block
    gone = old[np.searchsorted(old, first) : np.searchsorted(old, first + per_block)]
    low = values[gone - first]
    values[gone - first] = np.where(low > 0, low - np.uint64(1), low)
    start, stop = max(own[0], first) - first, min(own[1], first + per_block) - first
    if stop > start:
        values[start:stop] = 1
    found.storage.write(offset, pack_refcounts(values, found.stored.order))
    freed: I64Array = gone[low == 1]
    return freed
