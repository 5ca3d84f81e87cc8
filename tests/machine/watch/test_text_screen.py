"""VGA text: which part of its memory is on the screen, and whether it is at all."""

from __future__ import annotations

import numpy as np
import pytest

from builders.boot_screens import as_picture, blank
from byre.machine.watch.picture import Picture
from byre.machine.watch.text_screen import WINDOW_SIZE, read_text_screen


def window_with(lines: list[str], start: int = 0, attribute: int = 7) -> bytes:
    """32 KiB of text memory with the lines from byte ``start``, and stale text elsewhere."""
    cells = np.tile(np.frombuffer(b"s\x07t\x07a\x07l\x07e\x07 \x07", np.uint8), WINDOW_SIZE // 12 + 1)[
        :WINDOW_SIZE
    ].copy()
    for row in range(25):
        text = (lines[row] if row < len(lines) else "").ljust(80).encode("cp437")
        for column, code in enumerate(text):
            at = (start + (row * 80 + column) * 2) % WINDOW_SIZE
            cells[at : at + 2] = code, attribute
    return cells.tobytes()


def picture_of(lines: list[str], cell_width: int = 9, cell_height: int = 16) -> Picture:
    """Any glyph will do: a dot in each cell that isn't blank."""
    pixels = np.zeros((25 * cell_height, 80 * cell_width, 3), np.uint8)
    for row, line in enumerate(lines):
        for column, letter in enumerate(line):
            if letter != " ":
                pixels[row * cell_height + 4, column * cell_width + 2] = 170
    return Picture(pixels)


@pytest.mark.parametrize(("width", "height"), [(9, 16), (8, 16), (9, 14)])
def test_lines_are_read_where_picture_and_memory_agree(width: int, height: int) -> None:
    lines = ["", "NTLDR is missing", "Press Ctrl+Alt+Del to restart"]
    read = read_text_screen(window_with(lines), picture_of(lines, width, height))
    assert read is not None
    assert list(read[:3]) == lines
    assert not any(read[3:])


def test_a_screen_that_was_scrolled_by_moving_its_start_is_found() -> None:
    lines = [f"line {number}: x{'x' * number}" for number in range(25)]
    read = read_text_screen(window_with(lines, start=160 * 190), picture_of(lines))
    assert read is not None
    assert list(read) == lines


def test_stale_text_behind_a_graphics_mode_is_not_read() -> None:
    window = window_with(["NTLDR is missing"])
    assert read_text_screen(window, as_picture(blank(3))) is None
    assert read_text_screen(window, picture_of(["a quite different screen " * 3] * 20)) is None


def test_code_page_437_is_decoded_and_control_codes_become_spaces() -> None:
    lines = ["│Windows could not start│", "a b"]
    window = bytearray(window_with(lines))
    window[160 + 2] = 0x07
    read = read_text_screen(bytes(window), picture_of(lines))
    assert read is not None
    assert read[0] == lines[0]
    assert read[1] == "a b"


def test_a_short_window_is_no_screen() -> None:
    assert read_text_screen(b"", picture_of(["text"])) is None
