"""L1 and L2 entries as numpy columns: what each cluster is and where it lies. Pure.

Tables are uint64 arrays in native order (``decode_table``); with extended L2 an L2 table is two columns,
the entry and its subcluster bitmap. Source: docs/interop/qcow2.txt, "Cluster mapping", "Extended L2 Entries".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np

U64Array: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]
I64Array: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
BoolArray: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
U8Array: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]

COPIED = np.uint64(1 << 63)
COMPRESSED = np.uint64(1 << 62)
ZERO_FLAG = np.uint64(1)
OFFSET_MASK = np.uint64(0x00FF_FFFF_FFFF_FE00)
L1_RESERVED = np.uint64(0x7F00_0000_0000_01FF)
L2_RESERVED = np.uint64(0x3F00_0000_0000_01FE)
SUBCLUSTERS = 32


class ClusterType(IntEnum):
    """What an L2 entry says of its cluster."""

    UNALLOCATED = 0
    ZERO = 1
    """Reads as zeros, no host cluster."""
    ZERO_ALLOCATED = 2
    """Reads as zeros, keeps a host cluster for later."""
    DATA = 3
    COMPRESSED = 4


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes that follow from the header. All sizes in bytes."""

    cluster_bits: int
    extended_l2: bool = False
    zero_flag: bool = True
    """Version 3: bit 0 of an L2 entry means zeros (but not with extended L2)."""
    data_file: bool = False
    """Guest clusters lie in an external data file."""

    @property
    def cluster_size(self) -> int:
        return 1 << self.cluster_bits

    @property
    def l2_entry_size(self) -> int:
        return 16 if self.extended_l2 else 8

    @property
    def l2_entries(self) -> int:
        """Guest clusters that one L2 table maps."""
        return self.cluster_size // self.l2_entry_size

    @property
    def l2_coverage(self) -> int:
        """Guest bytes that one L2 table maps."""
        return self.l2_entries << self.cluster_bits

    @property
    def subcluster_size(self) -> int:
        """Without extended L2 the cluster is its own only subcluster."""
        return self.cluster_size // SUBCLUSTERS if self.extended_l2 else self.cluster_size

    @property
    def compressed_shift(self) -> int:
        """Bits of a compressed descriptor that hold the host offset: 62 − (cluster_bits − 8)."""
        return 62 - (self.cluster_bits - 8)

    def l1_entries_for(self, size: int) -> int:
        """L1 entries that a disk of ``size`` bytes needs."""
        return -(-size // self.l2_coverage)


def decode_table(data: bytes | bytearray | memoryview) -> U64Array:
    """Big-endian 8-byte entries as native uint64, a copy of its own."""
    return np.frombuffer(data, dtype=">u8").astype(np.uint64)


def encode_table(entries: U64Array) -> bytes:
    """Native entries as big-endian bytes."""
    return entries.astype(">u8").tobytes()


def classify(entries: U64Array, geometry: Geometry, bitmaps: U64Array | None = None) -> U8Array:
    """The ClusterType of each L2 entry.

    With extended L2 ``bitmaps`` must be given; a cluster then counts as DATA when it has a host cluster, as
    ZERO when it has none but some subcluster reads as zeros: look at the bitmap for the rest.
    """
    has_offset = (entries & OFFSET_MASK) != 0
    if geometry.data_file:  # offset 0 of a data file is a cluster like any other, then marked COPIED
        has_offset |= (entries & COPIED) != 0
    compressed = (entries & COMPRESSED) != 0
    kinds = np.where(has_offset, np.uint8(ClusterType.DATA), np.uint8(ClusterType.UNALLOCATED))
    if geometry.extended_l2:
        if bitmaps is None:
            raise ValueError("extended L2 entries need their bitmaps")
        some_zero = (bitmaps >> np.uint64(32)) != 0
        kinds[~has_offset & some_zero] = ClusterType.ZERO
    elif geometry.zero_flag:
        zero = (entries & ZERO_FLAG) != 0
        kinds[zero & ~has_offset] = ClusterType.ZERO
        kinds[zero & has_offset] = ClusterType.ZERO_ALLOCATED
    kinds[compressed] = ClusterType.COMPRESSED
    return kinds


def host_offsets(entries: U64Array) -> I64Array:
    """Host offsets in bytes of plain entries (of L1: of the L2 tables)."""
    return (entries & OFFSET_MASK).astype(np.int64)


def compressed_offsets(entries: U64Array, geometry: Geometry) -> I64Array:
    """Host offsets in bytes, not aligned, of compressed entries."""
    mask = np.uint64((1 << geometry.compressed_shift) - 1)
    return (entries & mask).astype(np.int64)


def compressed_lengths(entries: U64Array, geometry: Geometry) -> I64Array:
    """The most bytes that each compressed stream may take: to the end of its last 512-byte sector."""
    shift = np.uint64(geometry.compressed_shift)
    sectors_mask = np.uint64((1 << (62 - geometry.compressed_shift)) - 1)
    additional = ((entries >> shift) & sectors_mask).astype(np.int64)
    offsets = compressed_offsets(entries, geometry)
    return (additional + 1) * 512 - (offsets & 511)


def make_compressed(host: I64Array, length: I64Array, geometry: Geometry) -> U64Array:
    """Compressed L2 entries for streams of ``length`` bytes at host offset ``host``."""
    additional = ((host + length - 1) >> 9) - (host >> 9)
    shift = np.uint64(geometry.compressed_shift)
    return COMPRESSED | (additional.astype(np.uint64) << shift) | host.astype(np.uint64)
