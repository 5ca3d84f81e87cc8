"""Fill a buffer from a disk whose extents are known already: plain bytes come straight from their file."""

from __future__ import annotations

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
