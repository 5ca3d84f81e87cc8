"""The VDI header as values: parsing, checking, encoding. Reads and writes nothing.

Layout: VirtualBox's ``VDIPREHEADER``, ``VDIHEADER0`` (before 1.0) and ``VDIHEADER1``/``VDIHEADER1PLUS``, all
little endian and packed. Offsets below count from the start of the file.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from byre.errors import CorruptImageError, UnsupportedError
from byre.units import SECTOR, align_up, is_power_of_two

SIGNATURE = 0xBEDA107F
SIGNATURE_OFFSET = 64
HEADER_BYTES = 512
VERSION_1_1 = 0x00010001
VERSION_OLD = 0x00000002
"""What VirtualBox before 1.0 wrote; its header has no offsets and no parent."""

FREE = 0xFFFFFFFF
"""Map entry of a block that was never written: the parent's, or zeros."""
DISCARDED = 0xFFFFFFFE
"""Map entry of a block that reads as zeros and hides the parent."""

MAX_BLOCKS = 1 << 26
"""The longest map that is read, 256 MiB of table: 64 TiB of disk at the usual 1 MiB a block."""
MAX_BLOCK_SIZE = 1 << 30
"""With 32-bit map entries, every host offset then fits into 63 bits."""

_V1 = struct.Struct("<III256sII4IIQIIII16s16s16s16s")
_V0 = struct.Struct("<II256s4IQIII16s16s16s")
_PRE = struct.Struct("<64sII")
_NOTHING = UUID(int=0)


class ImageType(IntEnum):
    DYNAMIC = 1
    FIXED = 2
    UNDO = 3
    DIFFERENCING = 4


@dataclass(frozen=True, slots=True)
class VdiHeader:
    """One image's header. Offsets and sizes in bytes; ``header_size`` is ``cbHeader``."""

    image_type: ImageType
    disk_size: int
    block_size: int
    blocks: int
    blocks_allocated: int
    blocks_offset: int
    data_offset: int
    uuid: UUID
    modification_uuid: UUID
    parent_uuid: UUID = _NOTHING
    parent_modification_uuid: UUID = _NOTHING
    block_extra: int = 0
    flags: int = 0
    comment: bytes = b""
    file_info: bytes = b"<<< Oracle VM VirtualBox Disk Image >>>\n"
    version: int = VERSION_1_1
    header_size: int = 400

    @property
    def stride(self) -> int:
        """Bytes from one stored block to the next."""
        return self.block_size + self.block_extra

    @property
    def size(self) -> int:
        """The disk in bytes: whole sectors, what is added reads as zeros."""
        return align_up(self.disk_size, SECTOR)

    @property
    def differencing(self) -> bool:
        return self.image_type == ImageType.DIFFERENCING

    def encode(self, over: bytes = bytes(HEADER_BYTES)) -> bytes:
        """The first 512 bytes of the file. What this class doesn't know is kept from ``over``."""
        data = bytearray(over)
        _PRE.pack_into(data, 0, self.file_info, SIGNATURE, self.version)
        legacy = struct.unpack_from("<4I", data, 348)
        _V1.pack_into(
            data,
            _PRE.size,
            self.header_size,
            self.image_type,
            self.flags,
            self.comment,
            self.blocks_offset,
            self.data_offset,
            *(legacy if any(legacy) else (0, 0, 0, SECTOR)),
            *struct.unpack_from("<I", data, 364),
            self.disk_size,
            self.block_size,
            self.block_extra,
            self.blocks,
            self.blocks_allocated,
            self.uuid.bytes_le,
            self.modification_uuid.bytes_le,
            self.parent_uuid.bytes_le,
            self.parent_modification_uuid.bytes_le,
        )
        if self.header_size >= 400 and not any(data[456:472]):
            struct.pack_into("<I", data, 468, SECTOR)  # VirtualBox refuses any other sector size here
        return bytes(data)


def looks_like_vdi(head: bytes) -> bool:
    return len(head) >= 72 and head[64:68] == SIGNATURE.to_bytes(4, "little")


def identity(head: bytes) -> tuple[UUID, UUID] | None:
    """(UUID, modification UUID) from the start of a file; None where it is no VDI."""
    if not looks_like_vdi(head) or len(head) < HEADER_BYTES:
        return None
    old = int.from_bytes(head[68:72], "little") == VERSION_OLD
    at = 372 if old else 392
    return UUID(bytes_le=head[at : at + 16]), UUID(bytes_le=head[at + 16 : at + 32])


def parse(data: bytes, *, path: str) -> VdiHeader:
    """The header from the first 512 bytes of the file. Raises CorruptImageError, UnsupportedError."""
    if len(data) < HEADER_BYTES or not looks_like_vdi(data):
        raise CorruptImageError(
            "has no VDI header",
            path=path,
            offset=SIGNATURE_OFFSET,
            found=data[64:68],
            expected=SIGNATURE.to_bytes(4, "little").hex(" "),
        )
    file_info, _, version = _PRE.unpack_from(data)
    if version == VERSION_OLD:
        header = _parse_old(data, file_info, path)
    elif version >> 16 == 1:
        header = _parse_1(data, file_info, version, path)
    else:
        raise UnsupportedError(
            "is a VDI of an unknown version",
            path=path,
            offset=68,
            found=f"{version >> 16}.{version & 0xFFFF}",
            expected="1.1",
        )
    _validate(header, path)
    return header


def _type(value: int, offset: int, path: str) -> ImageType:
    if value == ImageType.UNDO:
        raise UnsupportedError(
            "is a VDI undo image, which no VirtualBox since 1.0 makes or reads", path=path, offset=offset
        )
    if value not in (1, 2, 4):
        raise CorruptImageError(
            "has an unknown VDI image type", path=path, offset=offset, found=value, expected="1, 2 or 4"
        )
    return ImageType(value)


def _parse_1(data: bytes, file_info: bytes, version: int, path: str) -> VdiHeader:
    fields = _V1.unpack_from(data, _PRE.size)
    header_size, image_type, flags, comment, blocks_offset, data_offset = fields[:6]
    disk_size, block_size, block_extra, blocks, allocated, own, modified, parent, parent_modified = fields[11:]
    if header_size < 384:
        raise CorruptImageError(
            "the VDI header is too short", path=path, offset=72, found=header_size, expected="at least 384"
        )
    return VdiHeader(
        image_type=_type(image_type, 76, path),
        disk_size=disk_size,
        block_size=block_size,
        blocks=blocks,
        blocks_allocated=allocated,
        blocks_offset=blocks_offset,
        data_offset=data_offset,
        uuid=UUID(bytes_le=own),
        modification_uuid=UUID(bytes_le=modified),
        parent_uuid=UUID(bytes_le=parent),
        parent_modification_uuid=UUID(bytes_le=parent_modified),
        block_extra=block_extra,
        flags=flags,
        comment=comment.split(b"\0")[0],
        file_info=file_info,
        version=version,
        header_size=header_size,
    )


def _parse_old(data: bytes, file_info: bytes, path: str) -> VdiHeader:
    """Before 1.0: the map follows the header of 348 bytes, the data follows the map."""
    fields = _V0.unpack_from(data, _PRE.size)
    image_type, flags, comment = fields[:3]
    disk_size, block_size, blocks, allocated, own, modified, parent = fields[7:]
    blocks_offset = _PRE.size + _V0.size
    return VdiHeader(
        image_type=_type(image_type, 72, path),
        disk_size=disk_size,
        block_size=block_size,
        blocks=blocks,
        blocks_allocated=allocated,
        blocks_offset=blocks_offset,
        data_offset=blocks_offset + 4 * blocks,
        uuid=UUID(bytes_le=own),
        modification_uuid=UUID(bytes_le=modified),
        parent_uuid=UUID(bytes_le=parent),
        flags=flags,
        comment=comment.split(b"\0")[0],
        file_info=file_info,
        version=VERSION_OLD,
        header_size=_V0.size,
    )


def _validate(header: VdiHeader, path: str) -> None:
    if not is_power_of_two(header.block_size) or not SECTOR <= header.block_size <= MAX_BLOCK_SIZE:
        raise CorruptImageError(
            "the VDI block size is no power of two that blocks may have",
            path=path,
            offset=376,
            found=header.block_size,
            expected=f"{SECTOR} to {MAX_BLOCK_SIZE}",
        )
    if header.block_extra > header.block_size:
        raise UnsupportedError(
            "stores more private data than disk with each block", path=path, offset=380, found=header.block_extra
        )
    if header.disk_size > header.blocks * header.block_size:
        raise CorruptImageError(
            f"a disk of {header.disk_size} bytes doesn't fit its block map",
            path=path,
            offset=384,
            found=f"{header.blocks} blocks of {header.block_size}",
            expected=f"at least {-(-header.disk_size // header.block_size)}",
        )
    if header.blocks > MAX_BLOCKS:
        raise UnsupportedError(
            "the VDI block map is longer than Byre reads",
            path=path,
            offset=384,
            found=f"{header.blocks} entries",
            expected=f"at most {MAX_BLOCKS}",
        )
    if header.version != VERSION_OLD and header.blocks_offset < 456:
        raise CorruptImageError(
            "the VDI block map lies in the header", path=path, offset=340, found=header.blocks_offset, expected=512
        )
    if header.data_offset < header.blocks_offset + 4 * header.blocks:
        raise CorruptImageError(
            "the VDI data begins inside the block map",
            path=path,
            offset=344,
            found=header.data_offset,
            expected=f"at least {header.blocks_offset + 4 * header.blocks}",
        )
    if header.differencing and header.parent_uuid in (_NOTHING, header.uuid):
        raise CorruptImageError(
            "is a differencing VDI that names no parent but itself", path=path, offset=424, found=header.parent_uuid
        )


def fresh_uuid() -> UUID:
    return uuid.uuid4()
