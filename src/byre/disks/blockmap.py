"""Disks whose format is a table with one entry for each block: VDI, VHD, VHDX and their like.

A format decodes its own table into ``Blocks`` (and, where it has them, its sector bitmaps into one flag for each
sector); what that means as extents, across a parent, and as bytes is the same for all and stands here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

import numpy as np

from byre.disks.disk import SLICE_ROWS, Disk, DiskDefaults
from byre.disks.writer import BoolArray, Int64Array
from byre.errors import ByreError, CorruptImageError, UsageError
from byre.extents import EXTENT, ExtentTable, Kind, clip, make_table, merge, merged_slices
from byre.storage.base import Storage
from byre.units import ceil_div

StateArray: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]


class BlockState(IntEnum):
    """What an image says of one of its blocks."""

    ABSENT = 0
    """Not here: the parent's bytes, or zeros where there is no parent."""
    ZERO = 1
    """Zeros, whatever the parent holds."""
    DATA = 2
    """All of it lies at the block's host offset."""
    PARTIAL = 3
    """The sectors that the block's bitmap marks lie here; the others are as in an absent block."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A slice of a block map: a ``BlockState`` for each block and, for DATA and PARTIAL, the host offset in bytes
    of its first guest byte (anything elsewhere). A format that can't multiply a hostile entry without overflow
    must refuse it; an offset past the end of the file is refused here, when it is used."""

    state: StateArray
    host: Int64Array


class BlockMap(Protocol):
    """A format's decoded table of blocks."""

    size: int
    block_size: int

    @property
    def storage(self) -> Storage:
        """The file in which the blocks lie."""
        ...

    def blocks(self, first: int, stop: int) -> Blocks:
        """The blocks ``[first, stop)``, all of them inside the disk."""
        ...

    def present(self, block: int) -> BoolArray:
        """For a PARTIAL block: one flag for each of its sectors, all of the same size; True: it lies here."""
        ...


class ParentNotOpened(DiskDefaults):
    """Stands for a parent that isn't there: whoever needs a byte of it gets the error that says why."""

    format = "missing"

    def __init__(self, size: int, error: ByreError) -> None:
        self.size = size
        self.error = error

    @property
    def files(self) -> tuple[Storage, ...]:
        return ()

    def _raise(self) -> Any:
        raise type(self.error)(self.error.what, **self.error.fields())  # type: ignore[arg-type]

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        yield self._raise()

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        self._raise()

    def describe(self) -> Any:
        self._raise()


class BlockMapDisk(DiskDefaults):
    """Reading for a format that offers ``blocks`` and perhaps ``present``. Mutable: a writer changes its map."""

    size: int
    storage: Storage
    parent: Disk | None = None

    def blocks(self, first: int, stop: int) -> Blocks:
        raise NotImplementedError

    def present(self, block: int) -> BoolArray:
        raise NotImplementedError  # only a map with PARTIAL blocks is asked

    @property
    def files(self) -> tuple[Storage, ...]:
        return (self.storage, *(self.parent.files if self.parent else ()))

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        stop = self.size if stop is None else min(stop, self.size)
        return merged_slices(over_parent(own_extents(self, start, stop), self.parent))

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        check_range(self.storage.name, offset, len(buffer), self.size)
        read_blocks(self, self.parent, offset, memoryview(buffer))

    def close(self) -> None:
        try:
            if self.parent is not None:
                self.parent.close()
        finally:
            self.storage.close()


def check_range(name: str, offset: int, length: int, size: int) -> None:
    """UsageError for a guest range that leaves the disk."""
    if offset < 0 or length < 0 or offset + length > size:
        raise UsageError(
            "the range leaves the disk", path=name, found=f"{offset}+{length}", expected=f"within {size} bytes"
        )


def own_extents(source: BlockMap, start: int, stop: int) -> Iterator[ExtentTable]:
    """What the image itself says of ``[start, stop)``: DATA and ZERO rows at depth 0; UNALLOCATED rows of depth
    -1 for what it leaves to its parent. Raises CorruptImageError for a block past the end of the file."""
    if start >= stop:
        return
    size = source.block_size
    for first in range(start // size, ceil_div(stop, size), SLICE_ROWS):
        last = min(first + SLICE_ROWS, ceil_div(stop, size))
        blocks = source.blocks(first, last)
        for begin, end in _windows(blocks.state, max(1, SLICE_ROWS // max(1, size // 512))):
            table = _rows(source, Blocks(blocks.state[begin:end], blocks.host[begin:end]), first + begin)
            table = clip(merge(table), start, stop)
            _check_host(source.storage, table)
            yield table


def _windows(state: StateArray, most_partial: int) -> Iterator[tuple[int, int]]:
    """Cuts a slice so that the sector rows of its PARTIAL blocks stay within bounds."""
    partial = np.flatnonzero(state == BlockState.PARTIAL)
    begin = 0
    for cut in partial[most_partial::most_partial].tolist():
        yield begin, cut
        begin = cut
    yield begin, len(state)


_KINDS = np.array([Kind.UNALLOCATED, Kind.ZERO, Kind.DATA, Kind.UNALLOCATED], dtype=np.uint8)


def _rows(source: BlockMap, blocks: Blocks, first: int) -> ExtentTable:
    size = source.block_size
    start = (first + np.arange(len(blocks.state), dtype=np.int64)) * size
    data = blocks.state == BlockState.DATA
    table = make_table(
        start,
        size,
        _KINDS[blocks.state],
        host=np.where(data, blocks.host, -1),
        file=np.where(data, 0, -1),
        depth=np.where(blocks.state == BlockState.ABSENT, -1, 0),
    )
    partial = np.flatnonzero(blocks.state == BlockState.PARTIAL)
    if not len(partial):
        return table
    pieces = []
    done = 0
    for row in partial.tolist():
        pieces.append(table[done:row])
        pieces.append(_sector_rows(source.present(first + row), int(start[row]), size, int(blocks.host[row])))
        done = row + 1
    pieces.append(table[done:])
    joined: ExtentTable = np.concatenate(pieces)
    return joined


def _sector_rows(present: BoolArray, start: int, size: int, host: int) -> ExtentTable:
    """One PARTIAL block: a row for each run of sectors that are here, or aren't."""
    sector = size // len(present)
    heads = np.flatnonzero(np.concatenate(([True], present[1:] != present[:-1])))
    begin = heads * sector
    here = present[heads]
    return make_table(
        start + begin,
        np.diff(np.append(begin, size)),
        np.where(here, int(Kind.DATA), int(Kind.UNALLOCATED)),
        host=np.where(here, host + begin, -1),
        file=np.where(here, 0, -1),
        depth=np.where(here, 0, -1),
    )


def _check_host(storage: Storage, table: ExtentTable) -> None:
    data = table["kind"] == Kind.DATA
    bad = data & ((table["host"] < 0) | (table["host"] + table["length"] > storage.size))
    if bad.any():
        row = table[int(np.flatnonzero(bad)[0])]
        raise CorruptImageError(
            f"the block map sends guest offset {int(row['start']):#x} past the end of the file",
            path=storage.name,
            offset=int(row["host"]),
            found=f"{int(row['length'])} bytes there",
            expected=f"within {storage.size} bytes",
            hint=f"The file was cut short or its map is damaged: 'byre check {storage.name}' counts such blocks.",
        )


def over_parent(slices: Iterator[ExtentTable], parent: Disk | None) -> Iterator[ExtentTable]:
    """Lets the parent's extents show through the UNALLOCATED rows of ``slices``, one level deeper; its files
    follow the image's own. What lies past the parent's end stays unallocated."""
    for table in slices:
        absent = np.flatnonzero(table["kind"] == Kind.UNALLOCATED)
        if parent is None or not len(absent):
            yield table
            continue
        begin = int(table["start"][0])
        stop = int(table["start"][-1] + table["length"][-1])
        low = int(table["start"][absent[0]])
        high = min(int(table["start"][absent[-1]] + table["length"][absent[-1]]), parent.size)
        if low >= high:
            yield table
            continue
        if low > begin:
            yield clip(table, begin, low)
        for below in parent.extents(low, high):
            left = int(below["start"][0])
            right = int(below["start"][-1] + below["length"][-1])
            yield _overlay(clip(table, left, right), _deeper(below))
        if high < stop:
            yield clip(table, high, stop)


def _deeper(below: ExtentTable) -> ExtentTable:
    table = below.copy()
    table["depth"] += table["depth"] >= 0
    table["file"] += table["file"] >= 0
    return table


def _overlay(top: ExtentTable, below: ExtentTable) -> ExtentTable:
    """Two tables over the same range: ``below`` shows where ``top`` is unallocated."""
    stop = int(top["start"][-1] + top["length"][-1])
    cuts = np.unique(np.concatenate((top["start"], below["start"])))
    upper = top[np.searchsorted(top["start"], cuts, side="right") - 1]
    lower = below[np.searchsorted(below["start"], cuts, side="right") - 1]
    shows = upper["kind"] == Kind.UNALLOCATED
    table = np.empty(len(cuts), dtype=EXTENT)
    for name in EXTENT.names or ():
        table[name] = np.where(shows, lower[name], upper[name])
    skipped = cuts - table["start"]
    data = table["kind"] == Kind.DATA
    table["host"] += np.where(data, skipped, 0)
    table["start"] = cuts
    table["length"] = np.diff(np.append(cuts, stop))
    table["stored"] = np.where(data, table["length"], table["stored"])
    return merge(table)


def read_blocks(source: BlockMap, parent: Disk | None, offset: int, buffer: memoryview) -> None:
    """Fill the buffer from the image and, where it has nothing, from its parent or with zeros."""
    for table in own_extents(source, offset, offset + len(buffer)):
        for start, length, kind, host, *_ in table.tolist():
            view = buffer[start - offset : start - offset + length]
            if kind == Kind.DATA:
                source.storage.read_into(host, view)
            elif kind == Kind.UNALLOCATED and parent is not None:
                inside = min(length, max(0, parent.size - start))
                if inside:
                    parent.read_into(start, view[:inside])
                view[inside:] = bytes(length - inside)
            else:
                view[:] = bytes(length)


@dataclass(frozen=True, slots=True)
class Moves:
    """What packs a file's blocks: copy ``length`` bytes from each ``source`` to its ``target``, in any order, then
    cut the file at ``end``. No target overlaps any source or any block that stays; ``index`` is each moved
    block's place in the arrays that were given."""

    index: Int64Array
    source: Int64Array
    target: Int64Array
    end: int


def plan_moves(
    hosts: Int64Array, length: int, start: int, *, fixed: Int64Array | None = None, align: int = 1, phase: int = 0
) -> Moves:
    """Fill the gaps between blocks with the blocks that lie furthest back.

    ``hosts`` are the host offsets of blocks of ``length`` bytes each; ``fixed`` has a row (begin, stop) for
    everything else in the file that can't move; none of all these overlap, and nothing before ``start`` is
    used. A target plus ``phase`` is a multiple of ``align`` where that doesn't cost the gap a block; a gap that
    is shorter than a block stays.
    """
    order = np.argsort(hosts, kind="stable")
    ordered = hosts[order]
    rows = np.stack((ordered, ordered + length), axis=1)
    if fixed is not None and len(fixed):
        rows = np.concatenate((rows, fixed))
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
    gap_start = np.maximum.accumulate(np.concatenate(([start], rows[:, 1])))[: len(rows)]
    gap_stop = rows[:, 0]
    slots = np.maximum(gap_stop - gap_start, 0) // length
    # No more places than there are blocks to fill them: the gaps of a hostile file may be any length.
    slots = np.minimum(slots, len(ordered))
    slots = np.clip(len(ordered) - (np.cumsum(slots) - slots), 0, slots)
    step = ceil_div(length, align) * align
    begin = -(-(gap_start + phase) // align) * align - phase
    aligned = np.where(gap_stop - begin >= length, (gap_stop - begin - length) // step + 1, 0)
    keeps = aligned >= slots
    free = _slots(np.where(keeps, begin, gap_start), slots, np.where(keeps, step, length))
    count = min(len(free), len(ordered))
    back = ordered[::-1][:count]
    moved = int(np.count_nonzero(free[:count] < back))  # one ascends, the other descends: these come first
    stay = ordered[: len(ordered) - moved]
    ends = [start, *(int(array.max()) + length for array in (stay, free[:moved]) if len(array))]
    if fixed is not None and len(fixed):
        ends.append(int(fixed[:, 1].max()))
    return Moves(index=order[::-1][:moved], source=back[:moved], target=free[:moved], end=max(ends))


def _slots(begin: Int64Array, count: Int64Array, step: Int64Array) -> Int64Array:
    """The places for blocks in all gaps, ascending: ``count`` of them from each ``begin``, ``step`` apart."""
    within = np.arange(int(count.sum()), dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
    places: Int64Array = np.repeat(begin, count) + within * np.repeat(step, count)
    return places
