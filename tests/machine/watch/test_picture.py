"""Pictures of a guest's screen: from PPM, to PNG, and compared."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest

from builders.boot_screens import TEAL, as_picture, blank
from byre.errors import CorruptImageError
from byre.machine.watch.picture import Picture, parse_ppm, png_bytes, share_that_differs


def test_ppm_becomes_a_picture() -> None:
    picture = parse_ppm(b"P6\n2 1\n255\n" + bytes([1, 2, 3, 4, 5, 6]))
    assert (picture.width, picture.height) == (2, 1)
    assert picture.packed().tolist() == [[0x010203, 0x040506]]


@pytest.mark.parametrize(
    "data", [b"", b"P5\n2 1\n255\n", b"P6\n0 1\n255\n", b"P6\n99999 99999\n255\n", b"P6\n2 1\n255\n\1\2"]
)
def test_what_is_no_whole_ppm_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptImageError):
        parse_ppm(data)


def test_png_holds_the_same_pixels() -> None:
    picture = Picture(np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8))
    data = png_bytes(picture)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, body = 8, b""
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        content = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + content)
        body += content if kind == b"IDAT" else b""
        at += 12 + length
    rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(5, 1 + 7 * 3)
    assert not rows[:, 0].any()
    assert (rows[:, 1:].reshape(5, 7, 3) == picture.pixels).all()


def test_share_of_pixels_that_differ() -> None:
    left, right = blank(TEAL), blank(TEAL)
    right[:48] = 0
    assert share_that_differs(as_picture(left), as_picture(left)) == 0
    assert share_that_differs(as_picture(left), as_picture(right)) == pytest.approx(0.1)
    assert share_that_differs(as_picture(left), as_picture(left[:100])) == 1


def test_a_picture_of_one_colour_is_blank() -> None:
    canvas = blank(TEAL)
    assert as_picture(canvas).is_blank()
    canvas[479, 639] = 0
    assert not as_picture(canvas).is_blank()
