"""The geometry that a BIOS gives a disk, against the boot sectors and tables of others."""

from __future__ import annotations

import struct

import pytest

from byre.volumes.boot_code import BootCode
from byre.volumes.geometry import heads_for, needs_geometry, right_geometry, table_geometries

GIB = 1 << 30


@pytest.mark.parametrize(
    ("size", "heads"),
    [
        (256 << 20, (64, 16)),
        (800 << 20, (64, 32)),
        (2 * GIB - (64 << 20), (64,)),
        (3 * GIB, (128,)),
        (8 * GIB, (255,)),
        (3000 * GIB, (255,)),
    ],
)
def test_the_heads_follow_from_the_size(size: int, heads: tuple[int, ...]) -> None:
    assert heads_for(size) == heads
    for each in heads:
        assert right_geometry(each, 63, size, ()) is None
    assert right_geometry(240, 63, size, ()) == (heads[0], 63)
    assert right_geometry(240, 63, size, ((240, 63),)) is None
    assert right_geometry(heads[0], 17, size, ((240, 63),)) == (heads[0], 63)


def _table(*rows: tuple[int, int, int, int]) -> bytes:
    """(type, end head, end sector, sectors) of each row."""
    packed = b"".join(
        struct.pack("<B3sBBBBII", 0, b"\1\1\0", kind, head, sector | 0xC0, 0xFF, 63, length)
        for kind, head, sector, length in rows
    )
    return (bytes(0x1BE) + packed).ljust(510, b"\0") + b"\x55\xaa"


def test_a_table_says_its_geometry_by_where_partitions_end() -> None:
    table = _table((7, 254, 63, 1000), (0x0C, 239, 63, 1000), (0, 9, 9, 1000), (7, 254, 63, 0))
    assert table_geometries(table) == ((255, 63), (240, 63))
    assert table_geometries(_table((7, 0, 0, 1000))) == ()
    assert table_geometries(b"") == ()


@pytest.mark.parametrize(
    ("loader", "needs"),
    [
        ("Windows 2000, XP and Server 2003 (NTFS)", True),
        ("Windows NT's (NTLDR)", True),
        ("Windows 7 (NTFS)", False),
        ("Windows Vista's and later (BOOTMGR)", False),
        ("Byre's own (byre mend, NTLDR on NTFS)", False),
        (None, False),
    ],
)
def test_only_the_code_of_nt_5_goes_by_the_fields(loader: str | None, needs: bool) -> None:
    assert needs_geometry(BootCode(loader, known=True, hooks=False, digest="")) is needs
