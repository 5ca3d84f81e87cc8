"""VMDK files built byte by byte, for kinds that no tool here writes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

SECTOR = 512
HEADER = struct.Struct("<4sIIQQQQIQQQB4sH")


def descriptor(
    create_type: str,
    extents: Sequence[str],
    *,
    cid: int = 0x1234ABCD,
    parent_cid: int = 0xFFFFFFFF,
    hint: str | None = None,
    extra: Sequence[str] = (),
) -> str:
    lines = [
        "# Disk DescriptorFile",
        "version=1",
        f"CID={cid:08x}",
        f"parentCID={parent_cid:08x}",
        f'createType="{create_type}"',
    ]
    if hint is not None:
        lines.append(f'parentFileNameHint="{hint}"')
    return "\n".join(
        [*lines, "", "# Extent description", *extents, "", "#DDB", 'ddb.adapterType = "ide"', *extra, ""]
    )


def sparse_header(
    capacity: int,
    *,
    version: int = 1,
    flags: int = 3,
    grain: int = 128,
    descriptor: tuple[int, int] = (0, 0),
    gtes: int = 512,
    rgd: int = 0,
    gd: int = 0,
    overhead: int = 128,
    unclean: int = 0,
    newline: bytes = b"\n \r\n",
    compression: int = 0,
) -> bytes:
    return HEADER.pack(
        b"KDMV", version, flags, capacity, grain, *descriptor, gtes, rgd, gd, overhead, unclean, newline, compression
    ).ljust(SECTOR, b"\0")


def cowd_extent(grains: Mapping[int, bytes], *, capacity: int, grain: int = 1) -> bytes:
    """A COWD extent: header of four sectors, grain directory, then grain tables and grains as they come."""
    entries = -(-capacity // (grain * 4096))
    gd_sectors = -(-entries * 4 // SECTOR)
    body = bytearray((4 + gd_sectors) * SECTOR)
    directory = [0] * entries
    tables: dict[int, int] = {}
    for number, data in sorted(grains.items()):
        table, index = divmod(number, 4096)
        if table not in tables:
            tables[table] = len(body)
            directory[table] = len(body) // SECTOR
            body += bytes(4096 * 4)
        struct.pack_into("<I", body, tables[table] + index * 4, len(body) // SECTOR)
        body += data.ljust(grain * SECTOR, b"\0")
    struct.pack_into(f"<{entries}I", body, 4 * SECTOR, *directory)
    body[:36] = struct.pack("<4sIIIIIIII", b"COWD", 1, 3, capacity, grain, 4, entries, len(body) // SECTOR, 0)
    return bytes(body)


def se_sparse_extent(
    grains: Mapping[int, bytes | str], *, capacity: int, replay: int = 0, version: int = 0x200000001
) -> bytes:
    """A seSparse extent; a value may be the bytes of a grain, ``zero`` or ``unmapped``."""
    tables = -(-capacity // (8 * 4096))
    gd_at, gd_sectors = 2, -(-tables * 8 // SECTOR)
    tables_at = 64
    grains_at = tables_at + tables * 64
    directory = [0] * tables
    table_bytes = bytearray(tables * 64 * SECTOR)
    data = bytearray()
    slots: dict[int, int] = {}
    for number, value in grains.items():
        table, index = divmod(number, 4096)
        slot = slots.setdefault(table, len(slots))
        directory[table] = 0x1000000000000000 | slot
        if value == "unmapped":
            entry = 0x1000000000000000
        elif value == "zero":
            entry = 0x2000000000000000
        else:
            assert isinstance(value, bytes)
            place = len(data) // 4096
            entry = 0x3000000000000000 | (place & 0xFFF) << 48 | place >> 12
            data += value.ljust(4096, b"\0")
        struct.pack_into("<Q", table_bytes, slot * 64 * SECTOR + index * 8, entry)
    fields = [0] * 26
    fields[0:5] = [0xCAFEBABE, version, capacity, 8, 64]
    fields[10:12] = [1, 1]
    fields[16:20] = [gd_at, gd_sectors, tables_at, tables * 64]
    fields[24:26] = [grains_at, len(data) // SECTOR]
    body = bytearray(grains_at * SECTOR)
    body[:208] = struct.pack("<26Q", *fields)
    body[SECTOR : SECTOR + 32] = struct.pack("<4Q", 0xCAFECAFE, 0, 0, replay)
    struct.pack_into(f"<{tables}Q", body, gd_at * SECTOR, *directory)
    body[tables_at * SECTOR : grains_at * SECTOR] = table_bytes
    return bytes(body + data)


def stream(
    grains: Mapping[int, bytes],
    *,
    capacity: int,
    version: int = 3,
    markers: bool = True,
    footer: bool = True,
    trailing: int = 0,
    name: str = "stream.vmdk",
) -> bytes:
    """A streamOptimized file of one grain table for each 512 grains; ``markers`` False: bare zlib streams."""
    text = descriptor("streamOptimized", [f'RW {capacity} SPARSE "{name}"']).encode().ljust(20 * SECTOR, b"\0")
    flags = 0x10001 | (0x20000 if markers else 0)
    body = bytearray(128 * SECTOR)

    def marker(sectors: int, kind: int) -> bytes:
        return struct.pack("<QII", sectors, 0, kind).ljust(SECTOR, b"\0") if markers else b""

    tables = -(-capacity // (128 * 512))
    directory = [0] * tables
    for table in range(tables):
        entries = [0] * 512
        for number in sorted(each for each in grains if each // 512 == table):
            packed = zlib.compress(grains[number].ljust(65536, b"\0"))
            entries[number % 512] = len(body) // SECTOR
            blob = (struct.pack("<QI", number * 128, len(packed)) if markers else b"") + packed
            body += blob.ljust(-(-len(blob) // SECTOR) * SECTOR, b"\0")
        if any(entries):
            body += marker(4, 1)
            directory[table] = len(body) // SECTOR
            body += struct.pack("<512I", *entries)
    body += marker(-(-tables * 4 // SECTOR), 2)
    gd = len(body) // SECTOR
    raw = struct.pack(f"<{tables}I", *directory)
    body += raw.ljust(-(-len(raw) // SECTOR) * SECTOR, b"\0")
    common = {"version": version, "flags": flags, "descriptor": (1, 20), "compression": 1}
    if footer:
        body += struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0")
        body += sparse_header(capacity, gd=gd, **common)  # type: ignore[arg-type]
        body += bytes(SECTOR)
    head = sparse_header(capacity, gd=0xFFFFFFFFFFFFFFFF if footer else gd, **common)  # type: ignore[arg-type]
    body[: SECTOR * 21] = head + text
    return bytes(body + bytes(trailing))


def write_split(folder: Path, name: str, text: str, **files: bytes) -> Path:
    """A descriptor file and its extents; returns the descriptor's path."""
    for extent, data in files.items():
        (folder / f"{extent}.vmdk").write_bytes(data)
    path = folder / name
    path.write_text(text)
    return path
