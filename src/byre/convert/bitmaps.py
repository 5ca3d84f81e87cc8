"""Persistent dirty bitmaps carried over to a copy of their image: the guest's data are the same, so they hold."""

from __future__ import annotations

import numpy as np

from byre.disks.qcow2.bitmap_directory import load_bitmap_directory, read_bitmap_table
from byre.disks.qcow2.bitmaps import EXTENSION, BitmapEntry
from byre.disks.qcow2.entries import OFFSET_MASK, encode_table
from byre.disks.qcow2.image import Qcow2Disk
from byre.disks.qcow2.packing import Allocator
from byre.errors import CorruptImageError
from byre.storage.base import Storage
from byre.units import ceil_div


def copy_bitmaps(source: Qcow2Disk, storage: Storage, allocator: Allocator) -> bytes | None:
    """Copy the directory, the tables and the bits; the data of the new header's extension, or None without any.

    Only for an image whose bitmaps count (its autoclear bit says so); one that is in use stays marked so. Raises
    CorruptImageError, StorageError.
    """
    directory = load_bitmap_directory(source.storage, source.header)
    if directory is None or not directory.entries:
        return None
    raw = bytearray(source.storage.read(directory.offset, directory.size))
    for entry in directory.entries:
        at = entry.at - directory.offset
        raw[at : at + 8] = _copy_one(source, entry, storage, allocator).to_bytes(8, "big")
    offset = allocator.clusters(ceil_div(len(raw), source.block_size))
    storage.write(offset, raw)
    return EXTENSION.pack(len(directory.entries), 0, len(raw), offset)


def _copy_one(source: Qcow2Disk, entry: BitmapEntry, storage: Storage, allocator: Allocator) -> int:
    """The new host offset of one bitmap's table."""
    size = source.block_size
    name = source.storage.name
    table = read_bitmap_table(source.storage, entry)
    if len(table) < entry.table_size:
        raise CorruptImageError("a bitmap's table leaves the file", path=name, offset=entry.table_offset)
    old = (table & OFFSET_MASK).astype(np.int64)
    held = np.flatnonzero(old)
    if len(held) and (int(old.max()) + size > source.storage.size or (old[held] % size).any()):
        raise CorruptImageError("a bitmap's bits leave the file", path=name, offset=entry.table_offset)
    start = allocator.clusters(len(held)) if len(held) else 0
    new = start + np.arange(len(held), dtype=np.int64) * size
    for source_at, target_at in zip(old[held].tolist(), new.tolist(), strict=True):
        storage.write(target_at, source.storage.read(source_at, size))
    table[held] = new.astype(np.uint64)
    offset = allocator.clusters(max(1, ceil_div(len(table) * 8, size)))
    storage.write(offset, encode_table(table))
    return offset
