"""A picture of the guest's screen as an array, and how two of them differ. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from byre.machine import picture as files

Pixels = npt.NDArray[np.uint8]


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
    """A binary PPM as QMP ``screendump`` writes it. CorruptImageError if it isn't one."""
    found = files.parse_ppm(data)
    return Picture(np.frombuffer(found.pixels, np.uint8).reshape(found.height, found.width, 3))


def png_bytes(picture: Picture) -> bytes:
    """The picture as a PNG file."""
    return files.encode_png(files.Picture(picture.width, picture.height, picture.pixels.tobytes()))


def share_that_differs(left: Picture, right: Picture) -> float:
    """The share of pixels that differ, 0 to 1; pictures of different sizes differ wholly."""
    if left.pixels.shape != right.pixels.shape:
        return 1.0
    return float(np.any(left.pixels != right.pixels, axis=2).mean())
