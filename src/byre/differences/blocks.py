"""Which bytes of two disks can differ at all, and whether they do: read only when asked, only where needed."""

from __future__ import annotations

import numpy as np

from byre.convert.compare import stored_apart
from byre.disks.disk import Disk
from byre.disks.writer import Int64Array

STEP = 1 << 20
"""Bytes of each disk that are read at a time; a comparison ends at the first step that differs."""


class Blocks:
    """The ranges of two disks that are stored apart. Mutable: it counts what it reads.

    Offsets are guest bytes of the whole disk; past the end of the shorter disk there are zeros.
    """

    def __init__(self, first: Disk, second: Disk) -> None:
        self.first = first
        self.second = second
        self.apart: Int64Array = stored_apart(first, second)
        self._starts = np.ascontiguousarray(self.apart[:, 0])
        self._stops = np.ascontiguousarray(self.apart[:, 1])
        self.bytes_compared = 0

    @property
    def bytes_apart(self) -> int:
        return int((self._stops - self._starts).sum())

    def touches(self, start: int, stop: int) -> bool:
        """Whether any byte of ``[start, stop)`` may differ."""
        at = int(np.searchsorted(self._stops, start, side="right"))
        return at < len(self._starts) and int(self._starts[at]) < stop

    def within(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The parts of ``[start, stop)`` that may differ."""
        low = int(np.searchsorted(self._stops, start, side="right"))
        high = int(np.searchsorted(self._starts, stop, side="left"))
        return [(max(a, start), min(b, stop)) for a, b in self.apart[low:high].tolist()]

    def differ(self, start: int, stop: int) -> bool:
        """Whether ``[start, stop)`` differs, byte for byte."""
        for low, high in self.within(start, stop):
            for position in range(low, high, STEP):
                length = min(STEP, high - position)
                self.bytes_compared += length
                if _padded(self.first, position, length) != _padded(self.second, position, length):
                    return True
        return False

    def differing(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The steps of ``[start, stop)`` that differ, neighbours joined: for space that belongs to no file."""
        found: list[tuple[int, int]] = []
        for low, high in self.within(start, stop):
            for position in range(low, high, STEP):
                end = min(position + STEP, high)
                if self.differ(position, end):
                    if found and found[-1][1] == position:
                        found[-1] = (found[-1][0], end)
                    else:
                        found.append((position, end))
        return found


def _padded(disk: Disk, start: int, length: int) -> bytes:
    held = max(0, min(length, disk.size - start))
    data = disk.read(start, held) if held else b""
    return data + bytes(length - held)
