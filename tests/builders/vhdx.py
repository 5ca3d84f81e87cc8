"""VHDX files put together byte by byte from [MS-VHDX], sharing no code with the reader under test."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

MIB = 1 << 20
NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULLY, PARTIALLY = 0, 1, 2, 3, 6, 7

BAT = UUID("2DC27766-F623-4200-9D64-115E9BFD4A08")
METADATA = UUID("8B7CA206-4790-4B9A-B8FE-575F050F886E")
FILE_PARAMETERS = UUID("CAA16737-FA36-4D43-B3B6-33F0AA44E76B")
DISK_SIZE = UUID("2FA54224-CD1B-4876-B211-5DBED83BF4B8")
DISK_ID = UUID("BECA12AB-B2E6-4523-93EF-C309E000C746")
LOGICAL = UUID("8141BF1D-A96F-4709-BA47-F233A8FAAB5F")
PHYSICAL = UUID("CDA348C7-445D-4471-9CC9-E9885251C556")
LOCATOR = UUID("A8D35F2D-B30B-454D-ABF7-D3D84834AB0C")
LOCATOR_TYPE = UUID("B04AEFB7-D19E-4A81-B789-25B8E9445913")

LOG_AT, METADATA_AT, BAT_AT, DATA_AT = MIB, 2 * MIB, 3 * MIB, 4 * MIB
DATA_GUID = UUID("11111111-2222-3333-4444-555555555555")
LOG_GUID = UUID("99999999-8888-7777-6666-555555555555")
NO_GUID = UUID(int=0)


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """The textbook loop."""
    register = 0xFFFFFFFF
    for byte in data:
        register = _TABLE[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


def sealed(data: bytes) -> bytes:
    """With its CRC-32C at offset 4."""
    clean = data[:4] + bytes(4) + data[8:]
    return clean[:4] + struct.pack("<I", crc32c(clean)) + clean[8:]


def header(
    sequence: int,
    *,
    data_guid: UUID = DATA_GUID,
    log_guid: UUID = NO_GUID,
    version: int = 1,
    log_version: int = 0,
    log_length: int = MIB,
    log_offset: int = LOG_AT,
) -> bytes:
    fields = struct.pack(
        "<4sIQ16s16s16sHHIQ",
        b"head",
        0,
        sequence,
        UUID(int=7).bytes_le,
        data_guid.bytes_le,
        log_guid.bytes_le,
        log_version,
        version,
        log_length,
        log_offset,
    )
    return sealed(fields.ljust(4096, b"\0"))


def region_table(regions: Sequence[tuple[UUID, int, int, int]]) -> bytes:
    rows = b"".join(struct.pack("<16sQII", guid.bytes_le, *rest) for guid, *rest in regions)
    return sealed((struct.pack("<4sIII", b"regi", 0, len(regions), 0) + rows).ljust(65536, b"\0"))


def locator(values: Mapping[str, str], *, kind: UUID = LOCATOR_TYPE) -> bytes:
    place = 20 + 12 * len(values)
    rows = text = b""
    for key, value in values.items():
        raw_key, raw_value = key.encode("utf-16-le"), value.encode("utf-16-le")
        start = place + len(text)
        rows += struct.pack("<IIHH", start, start + len(raw_key), len(raw_key), len(raw_value))
        text += raw_key + raw_value
    return struct.pack("<16sHH", kind.bytes_le, 0, len(values)) + rows + text


def metadata(items: Sequence[tuple[UUID, bytes, int]]) -> bytes:
    """Table and items; each item is its GUID, its bytes and its flags."""
    rows = body = b""
    for guid, data, flags in items:
        rows += struct.pack("<16sIIII", guid.bytes_le, 65536 + len(body), len(data), flags, 0)
        body += data
    return (struct.pack("<8sHH20x", b"metadata", 0, len(items)) + rows).ljust(65536, b"\0") + body


def log_entry(
    guid: UUID,
    sequence: int,
    tail: int,
    writes: Sequence[tuple[int, bytes | int]],
    *,
    flushed: int,
    last: int,
) -> bytes:
    """One entry. A write is a file offset and 4096 bytes, or a number of bytes of zeros."""
    rows = sectors = b""
    for offset, what in writes:
        if isinstance(what, int):
            rows += struct.pack("<4s4xQQQ", b"zero", what, offset, sequence)
            continue
        rows += struct.pack("<4s4s8sQQ", b"desc", what[4092:], what[:8], offset, sequence)
        high, low = sequence >> 32, sequence & 0xFFFFFFFF
        sectors += struct.pack("<4sI", b"data", high) + what[8:4092] + struct.pack("<I", low)
    size = -(-(64 + len(rows)) // 4096) * 4096
    head = struct.pack(
        "<4sIIIQII16sQQ",
        b"loge",
        0,
        size + len(sectors),
        tail,
        sequence,
        len(writes),
        0,
        guid.bytes_le,
        flushed,
        last,
    )
    return sealed((head + rows).ljust(size, b"\0") + sectors)


@dataclass
class Vhdx:
    """A file to be built: change what should be odd about it, then ``build``. Mutable on purpose."""

    size: int
    block_size: int = MIB
    sector_size: int = 512
    parent: Mapping[str, str] | None = None
    data_guid: UUID = DATA_GUID
    log_guid: UUID = NO_GUID
    log: dict[int, bytes] = field(default_factory=dict)
    """Offset in the log -> bytes there."""
    bitmaps: dict[int, bytes] = field(default_factory=dict)
    """Chunk -> its mebibyte of sector bitmap."""
    flags: int = 0
    extra_regions: list[tuple[UUID, int, int, int]] = field(default_factory=list)
    extra_items: list[tuple[UUID, bytes, int]] = field(default_factory=list)
    physical_size: int = 512
    bat: dict[int, int] = field(default_factory=dict)
    """BAT index -> raw entry."""
    data: dict[int, bytes] = field(default_factory=dict)
    """File offset -> bytes."""
    _next: int = DATA_AT

    @property
    def ratio(self) -> int:
        return (self.sector_size << 23) // self.block_size

    def index(self, block: int) -> int:
        return block + block // self.ratio

    def block(self, block: int, data: bytes, state: int = FULLY) -> int:
        """Put a block into the file; returns its file offset."""
        offset = self._next
        self.data[offset] = data.ljust(self.block_size, b"\0")
        self.bat[self.index(block)] = offset | state
        self._next += self.block_size
        return offset

    def partial(self, block: int, sectors: Mapping[int, bytes], *, filler: bytes = b"\xee") -> int:
        """A block of which only these sectors count; the others are filled with something else."""
        body = bytearray(filler * self.block_size)
        per_block = self.block_size // self.sector_size
        chunk, within = divmod(block, self.ratio)
        bits = bytearray(self.bitmaps.get(chunk, bytes(MIB)))
        for number, content in sectors.items():
            body[number * self.sector_size : (number + 1) * self.sector_size] = content
            bit = within * per_block + number
            bits[bit // 8] |= 1 << bit % 8
        self.bitmaps[chunk] = bytes(bits)
        return self.block(block, bytes(body), PARTIALLY)

    def state(self, block: int, state: int) -> None:
        self.bat[self.index(block)] = state

    def items(self) -> list[tuple[UUID, bytes, int]]:
        flags = self.flags | (2 if self.parent is not None else 0)
        found = [
            (FILE_PARAMETERS, struct.pack("<II", self.block_size, flags), 4),
            (DISK_SIZE, struct.pack("<Q", self.size), 6),
            (DISK_ID, UUID(int=42).bytes_le, 6),
            (LOGICAL, struct.pack("<I", self.sector_size), 6),
            (PHYSICAL, struct.pack("<I", self.physical_size), 6),
        ]
        if self.parent is not None:
            found.append((LOCATOR, locator(self.parent), 4))
        return found + self.extra_items

    def build(self) -> bytes:
        for chunk, bits in self.bitmaps.items():
            index = (chunk + 1) * (self.ratio + 1) - 1
            if index not in self.bat:
                self.data[self._next] = bits
                self.bat[index] = self._next | 6
                self._next += MIB
        image = bytearray(self._next)

        def put(offset: int, data: bytes) -> None:
            if len(image) < offset + len(data):
                image.extend(bytes(offset + len(data) - len(image)))
            image[offset : offset + len(data)] = data

        put(0, b"vhdxfile" + "byte by byte".encode("utf-16-le"))
        put(64 << 10, header(1, data_guid=self.data_guid))
        put(128 << 10, header(2, data_guid=self.data_guid, log_guid=self.log_guid))
        regions = region_table([(BAT, BAT_AT, MIB, 1), (METADATA, METADATA_AT, MIB, 1), *self.extra_regions])
        put(192 << 10, regions)
        put(256 << 10, regions)
        for offset, data in self.log.items():
            put(LOG_AT + offset, data)
        put(METADATA_AT, metadata(self.items()))
        for index, entry in self.bat.items():
            put(BAT_AT + index * 8, struct.pack("<Q", entry))
        for offset, data in self.data.items():
            put(offset, data)
        return bytes(image)


def child_of(name: str, *, linkage: UUID = DATA_GUID, **more: str) -> dict[str, str]:
    """A parent locator as Hyper-V writes it."""
    return {
        "parent_linkage": f"{{{linkage}}}",
        "relative_path": f".\\{name}",
        "absolute_win32_path": f"C:\\VMs\\{name}",
        **more,
    }
