"""Whether a picture has the shape of a desktop: a taskbar along an edge. Shape only, never a colour."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from byre.machine.watch.picture import Picture

HEIGHTS = range(22, 66)
"""Pixels: the classic bar has 28, XP's 30, large fonts and two rows up to 60."""
DEGRADED = (640, 480)
"""A screen no larger than this is VGA without a driver: the desktop is there, but not as it should be."""


def has_taskbar(picture: Picture) -> bool:
    """A bar from side to side along the bottom or the top: an edge above it, its rows even, something at its start
    and, with room between, something more (a clock, a button, a window's name)."""
    if picture.height < 300 or picture.width < 400:
        return False
    packed = picture.packed()
    return _bar_below(packed) or _bar_below(packed[::-1])


def is_degraded(picture: Picture) -> bool:
    """Whether the desktop runs in plain VGA resolution."""
    return picture.width <= DEGRADED[0] and picture.height <= DEGRADED[1]


def _bar_below(packed: npt.NDArray[np.uint32]) -> bool:
    height, width = packed.shape
    for bar in HEIGHTS:
        top = height - bar
        if float((packed[top - 1] != packed[top]).mean()) < 0.9:
            continue
        # The line above a bar is a part of the desktop, not of a window's border that runs through the screen.
        strip = packed[top:]
        common = np.array([_commonest(row) for row in strip], np.uint32)
        inked = strip != common[:, None]
        even = float((inked.mean(axis=1) < 0.6).mean())
        start = float(inked[:, : max(48, width // 8)].mean())
        rest = int(inked[:, max(48, width // 8) :].sum())
        if even >= 0.9 and start >= 0.04 and rest >= 20 and float(inked.mean()) < 0.5:
            return True
    return False


def _commonest(row: npt.NDArray[np.uint32]) -> int:
    values, counts = np.unique(row, return_counts=True)
    return int(values[counts.argmax()])
