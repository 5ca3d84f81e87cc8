"""The qcow2 header and its extensions: bytes to values and back, no I/O but ``read_header``.

Source: QEMU's docs/interop/qcow2.txt ("Header", "Header extensions"); caps as QEMU has them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from byre.disks.qcow2.entries import Geometry
from byre.errors import CorruptImageError, UnsupportedError
from byre.storage.base import Storage

MAGIC = b"QFI\xfb"
V2_LENGTH = 72
V3_LENGTH = 104

# Incompatible features.
DIRTY = 1 << 0
CORRUPT = 1 << 1
EXTERNAL_DATA_FILE = 1 << 2
COMPRESSION_TYPE = 1 << 3
EXTENDED_L2 = 1 << 4
KNOWN_INCOMPATIBLE = DIRTY | CORRUPT | EXTERNAL_DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2
# Compatible features.
LAZY_REFCOUNTS = 1 << 0
# Autoclear features.
BITMAPS = 1 << 0
RAW_EXTERNAL_DATA = 1 << 1
KNOWN_AUTOCLEAR = BITMAPS | RAW_EXTERNAL_DATA

CRYPT_NONE, CRYPT_AES, CRYPT_LUKS = 0, 1, 2
COMPRESSION_NAMES = {0: "zlib", 1: "zstd"}

EXT_END = 0
EXT_BACKING_FORMAT = 0xE2792ACA
EXT_FEATURE_NAMES = 0x6803F857
EXT_BITMAPS = 0x23852875
EXT_ENCRYPTION = 0x0537BE77
EXT_DATA_FILE = 0x44415441

MAX_L1_BYTES = 32 << 20
MAX_REFCOUNT_TABLE_BYTES = 8 << 20
MAX_SNAPSHOTS = 65536
MAX_BACKING_NAME = 1023
MAX_HOST_OFFSET = 1 << 56

_FIXED = struct.Struct(">4sIQIIQIIQQIIQ")
_V3_FIELDS = struct.Struct(">QQQII")
POINTERS = struct.Struct(">IQQIIQ")
"""Bytes 36 to 71: l1_size, l1_table_offset, refcount_table_offset, refcount_table_clusters, nb_snapshots,
snapshots_offset. One write of them switches the image from one set of metadata to another."""
POINTERS_OFFSET = 36

FEATURE_NAMES: tuple[tuple[int, int, str], ...] = (
    (0, 0, "dirty bit"),
    (0, 1, "corrupt bit"),
    (0, 2, "external data file"),
    (0, 3, "compression type"),
    (0, 4, "extended L2 entries"),
    (1, 0, "lazy refcounts"),
    (2, 0, "bitmaps"),
    (2, 1, "raw external data"),
)
"""(type, bit, name) rows of the feature name table that new images carry, as QEMU names them."""


@dataclass(frozen=True, slots=True)
class Extension:
    """One header extension: its type and its data without padding."""

    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Header:
    """The header of version 2 or 3. Offsets are host bytes; ``size`` is the virtual size in bytes."""

    version: int
    cluster_bits: int
    size: int
    l1_size: int
    l1_table_offset: int
    refcount_table_offset: int
    refcount_table_clusters: int
    nb_snapshots: int = 0
    snapshots_offset: int = 0
    crypt_method: int = CRYPT_NONE
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    header_length: int = 112
    compression_type: int = 0
    unknown_fields: bytes = b""
    """Header bytes past those that we know, kept as they are."""
    extensions: tuple[Extension, ...] = ()
    backing_file: bytes | None = None

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def refcount_bits(self) -> int:
        return 1 << self.refcount_order

    @property
    def geometry(self) -> Geometry:
        return Geometry(
            cluster_bits=self.cluster_bits,
            extended_l2=bool(self.incompatible & EXTENDED_L2),
            zero_flag=self.version >= 3,
            data_file=bool(self.incompatible & EXTERNAL_DATA_FILE),
        )

    @property
    def encryption(self) -> str | None:
        return {CRYPT_NONE: None, CRYPT_AES: "AES", CRYPT_LUKS: "LUKS"}[self.crypt_method]

    def extension(self, type: int) -> bytes | None:
        """The data of the first extension of this type."""
        return next((entry.data for entry in self.extensions if entry.type == type), None)

    def with_extension(self, type: int, data: bytes | None) -> Header:
        """The same header with this extension set, in its old place where it had one, or removed (None)."""
        kept = list(self.extensions)
        where = next((index for index, entry in enumerate(kept) if entry.type == type), None)
        if where is None:
            if data is not None:
                kept.append(Extension(type, data))
        elif data is None:
            del kept[where]
        else:
            kept[where] = Extension(type, data)
        return replace(self, extensions=tuple(kept))

    def pack(self) -> bytes:
        """The bytes from offset 0: header, extensions, backing name. Raises CorruptImageError where they don't
        fit into the first cluster."""
        length = V2_LENGTH if self.version == 2 else self.header_length
        parts = [b"" if self.version == 2 else self._pack_v3(length)]
        for entry in self.extensions:
            padded = entry.data + bytes(-len(entry.data) % 8)
            parts.append(struct.pack(">II", entry.type, len(entry.data)) + padded)
        parts.append(bytes(8))
        tail = b"".join(parts)
        backing_offset = V2_LENGTH + len(tail) if self.backing_file else 0
        name = self.backing_file or b""
        fixed = _FIXED.pack(
            MAGIC,
            self.version,
            backing_offset,
            len(name),
            self.cluster_bits,
            self.size,
            self.crypt_method,
            self.l1_size,
            self.l1_table_offset,
            self.refcount_table_offset,
            self.refcount_table_clusters,
            self.nb_snapshots,
            self.snapshots_offset,
        )
        packed = fixed + tail + name
        if len(packed) > self.cluster_size:
            raise CorruptImageError(
                "header, extensions and backing name don't fit into the first cluster",
                found=f"{len(packed)} bytes",
                expected=f"at most {self.cluster_size}",
            )
        return packed

    def pack_pointers(self) -> bytes:
        """Bytes 36 to 71 alone."""
        return POINTERS.pack(
            self.l1_size,
            self.l1_table_offset,
            self.refcount_table_offset,
            self.refcount_table_clusters,
            self.nb_snapshots,
            self.snapshots_offset,
        )

    def _pack_v3(self, length: int) -> bytes:
        fields = _V3_FIELDS.pack(self.incompatible, self.compatible, self.autoclear, self.refcount_order, length)
        rest = bytes([self.compression_type]) + bytes(7) + self.unknown_fields
        return fields + rest[: length - V3_LENGTH].ljust(length - V3_LENGTH, b"\0")


def feature_name_table() -> bytes:
    """The data of the feature name extension that new images carry."""
    return b"".join(bytes([kind, bit]) + name.encode().ljust(46, b"\0") for kind, bit, name in FEATURE_NAMES)


def read_header(storage: Storage) -> Header:
    """Read and parse the header of the image in ``storage``."""
    start = storage.read(0, min(storage.size, 1 << 9))
    _check_start(start, storage.name)
    bits = int.from_bytes(start[20:24], "big")
    if not 9 <= bits <= 21:
        raise CorruptImageError(
            "cluster_bits is out of range", path=storage.name, offset=20, found=bits, expected="9 to 21"
        )
    return parse_header(storage.read(0, min(storage.size, 1 << bits)), path=storage.name)


def _check_start(head: bytes, path: str) -> None:
    if not head.startswith(MAGIC):
        raise CorruptImageError("not a qcow2 image", path=path, offset=0, found=head[:4], expected=MAGIC)
    if len(head) < V2_LENGTH:
        raise CorruptImageError(
            "the file ends within the header of a qcow2 image",
            path=path,
            offset=len(head),
            found=f"{len(head)} bytes",
            expected=f"at least {V2_LENGTH}",
            hint="Get a whole copy of it.",
        )


def parse_header(head: bytes, *, path: str) -> Header:
    """The header in the first cluster ``head`` (shorter where the file is). Raises CorruptImageError for what
    breaks the format or QEMU's caps, UnsupportedError for unknown versions and incompatible features."""
    _check_start(head, path)
    fields = _FIXED.unpack_from(head)
    version, backing_offset, backing_size, bits, size, crypt = fields[1:7]
    if version not in (2, 3):
        raise UnsupportedError(
            "this version of qcow2 is unknown", path=path, offset=4, found=version, expected="2 or 3"
        )
    header = Header(
        version=version,
        cluster_bits=bits,
        size=size,
        crypt_method=crypt,
        l1_size=fields[7],
        l1_table_offset=fields[8],
        refcount_table_offset=fields[9],
        refcount_table_clusters=fields[10],
        nb_snapshots=fields[11],
        snapshots_offset=fields[12],
        header_length=V2_LENGTH,
    )
    if version == 3:
        header = _with_v3_fields(header, head, path)
    _check_fixed(header, path)
    extensions_end = backing_offset or len(head)
    header = replace(header, extensions=_parse_extensions(head, header.header_length, extensions_end, path))
    unknown = header.incompatible & ~KNOWN_INCOMPATIBLE
    if unknown:
        raise UnsupportedError(
            f"uses incompatible features that are unknown: {_feature_text(header, unknown)}", path=path, offset=72
        )
    if backing_offset:
        header = replace(header, backing_file=_parse_backing_name(head, backing_offset, backing_size, path))
    return header


def _with_v3_fields(header: Header, head: bytes, path: str) -> Header:
    if len(head) < V3_LENGTH:
        raise CorruptImageError("the header is cut short", path=path, found=f"{len(head)} bytes", expected=V3_LENGTH)
    incompatible, compatible, autoclear, order, length = _V3_FIELDS.unpack_from(head, V2_LENGTH)
    if length < V3_LENGTH or length % 8 or length > len(head):
        raise CorruptImageError(
            "header_length is wrong",
            path=path,
            offset=100,
            found=length,
            expected=f"a multiple of 8 from {V3_LENGTH} to {len(head)}",
        )
    return replace(
        header,
        incompatible=incompatible,
        compatible=compatible,
        autoclear=autoclear,
        refcount_order=order,
        header_length=length,
        compression_type=head[104] if length > V3_LENGTH else 0,
        unknown_fields=head[112:length],
    )


def _check_fixed(header: Header, path: str) -> None:
    def corrupt(what: str, offset: int, found: object, expected: object) -> CorruptImageError:
        return CorruptImageError(what, path=path, offset=offset, found=found, expected=expected)

    if not 9 <= header.cluster_bits <= 21:
        raise corrupt("cluster_bits is out of range", 20, header.cluster_bits, "9 to 21")
    if header.size >= 1 << 63:
        raise corrupt("the virtual size is out of range", 24, header.size, "less than 2^63")
    if header.crypt_method > CRYPT_LUKS:
        raise UnsupportedError("this encryption is unknown", path=path, offset=32, found=header.crypt_method)
    if header.refcount_order > 6:
        raise corrupt("refcount_order is out of range", 96, header.refcount_order, "0 to 6")
    if header.l1_size * 8 > MAX_L1_BYTES:
        raise corrupt("the L1 table is too large", 36, header.l1_size, f"at most {MAX_L1_BYTES // 8} entries")
    if header.refcount_table_clusters << header.cluster_bits > MAX_REFCOUNT_TABLE_BYTES:
        raise corrupt(
            "the refcount table is too large",
            56,
            f"{header.refcount_table_clusters} clusters",
            f"at most {MAX_REFCOUNT_TABLE_BYTES} bytes",
        )
    if header.nb_snapshots > MAX_SNAPSHOTS:
        raise corrupt("too many snapshots", 60, header.nb_snapshots, f"at most {MAX_SNAPSHOTS}")
    for offset, name, value in (
        (40, "l1_table_offset", header.l1_table_offset),
        (48, "refcount_table_offset", header.refcount_table_offset),
        (64, "snapshots_offset", header.snapshots_offset),
    ):
        if value % header.cluster_size or value >= MAX_HOST_OFFSET:
            raise corrupt(
                f"{name} is not the offset of a cluster", offset, f"{value:#x}", "a multiple of the cluster"
            )
    if bool(header.incompatible & COMPRESSION_TYPE) != (header.compression_type != 0):
        raise corrupt(
            "compression_type and its feature bit disagree", 104, header.compression_type, "both or neither"
        )
    if header.compression_type not in COMPRESSION_NAMES:
        raise UnsupportedError(
            "this compression is unknown",
            path=path,
            offset=104,
            found=header.compression_type,
            expected="zlib or zstd",
        )
    if header.incompatible & EXTENDED_L2 and header.cluster_bits < 14:
        raise corrupt("extended L2 entries need clusters of 16 KiB or more", 20, header.cluster_bits, "at least 14")


def _parse_extensions(head: bytes, start: int, end: int, path: str) -> tuple[Extension, ...]:
    if end > len(head):
        raise CorruptImageError(
            "the backing name starts past the first cluster", path=path, offset=8, found=end, expected=len(head)
        )
    found = []
    position = start
    while position + 8 <= end:
        kind, length = struct.unpack_from(">II", head, position)
        if kind == EXT_END:
            break
        position += 8
        if length > end - position:
            raise CorruptImageError(
                f"header extension {kind:#010x} is cut off",
                path=path,
                offset=position - 8,
                found=f"{length} bytes",
                expected=f"at most {end - position}",
            )
        found.append(Extension(kind, head[position : position + length]))
        position += length + -length % 8
    return tuple(found)


def _parse_backing_name(head: bytes, offset: int, size: int, path: str) -> bytes:
    if size > MAX_BACKING_NAME or offset + size > len(head):
        raise CorruptImageError(
            "the backing name is too long or leaves the first cluster",
            path=path,
            offset=8,
            found=f"{size} bytes at {offset:#x}",
            expected=f"at most {MAX_BACKING_NAME} bytes within {len(head)}",
        )
    return head[offset : offset + size]


def _feature_text(header: Header, unknown: int) -> str:
    table = header.extension(EXT_FEATURE_NAMES) or b""
    names = {}
    for at in range(0, len(table) - 47, 48):
        kind, bit = table[at], table[at + 1]
        if kind == 0:
            names[bit] = table[at + 2 : at + 48].rstrip(b"\0").decode("utf-8", "replace")
    bits = [bit for bit in range(64) if unknown >> bit & 1]
    return ", ".join(names.get(bit, f"bit {bit}") for bit in bits)
