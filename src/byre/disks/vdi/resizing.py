"""Changing the size of a VDI in place.

Header, size and the place of the map stand in the file's first sector: everything else is written first, where
nothing that is in use lies, and then that one sector switches from the old disk to the new one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from byre.disks.maptable import MapTable, copy_bytes, zero_in_place
from byre.disks.vdi.header import DISCARDED, FREE, MAX_BLOCKS, ImageType
from byre.errors import UnsupportedError, UsageError
from byre.units import SECTOR, align_up, ceil_div

if TYPE_CHECKING:
    from byre.disks.vdi.disk import VdiDisk


def resize(disk: VdiDisk, size: int) -> None:
    """Grow or shrink to ``size`` bytes, whole sectors; everything before is flushed."""
    header = disk.header
    blocks = ceil_div(size, header.block_size)
    if blocks > MAX_BLOCKS:
        raise UsageError(
            f"blocks of {header.block_size} bytes allow no larger VDI",
            path=disk.storage.name,
            found=size,
            expected=f"at most {MAX_BLOCKS * header.block_size} bytes",
        )
    if size > disk.size:
        _clear_tail(disk, size)
        disk.flush()
    if blocks > header.blocks:
        _make_room(disk, blocks)
    _switch(disk, size, blocks)


def _clear_tail(disk: VdiDisk, size: int) -> None:
    """What the last block holds beyond the old end becomes part of the disk: zeros, and not the parent's."""
    block, within = divmod(disk.size, disk.block_size)
    if not within:
        return
    stop = min(size, (block + 1) * disk.block_size)
    entry = int(disk.map.entries[block])
    if entry == FREE and disk.parent is not None:
        # Copied up as it reads now: the parent may be longer than this disk was.
        disk.write(block * disk.block_size, disk.read(block * disk.block_size, within))
    elif entry < DISCARDED:
        host = disk.header.data_offset + disk.header.block_extra + entry * disk.header.stride
        zero_in_place(disk.storage, host + within, stop - disk.size)


def _make_room(disk: VdiDisk, blocks: int) -> None:
    """Free the first places behind the map, when a map of ``blocks`` entries doesn't fit before the data."""
    header = disk.header
    places = _places_for_map(disk, blocks)
    if not places:
        return
    low = np.flatnonzero(disk.map.entries < min(places, DISCARDED))
    room = max(0, disk.storage.size - header.data_offset)
    target = max(ceil_div(room, header.stride), places)
    if target + len(low) >= DISCARDED:
        raise UnsupportedError("the file has no place left for a longer block map", path=disk.storage.name)
    for count, block in enumerate(low.tolist()):
        source = header.data_offset + int(disk.map.entries[block]) * header.stride
        copy_bytes(disk.storage, source, header.data_offset + (target + count) * header.stride, header.stride)
    disk.map.put(low, target + np.arange(len(low), dtype=np.int64))
    disk.claim(target + len(low))
    disk.flush()


def _places_for_map(disk: VdiDisk, blocks: int) -> int:
    """How many block places a map of ``blocks`` entries takes where it doesn't fit before the data; else 0."""
    header = disk.header
    if header.blocks_offset + 4 * blocks <= header.data_offset:
        return 0
    return ceil_div(4 * blocks + align_up(header.data_offset, SECTOR) - header.data_offset, header.stride)


def _switch(disk: VdiDisk, size: int, blocks: int) -> None:
    """Write the new map, then the sector that makes it the map."""
    header = disk.header
    places = _places_for_map(disk, blocks)
    held = disk.map.entries
    entries = np.full(blocks, FREE if disk.parent is None else DISCARDED, dtype="<u4")
    kept = min(blocks, len(held))
    entries[:kept] = held[:kept]
    offset = header.blocks_offset
    if places:
        offset = align_up(header.data_offset, SECTOR)
        stored = entries < DISCARDED
        entries[stored] -= np.uint32(places)
    if header.image_type == ImageType.FIXED and blocks > kept:
        first = int(entries[:kept].max()) + 1 if kept else 0
        entries[kept:] = first + np.arange(blocks - kept, dtype=np.uint32)
    data_offset = header.data_offset + places * header.stride
    stored_entries = entries[entries < DISCARDED]
    top = int(stored_entries.max()) + 1 if len(stored_entries) else 0
    end = data_offset + top * header.stride
    if header.image_type == ImageType.FIXED and end > disk.storage.size:
        disk.storage.truncate(end)
    new = entries if places else entries[kept:]  # without a move the old entries stay untouched where they are
    if len(new):
        disk.storage.write(offset + (0 if places else 4 * kept), new.tobytes())
    changed = replace(
        header,
        disk_size=size,
        blocks=blocks,
        blocks_allocated=top,
        blocks_offset=offset,
        data_offset=data_offset,
    )
    disk.adopt(changed, MapTable(disk.storage, offset, entries))
    if end < disk.storage.size:
        disk.storage.truncate(end)
        disk.storage.flush()
