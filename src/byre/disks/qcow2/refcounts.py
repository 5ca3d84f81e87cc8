"""Refcount entries of 1 to 64 bits as numpy columns. Pure.

Entries narrower than a byte are packed least significant first; wider ones are big-endian.
Source: docs/interop/qcow2.txt, "Refcount management".
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from byre.disks.qcow2.entries import U8Array, U64Array

UnsignedArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]

TABLE_OFFSET_MASK = np.uint64(0xFFFF_FFFF_FFFF_FE00)
TABLE_RESERVED = np.uint64(0x1FF)
_NATIVE = {3: "u1", 4: ">u2", 5: ">u4", 6: ">u8"}


def block_entries(cluster_bits: int, order: int) -> int:
    """Clusters that one refcount block counts."""
    return (1 << cluster_bits) * 8 >> order


def unpack_refcounts(block: bytes | bytearray | memoryview, order: int) -> U64Array:
    """The refcounts in one or more whole blocks; ``1 << order`` bits each."""
    wide: U64Array = unpack_narrow(block, order).astype(np.uint64)
    return wide


def unpack_narrow(block: bytes | bytearray | memoryview, order: int) -> UnsignedArray:
    """As ``unpack_refcounts``, in the smallest type that holds them: a block of single bits in 2 MiB has 16
    million, and eight bytes for each would be 128 MiB."""
    if order >= 3:
        return np.frombuffer(block, dtype=_NATIVE[order]).astype(narrow_type(order))
    width = 1 << order
    packed = np.frombuffer(block, dtype=np.uint8)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    return ((packed[:, None] >> shifts) & np.uint8((1 << width) - 1)).reshape(-1)


def narrow_type(order: int) -> np.dtype[Any]:
    """The smallest type for refcounts of ``1 << order`` bits."""
    return np.dtype(f"u{max(1, (1 << order) // 8)}")


def pack_refcounts(values: U64Array, order: int) -> bytes:
    """The bytes of refcounts; the number of values must fill whole bytes, and each must fit its width."""
    if order >= 3:
        return values.astype(_NATIVE[order]).tobytes()
    width = 1 << order
    per_byte = 8 // width
    grouped = values.astype(np.uint8).reshape(-1, per_byte)
    shifts = np.arange(0, 8, width, dtype=np.uint8)
    packed: U8Array = np.bitwise_or.reduce(grouped << shifts, axis=1).astype(np.uint8)
    return packed.tobytes()


def max_refcount(order: int) -> int:
    """The largest refcount that fits."""
    return (1 << (1 << order)) - 1
