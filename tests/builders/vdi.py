"""VDI images byte by byte from VirtualBox's published layout, independent of what Byre writes."""

from __future__ import annotations

import struct
from uuid import UUID

FREE = 0xFFFFFFFF
ZERO = 0xFFFFFFFE
BLOCK = 4096
OWN, NONE = UUID(int=1), UUID(int=0)
MODIFIED = UUID(int=101)


def vdi(
    blocks: list[bytes | int],
    *,
    size: int | None = None,
    image_type: int = 1,
    own: UUID = OWN,
    modified: UUID = MODIFIED,
    parent: UUID = NONE,
    parent_modified: UUID = NONE,
    header_size: int = 400,
    block_size: int = BLOCK,
    extra: int = 0,
    order: list[int] | None = None,
    **changes: int,
) -> bytes:
    """An image of these blocks: bytes are stored, FREE and ZERO stand in the map as they are. ``order`` is the
    place of each stored block in the file. ``changes`` overwrite header fields: count, offset_blocks,
    offset_data, allocated, version, disk_size, flags."""
    size = block_size * len(blocks) if size is None else size
    stored = [block for block in blocks if isinstance(block, bytes)]
    places = list(range(len(stored))) if order is None else order
    entries = []
    position = iter(places)
    for block in blocks:
        entries.append(block if isinstance(block, int) else next(position))
    offset_data = changes.get("offset_data", 4096)
    head = bytearray(offset_data)
    head[0:64] = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0")
    struct.pack_into("<II", head, 64, 0xBEDA107F, changes.get("version", 0x00010001))
    struct.pack_into("<III", head, 72, header_size, image_type, changes.get("flags", 0))
    struct.pack_into("<II", head, 340, changes.get("offset_blocks", 512), offset_data)
    struct.pack_into("<IIII", head, 348, 0, 0, 0, 512)
    struct.pack_into("<QIIII", head, 368, changes.get("disk_size", size), block_size, extra, len(blocks), 0)
    struct.pack_into("<I", head, 384, changes.get("count", len(blocks)))
    struct.pack_into("<I", head, 388, changes.get("allocated", max(places, default=-1) + 1))
    head[392:408] = own.bytes_le
    head[408:424] = modified.bytes_le
    head[424:440] = parent.bytes_le
    head[440:456] = parent_modified.bytes_le
    struct.pack_into(f"<{len(entries)}I", head, 512, *entries)
    body = bytearray((max(places, default=-1) + 1) * (block_size + extra))
    for place, block in zip(places, stored, strict=True):
        begin = place * (block_size + extra) + extra
        body[begin : begin + len(block)] = block
    return bytes(head + body)


def old_vdi(blocks: list[bytes | int], *, block_size: int = BLOCK) -> bytes:
    """The layout from before VirtualBox 1.0: 348 bytes of header, the map behind it, the data behind that."""
    stored = [block for block in blocks if isinstance(block, bytes)]
    position = iter(range(len(stored)))
    entries = [block if isinstance(block, int) else next(position) for block in blocks]
    head = bytearray(420)
    head[0:64] = b"<<< innotek VirtualBox Disk Image >>>\n".ljust(64, b"\0")
    struct.pack_into("<II", head, 64, 0xBEDA107F, 2)
    struct.pack_into("<II", head, 72, 1, 0)
    struct.pack_into("<IIIIQIII", head, 336, 1, 16, 63, 512, block_size * len(blocks), block_size, len(blocks), 0)
    struct.pack_into("<I", head, 368, len(stored))
    head[372:388] = UUID(int=1).bytes_le
    head[388:404] = UUID(int=2).bytes_le
    return bytes(head) + struct.pack(f"<{len(entries)}I", *entries) + b"".join(stored)
