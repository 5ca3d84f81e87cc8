"""Checks a VHDX file's own metadata: both headers, both region tables, the log, every BAT entry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from byre.disks.blockmap import BlockState
from byre.disks.disk import CheckReport
from byre.disks.findings import CORRUPTION, LEAK, NOTE, Findings
from byre.disks.vhdx.layout import HEADER_OFFSETS, REGION_TABLE_OFFSETS
from byre.disks.vhdx.space import Claims, claims, payload_and_bitmap_indices
from byre.units import MIB

if TYPE_CHECKING:
    from byre.disks.vhdx.image import VhdxDisk

DATA_START = 8 * MIB
"""QEMU begins a file's first block here, whatever its structures take: nothing is lost below."""


def check_image(disk: VhdxDisk) -> CheckReport:
    """What is wrong with the image. A read-only disk with a dirty log is judged as the log leaves it."""
    found = Findings("vhdx")
    _copies(disk, found)
    bad = _entries(disk, found)
    table = claims(disk)
    _overlaps(disk, table, found)
    _leaks(disk, table, found)
    payload, _ = payload_and_bitmap_indices(disk)
    stored = int(np.isin(bad[payload], (int(BlockState.DATA), int(BlockState.PARTIAL))).sum())
    return found.report(
        allocated_blocks=stored,
        total_blocks=len(payload),
        image_end=int(table.stop.max()),
        details={"log": "clean" if disk.replay is None else "dirty"},
    )


def _copies(disk: VhdxDisk, found: Findings) -> None:
    structures = disk.structures
    for index, header in enumerate(structures.headers):
        if header is None:
            found.add(
                NOTE,
                "header-invalid",
                f"header {index + 1} of 2 is invalid: a torn write, or damage; the other one counts",
                offset=HEADER_OFFSETS[index],
                repairable=True,
            )
    for index, regions in enumerate(structures.tables):
        if regions is None:
            found.add(
                NOTE,
                "region-table-invalid",
                f"region table {index + 1} of 2 is invalid; the other one counts",
                offset=REGION_TABLE_OFFSETS[index],
                repairable=True,
            )
    first, second = structures.tables
    if first is not None and second is not None and first != second:
        found.add(NOTE, "region-tables-differ", "the two region tables differ; the first one counts", repairable=True)
    if disk.replay is not None:
        found.add(
            NOTE,
            "log-dirty",
            f"the log holds {disk.replay.entries} entries that were not yet written into the file; "
            "read as if they had been"
            if disk.replay.entries
            else "the header names a log in which nothing was written; read as if it were clean",
            offset=structures.header.log_offset,
            repairable=True,
        )


def _entries(disk: VhdxDisk, found: Findings) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Judges each entry; returns the state of each as the reader takes it."""
    from byre.disks.vhdx.image import BITMAP_BLOCK_SIZE, BITMAP_PRESENT, INVALID, file_offsets

    base = disk.structures.bat_region.file_offset
    payload, bitmaps = payload_and_bitmap_indices(disk)
    raw = (disk.bat & np.uint64(7)).astype(np.intp)
    offsets = file_offsets(disk.bat)
    state = disk.states_of(disk.bat)

    def report(code: str, rows: np.ndarray[tuple[int], np.dtype[np.int64]], text: str) -> None:
        if len(rows):
            first = int(rows[0])
            what = f"{text}; the first is that of BAT entry {first}, {int(disk.bat[first]):#x}"
            found.add(CORRUPTION, code, what, offset=base + first * 8, count=len(rows))

    report("state", payload[state[payload] == INVALID], "an impossible state")
    bitmap_ok = (raw[bitmaps] == 0) | (raw[bitmaps] == BITMAP_PRESENT)
    report("bitmap-state", bitmaps[~bitmap_ok], "an impossible state of a sector bitmap")
    stored = payload[np.isin(state[payload], (int(BlockState.DATA), int(BlockState.PARTIAL)))]
    # Only the part of the last block that lies inside the disk has to be in the file.
    need = np.full(len(stored), disk.block_size, dtype=np.int64)
    if len(stored) and stored[-1] == payload[-1]:
        need[-1] = disk.size - (len(payload) - 1) * disk.block_size
    outside = (offsets[stored] < MIB) | (offsets[stored] + need > disk.storage.size)
    report("block-outside", stored[outside], "a block lies outside of the file")
    present = bitmaps[raw[bitmaps] == BITMAP_PRESENT]
    lost = (offsets[present] < MIB) | (offsets[present] + BITMAP_BLOCK_SIZE > disk.storage.size)
    report("bitmap-outside", present[lost], "a sector bitmap lies outside of the file")
    if disk.structures.metadata.has_parent:
        partial = np.flatnonzero(state[payload] == BlockState.PARTIAL)
        ratio = disk.structures.metadata.chunk_ratio
        owners = (partial // ratio + 1) * (ratio + 1) - 1
        report(
            "bitmap-missing",
            payload[partial[raw[owners] != BITMAP_PRESENT]],
            "a block is stored in part, without a sector bitmap",
        )
    elif len(present):
        what = "a sector bitmap in a disk that has no parent"
        found.add(NOTE, "bitmap-unused", what, count=len(present), repairable=True)
    return state


def _overlaps(disk: VhdxDisk, table: Claims, found: Findings) -> None:
    rows = table.overlaps()
    if len(rows):
        first, start = int(table.owner[rows[0]]), int(table.start[rows[0]])
        what = "a structure begins inside of a block" if first < 0 else "a block overlaps something else"
        which = "" if first < 0 else f"; the first is that of BAT entry {first}"
        found.add(CORRUPTION, "overlap", what + which, offset=start, count=len(rows))


def _leaks(disk: VhdxDisk, table: Claims, found: Findings) -> None:
    """Room for whole blocks that nothing claims; less than a block is alignment."""
    payload, _ = payload_and_bitmap_indices(disk)
    # A fixed disk keeps room for the blocks that it hasn't placed yet, anywhere.
    kept = len(payload) - int((table.owner >= 0).sum()) if disk.structures.metadata.leave_block_allocated else 0
    for start, stop in table.gaps(disk.storage.size):
        room = (stop - max(start, DATA_START)) // disk.block_size
        count = room - min(max(kept, 0), max(room, 0))
        kept -= max(room, 0)
        if count > 0:
            what = "room for a block that nothing uses"
            found.add(LEAK, "unclaimed", what, offset=start, count=count, repairable=True)
