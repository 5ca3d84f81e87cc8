"""Which bytes of a VHDX file are in use, which are free, and who claims the same ones twice."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from byre.disks.blockmap import BlockState
from byre.disks.vhdx.layout import HEADER_AREA
from byre.disks.writer import Int64Array
from byre.units import MIB, align_up

if TYPE_CHECKING:
    from byre.disks.vhdx.image import VhdxDisk


@dataclass(frozen=True, slots=True)
class Claims:
    """Every range of the file that something claims, sorted by start. ``owner`` is the BAT index, or -1 for the
    header area, the log and the regions."""

    start: Int64Array
    stop: Int64Array
    owner: Int64Array

    def overlaps(self) -> Int64Array:
        """The rows that begin before an earlier one has ended."""
        if len(self.start) < 2:
            return np.zeros(0, dtype=np.int64)
        reached = np.maximum.accumulate(self.stop)
        return (np.flatnonzero(self.start[1:] < reached[:-1]) + 1).astype(np.int64)

    def gaps(self, end: int) -> list[tuple[int, int]]:
        """The ranges below ``end`` that nobody claims."""
        reached = np.concatenate(([0], np.maximum.accumulate(self.stop)))
        after = np.append(self.start, max(end, int(reached[-1])))
        rows = np.flatnonzero(after > reached)
        return list(zip(reached[rows].tolist(), after[rows].tolist(), strict=True))


def claims(disk: VhdxDisk, *, anchored: bool = False) -> Claims:
    """What the BAT and the structures claim; entries whose offset no file can have are left out.

    An entry in a state without data may still hold an offset: a fixed disk's block then keeps its room, and
    ``anchored`` counts those of the others too, which their writer may have meant to come back to.
    """
    from byre.disks.vhdx.image import BITMAP_BLOCK_SIZE, BITMAP_PRESENT, file_offsets

    payload, bitmaps = payload_and_bitmap_indices(disk)
    states = disk.bat & np.uint64(7)
    offsets = file_offsets(disk.bat)
    kinds = disk.states_of(disk.bat[payload])
    holds = np.isin(kinds, (int(BlockState.DATA), int(BlockState.PARTIAL))) & (offsets[payload] >= 0)
    if anchored or disk.structures.metadata.leave_block_allocated:
        holds |= (offsets[payload] >= HEADER_AREA) & (offsets[payload] < disk.storage.size)
    stored = payload[holds]
    bitmaps = bitmaps[(states[bitmaps] == BITMAP_PRESENT) & (offsets[bitmaps] >= 0)]
    fixed = [(0, HEADER_AREA)]
    header = disk.structures.header
    if header.log_length:
        fixed.append((header.log_offset, header.log_offset + header.log_length))
    tables = disk.structures.tables
    for region in tables[0] if tables[0] is not None else tables[1] or ():
        fixed.append((region.file_offset, region.file_offset + region.length))
    start = np.concatenate((np.array([at for at, _ in fixed], dtype=np.int64), offsets[stored], offsets[bitmaps]))
    stop = np.concatenate(
        (
            np.array([at for _, at in fixed], dtype=np.int64),
            offsets[stored] + disk.block_size,
            offsets[bitmaps] + BITMAP_BLOCK_SIZE,
        )
    )
    owner = np.concatenate((np.full(len(fixed), -1, dtype=np.int64), stored, bitmaps))
    order = np.argsort(start, kind="stable")
    return Claims(start[order], stop[order], owner[order])


def payload_and_bitmap_indices(disk: VhdxDisk) -> tuple[Int64Array, Int64Array]:
    """The BAT indices of payload entries and those of sector bitmap entries."""
    ratio = disk.structures.metadata.chunk_ratio
    payload = disk.payload_index(np.arange(disk.structures.metadata.block_count, dtype=np.int64))
    bitmaps = np.arange(ratio, len(disk.bat), ratio + 1, dtype=np.int64)
    return payload, bitmaps


class Allocator:
    """Hands out room in whole mebibytes, from gaps first. Mutable; what it hands out is never claimed."""

    def __init__(self, gaps: Iterable[tuple[int, int]], end: int) -> None:
        self.gaps: list[tuple[int, int]] = []
        self.end = align_up(end, MIB)
        for start, stop in gaps:
            self.release(start, min(stop, self.end))
        self._none_of = 1 << 62

    def take(self, length: int) -> tuple[int, bool]:
        """The host offset of ``length`` bytes, and whether they are at the file's end and so still zeros."""
        if length < self._none_of:
            for index, (start, stop) in enumerate(self.gaps):
                if stop - start >= length:
                    self.gaps[index : index + 1] = [(start + length, stop)] if stop - start > length else []
                    return start, False
            self._none_of = length
        self.end += length
        return self.end - length, True

    def release(self, start: int, stop: int) -> None:
        """Give room back; it may be handed out at once."""
        start = align_up(start, MIB)
        stop -= stop % MIB
        if stop > start:
            insort(self.gaps, (start, stop))
            self._none_of = 1 << 62

    def claim(self, start: int, stop: int) -> None:
        """Take exactly this range, which lies within one gap."""
        for index, (first, last) in enumerate(self.gaps):
            if first <= start and stop <= last:
                self.gaps[index : index + 1] = [gap for gap in ((first, start), (stop, last)) if gap[0] < gap[1]]
                return

    def join(self) -> None:
        """Make neighbouring gaps one."""
        joined: list[tuple[int, int]] = []
        for start, stop in self.gaps:
            if joined and joined[-1][1] >= start:
                joined[-1] = (joined[-1][0], max(joined[-1][1], stop))
            else:
                joined.append((start, stop))
        self.gaps = joined
