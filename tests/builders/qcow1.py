"""qcow version 1 files put together byte by byte."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    return packer.compress(data) + packer.flush()


def build_qcow1(
    size: int,
    clusters: Mapping[int, bytes],
    *,
    packed: tuple[int, ...] = (),
    cluster_bits: int = 12,
    l2_bits: int = 9,
    backing: bytes = b"",
    crypt: int = 0,
) -> bytes:
    """``clusters`` by number; those in ``packed`` are stored as raw deflate."""
    unit = 1 << cluster_bits
    l1_entries = -(-size // (unit << l2_bits))
    l1_at = -(-(48 + len(backing)) // 8) * 8
    image = bytearray(l1_at + l1_entries * 8)
    image[:48] = struct.pack(
        ">4sIQIIQBBxxIQ",
        b"QFI\xfb",
        1,
        48 if backing else 0,
        len(backing),
        0,
        size,
        cluster_bits,
        l2_bits,
        crypt,
        l1_at,
    )
    image[48 : 48 + len(backing)] = backing
    tables: dict[int, int] = {}
    for number, data in sorted(clusters.items()):
        first, second = divmod(number, 1 << l2_bits)
        if first not in tables:
            image.extend(bytes(-len(image) % unit))
            tables[first] = len(image)
            image[l1_at + first * 8 : l1_at + first * 8 + 8] = struct.pack(">Q", len(image))
            image.extend(bytes(8 << l2_bits))
        if number in packed:
            body = deflated(data.ljust(unit, b"\0"))
            entry = 1 << 63 | len(body) << (63 - cluster_bits) | len(image)
        else:
            image.extend(bytes(-len(image) % unit))
            body = data.ljust(unit, b"\0")
            entry = len(image)
        place = tables[first] + second * 8
        image[place : place + 8] = struct.pack(">Q", entry)
        image.extend(body)
    image.extend(bytes(-len(image) % 512))
    return bytes(image)
