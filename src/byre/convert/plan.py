"""From a source's extents to batches of work for the pipeline. Pure: it reads tables, never data.

A batch is a set of the *target's* blocks, at most ``batch_blocks`` of them, that have to be looked at; blocks
that the metadata says are zeros are never mentioned. Its buffer holds the blocks one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from byre.disks.writer import Int64Array
from byre.extents import ExtentTable, Kind, clip

ZERO_CHUNK = 1 << 16
"""Known-zero blocks handed over at once: half a megabyte of numbers."""
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Batch:
    """``blocks``: ascending numbers of the blocks to read. ``rows``: the source's extents with data over them.
    ``zeros``: blocks that are zeros by metadata and must hide a kept backing image (then ``blocks`` is empty)."""

    blocks: Int64Array
    rows: ExtentTable
    zeros: Int64Array


def is_live(table: ExtentTable) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows have bytes that must be read to be known."""
    live: np.ndarray[tuple[int], np.dtype[np.bool_]] = (table["kind"] == Kind.DATA) | (
        table["kind"] == Kind.COMPRESSED
    )
    return live


def plan_batches(
    slices: Iterable[ExtentTable],
    *,
    size: int,
    block_size: int,
    batch_blocks: int,
    keep_backing: bool = False,
) -> Iterator[Batch]:
    """The batches of a whole disk of ``size`` bytes, ascending within each slice of the extents.

    ``keep_backing``: only what the top image itself holds (depth 0) is taken; the rest stays below.
    """
    for table in _whole_blocks(slices, size, block_size):
        if keep_backing:
            first, last, zeros = _own_blocks(table, size, block_size)
            for at in range(0, len(zeros), ZERO_CHUNK):
                yield Batch(_NONE, table[:0], zeros[at : at + ZERO_CHUNK])
        else:
            live = table[is_live(table)]
            first = live["start"] // block_size
            last = -(-(live["start"] + live["length"]) // block_size)
        yield from _cut(table, first, last, block_size, batch_blocks, keep_backing)


def live_rows(table: ExtentTable, starts: Int64Array, start: int, stop: int) -> ExtentTable:
    """The live rows inside ``[start, stop)``, cut to fit. ``starts`` is the table's own start column, contiguous:
    searching the strided field would copy it each time."""
    low = max(0, int(np.searchsorted(starts, start, side="right")) - 1)
    rows = table[low : int(np.searchsorted(starts, stop))]
    live = is_live(rows)
    if not live.all():
        rows = rows[live]
    if len(rows) and (rows["start"][0] < start or rows["start"][-1] + rows["length"][-1] > stop):
        return clip(rows, start, stop)
    return rows


def buffer_positions(batch: Batch, block_size: int) -> Int64Array:
    """Where in the batch's buffer the first byte of each of its rows goes."""
    number = batch.rows["start"] // block_size
    index = np.searchsorted(batch.blocks, number)
    positions: Int64Array = index * block_size + batch.rows["start"] - number * block_size
    return positions


def live_bytes(rows: ExtentTable, blocks: Int64Array, block_size: int) -> int:
    """How many bytes of the rows (ascending) lie in these blocks."""
    if not len(rows) or not len(blocks):
        return 0
    starts, lengths = np.ascontiguousarray(rows["start"]), rows["length"]
    before = np.cumsum(lengths) - lengths

    def up_to(offsets: Int64Array) -> Int64Array:
        index = np.maximum(np.searchsorted(starts, offsets, side="right") - 1, 0)
        reached: Int64Array = before[index] + np.clip(offsets - starts[index], 0, lengths[index])
        return reached

    return int((up_to((blocks + 1) * block_size) - up_to(blocks * block_size)).sum())


def _whole_blocks(slices: Iterable[ExtentTable], size: int, block_size: int) -> Iterator[ExtentTable]:
    """The same rows, re-sliced so that no block of the target lies in two slices."""
    carry: ExtentTable | None = None
    for piece in slices:
        table = piece if carry is None else np.concatenate((carry, piece))
        if not len(table):
            continue
        start, stop = int(table["start"][0]), int(table["start"][-1] + table["length"][-1])
        boundary = stop if stop >= size else stop - stop % block_size
        if boundary > start:
            yield clip(table, start, boundary)
        carry = clip(table, boundary, stop) if boundary < stop else None
    if carry is not None and len(carry):
        yield carry


def _own_blocks(table: ExtentTable, size: int, block_size: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Runs of blocks (first, after last) that the top image has data in, and the blocks it says are zeros.

    A block that is zeros only in part is read like data.
    """
    own = table[table["depth"] == 0]
    live = own[is_live(own)]
    zero = own[own["kind"] == Kind.ZERO]
    start, stop = zero["start"], zero["start"] + zero["length"]
    inner_first = -(-start // block_size)
    inner_last = np.where(stop >= size, -(-stop // block_size), stop // block_size)
    ragged_head = start % block_size != 0
    ragged_tail = (stop % block_size != 0) & (stop < size)
    heads, tails = (start // block_size)[ragged_head], (stop // block_size)[ragged_tail]
    first = np.concatenate((live["start"] // block_size, heads, tails))
    last = np.concatenate((-(-(live["start"] + live["length"]) // block_size), heads + 1, tails + 1))
    order = np.argsort(first, kind="stable")
    whole = inner_last > inner_first
    return first[order], last[order], _expand(inner_first[whole], inner_last[whole])


def _cut(
    table: ExtentTable,
    first: Int64Array,
    last: Int64Array,
    block_size: int,
    batch_blocks: int,
    keep_backing: bool,
) -> Iterator[Batch]:
    if not len(first):
        return
    reach = np.maximum.accumulate(last)
    heads = np.flatnonzero(np.concatenate(([True], first[1:] > reach[:-1])))
    run_first = first[heads]
    run_last = reach[np.concatenate((heads[1:] - 1, [len(first) - 1]))]
    ends = np.cumsum(run_last - run_first)
    row_starts = np.ascontiguousarray(table["start"])
    for low in range(0, int(ends[-1]), batch_blocks):
        high = min(low + batch_blocks, int(ends[-1]))
        a, b = np.searchsorted(ends, (low, high - 1), side="right")
        firsts, lasts = run_first[a : b + 1].copy(), run_last[a : b + 1].copy()
        lasts[-1] -= int(ends[b]) - high
        firsts[0] = int(run_last[a]) - (int(ends[a]) - low)
        blocks = _expand(firsts, lasts)
        start, stop = int(blocks[0]) * block_size, (int(blocks[-1]) + 1) * block_size
        rows = live_rows(table, row_starts, start, stop)
        if keep_backing and len(firsts) > 1:  # what lies between the runs stays in the backing image
            rows = _cut_to_runs(rows, firsts, lasts, block_size)
        yield Batch(blocks, rows, _NONE)


def _cut_to_runs(rows: ExtentTable, firsts: Int64Array, lasts: Int64Array, block_size: int) -> ExtentTable:
    pieces = [
        clip(rows, int(first) * block_size, int(last) * block_size) for first, last in zip(firsts, lasts, strict=True)
    ]
    return np.concatenate(pieces)


def _expand(firsts: Int64Array, lasts: Int64Array) -> Int64Array:
    """All the numbers in the ranges ``[first, last)``."""
    counts = lasts - firsts
    total = int(counts.sum()) if len(counts) else 0
    skipped = np.repeat(firsts - np.concatenate(([0], np.cumsum(counts)[:-1])), counts)
    numbers: Int64Array = np.arange(total, dtype=np.int64) + skipped
    return numbers
