"""A picture of the guest's screen: from QEMU's PPM, to PNG, and how two of them differ. Pure."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from byre.errors import CorruptImageError

Pixels = npt.NDArray[np.uint8]
LARGEST = 4096
"""Pixels a side. The guest chooses its screen's size; no VGA of QEMU's goes beyond this."""
_PPM_HEADER = re.compile(rb"P6\s+(?:#[^\n]*\n\s*)*(\d{1,5})\s+(\d{1,5})\s+255\s")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One screen: ``pixels`` is (height, width, 3), red, green, blue."""

    pixels: Pixels

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def packed(self) -> npt.NDArray[np.uint32]:
        """(height, width): one number a colour, 0xRRGGBB."""
        wide = self.pixels.astype(np.uint32)
        return (wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]).astype(np.uint32)

    def is_blank(self) -> bool:
        """Whether there is one colour only."""
        return bool((self.pixels == self.pixels[0, 0]).all())


def parse_ppm(data: bytes) -> Picture:
    """A binary PPM (P6, 8 bits) as QMP ``screendump`` writes it. CorruptImageError if it isn't one."""
    header = _PPM_HEADER.match(data[:256])
    if header is None:
        raise CorruptImageError("a screenshot is no binary PPM", found=data[:16], expected="P6 WIDTH HEIGHT 255")
    width, height = int(header[1]), int(header[2])
    if not (0 < width <= LARGEST and 0 < height <= LARGEST):
        raise CorruptImageError("a screenshot has an impossible size", found=f"{width}x{height}")
    body = data[header.end() :]
    if len(body) < width * height * 3:
        raise CorruptImageError("a screenshot is cut short", found=len(body), expected=width * height * 3)
    flat = np.frombuffer(body, np.uint8, width * height * 3)
    return Picture(flat.reshape(height, width, 3))


def png_bytes(picture: Picture) -> bytes:
    """The picture as a PNG file (8-bit truecolour, no filter)."""
    rows = np.zeros((picture.height, 1 + picture.width * 3), np.uint8)
    rows[:, 1:] = picture.pixels.reshape(picture.height, -1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    packed = zlib.compress(rows.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def share_that_differs(left: Picture, right: Picture) -> float:
    """The share of pixels that differ, 0 to 1; pictures of different sizes differ wholly."""
    if left.pixels.shape != right.pixels.shape:
        return 1.0
    return float(np.any(left.pixels != right.pixels, axis=2).mean())
