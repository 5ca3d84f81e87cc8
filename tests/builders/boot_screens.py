"""Pictures that a machine's screen may show, drawn by ourselves: a STOP in a boot font, a desktop, nothing much.

The font comes from SeaBIOS's VGA ROM, which is on every machine with QEMU and whose glyphs are public domain; no
glyph lies in this repository. Pictures are palette numbers of VGA's 16 standard colours, 640 by 480.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from byre.machine.watch.boot_font import BootFont, find_boot_font
from byre.machine.watch.picture import Picture

Canvas = npt.NDArray[np.uint8]
ROMS = (
    "/usr/share/seabios/vgabios-stdvga.bin",
    "/usr/share/qemu/vgabios-stdvga.bin",
    "/usr/share/vgabios/vgabios.bin",
)
BLACK, BLUE, TEAL, GREY, DARK, WHITE, GREEN = 0, 1, 3, 7, 8, 15, 2
PALETTE = np.array(
    [
        *((0, 0, 0), (0, 0, 170), (0, 170, 0), (0, 170, 170), (170, 0, 0), (170, 0, 170), (170, 85, 0)),
        *((170, 170, 170), (85, 85, 85), (85, 85, 255), (85, 255, 85), (85, 255, 255), (255, 85, 85)),
        *((255, 85, 255), (255, 255, 85), (255, 255, 255)),
    ],
    np.uint8,
)
STOP_7B = (
    "A problem has been detected and Windows has been shut down to prevent damage",
    "to your computer.",
    "",
    "Technical information:",
    "",
    "*** STOP: 0x0000007B (0xF7C62524,0xC0000034,0x00000000,0x00000000)",
)
STOP_D1 = (
    "DRIVER_IRQL_NOT_LESS_OR_EQUAL",
    "",
    "*** STOP: 0x000000D1 (0x00000010,0x00000002,0x00000000,0xF7802010)",
    "",
    "***     byretest.sys - Address F7802010 base at F7800000, DateStamp 3b7d84a5",
)


def boot_font() -> BootFont:
    """Thirteen of the fourteen rows of the ROM's 8x14 font: the table that a boot video driver would hold."""
    rom = next((Path(name) for name in ROMS if Path(name).exists()), None)
    if rom is None:
        pytest.skip("SeaBIOS's VGA ROM is missing: install seabios")
    found = find_boot_font(rom.read_bytes(), height=14)
    assert found is not None, "no 8x14 font in the VGA ROM"
    return BootFont(found.rows[:, 1:].copy())


def boot_video_driver(font: BootFont, before: int = 5000) -> bytes:
    """Bytes that hold the table as a driver's data does: all 256 glyphs, something else before and behind."""
    noise = np.random.default_rng(13).integers(0, 256, before, np.uint8).tobytes()
    glyphs = np.zeros((256, font.height), np.uint8)
    glyphs[: font.rows.shape[0]] = font.rows
    return b"MZ" + noise + glyphs.tobytes() + noise


def blank(colour: int) -> Canvas:
    return np.full((480, 640), colour, np.uint8)


def draw_text(canvas: Canvas, font: BootFont, lines: Sequence[str], colour: int = WHITE, top: int = 0) -> Canvas:
    """Lines of 8 pixel wide cells, 14 pixels apart."""
    for row, line in enumerate(lines):
        for column, letter in enumerate(line[:80]):
            glyph = np.unpackbits(font.rows[ord(letter)][:, None], axis=1).astype(bool)
            cell = canvas[top + row * 14 : top + row * 14 + font.height, column * 8 : column * 8 + 8]
            cell[glyph[: cell.shape[0]]] = colour
    return canvas


def blue_screen(font: BootFont, lines: Sequence[str]) -> Canvas:
    return draw_text(blank(BLUE), font, lines)


def desktop(font: BootFont, *, background: int = TEAL, taskbar: bool = True) -> Canvas:
    """A background with two icons; along the bottom a bar of 28 pixels with a button, and a clock far right."""
    canvas = blank(background)
    for top in (20, 100):
        canvas[top : top + 32, 20:52] = WHITE
        draw_text(canvas, font, ["Icon"], WHITE, top + 36)
    if taskbar:
        canvas[452:] = GREY
        canvas[452] = WHITE
        canvas[456:478, 2:58] = WHITE
        canvas[457:477, 3:57] = GREY
        draw_text(canvas[456:478, 8:56], font, ["Start"], BLACK, 4)
        draw_text(canvas[456:478, 590:638], font, ["12:34"], BLACK, 4)
    return canvas


def as_picture(canvas: Canvas) -> Picture:
    return Picture(PALETTE[canvas])


def as_planes(canvas: Canvas) -> bytes:
    """The four bit planes of VGA mode 12h, one after the other."""
    return b"".join(np.packbits(canvas >> plane & 1, axis=1).tobytes() for plane in range(4))
