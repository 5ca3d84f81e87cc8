"""Checks a VHDX file's own metadata: both headers, both region tables, the log, every BAT entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from byre.disks.blockmap import BlockState
from byre.disks.disk import CheckReport, Problem
from byre.disks.vhdx.layout import HEADER_OFFSETS, REGION_TABLE_OFFSETS
from byre.disks.vhdx.space import Claims, claims, payload_and_bitmap_indices
from byre.units import MIB

if TYPE_CHECKING:
    from byre.disks.vhdx.image import VhdxDisk

MAX_PROBLEMS = 50
"""Listed one by one for each kind of problem; the rest is only counted."""

DATA_START = 8 * MIB
"""QEMU begins a file's first block here, whatever its structures take: nothing is lost below."""


class _Findings:
    """Mutable: collects problems and counts."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.corruptions = 0
        self.leaks = 0

    def note(self, code: str, message: str, offset: int | None = None, *, repairable: bool = False) -> None:
        self.problems.append(Problem("note", f"vhdx.{code}", message, offset, repairable=repairable))

    def corrupt(self, code: str, messages: list[tuple[str, int]], count: int) -> None:
        self.corruptions += count
        for message, offset in messages[:MAX_PROBLEMS]:
            self.problems.append(Problem("corruption", f"vhdx.{code}", message, offset))
        if count > MAX_PROBLEMS:
            more = count - MAX_PROBLEMS
            self.problems.append(Problem("corruption", f"vhdx.{code}", f"and {more} more like these", count=more))


def check_image(disk: VhdxDisk) -> CheckReport:
    """What is wrong with the image. A read-only disk with a dirty log is judged as the log leaves it."""
    found = _Findings()
    _copies(disk, found)
    bad = _entries(disk, found)
    table = claims(disk)
    _overlaps(disk, table, found)
    _leaks(disk, table, found)
    payload, _ = payload_and_bitmap_indices(disk)
    stored = int(np.isin(bad[payload], (int(BlockState.DATA), int(BlockState.PARTIAL))).sum())
    return CheckReport(
        format="vhdx",
        corruptions=found.corruptions,
        leaks=found.leaks,
        problems=tuple(found.problems),
        allocated_blocks=stored,
        total_blocks=len(payload),
        image_end=int(table.stop.max()),
        details={"log": "clean" if disk.replay is None else "dirty"},
    )


def _copies(disk: VhdxDisk, found: _Findings) -> None:
    structures = disk.structures
    for index, header in enumerate(structures.headers):
        if header is None:
            found.note(
                "header-invalid",
                f"header {index + 1} of 2 is invalid: a torn write, or damage; the other one counts",
                HEADER_OFFSETS[index],
                repairable=True,
            )
    for index, regions in enumerate(structures.tables):
        if regions is None:
            found.note(
                "region-table-invalid",
                f"region table {index + 1} of 2 is invalid; the other one counts",
                REGION_TABLE_OFFSETS[index],
                repairable=True,
            )
    first, second = structures.tables
    if first is not None and second is not None and first != second:
        found.note("region-tables-differ", "the two region tables differ; the first one counts", repairable=True)
    if disk.replay is not None:
        found.note(
            "log-dirty",
            f"the log holds {disk.replay.entries} entries that were not yet written into the file; "
            "read as if they had been"
            if disk.replay.entries
            else "the header names a log in which nothing was written; read as if it were clean",
            structures.header.log_offset,
            repairable=True,
        )


def _entries(disk: VhdxDisk, found: _Findings) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Judges each entry; returns the state of each as the reader takes it."""
    from byre.disks.vhdx.image import BITMAP_BLOCK_SIZE, BITMAP_PRESENT, INVALID, file_offsets

    base = disk.structures.bat_region.file_offset
    payload, bitmaps = payload_and_bitmap_indices(disk)
    raw = (disk.bat & np.uint64(7)).astype(np.intp)
    offsets = file_offsets(disk.bat)
    state = disk.states_of(disk.bat)

    def report(code: str, rows: np.ndarray[tuple[int], np.dtype[np.int64]], text: str) -> None:
        if len(rows):
            shown = [
                (f"BAT entry {row} = {int(disk.bat[row]):#x}: {text}", base + row * 8)
                for row in rows[:MAX_PROBLEMS].tolist()
            ]
            found.corrupt(code, shown, len(rows))

    report("state", payload[state[payload] == INVALID], "an impossible state")
    bitmap_ok = (raw[bitmaps] == 0) | (raw[bitmaps] == BITMAP_PRESENT)
    report("bitmap-state", bitmaps[~bitmap_ok], "an impossible state of a sector bitmap")
    stored = payload[np.isin(state[payload], (int(BlockState.DATA), int(BlockState.PARTIAL)))]
    # Only the part of the last block that lies inside the disk has to be in the file.
    need = np.full(len(stored), disk.block_size, dtype=np.int64)
    if len(stored) and stored[-1] == payload[-1]:
        need[-1] = disk.size - (len(payload) - 1) * disk.block_size
    outside = (offsets[stored] < MIB) | (offsets[stored] + need > disk.storage.size)
    report("block-outside", stored[outside], "the block lies outside of the file")
    present = bitmaps[raw[bitmaps] == BITMAP_PRESENT]
    lost = (offsets[present] < MIB) | (offsets[present] + BITMAP_BLOCK_SIZE > disk.storage.size)
    report("bitmap-outside", present[lost], "the sector bitmap lies outside of the file")
    if disk.structures.metadata.has_parent:
        partial = np.flatnonzero(state[payload] == BlockState.PARTIAL)
        ratio = disk.structures.metadata.chunk_ratio
        owners = (partial // ratio + 1) * (ratio + 1) - 1
        report("bitmap-missing", payload[partial[raw[owners] != BITMAP_PRESENT]], "partial, without a sector bitmap")
    elif len(present):
        found.note("bitmap-unused", f"{len(present)} sector bitmaps in a disk that has no parent", repairable=True)
    return state


def _overlaps(disk: VhdxDisk, table: Claims, found: _Findings) -> None:
    rows = table.overlaps()
    shown = [
        (
            "a structure begins inside of a block"
            if table.owner[row] < 0
            else f"BAT entry {int(table.owner[row])}: its block overlaps something else",
            int(table.start[row]),
        )
        for row in rows[:MAX_PROBLEMS].tolist()
    ]
    found.corrupt("overlap", shown, len(rows))


def _leaks(disk: VhdxDisk, table: Claims, found: _Findings) -> None:
    """Room for whole blocks that nothing claims; less than a block is alignment."""
    payload, _ = payload_and_bitmap_indices(disk)
    # A fixed disk keeps room for the blocks that it hasn't placed yet, anywhere.
    kept = len(payload) - int((table.owner >= 0).sum()) if disk.structures.metadata.leave_block_allocated else 0
    for start, stop in table.gaps(disk.storage.size):
        room = (stop - max(start, DATA_START)) // disk.block_size
        count = room - min(max(kept, 0), max(room, 0))
        kept -= max(room, 0)
        if count <= 0:
            continue
        found.leaks += count
        if len(found.problems) < 2 * MAX_PROBLEMS:
            message = f"room for {count} blocks that nothing uses"
            found.problems.append(Problem("leak", "vhdx.unclaimed", message, start, count, repairable=True))
