"""The VHD footer and dynamic header as values: parsing, checking, encoding. Reads and writes nothing.

Source: Virtual Hard Disk Image Format Specification 1.0. All fields are big endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from byre.disks.vhd.geometry import Geometry, believed_size
from byre.errors import CorruptImageError, UnsupportedError
from byre.units import SECTOR, align_down, align_up, ceil_div, is_power_of_two

COOKIE = b"conectix"
HEADER_COOKIE = b"cxsparse"
FOOTER_BYTES = 512
OLD_FOOTER_BYTES = 511
"""Virtual PC before 2004 wrote one byte less: the last of the reserved ones."""
HEADER_BYTES = 1024
EPOCH = 946_684_800
"""2000-01-01T00:00:00Z, from which VHD counts seconds, as Unix time."""
NO_OFFSET = (1 << 64) - 1
UNUSED = 0xFFFFFFFF
"""BAT entry of a block that isn't here."""
MAX_BLOCKS = 1 << 26
MAX_BLOCK_SIZE = 1 << 30
MAX_LOCATOR_BYTES = 64 << 10
_NOTHING = UUID(int=0)

_FOOTER = struct.Struct(">8sIIQI4sI4sQQHBBII16sB")
_HEADER = struct.Struct(">8sQQIIII16sII512s")
_LOCATOR = struct.Struct(">4sIIIQ")


class DiskType(IntEnum):
    FIXED = 2
    DYNAMIC = 3
    DIFFERENCING = 4


@dataclass(frozen=True, slots=True)
class Footer:
    """One footer. Sizes in bytes; ``timestamp`` in seconds since 2000; ``valid`` whether its checksum was right."""

    disk_type: DiskType
    current_size: int
    geometry: Geometry
    uuid: UUID
    data_offset: int = NO_OFFSET
    original_size: int = 0
    timestamp: int = 0
    creator: bytes = b"win "
    creator_version: int = 0x000A0000
    creator_os: bytes = b"Wi2k"
    features: int = 2
    version: int = 0x00010000
    saved_state: int = 0
    valid: bool = True

    @property
    def size(self) -> int:
        """The disk in bytes as its writer meant it, whole sectors."""
        return align_up(believed_size(self.creator, self.current_size, self.geometry)[0], SECTOR)

    @property
    def size_rule(self) -> str:
        return believed_size(self.creator, self.current_size, self.geometry)[1]

    def encode(self) -> bytes:
        data = bytearray(FOOTER_BYTES)
        _FOOTER.pack_into(
            data,
            0,
            COOKIE,
            self.features,
            self.version,
            self.data_offset,
            self.timestamp,
            self.creator,
            self.creator_version,
            self.creator_os,
            self.original_size,
            self.current_size,
            self.geometry.cylinders,
            self.geometry.heads,
            self.geometry.sectors,
            self.disk_type,
            0,
            self.uuid.bytes,
            self.saved_state,
        )
        struct.pack_into(">I", data, 64, checksum(data, 64))
        return bytes(data)


@dataclass(frozen=True, slots=True)
class Locator:
    """Where a parent's name stands in the file. ``offset`` and ``length`` in bytes."""

    platform: bytes
    space: int
    length: int
    offset: int


@dataclass(frozen=True, slots=True)
class DynamicHeader:
    """The header of a dynamic or differencing image. Offsets and sizes in bytes."""

    table_offset: int
    max_table_entries: int
    block_size: int
    parent_uuid: UUID = _NOTHING
    parent_timestamp: int = 0
    parent_name: str = ""
    locators: tuple[Locator, ...] = ()
    valid: bool = True

    @property
    def bitmap_size(self) -> int:
        """Bytes of a block's sector bitmap, whole sectors."""
        return align_up(ceil_div(self.block_size // SECTOR, 8), SECTOR)

    @property
    def stride(self) -> int:
        """Bytes that a stored block takes with its bitmap."""
        return self.bitmap_size + self.block_size

    def encode(self) -> bytes:
        data = bytearray(HEADER_BYTES)
        name = self.parent_name.encode("utf-16-be", "surrogatepass")[:512]
        fields = (self.parent_uuid.bytes, self.parent_timestamp, 0, name)
        table = (self.table_offset, 0x00010000, self.max_table_entries, self.block_size, 0)
        _HEADER.pack_into(data, 0, HEADER_COOKIE, NO_OFFSET, *table, *fields)
        for index, locator in enumerate(self.locators[:8]):
            entry = (locator.platform, locator.space, locator.length, 0, locator.offset)
            _LOCATOR.pack_into(data, 576 + index * _LOCATOR.size, *entry)
        struct.pack_into(">I", data, 36, checksum(data, 36))
        return bytes(data)


def checksum(data: bytes | bytearray, at: int) -> int:
    """The ones' complement of the sum of all bytes but the four of the checksum itself."""
    return ~(sum(data) - sum(data[at : at + 4])) & 0xFFFFFFFF


def find_footer(tail: bytes) -> bytes | None:
    """The footer in the last 512 bytes of a file: whole, or the 511 bytes of old tools with a zero added."""
    if len(tail) == FOOTER_BYTES and tail.startswith(COOKIE):
        return tail
    if len(tail) >= OLD_FOOTER_BYTES and tail[-OLD_FOOTER_BYTES:].startswith(COOKIE):
        return tail[-OLD_FOOTER_BYTES:] + b"\0"
    return None


def parse_footer(data: bytes, *, path: str, offset: int) -> Footer:
    """A footer of 512 bytes, its checksum noted but not required. Raises CorruptImageError, UnsupportedError."""
    fields = _FOOTER.unpack_from(data)
    cookie, features, version, data_offset, timestamp, creator, creator_version, creator_os = fields[:8]
    original, current, cylinders, heads, sectors, disk_type, stored, own, saved = fields[8:]
    if cookie != COOKIE:
        raise CorruptImageError("has no VHD footer", path=path, offset=offset, found=cookie, expected="'conectix'")
    if version >> 16 != 1:
        raise UnsupportedError(
            "is a VHD of an unknown version", path=path, offset=offset + 12, found=f"{version:#x}", expected="1.0"
        )
    if disk_type not in (2, 3, 4):
        kind = CorruptImageError if disk_type not in (1, 5, 6) else UnsupportedError
        raise kind(
            "has no VHD disk type that Byre knows",
            path=path,
            offset=offset + 60,
            found=disk_type,
            expected="2 fixed, 3 dynamic or 4 differencing",
        )
    if current >= 1 << 62:
        raise CorruptImageError("states an impossible size", path=path, offset=offset + 48, found=current)
    return Footer(
        disk_type=DiskType(disk_type),
        current_size=current,
        geometry=Geometry(cylinders, heads, sectors),
        uuid=UUID(bytes=own),
        data_offset=data_offset,
        original_size=original,
        timestamp=timestamp,
        creator=creator,
        creator_version=creator_version,
        creator_os=creator_os,
        features=features,
        version=version,
        saved_state=saved,
        valid=stored == checksum(data, 64),
    )


def parse_header(data: bytes, *, path: str, offset: int, disk_size: int) -> DynamicHeader:
    """A dynamic header of 1024 bytes for a disk of ``disk_size``. Raises CorruptImageError, UnsupportedError."""
    cookie, _, table, version, entries, block_size, stored, parent, stamp, _, name = _HEADER.unpack_from(data)
    if cookie != HEADER_COOKIE:
        raise CorruptImageError(
            "has no VHD dynamic header", path=path, offset=offset, found=cookie, expected="'cxsparse'"
        )
    if version >> 16 != 1:
        raise UnsupportedError("has a VHD dynamic header of an unknown version", path=path, offset=offset + 24)
    if not is_power_of_two(block_size) or not SECTOR <= block_size <= MAX_BLOCK_SIZE:
        raise CorruptImageError(
            "the VHD block size is no power of two that blocks may have",
            path=path,
            offset=offset + 32,
            found=block_size,
            expected=f"{SECTOR} to {MAX_BLOCK_SIZE}",
        )
    needed = ceil_div(disk_size, block_size)
    if entries < needed:
        raise CorruptImageError(
            f"the block allocation table is too short for a disk of {disk_size} bytes",
            path=path,
            offset=offset + 28,
            found=f"{entries} entries",
            expected=f"at least {needed}",
        )
    if needed > MAX_BLOCKS:
        raise UnsupportedError(
            "the block allocation table is longer than Byre reads",
            path=path,
            offset=offset + 28,
            found=f"{needed} entries",
            expected=f"at most {MAX_BLOCKS}",
        )
    locators = [_LOCATOR.unpack_from(data, 576 + index * _LOCATOR.size) for index in range(8)]
    return DynamicHeader(
        table_offset=table,
        max_table_entries=entries,
        block_size=block_size,
        parent_uuid=UUID(bytes=parent),
        parent_timestamp=stamp,
        parent_name=decode_name(name, "utf-16-be"),
        locators=tuple(
            Locator(platform, space, length, where)
            for platform, space, length, _, where in locators
            if platform != b"\0\0\0\0"
        ),
        valid=stored == checksum(data, 36),
    )


def decode_name(data: bytes, encoding: str) -> str:
    """A name up to its first NUL; what isn't valid in its encoding is replaced, and then won't be found."""
    return data[: align_down(len(data), 2)].decode(encoding, "replace").split("\0")[0]
