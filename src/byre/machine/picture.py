"""A screen as QEMU dumps it (PPM), and as PNG."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from byre.errors import CorruptImageError

MAX_SIDE = 16_384
_HEAD = re.compile(rb"P6\s+(\d{1,6})\s+(\d{1,6})\s+255\s")


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows from the top, three bytes (red, green, blue) a pixel."""

    width: int
    height: int
    pixels: bytes


def parse_ppm(data: bytes, *, path: str = "screen") -> Picture:
    """A binary PPM with 8 bits a channel."""
    match = _HEAD.match(data)
    if match is None:
        raise CorruptImageError("isn't a PPM picture", path=path, found=data[:16])
    width, height = int(match[1]), int(match[2])
    if not 0 < width <= MAX_SIDE or not 0 < height <= MAX_SIDE:
        raise CorruptImageError("is a picture of impossible size", path=path, found=f"{width}x{height}")
    pixels = data[match.end() : match.end() + width * height * 3]
    if len(pixels) < width * height * 3:
        raise CorruptImageError(
            "the picture ends too early", path=path, found=len(pixels), expected=width * height * 3
        )
    return Picture(width, height, pixels)


def encode_png(picture: Picture) -> bytes:
    """The picture as PNG (ISO/IEC 15948), without filters: screens are flat, deflate is enough."""
    stride = picture.width * 3
    rows = b"".join(
        b"\0" + picture.pixels[start : start + stride] for start in range(0, stride * picture.height, stride)
    )
    head = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
