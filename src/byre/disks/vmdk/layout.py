"""The binary structures of a VMDK's sparse extents, as values; no I/O.

Sources: VMware's *Virtual Disk Format 5.0* technical note (hosted sparse, stream-optimised, COWD); for seSparse,
which VMware never described, the public analysis on qemu-devel of 2019. All numbers are little-endian; offsets
and sizes in headers are sectors of 512 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.errors import CorruptImageError, UnsupportedError
from byre.units import SECTOR, align_up, ceil_div, is_power_of_two

KDMV = b"KDMV"
COWD = b"COWD"
SE_CONSTANT_MAGIC = 0x00000000CAFEBABE
SE_VOLATILE_MAGIC = 0x00000000CAFECAFE
SE_VERSION = 0x0000000200000001

FLAG_NEWLINE_TEST = 1 << 0
FLAG_REDUNDANT_TABLES = 1 << 1
FLAG_ZEROED_GRAINS = 1 << 2
FLAG_COMPRESSED = 1 << 16
FLAG_MARKERS = 1 << 17

GD_AT_END = 0xFFFFFFFFFFFFFFFF
NEWLINE_TEST = b"\n \r\n"
COMPRESSION_DEFLATE = 1
GTE_ZEROED = 1
GTES_PER_GT = 512
COWD_GTES_PER_GT = 4096
SE_GTES_PER_GT = 4096

MARKER_END_OF_STREAM = 0
MARKER_GRAIN_TABLE = 1
MARKER_GRAIN_DIRECTORY = 2
MARKER_FOOTER = 3

GRAIN_MARKER = struct.Struct("<QI")
"""lba, size; the compressed data follow at once."""
_METADATA_MARKER = struct.Struct("<QII")

MAX_GRAIN_SECTORS = (16 << 20) // SECTOR
"""A grain is decompressed or copied whole; VMware's are 64 KiB, the largest seen 2 MiB."""
MAX_DIRECTORY_ENTRIES = 1 << 22
"""64 TiB of seSparse, 128 TiB of 64 KiB grains: VMware's own limit is 64 TiB."""
MAX_CAPACITY = 1 << 46
"""Sectors; far above what any grain directory within the cap can map, small enough for int64 arithmetic."""

_SPARSE = struct.Struct("<4sIIQQQQIQQQB4sH")
_COWD = struct.Struct("<4sIIIIIIII")


@dataclass(frozen=True, slots=True)
class SparseHeader:
    """The header of a hosted sparse or stream-optimised extent. Offsets and sizes in sectors."""

    version: int
    flags: int
    capacity: int
    grain_size: int
    descriptor_offset: int
    descriptor_size: int
    gtes_per_gt: int
    rgd_offset: int
    gd_offset: int
    overhead: int
    unclean_shutdown: bool
    newline_test: bytes
    compression: int

    @property
    def compressed(self) -> bool:
        return self.compression == COMPRESSION_DEFLATE

    @property
    def markers(self) -> bool:
        return bool(self.flags & FLAG_MARKERS)

    @property
    def zeroed_grains(self) -> bool:
        return bool(self.flags & FLAG_ZEROED_GRAINS)

    @property
    def redundant(self) -> bool:
        return bool(self.flags & FLAG_REDUNDANT_TABLES) and self.rgd_offset not in (0, GD_AT_END)

    @property
    def grain_tables(self) -> int:
        """How many grain tables the capacity needs: the entries of the grain directory."""
        return ceil_div(self.capacity, self.gtes_per_gt * self.grain_size)

    @property
    def grains(self) -> int:
        return ceil_div(self.capacity, self.grain_size)

    def pack(self) -> bytes:
        return _SPARSE.pack(
            KDMV,
            self.version,
            self.flags,
            self.capacity,
            self.grain_size,
            self.descriptor_offset,
            self.descriptor_size,
            self.gtes_per_gt,
            self.rgd_offset,
            self.gd_offset,
            self.overhead,
            self.unclean_shutdown,
            self.newline_test,
            self.compression,
        ).ljust(SECTOR, b"\0")


def parse_sparse_header(data: bytes, *, path: str, offset: int = 0) -> SparseHeader:
    """The header in ``data``; only what holds for itself is checked, nothing that needs the file.

    Raises CorruptImageError, and UnsupportedError for versions, compressions and grains beyond ours.
    """
    if len(data) < SECTOR or data[:4] != KDMV:
        raise CorruptImageError(
            "has no sparse extent header", path=path, offset=offset, found=data[:4], expected=KDMV.decode()
        )
    fields = _SPARSE.unpack_from(data)
    header = SparseHeader(
        *fields[1:11],  # type: ignore[misc]  # mypy can't count a slice
        unclean_shutdown=bool(fields[11]),
        newline_test=fields[12],
        compression=fields[13],
    )
    if header.version not in (1, 2, 3):
        raise UnsupportedError(
            "is of a VMDK version that isn't read here",
            path=path,
            offset=offset + 4,
            found=header.version,
            expected="1 to 3",
        )
    if header.compression not in (0, COMPRESSION_DEFLATE):
        raise UnsupportedError(
            "names an unknown compression", path=path, offset=offset + 77, found=header.compression, expected="0 or 1"
        )
    if header.capacity:  # 0 marks a mere carrier of a descriptor
        _check_geometry(header, path=path, offset=offset)
    return header


def _check_geometry(header: SparseHeader, *, path: str, offset: int) -> None:
    check_grain_size(header.grain_size, path=path, offset=offset + 20)
    if not 1 <= header.gtes_per_gt <= GTES_PER_GT:
        raise CorruptImageError(
            "has an impossible number of entries in a grain table",
            path=path,
            offset=offset + 44,
            found=header.gtes_per_gt,
            expected=f"1 to {GTES_PER_GT}",
        )
    check_capacity(header.capacity, header.gtes_per_gt * header.grain_size, path=path, offset=offset + 12)


def check_grain_size(grain_size: int, *, path: str, offset: int) -> None:
    """Raises CorruptImageError or UnsupportedError for a grain size in sectors that isn't read here."""
    if not is_power_of_two(grain_size):
        raise CorruptImageError(
            "has an impossible grain size", path=path, offset=offset, found=grain_size, expected="a power of two"
        )
    if grain_size > MAX_GRAIN_SECTORS:
        raise UnsupportedError(
            "has larger grains than any VMware product makes",
            path=path,
            offset=offset,
            found=f"{grain_size} sectors",
            expected=f"at most {MAX_GRAIN_SECTORS}",
        )


def check_capacity(capacity: int, table_covers: int, *, path: str, offset: int) -> None:
    """Raises UnsupportedError where a capacity takes too many grain tables; both in sectors."""
    if capacity > MAX_CAPACITY or ceil_div(capacity, table_covers) > MAX_DIRECTORY_ENTRIES:
        raise UnsupportedError(
            "needs a larger grain directory than is read here",
            path=path,
            offset=offset,
            found=f"{capacity} sectors, {ceil_div(capacity, table_covers)} grain tables",
            expected=f"at most {MAX_DIRECTORY_ENTRIES} grain tables",
        )


@dataclass(frozen=True, slots=True)
class CowdHeader:
    """The header of a COWD (vmfsSparse) extent. Offsets and sizes in sectors."""

    version: int
    flags: int
    capacity: int
    grain_size: int
    gd_offset: int
    gd_entries: int
    free_sector: int
    unclean_shutdown: bool


COWD_BYTES = 2048
_COWD_UNCLEAN = 1648


def parse_cowd_header(data: bytes, *, path: str) -> CowdHeader:
    """The header of an ESX COW extent. Raises CorruptImageError and UnsupportedError."""
    if len(data) < COWD_BYTES or data[:4] != COWD:
        raise CorruptImageError("has no COWD header", path=path, offset=0, found=data[:4], expected=COWD.decode())
    _, version, flags, capacity, grain_size, gd_offset, entries, free, _ = _COWD.unpack_from(data)
    if version != 1:
        raise UnsupportedError("is of an unknown COWD version", path=path, offset=4, found=version, expected=1)
    check_grain_size(grain_size, path=path, offset=16)
    if not capacity:
        raise CorruptImageError("has a capacity of nothing", path=path, offset=12)
    check_capacity(capacity, grain_size * COWD_GTES_PER_GT, path=path, offset=12)
    needed = ceil_div(capacity, grain_size * COWD_GTES_PER_GT)
    if entries < needed:
        raise CorruptImageError(
            "has too small a grain directory for its capacity",
            path=path,
            offset=24,
            found=f"{entries} entries",
            expected=f"at least {needed}",
        )
    unclean = bool(struct.unpack_from("<I", data, _COWD_UNCLEAN)[0])
    return CowdHeader(version, flags, capacity, grain_size, gd_offset, needed, free, unclean)


@dataclass(frozen=True, slots=True)
class SeSparseHeader:
    """The constant header of a seSparse extent, as far as reading needs it. Offsets and sizes in sectors."""

    capacity: int
    grain_size: int
    volatile_offset: int
    gd_offset: int
    gd_sectors: int
    tables_offset: int
    tables_sectors: int
    grains_offset: int
    grains_sectors: int


def parse_se_header(data: bytes, *, path: str) -> SeSparseHeader:
    """Strict where the format's meaning isn't public: whatever isn't known to mean nothing is unsupported."""
    fields = struct.unpack_from("<26Q", data) if len(data) >= SECTOR else ()
    if not fields or fields[0] != SE_CONSTANT_MAGIC:
        raise CorruptImageError("has no seSparse header", path=path, offset=0, found=data[:8])
    known = {1: SE_VERSION, 3: 8, 4: 64, 5: 0, 6: 0, 7: 0, 8: 0, 9: 0}
    for index, value in known.items():
        if fields[index] != value:
            raise UnsupportedError(
                "is a seSparse extent of a kind that isn't known",
                path=path,
                offset=index * 8,
                found=hex(fields[index]),
                expected=hex(value),
            )
    capacity = fields[2]
    if not capacity:
        raise CorruptImageError("has a capacity of nothing", path=path, offset=16)
    check_capacity(capacity, 8 * SE_GTES_PER_GT, path=path, offset=16)
    if any(value > MAX_CAPACITY for value in fields[10:26]):
        raise CorruptImageError("places its tables beyond any file", path=path, offset=80)
    needed = ceil_div(capacity, 8 * SE_GTES_PER_GT)
    if fields[17] * (SECTOR // 8) < needed:
        raise CorruptImageError(
            "has too small a grain directory for its capacity",
            path=path,
            offset=17 * 8,
            found=f"{fields[17]} sectors",
            expected=f"{ceil_div(needed * 8, SECTOR)} sectors",
        )
    return SeSparseHeader(
        capacity, 8, fields[10], fields[16], fields[17], fields[18], fields[19], fields[24], fields[25]
    )


def check_se_volatile(data: bytes, *, path: str, offset: int) -> None:
    """Refuse a seSparse extent whose journal must be replayed first."""
    magic, _, _, replay = struct.unpack_from("<4Q", data)
    if magic != SE_VOLATILE_MAGIC:
        raise CorruptImageError("has no volatile seSparse header", path=path, offset=offset, found=hex(magic))
    if replay:
        raise UnsupportedError(
            "is a seSparse extent with a journal that was never replayed",
            path=path,
            offset=offset + 24,
            hint="Let ESXi open it once (vmkfstools -x repair), or consolidate the snapshot there.",
        )


@dataclass(frozen=True, slots=True)
class SparseLayout:
    """Where a new hosted sparse extent keeps its metadata. Sectors; ``overhead`` is where grains begin."""

    rgd_offset: int
    first_redundant_table: int
    gd_offset: int
    first_table: int
    overhead: int
    tables: int
    table_sectors: int


def plan_layout(capacity: int, grain_size: int, descriptor_sectors: int) -> SparseLayout:
    """Header, descriptor, redundant directory and tables, directory and tables, then grains on a grain boundary."""
    tables = ceil_div(capacity, GTES_PER_GT * grain_size)
    table_sectors = ceil_div(GTES_PER_GT * 4, SECTOR)
    directory = ceil_div(tables * 4, SECTOR)
    rgd = 1 + descriptor_sectors
    first_redundant = rgd + directory
    gd = first_redundant + tables * table_sectors
    first = gd + directory
    overhead = align_up(first + tables * table_sectors, grain_size)
    return SparseLayout(rgd, first_redundant, gd, first, overhead, tables, table_sectors)


def metadata_marker(sectors: int, kind: int) -> bytes:
    """One sector that says: so many sectors of that kind follow."""
    return _METADATA_MARKER.pack(sectors, 0, kind).ljust(SECTOR, b"\0")


def parse_marker(data: bytes) -> tuple[int, int, int]:
    """(value, size, type) of a marker; the type means something only where the size is 0."""
    value, size, kind = _METADATA_MARKER.unpack_from(data)
    return value, size, kind
