"""The directory of persistent bitmaps and the tables of each: where they lie, and whether they may be trusted.

Source: docs/interop/qcow2.txt, "Bitmaps extension" and "Bitmaps"; caps as QEMU has them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from byre.disks.disk import Bitmap
from byre.disks.qcow2.entries import OFFSET_MASK, U64Array, encode_table
from byre.disks.qcow2.header import BITMAPS, EXT_BITMAPS, Header
from byre.disks.qcow2.tables import read_table
from byre.errors import CorruptImageError
from byre.storage.base import Storage

_EXTENSION = struct.Struct(">IIQQ")
_ENTRY = struct.Struct(">QIIBBHI")
FLAG_IN_USE = 1
FLAG_AUTO = 2
FLAGS_OFFSET = 12
MAX_BITMAPS = 65535
MAX_TABLE_ENTRIES = 0x8000000
MAX_DIRECTORY_BYTES = 64 << 20
TABLE_RESERVED = np.uint64(0xFF00_0000_0000_01FE)


@dataclass(frozen=True, slots=True)
class BitmapEntry:
    """One directory entry. ``entry_offset`` is where it stands in the file, bytes; ``granularity_bits`` the
    binary logarithm of the guest bytes that one bit stands for."""

    entry_offset: int
    table_offset: int
    table_size: int
    flags: int
    type: int
    granularity_bits: int
    name: bytes
    extra: bytes

    @property
    def info(self) -> Bitmap:
        return Bitmap(
            name=self.name.decode("utf-8", "backslashreplace"),
            granularity=1 << min(self.granularity_bits, 62),
            enabled=bool(self.flags & FLAG_AUTO),
            consistent=not self.flags & FLAG_IN_USE,
        )

    def pack(self) -> bytes:
        """The entry with its padding."""
        fixed = _ENTRY.pack(
            self.table_offset,
            self.table_size,
            self.flags,
            self.type,
            self.granularity_bits,
            len(self.name),
            len(self.extra),
        )
        body = fixed + self.extra + self.name
        return body + bytes(-len(body) % 8)


@dataclass(frozen=True, slots=True)
class BitmapDirectory:
    """The extension's fields and the entries; ``size`` in bytes."""

    offset: int
    size: int
    entries: tuple[BitmapEntry, ...]


def read_bitmap_directory(storage: Storage, header: Header) -> BitmapDirectory | None:
    """The directory, or None where the image has none that counts: without its autoclear bit the extension was
    left behind by a program that doesn't know bitmaps, and is void. Raises CorruptImageError."""
    data = header.extension(EXT_BITMAPS)
    if not header.autoclear & BITMAPS:
        return None
    path = storage.name
    if data is None:
        raise CorruptImageError("the bitmaps bit is set but there is no bitmaps extension", path=path, offset=88)
    if len(data) != _EXTENSION.size:
        raise CorruptImageError("the bitmaps extension has a wrong length", path=path, found=len(data), expected=24)
    count, _, size, offset = _EXTENSION.unpack(data)
    if not 0 < count <= MAX_BITMAPS or not 0 < size <= MAX_DIRECTORY_BYTES or offset % header.cluster_size:
        raise CorruptImageError(
            "the bitmaps extension is out of range", path=path, found=f"{count} bitmaps, {size} bytes at {offset:#x}"
        )
    if offset + size > storage.size:
        raise CorruptImageError("the bitmap directory leaves the file", path=path, offset=offset, found=size)
    directory = storage.read(offset, size)
    entries = []
    position = 0
    while position < size:
        if size - position < _ENTRY.size:
            raise CorruptImageError("the bitmap directory is cut off", path=path, offset=offset + position)
        entry, length = _parse_entry(directory, position, offset)
        if position + length > size or entry.table_size > MAX_TABLE_ENTRIES or entry.granularity_bits > 63:
            raise CorruptImageError("a bitmap's entry is out of range", path=path, offset=offset + position)
        if entry.table_offset % header.cluster_size:
            raise CorruptImageError("a bitmap's table is not aligned", path=path, offset=offset + position)
        entries.append(entry)
        position += length
    if len(entries) != count:
        raise CorruptImageError(
            "the bitmap directory has another number of entries", path=path, found=len(entries), expected=count
        )
    return BitmapDirectory(offset, size, tuple(entries))


def _parse_entry(directory: bytes, position: int, offset: int) -> tuple[BitmapEntry, int]:
    table_offset, table_size, flags, kind, bits, name_size, extra_size = _ENTRY.unpack_from(directory, position)
    extra_start = position + _ENTRY.size
    name_start = extra_start + extra_size
    length = _ENTRY.size + extra_size + name_size
    entry = BitmapEntry(
        entry_offset=offset + position,
        table_offset=table_offset,
        table_size=table_size,
        flags=flags,
        type=kind,
        granularity_bits=bits,
        name=directory[name_start : name_start + name_size],
        extra=directory[extra_start : extra_start + extra_size],
    )
    return entry, length + -length % 8


def pack_bitmaps_extension(count: int, size: int, offset: int) -> bytes:
    return _EXTENSION.pack(count, 0, size, offset)


def read_bitmap_table(storage: Storage, entry: BitmapEntry) -> U64Array:
    """The bitmap's table as native words; zeros past the end of the file are cut off."""
    inside = min(entry.table_size, max(0, storage.size - entry.table_offset) // 8)
    return read_table(storage, entry.table_offset, inside)


def bitmap_data_offsets(table: U64Array) -> U64Array:
    """Host offsets of the clusters of bits that the table names."""
    offsets: U64Array = table & OFFSET_MASK
    present: U64Array = offsets[offsets != 0]
    return present


def mark_in_use(storage: Storage, directory: BitmapDirectory) -> bool:
    """Say of every bitmap that it can't be trusted any more; True if anything was written. Doesn't flush."""
    changed = False
    for entry in directory.entries:
        if not entry.flags & FLAG_IN_USE:
            storage.write(entry.entry_offset + FLAGS_OFFSET, (entry.flags | FLAG_IN_USE).to_bytes(4, "big"))
            changed = True
    return changed


def pack_bitmap_table(table: U64Array) -> bytes:
    return encode_table(table)
