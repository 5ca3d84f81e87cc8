"""Reading a STOP screen with the guest's own font. The font is that of a VGA ROM: see builders/boot_screens.py."""

from __future__ import annotations

import numpy as np
import pytest

from builders.boot_screens import (
    STOP_7B,
    STOP_D1,
    TEAL,
    as_picture,
    blank,
    blue_screen,
    boot_font,
    boot_video_driver,
    desktop,
    draw_text,
)
from byre.machine.watch.boot_font import find_boot_font, read_boot_text

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("before", [0, 1, 4999])
def test_the_table_is_found_among_other_bytes(before: int) -> None:
    font = boot_font()
    found = find_boot_font(boot_video_driver(font, before))
    assert found is not None
    assert (found.rows == font.rows).all()


def test_no_table_is_seen_in_noise_zeros_or_too_little() -> None:
    noise = np.random.default_rng(5).integers(0, 256, 200_000, np.uint8)
    sparse = np.where(np.random.default_rng(6).random(200_000) < 0.5, noise, 0).astype(np.uint8)
    for data in (noise.tobytes(), sparse.tobytes(), bytes(200_000), b"\x18" * 200_000, b"MZ", b""):
        assert find_boot_font(data) is None


@pytest.mark.parametrize("lines", [STOP_7B, STOP_D1])
def test_every_character_of_a_stop_screen_is_read(lines: tuple[str, ...]) -> None:
    font = boot_font()
    read = read_boot_text(as_picture(blue_screen(font, lines)), font)
    assert read is not None
    assert read[: len(lines)] == lines


def test_text_that_begins_between_two_lines_is_read() -> None:
    font = boot_font()
    read = read_boot_text(as_picture(draw_text(blank(1), font, STOP_7B, top=9)), font)
    assert read is not None
    assert STOP_7B[0] in read


def test_a_few_wrong_pixels_do_no_harm() -> None:
    font = boot_font()
    canvas = blue_screen(font, STOP_7B)
    rng = np.random.default_rng(3)
    for _ in range(60):
        canvas[rng.integers(0, 80), rng.integers(0, 600)] = 15
    read = read_boot_text(as_picture(canvas), font)
    assert read is not None
    assert STOP_7B[5] in read


@pytest.mark.parametrize("background", [1, TEAL])
def test_a_desktop_is_no_text(background: int) -> None:
    font = boot_font()
    assert read_boot_text(as_picture(desktop(font, background=background)), font) is None


def test_an_empty_screen_is_no_text() -> None:
    assert read_boot_text(as_picture(blank(1)), boot_font()) is None
