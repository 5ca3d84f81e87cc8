"""MFT records: fixups over many at once, and the attributes of one.

A multi-sector record keeps the last two bytes of every 512 in its update sequence array; each sector must end in
the array's first word, or the write was torn.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from byre.errors import CorruptImageError

STANDARD_INFORMATION, ATTRIBUTE_LIST, FILE_NAME = 0x10, 0x20, 0x30
VOLUME_NAME, VOLUME_INFORMATION, DATA = 0x60, 0x70, 0x80
INDEX_ROOT, INDEX_ALLOCATION, BITMAP, REPARSE_POINT = 0x90, 0xA0, 0xB0, 0xC0

IN_USE, IS_DIRECTORY = 1, 2
IS_COMPRESSED, IS_ENCRYPTED, IS_SPARSE = 0x00FF, 0x4000, 0x8000

REFERENCE_MASK = (1 << 48) - 1
STRIDE = 512
"""Fixups protect every 512 bytes, whatever the sector size is."""

Bytes2D = np.ndarray[Any, np.dtype[np.uint8]]


def apply_fixups(records: Bytes2D, magic: bytes) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Undo the fixups in place. ``records`` is one row of bytes each, a multiple of 512 wide.

    Returns two masks: rows that start with ``magic``, and those of them whose fixups hold.
    """
    rows, width = records.shape
    sectors = width // STRIDE
    words = records.view("<u2")
    is_record = records[:, :4].copy().view("<u4")[:, 0] == int.from_bytes(magic, "little")
    array_offset = words[:, 2].astype(np.int64)
    sound = (
        is_record
        & (words[:, 3] == sectors + 1)
        & (array_offset % 2 == 0)
        & (array_offset >= 8)
        & (array_offset + 2 * (sectors + 1) <= STRIDE - 2)
    )
    index = np.where(sound, array_offset // 2, 0)
    lines = np.arange(rows)
    sequence = words[lines, index]
    ends = words[:, STRIDE // 2 - 1 :: STRIDE // 2]
    sound &= (ends == sequence[:, None]).all(axis=1)
    if sound.all():
        stored = words[lines[:, None], index[:, None] + 1 + np.arange(sectors)]
        ends[:] = stored
    elif sound.any():
        good = np.flatnonzero(sound)
        stored = words[good[:, None], index[good][:, None] + 1 + np.arange(sectors)]
        ends[good] = stored
    return is_record, sound


def undo_fixups(data: bytes) -> bytes | None:
    """One record without its fixups, or None where they don't hold: ``apply_fixups`` without numpy's cost for
    a single row."""
    sectors = len(data) // STRIDE
    offset, count = struct.unpack_from("<HH", data, 4)
    if count != sectors + 1 or offset % 2 or offset < 8 or offset + 2 * count > STRIDE - 2:
        return None
    plain = bytearray(data)
    sequence = data[offset : offset + 2]
    for sector in range(1, sectors + 1):
        end = sector * STRIDE
        if plain[end - 2 : end] != sequence:
            return None
        plain[end - 2 : end] = data[offset + 2 * sector : offset + 2 * sector + 2]
    return bytes(plain)


class Attribute(NamedTuple):
    """One attribute's header. ``value`` is the content when resident, else the mapping pairs. A named tuple, as
    ``Record`` is: one is made for every attribute of every file that is read.

    ``where`` is the offset of a resident value within its record. Sizes in bytes.
    """

    type: int
    name: str
    flags: int
    id: int
    resident: bool
    value: bytes
    where: int = 0
    lowest_vcn: int = 0
    highest_vcn: int = -1
    allocated: int = 0
    size: int = 0
    initialized: int = 0
    compression_unit: int = 0
    record: int = 0


class Record(NamedTuple):
    """One MFT record, fixups undone. ``base`` is the record number it extends, or None."""

    number: int
    sequence: int
    flags: int
    links: int
    base: int | None
    base_sequence: int
    attributes: tuple[Attribute, ...]

    @property
    def in_use(self) -> bool:
        return bool(self.flags & IN_USE)


_HEADER = struct.Struct("<4sHHQHHHHIIQ")
_RESIDENT = struct.Struct("<IH")
_NONRESIDENT = struct.Struct("<QQHH4xQQQ")


def parse_record(data: bytes, number: int) -> Record:
    """A record from its bytes as stored; raises CorruptImageError."""
    if data[:4] != b"FILE":
        raise CorruptImageError(f"MFT record {number} has no signature", found=data[:4], expected=b"FILE")
    plain = undo_fixups(data)
    if plain is None:
        raise CorruptImageError(f"MFT record {number} fails its fixups: a torn write")
    _, _, _, _, sequence, links, first, flags, used, _, base = _HEADER.unpack_from(plain)
    used = min(used, len(plain))
    attributes: list[Attribute] = []
    position = first
    while position + 8 <= used:
        kind, length = struct.unpack_from("<II", plain, position)
        if kind == 0xFFFFFFFF:
            break
        if length < 24 or length % 8 or position % 8 or position + length > used:
            raise CorruptImageError(f"MFT record {number} has a malformed attribute", found=f"{length} bytes")
        attributes.append(_parse_attribute(plain, position, kind, length, number))
        position += length
    return Record(
        number=number,
        sequence=sequence,
        flags=flags,
        links=links,
        base=(base & REFERENCE_MASK) if base else None,
        base_sequence=base >> 48,
        attributes=tuple(attributes),
    )


def _parse_attribute(plain: bytes, position: int, kind: int, length: int, number: int) -> Attribute:
    nonresident, name_length, name_offset, flags, ident = struct.unpack_from("<BBHHH", plain, position + 8)
    if name_offset + 2 * name_length > length:
        raise CorruptImageError(f"MFT record {number} has an attribute whose name leaves it", found=name_offset)
    start = position + name_offset
    name = plain[start : start + 2 * name_length].decode("utf-16-le", "surrogatepass") if name_length else ""
    if not nonresident:
        size, value_offset = _RESIDENT.unpack_from(plain, position + 16)
        if value_offset + size > length:
            raise CorruptImageError(f"MFT record {number} has an attribute whose value leaves it", found=size)
        where = position + value_offset
        return Attribute(kind, name, flags, ident, True, plain[where : where + size], where, size=size, record=number)
    if length < 64:
        raise CorruptImageError(f"MFT record {number} has a non-resident attribute without sizes", found=length)
    low, high, pairs, unit, allocated, size, initialized = _NONRESIDENT.unpack_from(plain, position + 16)
    if pairs < 64 or pairs > length:
        raise CorruptImageError(f"MFT record {number} has mapping pairs outside their attribute", found=pairs)
    return Attribute(
        type=kind,
        name=name,
        flags=flags,
        id=ident,
        resident=False,
        value=plain[position + pairs : position + length],
        lowest_vcn=low,
        highest_vcn=high if high < 1 << 63 else -1,
        allocated=allocated,
        size=size,
        initialized=initialized,
        compression_unit=unit,
        record=number,
    )
