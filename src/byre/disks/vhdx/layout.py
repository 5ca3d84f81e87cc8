"""The structures of a VHDX file as pure codecs: identifier, headers, region table, metadata, parent locator.

Names and numbers are those of [MS-VHDX]; everything is little-endian. Checksums are CRC-32C with the checksum
field itself as zero.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from byre.disks.vhdx.crc32c import crc32c
from byre.errors import CorruptImageError, UnsupportedError
from byre.units import KIB, MIB, TIB, is_power_of_two

FILE_SIGNATURE = b"vhdxfile"
HEADER_OFFSETS = (64 * KIB, 128 * KIB)
HEADER_SIZE = 4 * KIB
REGION_TABLE_OFFSETS = (192 * KIB, 256 * KIB)
REGION_TABLE_SIZE = 64 * KIB
HEADER_AREA = MIB
"""Nothing else may lie in the first mebibyte."""
METADATA_TABLE_SIZE = 64 * KIB
MAX_REGIONS = 2047
MAX_METADATA_ITEMS = 2047
MAX_ITEM_LENGTH = MIB
MIN_BLOCK_SIZE = MIB
MAX_BLOCK_SIZE = 256 * MIB
MAX_VIRTUAL_SIZE = 64 * TIB
NO_GUID = UUID(int=0)

BAT_REGION = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
METADATA_REGION = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")

FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
VIRTUAL_DISK_SIZE = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
VIRTUAL_DISK_ID = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
LOGICAL_SECTOR_SIZE = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL_SECTOR_SIZE = UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
PARENT_LOCATOR = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
KNOWN_ITEMS = frozenset(
    (
        FILE_PARAMETERS,
        VIRTUAL_DISK_SIZE,
        VIRTUAL_DISK_ID,
        LOGICAL_SECTOR_SIZE,
        PHYSICAL_SECTOR_SIZE,
        PARENT_LOCATOR,
    )
)
LOCATOR_TYPE = UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")

_HEADER = struct.Struct("<4sIQ16s16s16sHHIQ")
_REGION_HEADER = struct.Struct("<4sIII")
_REGION = struct.Struct("<16sQII")
_METADATA_HEADER = struct.Struct("<8sHH20x")
_METADATA_ENTRY = struct.Struct("<16sIIII")
_LOCATOR_HEADER = struct.Struct("<16sHH")
_LOCATOR_ENTRY = struct.Struct("<IIHH")

_IS_USER, _IS_VIRTUAL_DISK, _IS_REQUIRED = 1, 2, 4
_ITEM_FLAGS: Mapping[UUID, int] = {
    FILE_PARAMETERS: _IS_REQUIRED,
    VIRTUAL_DISK_SIZE: _IS_REQUIRED | _IS_VIRTUAL_DISK,
    VIRTUAL_DISK_ID: _IS_REQUIRED | _IS_VIRTUAL_DISK,
    LOGICAL_SECTOR_SIZE: _IS_REQUIRED | _IS_VIRTUAL_DISK,
    PHYSICAL_SECTOR_SIZE: _IS_REQUIRED | _IS_VIRTUAL_DISK,
    PARENT_LOCATOR: _IS_REQUIRED,
}


def _checksum_holds(data: bytes) -> bool:
    stored = int.from_bytes(data[4:8], "little")
    return crc32c(data[:4] + bytes(4) + data[8:]) == stored


def _with_checksum(data: bytes) -> bytes:
    return data[:4] + crc32c(data).to_bytes(4, "little") + data[8:]


@dataclass(frozen=True, slots=True)
class Header:
    """One of the two headers (section 2.2.2). ``log_guid`` all zeros: there is nothing to replay."""

    sequence_number: int
    file_write_guid: UUID
    data_write_guid: UUID
    log_guid: UUID
    log_length: int
    log_offset: int
    log_version: int = 0
    version: int = 1

    @classmethod
    def parse(cls, data: bytes) -> Header | None:
        """The header in these 4096 bytes, or None where signature or checksum is wrong."""
        if len(data) != HEADER_SIZE or data[:4] != b"head" or not _checksum_holds(data):
            return None
        _, _, sequence, write, content, log, log_version, version, length, offset = _HEADER.unpack_from(data)
        return cls(
            sequence_number=sequence,
            file_write_guid=UUID(bytes_le=write),
            data_write_guid=UUID(bytes_le=content),
            log_guid=UUID(bytes_le=log),
            log_length=length,
            log_offset=offset,
            log_version=log_version,
            version=version,
        )

    def pack(self) -> bytes:
        fields = _HEADER.pack(
            b"head",
            0,
            self.sequence_number,
            self.file_write_guid.bytes_le,
            self.data_write_guid.bytes_le,
            self.log_guid.bytes_le,
            self.log_version,
            self.version,
            self.log_length,
            self.log_offset,
        )
        return _with_checksum(fields.ljust(HEADER_SIZE, b"\0"))


@dataclass(frozen=True, slots=True)
class Region:
    """One row of the region table (section 2.2.3): bytes of the file that belong to one purpose."""

    guid: UUID
    file_offset: int
    length: int
    required: bool


def parse_region_table(data: bytes) -> tuple[Region, ...] | None:
    """The regions in these 64 KiB, or None where signature, checksum or count is wrong."""
    if len(data) != REGION_TABLE_SIZE or data[:4] != b"regi" or not _checksum_holds(data):
        return None
    count = _REGION_HEADER.unpack_from(data)[2]
    if count > MAX_REGIONS:
        return None
    rows = _REGION.iter_unpack(data[_REGION_HEADER.size : _REGION_HEADER.size + count * _REGION.size])
    return tuple(Region(UUID(bytes_le=guid), offset, length, bool(flags & 1)) for guid, offset, length, flags in rows)


def pack_region_table(regions: Sequence[Region]) -> bytes:
    """One copy of the region table with its checksum (section 2.2.3)."""
    rows = b"".join(
        _REGION.pack(region.guid.bytes_le, region.file_offset, region.length, region.required) for region in regions
    )
    return _with_checksum((_REGION_HEADER.pack(b"regi", 0, len(regions), 0) + rows).ljust(REGION_TABLE_SIZE, b"\0"))


@dataclass(frozen=True, slots=True)
class MetadataEntry:
    """One row of the metadata table (section 2.6.1.2); ``offset`` is relative to the metadata region."""

    item_id: UUID
    offset: int
    length: int
    is_user: bool
    is_required: bool


def parse_metadata_table(data: bytes, *, path: str, offset: int) -> tuple[MetadataEntry, ...]:
    """The rows of the table in these 64 KiB, which lie at host ``offset``."""
    signature, _, count = _METADATA_HEADER.unpack_from(data)
    if signature != b"metadata":
        raise CorruptImageError(
            "the metadata table has no signature", path=path, offset=offset, found=signature, expected="metadata"
        )
    if count > MAX_METADATA_ITEMS:
        raise CorruptImageError(
            "the metadata table claims too many items",
            path=path,
            offset=offset,
            found=count,
            expected=f"at most {MAX_METADATA_ITEMS}",
        )
    rows = _METADATA_ENTRY.iter_unpack(data[32 : 32 + count * _METADATA_ENTRY.size])
    return tuple(
        MetadataEntry(UUID(bytes_le=guid), where, length, bool(flags & _IS_USER), bool(flags & _IS_REQUIRED))
        for guid, where, length, flags, _ in rows
    )


@dataclass(frozen=True, slots=True)
class Metadata:
    """The known metadata items (section 2.6.2), sizes in bytes."""

    block_size: int
    virtual_size: int
    logical_sector_size: int
    physical_sector_size: int
    disk_id: UUID
    leave_block_allocated: bool
    has_parent: bool
    locator: Mapping[str, str]
    """The parent locator's keys and values; empty where there is no parent."""

    @property
    def chunk_ratio(self) -> int:
        """Payload blocks for each sector bitmap block."""
        return (self.logical_sector_size << 23) // self.block_size

    @property
    def block_count(self) -> int:
        return -(-self.virtual_size // self.block_size)

    @property
    def bat_entries(self) -> int:
        """How many entries the BAT needs: a differencing disk's ends with a bitmap entry (section 2.5)."""
        if self.block_count == 0:
            return 0
        if self.has_parent:
            return -(-self.block_count // self.chunk_ratio) * (self.chunk_ratio + 1)
        return self.block_count + (self.block_count - 1) // self.chunk_ratio


def parse_metadata(items: Mapping[UUID, bytes], *, path: str) -> Metadata:
    """Turn the items' bytes into values, refusing what the specification forbids."""

    def item(guid: UUID, what: str, length: int) -> bytes:
        data = items.get(guid)
        if data is None or len(data) < length:
            raise CorruptImageError(
                f"the metadata item '{what}' is missing or short",
                path=path,
                found="nothing" if data is None else f"{len(data)} bytes",
                expected=f"{length} bytes",
            )
        return data[:length]

    block_size, flags = struct.unpack("<II", item(FILE_PARAMETERS, "file parameters", 8))
    virtual_size = int.from_bytes(item(VIRTUAL_DISK_SIZE, "virtual disk size", 8), "little")
    disk_id = UUID(bytes_le=item(VIRTUAL_DISK_ID, "virtual disk id", 16))
    logical = int.from_bytes(item(LOGICAL_SECTOR_SIZE, "logical sector size", 4), "little")
    physical = int.from_bytes(item(PHYSICAL_SECTOR_SIZE, "physical sector size", 4), "little")
    has_parent = bool(flags & 2)

    def demand(holds: bool, what: str, found: object, expected: str) -> None:
        if not holds:
            raise CorruptImageError(f"the {what} is impossible", path=path, found=found, expected=expected)

    fits = is_power_of_two(block_size) and MIN_BLOCK_SIZE <= block_size <= MAX_BLOCK_SIZE
    demand(fits, "block size", block_size, "a power of two from 1 MiB to 256 MiB")
    demand(logical in (512, 4096), "logical sector size", logical, "512 or 4096")
    demand(physical in (512, 4096), "physical sector size", physical, "512 or 4096")
    demand(virtual_size <= MAX_VIRTUAL_SIZE, "virtual disk size", virtual_size, "at most 64 TiB")
    demand(virtual_size % logical == 0, "virtual disk size", virtual_size, f"whole sectors of {logical} bytes")
    locator: Mapping[str, str] = {}
    if has_parent:
        if PARENT_LOCATOR not in items:
            raise CorruptImageError("is a differencing disk without a parent locator", path=path)
        locator = parse_locator(items[PARENT_LOCATOR], path=path)
    return Metadata(
        block_size=block_size,
        virtual_size=virtual_size,
        logical_sector_size=logical,
        physical_sector_size=physical,
        disk_id=disk_id,
        leave_block_allocated=bool(flags & 1) and not has_parent,
        has_parent=has_parent,
        locator=locator,
    )


def pack_metadata(metadata: Metadata) -> bytes:
    """Table and items as they stand at the start of the metadata region."""
    flags = int(metadata.leave_block_allocated) | int(metadata.has_parent) << 1
    items: dict[UUID, bytes] = {
        FILE_PARAMETERS: struct.pack("<II", metadata.block_size, flags),
        VIRTUAL_DISK_SIZE: metadata.virtual_size.to_bytes(8, "little"),
        VIRTUAL_DISK_ID: metadata.disk_id.bytes_le,
        LOGICAL_SECTOR_SIZE: metadata.logical_sector_size.to_bytes(4, "little"),
        PHYSICAL_SECTOR_SIZE: metadata.physical_sector_size.to_bytes(4, "little"),
    }
    if metadata.has_parent:
        items[PARENT_LOCATOR] = pack_locator(metadata.locator)
    rows, body = [], b""
    for guid, data in items.items():
        offset = METADATA_TABLE_SIZE + len(body)
        rows.append(_METADATA_ENTRY.pack(guid.bytes_le, offset, len(data), _ITEM_FLAGS[guid], 0))
        body += data.ljust(-(-len(data) // 16) * 16, b"\0")
    table = _METADATA_HEADER.pack(b"metadata", 0, len(rows)) + b"".join(rows)
    return table.ljust(METADATA_TABLE_SIZE, b"\0") + body


def parse_locator(data: bytes, *, path: str) -> Mapping[str, str]:
    """The keys and values of a parent locator item (section 2.6.2.6)."""
    if len(data) < _LOCATOR_HEADER.size:
        raise CorruptImageError("the parent locator is too short", path=path, found=f"{len(data)} bytes")
    kind, _, count = _LOCATOR_HEADER.unpack_from(data)
    if UUID(bytes_le=kind) != LOCATOR_TYPE:
        raise UnsupportedError("the parent locator is of an unknown type", path=path, found=UUID(bytes_le=kind))
    if _LOCATOR_HEADER.size + count * _LOCATOR_ENTRY.size > len(data):
        raise CorruptImageError("the parent locator's entries leave it", path=path, found=f"{count} entries")
    values: dict[str, str] = {}
    for index in range(count):
        place = _LOCATOR_HEADER.size + index * _LOCATOR_ENTRY.size
        key_offset, value_offset, key_length, value_length = _LOCATOR_ENTRY.unpack_from(data, place)
        key = data[key_offset : key_offset + key_length]
        value = data[value_offset : value_offset + value_length]
        if len(key) != key_length or len(value) != value_length:
            raise CorruptImageError("a parent locator entry points outside of the locator", path=path)
        try:
            values[key.decode("utf-16-le")] = value.decode("utf-16-le").rstrip("\0")
        except UnicodeDecodeError as error:
            raise CorruptImageError("a parent locator entry is not UTF-16", path=path, found=value) from error
    return values


def pack_locator(values: Mapping[str, str]) -> bytes:
    """A parent locator: pairs of texts, UTF-16 behind a table of where they lie (section 2.6.2.6)."""
    head = _LOCATOR_HEADER.pack(LOCATOR_TYPE.bytes_le, 0, len(values))
    place = len(head) + len(values) * _LOCATOR_ENTRY.size
    rows, text = b"", b""
    for key, value in values.items():
        key_bytes, value_bytes = key.encode("utf-16-le"), value.encode("utf-16-le")
        start = place + len(text)
        rows += _LOCATOR_ENTRY.pack(start, start + len(key_bytes), len(key_bytes), len(value_bytes))
        text += key_bytes + value_bytes
    return head + rows + text


def pack_identifier(creator: str) -> bytes:
    """The file type identifier (section 2.2.1) as it stands at offset 0."""
    return FILE_SIGNATURE + creator[:255].encode("utf-16-le").ljust(512, b"\0")
