"""What a VGA text mode shows, read from its memory and held against the picture.

Text memory alone doesn't say what is on the screen: in a graphics mode it holds stale text, and a Linux console
scrolls by moving the start of the screen through the 32 KiB window instead of moving the text. So the start is the
one at which blank and written cells agree with the picture; none agrees where the screen isn't text.
Source: IBM VGA text modes: two bytes a cell, the character in code page 437, then its attribute.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from byre.machine.watch.picture import Picture

WINDOW_START = 0xB8000
WINDOW_SIZE = 0x8000
"""Where the text memory lies, and how much of it there is (physical address, bytes)."""
COLUMNS = 80
CELL_WIDTHS = (9, 8)
CELL_HEIGHTS = (16, 14, 8)
AGREEMENT = 0.97
"""Share of cells that must agree. The caret and the blink of a cell or two may not: 3% of 2000 cells is 60."""
# The lower 32 codes show glyphs too; none of them is part of a word.
_CHARACTERS = np.array(
    [chr(c) if 32 <= c < 127 else bytes([c]).decode("cp437") if c > 127 else " " for c in range(256)]
)


def may_be_text(picture: Picture) -> bool:
    """Whether a VGA text mode has that size; a graphics mode of these systems never has."""
    return any(picture.width == COLUMNS * width for width in CELL_WIDTHS) and picture.height in (350, 400)


def decode_cells(window: bytes, start: int, rows: int) -> tuple[str, ...]:
    """The lines of ``rows`` rows from byte ``start`` of the window, which wraps; trailing spaces are gone."""
    cells = np.frombuffer(window, np.uint8)[0::2]
    if cells.size == 0:
        return ()
    at = (start // 2 + np.arange(rows * COLUMNS)) % cells.size
    letters = _CHARACTERS[cells[at]].reshape(rows, COLUMNS)
    return tuple("".join(row).rstrip() for row in letters)


def read_text_screen(window: bytes, picture: Picture) -> tuple[str, ...] | None:
    """The lines on the screen, or None where the picture is no text mode or isn't what the memory holds."""
    for cell_height in CELL_HEIGHTS:
        for cell_width in CELL_WIDTHS:
            if picture.width != COLUMNS * cell_width or picture.height % cell_height:
                continue
            rows = picture.height // cell_height
            if not 25 <= rows <= 60:
                continue
            start = _start_of_screen(window, _written(picture, rows, cell_width, cell_height))
            if start is not None:
                return decode_cells(window, start, rows)
    return None


def _written(picture: Picture, rows: int, cell_width: int, cell_height: int) -> npt.NDArray[np.bool_]:
    """(rows * columns): whether a cell of the picture has more than one colour."""
    cells = picture.packed().reshape(rows, cell_height, COLUMNS, cell_width)
    different: npt.NDArray[np.bool_] = np.any(cells != cells[:, :1, :, :1], axis=(1, 3))
    return different.reshape(-1)


def _start_of_screen(window: bytes, written: npt.NDArray[np.bool_]) -> int | None:
    """The byte offset in the window at which memory and picture agree best, the first of equals."""
    if len(window) < WINDOW_SIZE:
        return None
    pairs = np.frombuffer(window, np.uint8, WINDOW_SIZE).reshape(-1, 2)
    character, attribute = pairs[:, 0], pairs[:, 1]
    # NUL, space and the full block show one colour, as does a character in its background's own colour.
    hidden = (attribute & 15) == (attribute >> 4)
    shown = ~np.isin(character, (0, 32, 255, 0xDB)) & ~hidden
    best, found = 0.0, None
    for first in range(0, pairs.shape[0], COLUMNS):
        agreement = float((np.take(shown, np.arange(first, first + written.size), mode="wrap") == written).mean())
        if agreement > best:
            best, found = agreement, first * 2
    return found if best >= AGREEMENT else None
