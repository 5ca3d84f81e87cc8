"""Finds host clusters for new metadata, and makes sure that they can be counted.

A cluster is handed out only where its refcount is 0, nothing that the survey saw refers to it, or it lies past
everything. Its refcount is raised by the change that uses it, not here.
"""

from __future__ import annotations

import numpy as np

from byre.disks.qcow2.rebuild import rebuild_refcounts, stored_values
from byre.disks.qcow2.refcounts import pack_refcounts
from byre.disks.qcow2.survey import Survey


def allocate(found: Survey, clusters: int) -> int:
    """The host offset in bytes of so many free clusters in a row; 0 for none. Flushes what it had to add to the
    refcount structures."""
    if clusters == 0:
        return 0
    for index, (first, length) in enumerate(found.free_runs):
        if length >= clusters:
            found.free_runs[index] = (first + clusters, length - clusters)
            found.end_cluster = max(found.end_cluster, first + clusters)
            return first << found.header.cluster_bits
    while True:
        first = max(found.end_cluster, found.file_clusters)
        if _ensure_counted(found, first, first + clusters):
            break
    found.end_cluster = found.file_clusters = first + clusters
    return first << found.header.cluster_bits


def _ensure_counted(found: Survey, first: int, stop: int) -> bool:
    """Every cluster of the range has a refcount block and a refcount of 0; False: look again, further up."""
    stored = found.stored
    if stop > stored.covered:
        rebuild_refcounts(found, stored_values(found), spare_clusters=max(stop - first, stored.covered // 2))
        return False
    for index in range(first // stored.per_block, -(-stop // stored.per_block)):
        if stored.blocks[index] == 0:
            _add_block(found, index)
            return False
    for at, values in stored.slices(first, stop):
        piece = values[max(0, first - at) : stop - at]
        if piece.any():  # refcounts past the end of the file: left there by somebody, and none of our business
            found.end_cluster = max(first, at) + int(np.flatnonzero(piece)[-1]) + 1
            return False
    return True


def _add_block(found: Survey, index: int) -> None:
    """Add the refcount block ``index`` at the end of the file; it or an existing block counts it."""
    stored = found.stored
    place = max(found.end_cluster, found.file_clusters)
    offset = place << stored.cluster_bits
    home, within = divmod(place, stored.per_block)
    values = np.zeros(stored.per_block, dtype=np.uint64)
    if home == index:
        values[within] = 1
    elif stored.blocks[home] == 0:
        _add_block(found, home)
        return
    found.storage.write(offset, pack_refcounts(values, stored.order))
    if home != index:
        counted = stored.read_blocks(home, home + 1)
        counted[within] = 1
        stored.write_blocks(home, counted, np.ones(1, dtype=np.bool_))
    found.storage.flush()
    found.storage.write(found.header.refcount_table_offset + 8 * index, offset.to_bytes(8, "big"))
    found.storage.flush()
    stored.blocks[index] = offset
    found.end_cluster = found.file_clusters = place + 1
