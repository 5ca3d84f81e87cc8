"""Whose every cluster is: the runs of all files out of one pass over the MFT, decoded many at a time.

What ``decode_runs`` does for one attribute, this does for the k-th run of every attribute of a slice at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from byre.filesystems.ntfs.mft import Mft
from byre.filesystems.ntfs.records import IN_USE, Bytes2D, apply_fixups
from byre.filesystems.ntfs.runs import MAX_CLUSTERS
from byre.filesystems.ntfs.table import Int64s, Table, attributes_of, numbers_at
from byre.volumes.problems import Problems

OWNED = np.dtype(
    [("record", "<i8"), ("type", "<u4"), ("named", "?"), ("vcn", "<i8"), ("lcn", "<i8"), ("clusters", "<i8")]
)
"""One run on the disk: the file's base record, the attribute's type and whether it has a name, and where the run
lies in the attribute (``vcn``) and in the volume (``lcn``). Sparse runs aren't there."""

MAX_RUNS = 65536 // 2
"""A run takes two bytes at least, a record has 64 KiB at most."""


def owned_runs(mft: Mft, problems: Problems) -> Iterator[Table]:
    """The runs of every file in use, one table for each slice of the MFT, in no order."""
    for first, rows in mft.slices(problems):
        _, sound = apply_fixups(rows, b"FILE")
        flags = rows.view("<u2")[:, 11]
        good = np.flatnonzero(sound & (flags & IN_USE != 0))
        found = list(_slice_runs(rows, good, first, mft, problems))
        if found:
            yield np.concatenate(found)


def _slice_runs(rows: Bytes2D, good: Int64s, first: int, mft: Mft, problems: Problems) -> Iterator[Table]:
    # Numbers are gathered 8 bytes at a time: the padding keeps the last record's inside.
    flat = np.concatenate((rows.reshape(-1), np.zeros(32, dtype=np.uint8)))
    words = flat.view("<u2")
    for at, owner, kind, length in attributes_of(rows, good, first, mft.count, Problems()):
        chosen = (flat[at + 8] != 0) & (length >= 64)
        at, owner, kind, length = at[chosen], owner[chosen], kind[chosen], length[chosen]
        if not len(at):
            continue
        pairs = words[at // 2 + 16].astype(np.int64)
        fits = (pairs >= 64) & (pairs <= length)
        at, owner, kind, length, pairs = at[fits], owner[fits], kind[fits], length[fits], pairs[fits]
        low = np.minimum(numbers_at(flat, at + 16)[:, 0], np.uint64(MAX_CLUSTERS)).astype(np.int64)
        table: Table = np.zeros(len(at), dtype=OWNED)
        table["record"], table["type"], table["named"] = owner, kind, flat[at + 9] != 0
        table["vcn"] = low
        yield from _decode(flat, at + pairs, at + length, table, mft.boot.clusters, problems)


def _decode(flat: Any, here: Int64s, end: Int64s, table: Table, clusters: int, problems: Problems) -> Iterator[Table]:
    """The next run of every attribute, until all have ended; ``table`` carries where each has got to."""
    for _ in range(MAX_RUNS):
        going = here < end
        going[going] = flat[here[going]] != 0
        here, end, table = here[going], end[going], table[going]
        if not len(here):
            return
        header = flat[here].astype(np.int64)
        length_bytes, offset_bytes = header & 15, header >> 4
        following = here + 1 + length_bytes + offset_bytes
        sound = (length_bytes > 0) & (length_bytes <= 8) & (offset_bytes <= 8) & (following <= end)
        count = _signed(flat, np.where(sound, here + 1, 0), length_bytes)
        step = _signed(flat, np.where(sound, here + 1 + length_bytes, 0), offset_bytes)
        on_disk = offset_bytes > 0
        sound &= (count > 0) & (count <= MAX_CLUSTERS) & (table["vcn"] <= MAX_CLUSTERS)
        lcn = np.where(sound & (np.abs(step) <= MAX_CLUSTERS), table["lcn"] + step, -1)
        sound &= ~on_disk | ((lcn >= 0) & (lcn <= clusters) & (count <= clusters - lcn))
        for number in table["record"][~sound].tolist()[:100]:
            problems.add("ntfs.runs", f"MFT record {number} has runs outside the volume or malformed")
        here, end, table = following[sound], end[sound], table[sound].copy()
        count, lcn, on_disk = count[sound], lcn[sound], on_disk[sound]
        table["lcn"] = lcn
        table["clusters"] = count
        if on_disk.any():
            yield table[on_disk]
        table["vcn"] += count


def _signed(flat: Any, at: Int64s, width: Int64s) -> Int64s:
    """Signed little-endian numbers of ``width`` bytes, 0 to 8."""
    raw = numbers_at(flat, at)[:, 0].view(np.int64)
    shift = 64 - 8 * np.clip(width, 1, 8)
    return np.where(width > 0, (raw << shift) >> shift, 0)
