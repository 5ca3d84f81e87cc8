"""A hex dump of a part of a disk: equal rows once, and holes without reading them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from byre.disks.disk import Disk
from byre.extents import zero_runs

WIDTH = 16
PIECE = 1 << 20
LEAST_HOLE = 1 << 12
"""A shorter run of zeros is read: it costs less than a run of its own."""


def hex_dump(disk: Disk, start: int, stop: int) -> Iterator[str]:
    """The lines for ``[start, stop)``; as in other dumps a ``*`` stands for rows like the one above it. The last
    row is always there, so that the end can be seen."""
    previous, skipping = b"", False
    for at, count, row in _runs(disk, start, stop):
        if row != previous:
            yield _line(at, row)
            previous, skipping = row, False
            at, count = at + WIDTH, count - 1
        if not count:
            continue
        end = at + count * WIDTH
        if not skipping and count > (end >= stop):
            yield "*"
            skipping = True
        if end >= stop:
            yield _line(end - WIDTH, row)


def _runs(disk: Disk, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
    """Equal rows that follow each other: where the first one is, how many, and the row."""
    at = start
    for low, high in zero_runs(disk.extents(start, stop), LEAST_HOLE):
        low = start + -(-(low - start) // WIDTH) * WIDTH
        high = start + (high - start) // WIDTH * WIDTH
        yield from _read_runs(disk, at, low)
        yield low, (high - low) // WIDTH, bytes(WIDTH)
        at = high
    yield from _read_runs(disk, at, stop)


def _read_runs(disk: Disk, start: int, stop: int) -> Iterator[tuple[int, int, bytes]]:
    for at in range(start, stop, PIECE):
        data = disk.read(at, min(PIECE, stop - at))
        whole = len(data) // WIDTH
        rows = np.frombuffer(data, dtype="<u8", count=2 * whole).reshape(whole, 2)
        heads = np.flatnonzero(np.concatenate(([True], (rows[1:] != rows[:-1]).any(axis=1))))[:whole]
        for head, count in zip(heads.tolist(), np.diff(np.append(heads, whole)).tolist(), strict=True):
            yield at + head * WIDTH, count, data[head * WIDTH : (head + 1) * WIDTH]
        if whole * WIDTH < len(data):
            yield at + whole * WIDTH, 1, data[whole * WIDTH :]


def _line(at: int, row: bytes) -> str:
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
    return f"{at:012x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  |{text}|"
