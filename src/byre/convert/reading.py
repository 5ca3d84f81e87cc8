"""Fill a buffer from a disk whose extents are known already: plain bytes come straight from their file."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from byre.disks.disk import Disk
from byre.disks.writer import Int64Array
from byre.extents import ExtentTable, Kind


def fill(disk: Disk, rows: ExtentTable, positions: Int64Array, view: memoryview) -> None:
    """Read each live row to its position in ``view``; bytes that no row covers become zeros.

    Rows ascend in ``start`` and ``positions``. Safe on several threads at once. Raises what the disk and its
    storages raise.
    """
    if len(rows) == 1 and rows["kind"][0] == Kind.DATA and rows["length"][0] == len(view):
        _, _, _, host, _, file, _ = rows[0].item()
        storage = disk.files[file]
        if host + len(view) <= storage.size:
            storage.read_into(host, view)
            return
    lengths = rows["length"]
    if int(lengths.sum()) < len(view):
        _clear(view, positions, lengths)
    if not len(rows):
        return
    # Rows that follow on both in the guest and in the buffer are one read where their file allows it.
    plain = rows["kind"] == Kind.DATA
    follows = (
        (rows["start"][:-1] + lengths[:-1] == rows["start"][1:])
        & (positions[:-1] + lengths[:-1] == positions[1:])
        & (plain[:-1] == plain[1:])
        & (
            ~plain[1:]
            | ((rows["file"][:-1] == rows["file"][1:]) & (rows["host"][:-1] + lengths[:-1] == rows["host"][1:]))
        )
    )
    heads = np.flatnonzero(np.concatenate(([True], ~follows)))
    totals = np.add.reduceat(lengths, heads)
    columns = zip(
        plain[heads].tolist(),
        rows["file"][heads].tolist(),
        rows["host"][heads].tolist(),
        rows["start"][heads].tolist(),
        positions[heads].tolist(),
        totals.tolist(),
        strict=True,
    )
    files = disk.files
    for is_plain, file, host, start, position, length in columns:
        part = view[position : position + length]
        if is_plain and host + length <= files[file].size:
            files[file].read_into(host, part)
        else:  # compressed, or past the end of the file: the format knows what that means
            disk.read_into(start, part)


def _clear(view: memoryview, positions: Int64Array, lengths: Int64Array) -> None:
    target = np.frombuffer(view, dtype=np.uint8)
    starts = np.concatenate(([0], positions + lengths))
    stops = np.concatenate((positions, [len(view)]))
    gaps = np.flatnonzero(stops > starts)
    if len(gaps) > 64:  # many small gaps: one sweep is cheaper than a slice for each
        target[:] = 0
        return
    for start, stop in zip(starts[gaps].tolist(), stops[gaps].tolist(), strict=True):
        target[start:stop] = 0


class RangeReader:
    """Reads pieces of a range whose extents are known: numbers instead of tables, as each piece costs little."""

    def __init__(self, disk: Disk, rows: ExtentTable) -> None:
        """``rows`` are the live rows of the range, ascending."""
        self._disk = disk
        self._files = disk.files
        joined = _joined(rows)
        self._rows = joined
        self._starts = [row[0] for row in joined]

    def fill(self, offset: int, view: memoryview) -> None:
        """Fill ``view`` with the disk's bytes from ``offset``; zeros where no row covers it."""
        position = offset
        stop = offset + len(view)
        for start, length, plain, host, file in self._rows[max(0, bisect_right(self._starts, offset) - 1) :]:
            begin, end = max(start, offset), min(start + length, stop)
            if start >= stop:
                break
            if end <= begin:
                continue
            if begin > position:
                view[position - offset : begin - offset] = bytes(begin - position)
            part = view[begin - offset : end - offset]
            position = end
            at = host + begin - start
            if plain and at + len(part) <= self._files[file].size:
                self._files[file].read_into(at, part)
            else:  # compressed, or past the end of the file: the format knows what that means
                self._disk.read_into(begin, part)
        if position < stop:
            view[position - offset :] = bytes(stop - position)


def _joined(rows: ExtentTable) -> list[tuple[int, int, bool, int, int]]:
    """(start, length, plain, host, file) of each run of rows that one read takes."""
    if not len(rows):
        return []
    lengths = rows["length"]
    plain = rows["kind"] == Kind.DATA
    follows = (
        (rows["start"][:-1] + lengths[:-1] == rows["start"][1:])
        & (plain[:-1] == plain[1:])
        & (
            ~plain[1:]
            | ((rows["file"][:-1] == rows["file"][1:]) & (rows["host"][:-1] + lengths[:-1] == rows["host"][1:]))
        )
    )
    heads = np.flatnonzero(np.concatenate(([True], ~follows)))
    columns = (rows["start"][heads], np.add.reduceat(lengths, heads), plain[heads], rows["host"][heads])
    return list(zip(*(column.tolist() for column in (*columns, rows["file"][heads])), strict=True))
