"""Puts an overlay onto another backing image, or onto none. Its view stays what it was at every moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from byre.disks.disk import Disk
from byre.disks.qcow2.backing_name import change_backing
from byre.disks.qcow2.writing import WritableQcow2Disk
from byre.extents import Kind

PIECE = 4 << 20


def rebase_image(
    disk: WritableQcow2Disk,
    target: Disk | None,
    name: str | None,
    format: str | None,
    *,
    advance: Callable[[int], None] = lambda amount: None,
) -> int:
    """Copy what the old chain shows and ``target`` wouldn't, then name ``target``; returns the bytes copied.

    ``target`` None flattens: nothing lies below afterwards. The disk is stale afterwards and is only to be closed.
    """
    copied = 0
    for start, length in _seen_through(disk):
        for position in range(start, start + length, PIECE):
            size = min(PIECE, start + length - position)
            copied += _copy_differences(disk, target, position, size)
            advance(size)
    disk.flush()
    change_backing(disk.storage, name, format)
    return copied


def _seen_through(disk: WritableQcow2Disk) -> Iterator[tuple[int, int]]:
    """Ranges, whole clusters but for the disk's end, in which something of the backing chain shows.

    They are gathered slice by slice before anything is written: an extents table holds until the next write.
    """
    ranges: list[tuple[int, int]] = []
    cluster = disk.block_size
    for table in disk.own_extents():
        rows = table[table["kind"] == Kind.UNALLOCATED]
        for start, length in zip(rows["start"].tolist(), rows["length"].tolist(), strict=True):
            first = start // cluster * cluster
            stop = min(disk.size, -(-(start + length) // cluster) * cluster)
            if ranges and ranges[-1][1] >= first:
                ranges[-1] = (ranges[-1][0], stop)
            else:
                ranges.append((first, stop))
    for first, stop in ranges:
        yield first, stop - first


def _copy_differences(disk: WritableQcow2Disk, target: Disk | None, start: int, length: int) -> int:
    """Write the clusters of the range that differ between the disk's view and ``target``."""
    wanted = disk.read(start, length)
    there = bytearray(length)
    if target is not None and start < target.size:
        inside = min(length, target.size - start)
        target.read_into(start, memoryview(there)[:inside])
    if wanted == there:
        return 0
    cluster = disk.block_size
    count = -(-length // cluster)
    padded = np.zeros((2, count * cluster), dtype=np.uint8)
    padded[0, :length] = np.frombuffer(wanted, dtype=np.uint8)
    padded[1, :length] = np.frombuffer(there, dtype=np.uint8)
    differs = (padded[0] != padded[1]).reshape(count, cluster).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], differs, [False])))).reshape(-1, 2)
    copied = 0
    for first, stop in edges.tolist():
        low, high = first * cluster, min(length, stop * cluster)
        piece = wanted[low:high]
        if padded[0, low:high].any():
            disk.write(start + low, piece)
        else:
            disk.write_zeroes(start + low, high - low)
        copied += high - low
    return copied
