"""The whole MFT as columns: one pass over its records with numpy, no Python loop per file.

Each step of the pass handles the k-th attribute of every record of a slice at once. What comes out is a table of
facts with a row for each record, a table of names with a row for each $FILE_NAME, and a table of named streams.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from byre.filesystems.ntfs.mft import Mft
from byre.filesystems.ntfs.records import (
    DATA,
    FILE_NAME,
    IN_USE,
    IS_COMPRESSED,
    IS_SPARSE,
    REFERENCE_MASK,
    REPARSE_POINT,
    STANDARD_INFORMATION,
    Bytes2D,
    apply_fixups,
)
from byre.volumes.problems import Problems

NO_TIME = np.iinfo(np.int64).min
_EPOCH = 116444736000000000
"""1970 in units of 100 ns since 1601."""
_LAST = _EPOCH + np.iinfo(np.int64).max // 100

FACT = np.dtype(
    [
        ("created", "<i8"),
        ("modified", "<i8"),
        ("changed", "<i8"),
        ("accessed", "<i8"),
        ("size", "<i8"),
        ("allocated", "<i8"),
        ("attributes", "<u4"),
        ("sequence", "<u2"),
        ("links", "<u2"),
        ("flags", "<u2"),
        ("marks", "u1"),
    ]
)
"""One row for each MFT record; ``flags`` are the record's own, ``marks`` ours."""

SOUND, HAS_DATA, HAS_STREAMS, HAS_REPARSE, IS_EXTENSION = 1, 2, 4, 8, 16

NAME = np.dtype(
    [
        ("record", "<i8"),
        ("parent", "<i8"),
        ("parent_sequence", "<u2"),
        ("space", "u1"),
        ("length", "u1"),
        ("text", "<i8"),
    ]
)
"""One row for each name: ``space`` 0 POSIX, 1 Win32, 2 DOS, 3 both; ``text`` indexes the pool of characters."""

STREAM = np.dtype([("record", "<i8"), ("size", "<i8"), ("allocated", "<i8"), ("length", "u1"), ("text", "<i8")])

Table = np.ndarray[Any, np.dtype[np.void]]
Int64s = npt.NDArray[np.int64]

MAX_STEPS = 65536 // 24
"""No record holds more attributes than this."""


@dataclass(frozen=True, slots=True)
class FileTable:
    """The MFT as columns. ``pool`` holds every name's UTF-16 units, one character each."""

    facts: Table
    names: Table
    streams: Table
    pool: str

    def text(self, start: int, length: int) -> str:
        """A name from the pool; surrogates that pair are joined, as they are read anywhere else."""
        name = self.pool[start : start + length]
        if name.isascii():
            return name
        return name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")


class _Scan:
    """What one pass collects. Mutable: it is filled slice by slice."""

    def __init__(self, count: int) -> None:
        self.facts: Table = np.zeros(count, dtype=FACT)
        for field in ("created", "modified", "changed", "accessed"):
            self.facts[field] = NO_TIME
        self.names: list[Table] = []
        self.streams: list[Table] = []
        self.pool: list[npt.NDArray[np.uint16]] = []
        self.pooled = 0


def scan(mft: Mft, problems: Problems) -> FileTable:
    """Read the whole table once."""
    state = _Scan(mft.count)
    for first, rows in mft.slices(problems):
        _scan_slice(state, mft, first, rows, problems)
    units = np.concatenate(state.pool) if state.pool else np.zeros(0, dtype=np.uint16)
    return FileTable(
        facts=state.facts,
        names=np.concatenate(state.names) if state.names else np.zeros(0, dtype=NAME),
        streams=_sorted_streams(state),
        pool=units.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass"),
    )


def _sorted_streams(state: _Scan) -> Table:
    if not state.streams:
        return np.zeros(0, dtype=STREAM)
    table = np.concatenate(state.streams)
    ordered: Table = table[np.argsort(table["record"], kind="stable")]
    return ordered


def _scan_slice(state: _Scan, mft: Mft, first: int, rows: Bytes2D, problems: Problems) -> None:
    is_record, sound = apply_fixups(rows, b"FILE")
    _report(mft, first, rows, is_record, sound, problems)
    good = np.flatnonzero(sound)
    head = rows[good][:, :48].copy()
    words = head.view("<u2")
    numbers = good + first
    facts = state.facts
    facts["sequence"][numbers] = words[:, 8]
    facts["links"][numbers] = words[:, 9]
    facts["flags"][numbers] = words[:, 11]
    facts["marks"][numbers] |= np.where(head.view("<u8")[:, 4] != 0, SOUND | IS_EXTENSION, SOUND).astype(np.uint8)
    flat = rows.reshape(-1)
    for at, owner, kind, length in attributes_of(rows, good, first, mft.count, problems):
        _collect(state, flat, at, owner, kind, length, problems)


def _report(
    mft: Mft,
    first: int,
    rows: Bytes2D,
    is_record: npt.NDArray[np.bool_],
    sound: npt.NDArray[np.bool_],
    problems: Problems,
) -> None:
    for row in np.flatnonzero(is_record & ~sound).tolist()[:1000]:
        where = mft.place(first + row)
        what = f"MFT record {first + row} fails its fixups: a torn write"
        problems.add("ntfs.fixup", what, offset=where, hides_names=True)
    odd = ~is_record & rows[:, :4].any(axis=1)
    for row in np.flatnonzero(odd).tolist()[:1000]:
        mark = bytes(rows[row, :4])
        code = "ntfs.bad-record" if mark == b"BAAD" else "ntfs.not-a-record"
        what = f"MFT record {first + row} starts with {mark!r}"
        problems.add(code, what, offset=mft.place(first + row), hides_names=True)


def attributes_of(
    rows: Bytes2D, good: Int64s, first: int, count: int, problems: Problems
) -> Iterator[tuple[Int64s, Int64s, Any, Int64s]]:
    """The attributes of the sound records ``good`` of a slice, the k-th of every record at a time.

    Yields places (byte offsets in the slice, multiples of 8), owners (the file's base record), types and lengths;
    a header of 24 bytes and the length lie inside the record.
    """
    width = rows.shape[1]
    head = rows[good][:, :48].copy()
    words, base = head.view("<u2"), head.view("<u8")[:, 4]
    owner = np.where(base != 0, (base & REFERENCE_MASK).astype(np.int64), good + first)
    # An extension belongs to its base only while it is in use: a freed one names a base that may be another file's
    # by now. One whose base lies outside the table belongs to nobody.
    kept = (owner < count) & ((base == 0) | (words[:, 11] & IN_USE != 0))
    position = words[:, 10].astype(np.int64)[kept]
    limit = np.minimum(head.view("<u4")[:, 6].astype(np.int64), width)[kept]
    start, owner = good[kept].astype(np.int64) * width, owner[kept]
    quads = rows.reshape(-1).view("<u4")
    for _ in range(MAX_STEPS):
        inside = (position + 24 <= limit) & (position % 8 == 0) & (position >= 42)
        start, owner, position, limit = start[inside], owner[inside], position[inside], limit[inside]
        if not len(start):
            return
        at = start + position
        kind = quads[at // 4]
        length = quads[at // 4 + 1].astype(np.int64)
        sound = (length >= 24) & (length % 8 == 0) & (position + length <= limit)
        ended = kind == 0xFFFFFFFF
        bad = ~sound & ~ended
        if bad.any():
            for number in owner[bad].tolist()[:100]:
                problems.add("ntfs.attribute", f"MFT record {number} has a malformed attribute", hides_names=True)
        going = sound & ~ended
        start, owner, position, limit = start[going], owner[going], position[going], limit[going]
        length = length[going]
        yield at[going], owner, kind[going], length
        position = position + length


def _collect(
    state: _Scan, flat: Any, at: Int64s, owner: Int64s, kind: Any, length: Int64s, problems: Problems
) -> None:
    quads = flat.view("<u4")
    resident = flat[at + 8] == 0
    value_size = quads[at // 4 + 4].astype(np.int64)
    value = at + flat.view("<u2")[at // 2 + 10]
    fits = resident & (value - at + value_size <= length)
    wanted = np.flatnonzero((kind == STANDARD_INFORMATION) & fits & (value_size >= 36))
    if len(wanted):
        _standard_information(state, flat, value[wanted], owner[wanted])
    wanted = np.flatnonzero((kind == FILE_NAME) & fits & (value_size >= 66))
    if len(wanted):
        _file_names(state, flat, value[wanted], value_size[wanted], owner[wanted], problems)
    wanted = np.flatnonzero(kind == DATA)
    if len(wanted):
        _data(state, flat, at[wanted], owner[wanted], length[wanted], fits[wanted], value_size[wanted])
    wanted = np.flatnonzero(kind == REPARSE_POINT)
    if len(wanted):
        state.facts["marks"][owner[wanted]] |= HAS_REPARSE


def numbers_at(flat: Any, at: Int64s, count: int = 1) -> npt.NDArray[np.uint64]:
    """``count`` little-endian numbers from each of the places ``at``, aligned or not."""
    table: npt.NDArray[np.uint64] = flat[at[:, None] + np.arange(8 * count)].view("<u8")
    return table


def _standard_information(state: _Scan, flat: Any, value: Int64s, owner: Int64s) -> None:
    times = numbers_at(flat, value, 4)
    usable = (times > 0) & (times < _LAST)
    clean = np.where(usable, (times.astype(np.int64) - _EPOCH) * 100, NO_TIME)
    for column, field in enumerate(("created", "modified", "changed", "accessed")):
        state.facts[field][owner] = clean[:, column]
    state.facts["attributes"][owner] = numbers_at(flat, value + 32)[:, 0] & 0xFFFFFFFF


def _file_names(state: _Scan, flat: Any, value: Int64s, size: Int64s, owner: Int64s, problems: Problems) -> None:
    units = flat[value + 64].astype(np.int64)
    sound = (units > 0) & (66 + 2 * units <= size)
    for number in owner[~sound].tolist()[:100]:
        problems.add("ntfs.name", f"MFT record {number} has a malformed name", hides_names=True)
    value, owner, units = value[sound], owner[sound], units[sound]
    parent = numbers_at(flat, value)[:, 0]
    table: Table = np.empty(len(owner), dtype=NAME)
    table["record"] = owner
    table["parent"] = (parent & REFERENCE_MASK).astype(np.int64)
    table["parent_sequence"] = (parent >> 48).astype(np.uint16)
    table["space"] = flat[value + 65]
    table["length"] = units
    table["text"] = _pool(state, flat, value + 66, units)
    state.names.append(table)


def _pool(state: _Scan, flat: Any, start: Int64s, units: Int64s) -> Int64s:
    """Copy names of ``units`` UTF-16 units each into the pool; where each begins there."""
    ends = np.cumsum(units)
    begins = ends - units
    total = int(ends[-1]) if len(ends) else 0
    at = np.repeat(start - 2 * begins, units) + 2 * np.arange(total)
    state.pool.append(flat[at] | (flat[at + 1].astype(np.uint16) << 8))
    places: Int64s = begins + state.pooled
    state.pooled += total
    return places


def _data(state: _Scan, flat: Any, at: Int64s, owner: Int64s, length: Int64s, fits: Any, value_size: Int64s) -> None:
    """Sizes of unnamed and named $DATA; of a stream in several parts only the first states them."""
    words = flat.view("<u2")
    resident = flat[at + 8] == 0
    name_units = flat[at + 9].astype(np.int64)
    name_at = words[at // 2 + 5].astype(np.int64)
    flags = words[at // 2 + 6]
    sized = ~resident & (length >= 64)
    size = np.where(resident, value_size, 0)
    allocated = np.zeros(len(at), dtype=np.int64)
    if sized.any():
        which = np.flatnonzero(sized)
        numbers = numbers_at(flat, at[which] + 16, 5)
        first_part = numbers[:, 0] == 0
        real = np.minimum(numbers[:, 4], np.uint64(1 << 63) - np.uint64(1)).astype(np.int64)
        taken = np.minimum(numbers[:, 3], np.uint64(1 << 63) - np.uint64(1)).astype(np.int64)
        sparse = (flags[which] & (IS_COMPRESSED | IS_SPARSE) != 0) & (length[which] >= 72)
        if sparse.any():
            total = numbers_at(flat, at[which[sparse]] + 64)[:, 0]
            taken[sparse] = np.minimum(total, np.uint64(1 << 63) - np.uint64(1)).astype(np.int64)
        size[which], allocated[which] = real, taken
        sized[which] = first_part
    counted = sized | (resident & fits)
    plain = counted & (name_units == 0)
    state.facts["size"][owner[plain]] = size[plain]
    state.facts["allocated"][owner[plain]] = allocated[plain]
    state.facts["marks"][owner[plain]] |= HAS_DATA
    named = np.flatnonzero(counted & (name_units > 0) & (name_at + 2 * name_units <= length))
    if len(named):
        table: Table = np.empty(len(named), dtype=STREAM)
        table["record"] = owner[named]
        table["size"] = size[named]
        table["allocated"] = allocated[named]
        table["length"] = name_units[named]
        table["text"] = _pool(state, flat, at[named] + name_at[named], name_units[named])
        state.streams.append(table)
        state.facts["marks"][owner[named]] |= HAS_STREAMS
