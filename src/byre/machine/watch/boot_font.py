"""Reading the text of a STOP screen: glyphs of the guest's own boot font, matched cell by cell.

Byre carries no font. NT draws its blue screen with a table of 256 glyphs, 8 pixels wide and 13 high, a byte a row,
that lies in ``bootvid.dll`` (ReactOS: the same). The table is found by what any Latin font must look like.
Cells are 8 pixels wide; lines are 14 pixels apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from byre.machine.watch.picture import Picture

GLYPHS = 128
"""Only ASCII is looked for: the STOP screen's fixed part is English in every language version."""
HEIGHT = 13
LINE_STEP = 14
WIDTH = 8
LARGEST_FILE = 8 << 20
"""A boot video driver has 10 to 30 KB; a kernel that has the driver in itself a few MB."""
_UPPER = [c for c in range(ord("A"), ord("Z") + 1) if chr(c) not in "QJ"]
_DIGITS = list(range(ord("0"), ord("9") + 1))
_LETTERS = [*range(ord("A"), ord("Z") + 1), *range(ord("a"), ord("z") + 1), *_DIGITS]
_LARGEST_SCREEN = (1024, 768)
"""The boot video driver draws in 640x480; a firmware's frame buffer may be larger."""
_MOST_COLOURS = 16
_WRONG_PIXELS = 6
"""Of 104: a cell further from every glyph is no text. Two letters of one font differ by more."""


@dataclass(frozen=True, slots=True, eq=False)
class BootFont:
    """``rows`` is (128, height): one byte a row of pixels, the leftmost in bit 7."""

    rows: npt.NDArray[np.uint8]

    @property
    def height(self) -> int:
        return int(self.rows.shape[1])


def find_boot_font(data: bytes, height: int = HEIGHT) -> BootFont | None:
    """The first table of glyphs in ``data`` that looks like a Latin font; None where there is none."""
    table = GLYPHS * height
    raw = np.frombuffer(data[:LARGEST_FILE], np.uint8)
    if raw.size < table:
        return None
    # inked[o + height] - inked[o] is the number of rows with ink in a glyph that starts at o.
    inked = np.concatenate([[0], np.cumsum(raw != 0)])
    starts = np.arange(raw.size - table + 1)

    def rows_of(code: int) -> npt.NDArray[np.int64]:
        at = starts + code * height
        counts: npt.NDArray[np.int64] = inked[at + height] - inked[at]
        return counts

    for code, least, most in (
        (ord(" "), 0, 0),
        (ord("-"), 1, 2),
        (ord("_"), 1, 2),
        (ord("."), 1, 4),
        (ord("|"), 7, height),
        *((code, 6, height) for code in (*_UPPER, *_DIGITS)),
    ):
        counts = rows_of(code)
        starts = starts[(counts >= least) & (counts <= most)]
    for start in starts[:64].tolist():
        rows = raw[start : start + table].reshape(GLYPHS, height)
        if _is_latin(rows):
            return BootFont(rows.copy())
    return None


def _is_latin(rows: npt.NDArray[np.uint8]) -> bool:
    """Capitals and digits stand on one line and reach one height; no two letters are alike; a bar is straight."""

    def edges(codes: list[int]) -> bool:
        ink = rows[codes] != 0
        top = ink.argmax(axis=1)
        bottom = ink.shape[1] - 1 - ink[:, ::-1].argmax(axis=1)
        return all(int((edge == np.bincount(edge).argmax()).sum()) >= len(codes) - 2 for edge in (top, bottom))

    bar = rows[ord("|")]
    straight = np.unique(bar[bar != 0]).size == 1
    different = np.unique(rows[_LETTERS], axis=0).shape[0]
    return straight and different >= len(_LETTERS) - 2 and edges(_UPPER) and edges(_DIGITS)


def read_boot_text(picture: Picture, font: BootFont) -> tuple[str, ...] | None:
    """The lines of a screen that is text in ``font`` on one background colour, or None where it isn't that.

    The background is the commonest colour. Cells that are no glyph become spaces; a screen of which more than a
    tenth of the inked cells is no glyph is a picture, not text.
    """
    if picture.width > _LARGEST_SCREEN[0] or picture.height > _LARGEST_SCREEN[1]:
        return None
    packed = picture.packed()
    if np.unique(packed[::5, ::3]).size > _MOST_COLOURS:  # most pictures are told apart by a part of them
        return None
    values, counts = np.unique(packed, return_counts=True)
    if not 2 <= values.size <= _MOST_COLOURS:
        return None
    ink = packed != values[counts.argmax()]
    best: tuple[int, tuple[str, ...]] | None = None
    for first in range(LINE_STEP):
        read = _read_lines(ink[first:], font)
        if read is not None and (best is None or read[0] > best[0]):
            best = read
    return best[1] if best is not None else None


def _read_lines(ink: npt.NDArray[np.bool_], font: BootFont) -> tuple[int, tuple[str, ...]] | None:
    """(characters read, lines) with the first line at the top of ``ink``; None where too little of it is text."""
    lines, columns = ink.shape[0] // LINE_STEP, ink.shape[1] // WIDTH
    if not lines or not columns:
        return None
    cells = ink[: lines * LINE_STEP, : columns * WIDTH].reshape(lines, LINE_STEP, columns, WIDTH)
    flat = cells.transpose(0, 2, 1, 3)[:, :, : font.height].reshape(lines * columns, font.height * WIDTH)
    inked = np.flatnonzero(flat.any(axis=1))
    if inked.size == 0:
        return None
    glyphs = np.unpackbits(font.rows[33:127], axis=1).astype(np.float32)
    wanted = flat[inked].astype(np.float32)
    # Pixels that differ: ink here but not there, and the other way round, as two products of matrices.
    wrong = wanted.sum(axis=1)[:, None] + glyphs.sum(axis=1)[None, :] - 2 * (wanted @ glyphs.T)
    nearest = wrong.argmin(axis=1)
    sure = wrong[np.arange(inked.size), nearest] <= _WRONG_PIXELS
    if sure.mean() < 0.9:
        return None
    codes = np.full(lines * columns, ord(" "), np.uint8)
    codes[inked[sure]] = nearest[sure] + 33
    text = tuple(bytes(row).decode("ascii").rstrip() for row in codes.reshape(lines, columns))
    return int(sure.sum()), text
