"""Where persistent bitmaps lie: their directory and, behind it, the table and the bits of each.

Source: docs/interop/qcow2.txt, "Bitmaps extension" and "Bitmaps".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from byre.disks.qcow2.bitmaps import BitmapEntry, directory_place, read_directory
from byre.disks.qcow2.entries import OFFSET_MASK, U64Array
from byre.disks.qcow2.header import BITMAPS, Header
from byre.disks.qcow2.l2_walk import read_table
from byre.errors import CorruptImageError
from byre.storage.base import Storage

MAX_TABLE_ENTRIES = 0x8000000
TABLE_RESERVED = np.uint64(0xFF00_0000_0000_01FE)


@dataclass(frozen=True, slots=True)
class BitmapDirectory:
    """The extension's fields and the entries; ``offset`` and ``size`` in host bytes."""

    offset: int
    size: int
    entries: tuple[BitmapEntry, ...]


def load_bitmap_directory(storage: Storage, header: Header) -> BitmapDirectory | None:
    """The directory, or None where the image has none that counts: without its autoclear bit the extension was
    left behind by a program that doesn't know bitmaps, and is void. Raises CorruptImageError."""
    if not header.autoclear & BITMAPS:
        return None
    place = directory_place(header)
    if place is None:
        raise CorruptImageError(
            "the bitmaps bit is set but there is no bitmaps extension", path=storage.name, offset=88
        )
    entries = read_directory(storage, header)
    for entry in entries:
        if entry.table_size > MAX_TABLE_ENTRIES or entry.table_offset % header.cluster_size:
            raise CorruptImageError("a bitmap's table is out of range", path=storage.name, offset=entry.at)
    return BitmapDirectory(place[1], place[2], entries)


def read_bitmap_table(storage: Storage, entry: BitmapEntry) -> U64Array:
    """The bitmap's table as native words; what lies past the end of the file is cut off."""
    inside = min(entry.table_size, max(0, storage.size - entry.table_offset) // 8)
    return read_table(storage, entry.table_offset, inside)


def bitmap_data_offsets(table: U64Array) -> U64Array:
    """Host offsets of the clusters of bits that the table names."""
    offsets: U64Array = table & OFFSET_MASK
    present: U64Array = offsets[offsets != 0]
    return present
