"""What FAT and exFAT share: extents out of chains, lost and doubly used clusters."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from byre.errors import UnsupportedError
from byre.extents import Kind
from byre.filesystems.base import FileExtents, file_extents, no_extents

Fragments = list[tuple[int, int]]
"""``(first cluster, clusters)`` in order."""


def fragment_extents(
    fragments: Iterable[tuple[int, int]], cluster_size: int, first_byte: int, size: int, *, written: int | None = None
) -> FileExtents:
    """The extents of ``size`` bytes in fragments; ``first_byte`` is the guest offset of cluster 2.

    Past ``written`` (exFAT's valid data length) bytes read as zeros.
    """
    rows: list[tuple[int, int, int, int, int]] = []
    start = 0
    valid_end = size if written is None else written
    for cluster, count in fragments:
        length = min(count * cluster_size, size - start)
        if length <= 0:
            break
        valid = max(0, min(length, valid_end - start))
        if valid:
            rows.append((start, valid, Kind.DATA, first_byte + (cluster - 2) * cluster_size, valid))
        if valid < length:
            rows.append((start + valid, length - valid, Kind.ZERO, -1, 0))
        start += length
    return file_extents(rows) if rows else no_extents()


MAX_COUNTED = 1 << 26
"""Clusters that are held in memory a byte each: 2 TiB of 32 KiB clusters."""


def require_countable(clusters: int) -> None:
    """Raise UnsupportedError where a byte for each cluster would be more than memory is there for."""
    if clusters > MAX_COUNTED:
        raise UnsupportedError(
            "the volume has too many clusters to count", found=clusters, expected=f"at most {MAX_COUNTED}"
        )


class ClusterUse:
    """Which clusters files use. Mutable: marked file by file. Raises UnsupportedError where they are too many."""

    def __init__(self, count: int) -> None:
        require_countable(count - 2)
        self.used = np.zeros(count, dtype=np.bool_)

    def mark(self, fragments: Fragments) -> int:
        """Mark fragments; how many of their clusters another file has already."""
        twice = 0
        for cluster, count in fragments:
            part = self.used[cluster : cluster + count]
            twice += int(np.count_nonzero(part))
            part[:] = True
        return twice
