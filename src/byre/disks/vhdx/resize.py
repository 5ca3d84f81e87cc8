"""Growing and shrinking a VHDX in place.

Growing: the BAT gets its new entries first, in a new place where its region is too short, then the virtual size
follows as one aligned write of eight bytes. Shrinking is the other way round. A cut in between leaves entries for
blocks that the disk doesn't have, which nobody reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from byre.disks.vhdx.image import FULLY_PRESENT, ZERO
from byre.disks.vhdx.layout import (
    BAT_REGION,
    MAX_VIRTUAL_SIZE,
    REGION_TABLE_OFFSETS,
    VIRTUAL_DISK_SIZE,
    pack_region_table,
)
from byre.disks.vhdx.structures import MAX_BAT_ENTRIES
from byre.errors import UsageError
from byre.units import MIB, align_up

if TYPE_CHECKING:
    from byre.disks.vhdx.edit import WritableVhdxDisk


def resize(disk: WritableVhdxDisk, size: int) -> None:
    """Make the disk ``size`` bytes; what is new reads as zeros whatever a parent has there."""
    metadata = replace(disk.structures.metadata, virtual_size=size)
    name = disk.storage.name
    if size <= 0 or size % disk.sector_size or size > MAX_VIRTUAL_SIZE:
        raise UsageError(
            "the size isn't possible",
            path=name,
            found=size,
            expected=f"whole sectors of {disk.sector_size} bytes, at most {MAX_VIRTUAL_SIZE}",
        )
    if metadata.bat_entries > MAX_BAT_ENTRIES:
        raise UsageError("the disk has too small blocks for this size", path=name, found=f"{disk.block_size} bytes")
    disk.flush()
    disk.touch(data=True)
    if size < disk.size:
        _shrink(disk, size)
    elif size > disk.size:
        _grow(disk, size)


def _shrink(disk: WritableVhdxDisk, size: int) -> None:
    before = disk.structures.metadata
    after = replace(before, virtual_size=size)
    _write_size(disk, size)
    gone = np.arange(after.block_count, before.block_count, dtype=np.int64)
    disk.set_entries(disk.payload_index(gone), 0)
    ratio = before.chunk_ratio
    chunks = np.arange(-(-after.block_count // ratio), -(-before.block_count // ratio), dtype=np.int64)
    bitmaps = chunks * (ratio + 1) + ratio
    disk.set_entries(bitmaps[bitmaps < len(disk.bat)], 0)
    disk.flush()
    structures = replace(disk.structures, metadata=after)
    disk.replace_map(structures, disk.bat[: after.bat_entries].copy())
    cut_file(disk)


def _grow(disk: WritableVhdxDisk, size: int) -> None:
    old_size = disk.size
    before = disk.structures.metadata
    after = replace(before, virtual_size=size)
    if after.bat_entries * 8 > disk.structures.bat_region.length:
        move_bat(disk, align_up(after.bat_entries * 8, MIB))
    bat = np.zeros(after.bat_entries, dtype="<u8")
    kept = min(len(disk.bat), len(bat))
    bat[:kept] = disk.bat[:kept]
    # What the table's region holds behind its old end may be anything: all of it is written anew.
    region = disk.structures.bat_region
    disk.storage.write(region.file_offset + kept * 8, bat[kept:].tobytes())
    disk.replace_map(replace(disk.structures, metadata=after), bat)
    tail = min(size, before.block_count * before.block_size)
    if tail > old_size:
        disk.zero_part(old_size, tail - old_size)
    blocks = np.arange(before.block_count, after.block_count, dtype=np.int64)
    if after.leave_block_allocated:
        length = len(blocks) * disk.block_size
        host, fresh = disk.room.take(length) if length else (0, True)
        if length and fresh:
            disk.storage.truncate(host + length)
        elif length:
            disk.fill_zeros(host, length)
        disk.set_entries(disk.payload_index(blocks), FULLY_PRESENT, host + np.arange(len(blocks)) * disk.block_size)
    else:
        disk.set_entries(disk.payload_index(blocks), ZERO)
    disk.flush()
    _write_size(disk, size)


def _write_size(disk: WritableVhdxDisk, size: int) -> None:
    entry = next(entry for entry in disk.structures.entries if entry.item_id == VIRTUAL_DISK_SIZE)
    disk.storage.write(disk.structures.metadata_region.file_offset + entry.offset, size.to_bytes(8, "little"))
    disk.storage.flush()


def move_bat(disk: WritableVhdxDisk, length: int) -> None:
    """Put the table, which must be clean on disk, into another region of ``length`` bytes.

    The two region tables are rewritten one after the other; until the second one is, they name two places that
    hold the same table, and a torn one fails its checksum, so that the other counts.
    """
    old = disk.structures.bat_region
    host, _ = disk.room.take(length)
    table = disk.bat.tobytes()
    disk.storage.write(host, table)
    disk.fill_zeros(host + len(table), length - len(table))
    if disk.storage.size < host + length:
        disk.storage.truncate(host + length)
    disk.storage.flush()
    region = replace(old, file_offset=host, length=length)
    tables = disk.structures.tables
    regions = tuple(
        region if entry.guid == BAT_REGION else entry for entry in (tables[0] if tables[0] else tables[1] or ())
    )
    for place in REGION_TABLE_OFFSETS:
        disk.storage.write(place, pack_region_table(regions))
        disk.storage.flush()
    disk.structures = replace(disk.structures, bat_region=region, tables=(regions, regions))
    disk.room.release(old.file_offset, old.file_offset + old.length)
    disk.room.join()


def cut_file(disk: WritableVhdxDisk) -> None:
    """Give back the room behind the last byte that is in use; everything pending must have been flushed."""
    from byre.disks.vhdx.space import claims

    end = int(claims(disk).stop.max())
    if end < disk.storage.size:
        disk.storage.truncate(end)
        disk.storage.flush()
    disk.forget_room()
