"""Tables of extents: which bytes of a disk lie where, as numpy structured arrays.

A table is sorted by ``start``, has no gaps and no overlaps, and covers exactly the range asked for.

=========  ======  =====================================================================================
field      dtype   meaning
=========  ======  =====================================================================================
start      int64   guest offset, bytes
length     int64   bytes of the guest's disk, > 0
kind       uint8   a ``Kind``
host       int64   host offset of the first byte (of the stored form when compressed); -1 where none
stored     int64   bytes that the stored form takes in the file; equals ``length`` for plain data, 0 for none
file       int32   index into the disk's ``files``; -1 where none
depth      int32   0 the image itself, 1 its backing image, …; -1 where nothing in the chain holds it
=========  ======  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np

EXTENT = np.dtype(
    [
        ("start", "<i8"),
        ("length", "<i8"),
        ("kind", "u1"),
        ("host", "<i8"),
        ("stored", "<i8"),
        ("file", "<i4"),
        ("depth", "<i4"),
    ]
)

ExtentTable: TypeAlias = np.ndarray[Any, np.dtype[np.void]]


class Kind(IntEnum):
    """What an extent's bytes are."""

    UNALLOCATED = 0
    """Nothing in the whole chain holds it; reads as zeros."""
    DATA = 1
    """Stored byte for byte at ``host``; may still be all zeros."""
    ZERO = 2
    """Said to be zeros by the metadata, or a hole in the host file; reads as zeros, hides the backing image."""
    COMPRESSED = 3
    """Stored compressed; one row is one cluster or grain."""


def empty_table(rows: int = 0) -> ExtentTable:
    return np.zeros(rows, dtype=EXTENT)


def one_extent(
    start: int,
    length: int,
    kind: Kind,
    *,
    host: int = -1,
    stored: int | None = None,
    file: int = -1,
    depth: int = -1,
) -> ExtentTable:
    """A table of a single row."""
    if stored is None:
        stored = length if kind == Kind.DATA else 0
    return np.array([(start, length, kind, host, stored, file, depth)], dtype=EXTENT)


def make_table(
    start: Any, length: Any, kind: Any, host: Any = -1, stored: Any = None, file: Any = -1, depth: Any = -1
) -> ExtentTable:
    """A table from columns; each may be an array or a scalar that holds for every row."""
    starts = np.asarray(start, dtype=np.int64)
    table = np.empty(starts.shape, dtype=EXTENT)
    table["start"] = starts
    table["length"] = length
    table["kind"] = kind
    table["host"] = host
    table["stored"] = np.where(table["kind"] == Kind.DATA, table["length"], 0) if stored is None else stored
    table["file"] = file
    table["depth"] = depth
    return table


def merge(table: ExtentTable) -> ExtentTable:
    """The same table with neighbours joined where one continues the other.

    Rows join when kind, file and depth agree and, for data, the host offsets follow on. Compressed rows
    never join: each is a stream of its own.
    """
    if len(table) < 2:
        return table
    before, after = table[:-1], table[1:]
    joins = (
        (before["kind"] == after["kind"])
        & (before["file"] == after["file"])
        & (before["depth"] == after["depth"])
        & (after["kind"] != Kind.COMPRESSED)
        & ((after["kind"] != Kind.DATA) | (before["host"] + before["length"] == after["host"]))
    )
    if not joins.any():
        return table
    heads = np.flatnonzero(np.concatenate(([True], ~joins)))
    merged: ExtentTable = table[heads].copy()
    merged["length"] = np.add.reduceat(table["length"], heads)
    merged["stored"] = np.add.reduceat(table["stored"], heads)
    return merged


def clip(table: ExtentTable, start: int, stop: int) -> ExtentTable:
    """The rows inside ``[start, stop)``, the outer two cut to fit.

    A compressed row that is cut keeps ``host`` and ``stored`` (there is no half of a stream); its ``start``
    and ``length`` say which guest bytes were asked for.
    """
    ends = table["start"] + table["length"]
    kept: ExtentTable = table[(ends > start) & (table["start"] < stop)].copy()
    if not len(kept):
        return kept
    head = start - int(kept["start"][0])
    if head > 0:
        first = kept[:1]
        first["start"] += head
        first["length"] -= head
        if first["kind"][0] == Kind.DATA:
            first["host"] += head
            first["stored"] -= head
    tail = int(kept["start"][-1] + kept["length"][-1]) - stop
    if tail > 0:
        last = kept[-1:]
        last["length"] -= tail
        if last["kind"][0] == Kind.DATA:
            last["stored"] -= tail
    return kept


def cut(table: ExtentTable, edges: Any) -> ExtentTable:
    """The same table, not empty, with its rows cut at those of the offsets that lie in it. A compressed row that is
    cut keeps ``host`` and ``stored``, as for ``clip``."""
    first, stop = int(table["start"][0]), int(table["start"][-1] + table["length"][-1])
    cuts = np.union1d(table["start"], edges[(edges > first) & (edges < stop)])
    rows: ExtentTable = table[np.searchsorted(table["start"], cuts, side="right") - 1].copy()
    plain = rows["kind"] == Kind.DATA
    rows["host"][plain] += (cuts - rows["start"])[plain]
    rows["start"] = cuts
    rows["length"] = np.diff(np.concatenate((cuts, [stop])))
    rows["stored"][plain] = rows["length"][plain]
    return rows


def merged_slices(slices: Iterable[ExtentTable]) -> Iterator[ExtentTable]:
    """Joins neighbours across a stream of slices as well as inside each; keeps one row back at most."""
    held: ExtentTable | None = None
    for piece in slices:
        table = merge(piece if held is None else np.concatenate((held, piece)))
        if len(table) > 1:
            yield table[:-1]
        held = table[-1:]
    if held is not None and len(held):
        yield held


def zero_runs(slices: Iterable[ExtentTable], least: int) -> Iterator[tuple[int, int]]:
    """``(start, stop)`` of what reads as zeros by the tables alone, ascending; left out below ``least`` bytes."""

    def plain(table: ExtentTable) -> ExtentTable:
        zeros = table[(table["kind"] == Kind.UNALLOCATED) | (table["kind"] == Kind.ZERO)]
        return make_table(zeros["start"], zeros["length"], Kind.ZERO)

    end = start = -1
    for table in map(plain, slices):
        stops = table["start"] + table["length"]
        heads = np.flatnonzero(np.concatenate(([True], table["start"][1:] != stops[:-1])))[: len(table)]
        tails = np.append(heads[1:] - 1, len(table) - 1)[: len(heads)]
        for first, last in zip(table["start"][heads].tolist(), stops[tails].tolist(), strict=True):
            if first != end:
                if end - start >= least:
                    yield start, end
                start = first
            end = last
    if end > start and end - start >= least:
        yield start, end
