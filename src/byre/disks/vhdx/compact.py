"""Packing a VHDX in place: blocks of zeros become states, blocks from the end move into gaps, the end is cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from byre.disks.blockmap import BlockState
from byre.disks.vhdx.image import BITMAP_BLOCK_SIZE, BITMAP_PRESENT, PARTIALLY_PRESENT, ZERO, file_offsets
from byre.disks.vhdx.resize import cut_file, move_bat
from byre.disks.vhdx.space import payload_and_bitmap_indices
from byre.disks.writer import Int64Array
from byre.errors import UnsupportedError
from byre.units import MIB

if TYPE_CHECKING:
    from byre.disks.vhdx.edit import WritableVhdxDisk

ROUND_BYTES = 1 << 30
"""Moved between two flushes: their room is free again only afterwards, and a flush is slow."""
_ZEROS = bytes(MIB)


def compact(disk: WritableVhdxDisk) -> int:
    """Returns the bytes by which the file became shorter. What the disk reads as stays the same throughout."""
    if disk.structures.metadata.leave_block_allocated:
        raise UnsupportedError(
            "a fixed VHDX keeps room for every block: there is nothing to give back",
            path=disk.storage.name,
            hint="Convert it to a dynamic one.",
        )
    before = disk.storage.size
    disk.flush()
    disk.touch(data=False)
    _drop_zero_blocks(disk)
    _drop_unused(disk)
    disk.flush()
    while _move_round(disk, bitmaps=False):
        disk.flush()
    while _move_round(disk, bitmaps=True):
        disk.flush()
    _pull_bat(disk)
    cut_file(disk)
    return before - disk.storage.size


def _drop_zero_blocks(disk: WritableVhdxDisk) -> None:
    """Whole blocks that hold nothing but zeros become ZERO; in a child that still hides its parent."""
    count = disk.structures.metadata.block_count
    blocks = disk.blocks(0, count)
    empty = []
    for block in np.flatnonzero(blocks.state == BlockState.DATA).tolist():
        length = min(disk.block_size, disk.size - block * disk.block_size)
        if _is_zero(disk, int(blocks.host[block]), length):
            empty.append(block)
    disk.set_entries(disk.payload_index(np.array(empty, dtype=np.int64)), ZERO)


def _is_zero(disk: WritableVhdxDisk, host: int, length: int) -> bool:
    for done in range(0, length, MIB):
        size = min(MIB, length - done)
        if disk.storage.read(host + done, size) != _ZEROS[:size]:
            return False
    return True


def _drop_unused(disk: WritableVhdxDisk) -> None:
    """Bitmaps of chunks without a partial block, and the room that unmapped blocks may still point at."""
    payload, bitmaps = payload_and_bitmap_indices(disk)
    states = disk.bat & np.uint64(7)
    ratio = disk.structures.metadata.chunk_ratio
    partial = np.flatnonzero(states[payload] == PARTIALLY_PRESENT)
    needed = np.unique(partial // ratio) * (ratio + 1) + ratio
    present = bitmaps[states[bitmaps] == BITMAP_PRESENT]
    disk.set_entries(np.setdiff1d(present, needed), 0)
    for state in (0, 1, 2, 3, 5):
        rows = payload[(states[payload] == state) & (disk.bat[payload] >> np.uint64(3) != 0)]
        disk.set_entries(rows, state)


def _move_round(disk: WritableVhdxDisk, *, bitmaps: bool) -> int:
    """Copy blocks from the back into gaps; they count, and leave room, after the flush. Returns how many."""
    payload, bitmap_rows = payload_and_bitmap_indices(disk)
    length = BITMAP_BLOCK_SIZE if bitmaps else disk.block_size
    states = disk.bat & np.uint64(7)
    rows = bitmap_rows if bitmaps else payload
    rows = rows[states[rows] >= BITMAP_PRESENT]
    hosts = file_offsets(disk.bat[rows])
    order = np.argsort(hosts)[::-1]
    rows, hosts = rows[order], hosts[order]
    slots = _slots(disk, length, len(rows))
    count = min(len(slots), len(rows), max(1, ROUND_BYTES // length))
    moved = int(np.count_nonzero(slots[:count] < hosts[:count]))
    for index, source, target in zip(
        rows[:moved].tolist(), hosts[:moved].tolist(), slots[:moved].tolist(), strict=True
    ):
        disk.copy_range(source, target, length)
        disk.room.claim(target, target + length)
        disk.set_entry(index, int(states[index]), target)
    return moved


def _slots(disk: WritableVhdxDisk, length: int, most: int) -> Int64Array:
    """Host offsets of free rooms of ``length`` bytes, ascending."""
    found: list[int] = []
    for start, stop in disk.room.gaps:
        found.extend(range(start, stop - length + 1, length))
        if len(found) >= most:
            break
    return np.array(found[:most], dtype=np.int64)


def _pull_bat(disk: WritableVhdxDisk) -> None:
    """A table that was moved to the end by growing comes back, if there is a gap for it."""
    region = disk.structures.bat_region
    if any(stop - start >= region.length and start < region.file_offset for start, stop in disk.room.gaps):
        move_bat(disk, region.length)
