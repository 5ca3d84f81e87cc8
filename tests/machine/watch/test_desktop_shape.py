"""A desktop is told by its taskbar's shape, never by a colour."""

from __future__ import annotations

import numpy as np
import pytest

from builders.boot_screens import BLACK, BLUE, STOP_7B, TEAL, as_picture, blank, blue_screen, boot_font, desktop
from byre.machine.watch.desktop import has_taskbar, is_degraded
from byre.machine.watch.picture import Picture


@pytest.mark.oracle
@pytest.mark.parametrize("background", [TEAL, BLUE, BLACK])
def test_a_taskbar_is_seen_on_any_background(background: int) -> None:
    assert has_taskbar(as_picture(desktop(boot_font(), background=background)))


@pytest.mark.oracle
def test_a_taskbar_along_the_top_is_seen() -> None:
    assert has_taskbar(as_picture(desktop(boot_font())[::-1]))


@pytest.mark.oracle
def test_a_background_without_a_bar_and_a_stop_screen_are_no_desktop() -> None:
    font = boot_font()
    assert not has_taskbar(as_picture(desktop(font, taskbar=False)))
    assert not has_taskbar(as_picture(blue_screen(font, STOP_7B)))


def test_an_empty_bar_is_no_taskbar() -> None:
    canvas = blank(TEAL)
    canvas[450:] = 7
    assert not has_taskbar(as_picture(canvas))


def test_a_logon_screen_with_bars_above_and_below_is_no_desktop() -> None:
    pixels = np.zeros((600, 800, 3), np.uint8)
    pixels[:] = (90, 126, 220)
    pixels[:80] = pixels[-80:] = (0, 48, 156)
    pixels[-82:-80] = (240, 150, 60)
    pixels[-60:-30, 30:60] = (220, 80, 50)
    pixels[250:300, 450:500] = 255
    assert not has_taskbar(Picture(pixels))


def test_a_photograph_is_no_desktop() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (600, 800, 3), np.uint8)
    assert not has_taskbar(Picture(pixels))


def test_a_gradient_bar_with_a_button_and_a_clock_is_one() -> None:
    pixels = np.zeros((600, 800, 3), np.uint8)
    pixels[:] = (80, 140, 60)
    for row in range(30):
        pixels[570 + row] = (20 + row * 2, 60 + row * 3, 220 - row)
    pixels[572:598, :98] = (60, 150, 60)
    pixels[578:592, 745:780] = 255
    assert has_taskbar(Picture(pixels))
    assert not is_degraded(Picture(pixels))


def test_plain_vga_is_degraded() -> None:
    assert is_degraded(as_picture(blank(TEAL)))
    assert not has_taskbar(Picture(np.zeros((16, 16, 3), np.uint8)))
