"""Where two disks differ: every difference as an extent, in sectors, reading only what may differ."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import local

import numpy as np

from byre.convert.pipeline import default_threads
from byre.convert.plan import is_live, live_rows
from byre.convert.reading import RangeReader
from byre.disks.disk import Disk
from byre.disks.writer import BoolArray, Int64Array
from byre.extents import ExtentTable, Kind, clip
from byre.storage import native
from byre.units import SECTOR, align_up

BATCH = 8 << 20
"""Bytes of each disk that a worker is handed at a time: 2 MiB doubled what handing over costs, in all."""
PIECE = 1 << 20
"""Bytes of each disk that a worker has in memory at a time: two pieces stay in the CPU's caches, 4 MiB don't."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A range of the disk, guest bytes. ``kind``: ``content``, ``allocation`` (strict only: one image holds it,
    the other doesn't) or ``size`` (one disk ends before it; strict only where the rest is zeros)."""

    start: int
    length: int
    kind: str


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two disks, and its extents with data in the range at hand."""

    disk: Disk
    rows: ExtentTable


def compare_disks(
    first: Disk,
    second: Disk,
    *,
    strict: bool = False,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Difference]:
    """All differences, ascending, neighbours of one kind merged.

    Of two disks that differ in size the shorter one counts as followed by zeros; ``strict`` also reports the
    size itself and every range that only one of the images allocates, as ``qemu-img compare -s`` has it.
    """
    yield from _merged(_differences(first, second, strict, threads or default_threads(), advance))


def stored_apart(first: Disk, second: Disk) -> Int64Array:
    """The ranges that may differ, as rows ``(start, stop)``, ascending and apart: told by the tables of both
    disks alone, no data is read. What both take from the same place of the same file is not among them."""
    size = max(first.size, second.size)
    same_file = _same_files(first, second)
    pieces: list[Int64Array] = []
    for table_a, table_b in _paired(_padded(first, size), _padded(second, size)):
        rows = table_a[_may_differ(table_a, table_b, same_file)]
        pieces.append(np.stack((rows["start"], rows["start"] + rows["length"]), axis=1))
    ranges = np.concatenate(pieces) if pieces else np.zeros((0, 2), dtype=np.int64)
    if not len(ranges):
        return ranges
    heads = np.flatnonzero(np.concatenate(([True], ranges[1:, 0] != ranges[:-1, 1])))
    tails = np.concatenate((heads[1:] - 1, [len(ranges) - 1]))
    return np.stack((ranges[heads, 0], ranges[tails, 1]), axis=1)


def _differences(
    first: Disk, second: Disk, strict: bool, threads: int, advance: Callable[[int], None] | None
) -> Iterator[Difference]:
    size = max(first.size, second.size)
    same_file = _same_files(first, second)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="byre")
    buffers = local()
    waiting: deque[tuple[int, Future[list[Difference]]]] = deque()

    def collect() -> Iterator[Difference]:
        length, future = waiting.popleft()
        found = future.result()
        if advance is not None:
            advance(length)
        yield from found

    try:
        for table_a, table_b in _paired(_padded(first, size), _padded(second, size)):
            if strict:
                while waiting:
                    yield from collect()
                yield from _allocation_differences(table_a, table_b)
            may_differ = _may_differ(table_a, table_b, same_file)
            if advance is not None:
                advance(int(table_a["length"][~may_differ & (is_live(table_a) | is_live(table_b))].sum()))
            starts = np.ascontiguousarray(table_a["start"])
            for start, stop in _runs(table_a, may_differ):
                rows_a, rows_b = (live_rows(table, starts, start, stop) for table in (table_a, table_b))
                task = pool.submit(_compare, Side(first, rows_a), Side(second, rows_b), start, stop, buffers)
                waiting.append((stop - start, task))
                while len(waiting) > 2 * threads:
                    yield from collect()
        while waiting:
            yield from collect()
        if strict and first.size != second.size:
            shorter = min(first.size, second.size)
            yield Difference(shorter, size - shorter, "size")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _padded(disk: Disk, size: int) -> Iterator[ExtentTable]:
    """The disk's extents, followed by nothing up to ``size``."""
    yield from disk.extents(0, disk.size)
    if disk.size < size:
        from byre.extents import one_extent

        yield one_extent(disk.size, size - disk.size, Kind.UNALLOCATED)


def _paired(first: Iterable[ExtentTable], second: Iterable[ExtentTable]) -> Iterator[tuple[ExtentTable, ExtentTable]]:
    """Both streams cut at each other's boundaries: tables of equal length, row by row the same range."""
    stream_a, stream_b = iter(first), iter(second)
    a = next(stream_a, None)
    b = next(stream_b, None)
    while a is not None and b is not None:
        stop_a, stop_b = (int(table["start"][-1] + table["length"][-1]) for table in (a, b))
        stop = min(stop_a, stop_b)
        start = int(a["start"][0])
        head_a, head_b = clip(a, start, stop), clip(b, start, stop)
        cuts = np.union1d(head_a["start"], head_b["start"])
        yield _cut_at(head_a, cuts, stop), _cut_at(head_b, cuts, stop)
        a = clip(a, stop, stop_a) if stop < stop_a else next(stream_a, None)
        b = clip(b, stop, stop_b) if stop < stop_b else next(stream_b, None)


def _cut_at(table: ExtentTable, cuts: Int64Array, stop: int) -> ExtentTable:
    if len(cuts) == len(table):
        return table
    cut: ExtentTable = table[np.searchsorted(table["start"], cuts, side="right") - 1].copy()
    plain = cut["kind"] == Kind.DATA
    cut["host"][plain] += (cuts - cut["start"])[plain]
    cut["start"] = cuts
    cut["length"] = np.diff(np.concatenate((cuts, [stop])))
    # Plain data takes what it holds: else a run that only one side cuts would look like another one, and be read.
    cut["stored"][plain] = cut["length"][plain]
    return cut


def _may_differ(a: ExtentTable, b: ExtentTable, same_file: BoolArray) -> BoolArray:
    """Which rows have to be read: not both zeros, and not the same bytes of the same file."""
    live = is_live(a) | is_live(b)
    stored = is_live(a) & (a["kind"] == b["kind"])
    shared = stored & same_file[a["file"], b["file"]] & (a["host"] == b["host"])
    # Of a compressed cluster both rows must be the same piece: they are cut alike, so equal hosts are enough
    # only where the disks lay it at the same place, which equal starts mean here. A stream that two places of
    # one disk share would have another start; the stored length guards against a different stream.
    shared &= a["stored"] == b["stored"]
    result: BoolArray = live & ~shared
    return result


def _same_files(first: Disk, second: Disk) -> BoolArray:
    """A table: is file i of the first disk the same file as file j of the second? The last row and column,
    which index -1 reaches, are False."""
    same = np.zeros((len(first.files) + 1, len(second.files) + 1), dtype=np.bool_)
    for i, one in enumerate(first.files):
        for j, other in enumerate(second.files):
            same[i, j] = one is other or _same_file(one.fileno(), other.fileno())
    return same


def _same_file(first: int | None, second: int | None) -> bool:
    return first is not None and second is not None and os.path.sameopenfile(first, second)


def _runs(table: ExtentTable, wanted: BoolArray) -> Iterator[tuple[int, int]]:
    """The wanted rows as ranges of at most a batch, cut at multiples of it."""
    rows = table[wanted]
    if not len(rows):
        return
    stops = rows["start"] + rows["length"]
    heads = np.flatnonzero(np.concatenate(([True], rows["start"][1:] != stops[:-1])))
    tails = np.concatenate((heads[1:] - 1, [len(rows) - 1]))
    held: tuple[int, int] | None = None
    for start, stop in zip(rows["start"][heads].tolist(), stops[tails].tolist(), strict=True):
        position = start
        while position < stop:
            end = min(stop, position - position % BATCH + BATCH)
            # Near neighbours share a task: what lies between them costs less than another task.
            if held is not None and held[0] // BATCH == position // BATCH:
                held = (held[0], end)
            else:
                if held is not None:
                    yield held
                held = (position, end)
            position = end
    if held is not None:
        yield held


def _compare(one: Side, other: Side, start: int, stop: int, buffers: local) -> list[Difference]:
    """Worker: read a range of both disks, piece by piece, and say which sectors differ."""
    pair = getattr(buffers, "pair", None)
    if pair is None:
        pair = buffers.pair = (bytearray(PIECE + SECTOR), bytearray(PIECE + SECTOR))
    readers = (RangeReader(one.disk, one.rows), RangeReader(other.disk, other.rows))
    found: list[Difference] = []
    for at in range(start, stop, PIECE):
        length = min(PIECE, stop - at)
        padded = align_up(length, SECTOR)
        for reader, buffer in zip(readers, pair, strict=True):
            view = memoryview(buffer)[:padded]
            view[length:] = bytes(padded - length)
            reader.fill(at, view[:length])
        if not native.equal(pair[0], pair[1], padded):  # three times as fast as numpy, which sees to the rest
            found += _different_sectors(pair, at, length, padded)
    return found


def _different_sectors(pair: tuple[bytearray, bytearray], start: int, length: int, padded: int) -> list[Difference]:
    a, b = (np.frombuffer(buffer, dtype=np.uint64, count=padded // 8) for buffer in pair)
    sectors = (a != b).reshape(-1, SECTOR // 8).any(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], sectors, [False])).astype(np.int8)))
    return [
        Difference(start + first * SECTOR, min(last * SECTOR, length) - first * SECTOR, "content")
        for first, last in edges.reshape(-1, 2).tolist()
    ]


def _allocation_differences(a: ExtentTable, b: ExtentTable) -> Iterator[Difference]:
    """Strict: ranges that the chain of one image holds and that of the other doesn't."""
    differs = (a["kind"] == Kind.UNALLOCATED) != (b["kind"] == Kind.UNALLOCATED)
    for row in a[differs]:
        yield Difference(int(row["start"]), int(row["length"]), "allocation")


def _merged(found: Iterable[Difference]) -> Iterator[Difference]:
    held: Difference | None = None
    for piece in found:
        if held is not None and held.kind == piece.kind and held.start + held.length == piece.start:
            held = Difference(held.start, held.length + piece.length, held.kind)
            continue
        if held is not None:
            yield held
        held = piece
    if held is not None:
        yield held
