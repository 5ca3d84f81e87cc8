"""VHD images byte by byte from Microsoft's specification, independent of what Byre writes."""

from __future__ import annotations

import struct
from uuid import UUID

BLOCK = 4096
OWN, NONE = UUID(int=1), UUID(int=0)
UNUSED = 0xFFFFFFFF


def summed(data: bytearray, at: int) -> bytes:
    """The structure with its checksum filled in."""
    data[at : at + 4] = bytes(4)
    struct.pack_into(">I", data, at, ~sum(data) & 0xFFFFFFFF)
    return bytes(data)


def footer(
    size: int,
    kind: int,
    *,
    own: UUID = OWN,
    creator: bytes = b"win ",
    geometry: tuple[int, int, int] = (1, 4, 17),
    data_offset: int | None = None,
    timestamp: int = 1000,
) -> bytes:
    data = bytearray(512)
    data[0:8] = b"conectix"
    where = (1 << 64) - 1 if kind == 2 else 512
    struct.pack_into(">IIQ", data, 8, 2, 0x10000, where if data_offset is None else data_offset)
    struct.pack_into(">I4sI4sQQ", data, 24, timestamp, creator, 0xA0000, b"Wi2k", size, size)
    struct.pack_into(">HBBI", data, 56, *geometry, kind)
    data[68:84] = own.bytes
    return summed(data, 64)


def header(
    entries: int,
    *,
    block_size: int = BLOCK,
    table: int = 1536,
    parent: UUID = NONE,
    parent_timestamp: int = 0,
    parent_name: str = "",
    locators: tuple[tuple[bytes, int, int, int], ...] = (),
) -> bytes:
    """``locators``: (platform, space, length, offset)."""
    data = bytearray(1024)
    data[0:8] = b"cxsparse"
    struct.pack_into(">QQIII", data, 8, (1 << 64) - 1, table, 0x10000, entries, block_size)
    data[40:56] = parent.bytes
    struct.pack_into(">I", data, 56, parent_timestamp)
    name = parent_name.encode("utf-16-be")
    data[64 : 64 + len(name)] = name
    for index, (platform, space, length, offset) in enumerate(locators):
        struct.pack_into(">4sIIIQ", data, 576 + 24 * index, platform, space, length, 0, offset)
    return summed(data, 36)


def dynamic(
    blocks: list[dict[int, bytes] | None],
    *,
    size: int | None = None,
    own: UUID = OWN,
    parent: UUID | None = None,
    parent_name: str = "",
    names: tuple[tuple[bytes, bytes], ...] = (),
    block_size: int = BLOCK,
    creator: bytes = b"win ",
    geometry: tuple[int, int, int] = (1, 4, 17),
    timestamp: int = 1000,
    parent_timestamp: int = 0,
) -> bytes:
    """A dynamic image, or with ``parent`` a differencing one. A block is None or its sectors by number; ``names``
    are the parent locators' (platform, bytes)."""
    size = block_size * len(blocks) if size is None else size
    bitmap_size = -(-(block_size // 512) // 4096) * 512
    table_size = -(-4 * len(blocks) // 512) * 512
    position = 1536 + table_size
    locators = []
    stored_names = b""
    for platform, name in names:
        locators.append((platform, 512, len(name), position))
        stored_names += name.ljust(512, b"\0")
        position += 512
    table = []
    body = b""
    for block in blocks:
        if block is None:
            table.append(UNUSED)
            continue
        table.append((position + len(body)) // 512)
        bitmap = bytearray(bitmap_size)
        data = bytearray(block_size)
        for sector, content in block.items():
            bitmap[sector // 8] |= 0x80 >> sector % 8
            data[sector * 512 : sector * 512 + 512] = content
        body += bytes(bitmap) + bytes(data)
    end = footer(size, 3 if parent is None else 4, own=own, creator=creator, geometry=geometry, timestamp=timestamp)
    front = header(
        len(blocks),
        block_size=block_size,
        parent=parent or UUID(int=0),
        parent_name=parent_name,
        parent_timestamp=parent_timestamp,
        locators=tuple(locators),
    )
    entries = struct.pack(f">{len(table)}I", *table).ljust(table_size, b"\xff")
    return end + front + entries + stored_names + body + end
