"""The refcount blocks and table of a new image, at its end, counting themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from byre.disks.qcow2.entries import encode_table
from byre.disks.qcow2.header import MAX_REFCOUNT_TABLE_BYTES
from byre.disks.qcow2.refcounts import block_entries, pack_refcounts
from byre.errors import UsageError
from byre.storage.base import Storage
from byre.units import ceil_div

_CHUNK = 4 << 20


def write_refcounts(
    storage: Storage, counts: np.ndarray[Any, np.dtype[Any]], cluster_bits: int, order: int
) -> tuple[int, int]:
    """Write refcounts behind the clusters that ``counts`` has one entry for each of, and end the file there.

    Returns (host offset, clusters) of the table. Raises UsageError where it would be larger than QEMU reads.
    """
    size = 1 << cluster_bits
    per_block = block_entries(cluster_bits, order)
    used = len(counts)
    blocks = table_clusters = 0
    while True:  # what counts the clusters takes clusters that must be counted
        need = ceil_div(used + blocks + table_clusters, per_block)
        need_table = ceil_div(need * 8, size)
        if (need, need_table) == (blocks, table_clusters):
            break
        blocks, table_clusters = need, need_table
    if table_clusters * size > MAX_REFCOUNT_TABLE_BYTES:
        raise UsageError(
            "the image would need a refcount table larger than QEMU reads",
            path=storage.name,
            hint="Choose a larger cluster_size or fewer refcount_bits.",
        )
    total = used + blocks + table_clusters
    start = used * size
    step = max(1, _CHUNK // size)
    for at in range(0, blocks, step):
        many = min(step, blocks - at)
        low, high = at * per_block, (at + many) * per_block
        part = np.zeros(many * per_block, dtype=np.uint64)
        part[: max(0, min(high, total) - low)] = 1  # these tables themselves, unless the next line knows better
        piece = counts[low:high]
        part[: len(piece)] = piece
        storage.write(start + at * size, pack_refcounts(part, order))
    table_offset = start + blocks * size
    table = np.zeros(table_clusters * size // 8, dtype=np.uint64)
    table[:blocks] = np.uint64(start) + np.arange(blocks, dtype=np.uint64) * np.uint64(size)
    storage.write(table_offset, encode_table(table))
    storage.truncate(total * size)
    return table_offset, table_clusters
