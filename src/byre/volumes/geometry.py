"""The geometry that a BIOS gives a disk, and whether a boot sector's fields can be it. Pure.

It matters to the boot code of Windows 2000, XP and 2003: below the end of what CHS reaches it divides sector numbers
by the boot sector's own fields, and asks the BIOS, which has another geometry in mind, for the result. A BIOS goes by
the size of the disk ("LBA assist": 63 sectors a track, heads doubled until 1024 cylinders do), or by where the
partition table says that partitions end. Source: the public source of SeaBIOS and QEMU; facts/windows-guests.
"""

from __future__ import annotations

import struct

from byre.volumes.boot_code import BootCode

SECTORS = 63
_BY_SIZE = (
    (528_482_304, (0x40, 0x10)),
    (1_056_964_608, (0x40, 0x20)),
    (2_114_445_312, (0x40,)),
    (4_228_374_780, (0x80,)),
)
"""(disks smaller than this, heads that a BIOS may count there; the first is what NT 5 expects); 255 above."""
_ENTRIES, _FIELDS = 0x1BE, struct.Struct("<B3sBBBBII")
Geometry = tuple[int, int]
"""Heads, and sectors of a track."""


def heads_for(size: int) -> tuple[int, ...]:
    """The heads that a disk of ``size`` bytes may have, the likeliest first."""
    return next((heads for limit, heads in _BY_SIZE if size < limit), (0xFF,))


def table_geometries(sector: bytes) -> tuple[Geometry, ...]:
    """What the ends of the partitions in a master boot record say: they are mostly the ends of cylinders."""
    found = []
    for slot in range(4):
        fields = _FIELDS.unpack_from(sector.ljust(512, b"\0"), _ENTRIES + 16 * slot)
        kind, head, track, length = fields[2], fields[3], fields[4] & 0x3F, fields[7]
        if kind and length and track:
            found.append((head + 1, track))
    return tuple(dict.fromkeys(found))


def needs_geometry(code: BootCode) -> bool:
    """Whether it is Windows' own code that loads NTLDR: other code asks the BIOS, or reads by LBA alone."""
    loader = code.loader or ""
    return ("NTLDR" in loader and not loader.startswith("Byre")) or "Windows 2000" in loader


def right_geometry(heads: int, sectors: int, size: int, table: tuple[Geometry, ...]) -> Geometry | None:
    """What should be there in the place of fields that no BIOS has in mind; None where they may be right: by the
    disk's size, or by its partition table."""
    if sectors == SECTORS and heads in heads_for(size):
        return None
    return None if (heads, sectors) in table else (heads_for(size)[0], SECTORS)
