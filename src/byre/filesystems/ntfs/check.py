"""A consistency check that goes beyond a walk: mirror, bitmaps, indexes, and clusters that two files claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from byre.disks.disk import CheckReport
from byre.errors import ByreError
from byre.filesystems.base import runs_of
from byre.filesystems.ntfs.allocation import OWNED
from byre.filesystems.ntfs.indexes import check_indexes
from byre.filesystems.ntfs.names import IN_USE, IS_DIRECTORY
from byre.filesystems.ntfs.table import HAS_REPARSE, SOUND, Int64s

if TYPE_CHECKING:
    from byre.filesystems.ntfs.filesystem import NtfsFileSystem


def check(fs: NtfsFileSystem) -> CheckReport:
    """Everything that ``problems`` holds after a walk and these comparisons."""
    facts = fs.table.facts
    plain = (facts["flags"] & IS_DIRECTORY == 0) & (facts["marks"] & HAS_REPARSE == 0)
    for _ in fs.walk(system=True, left_out=plain):  # of plain files the table has told all that a walk could
        pass
    used = 0
    for step in (_mirror, _mft_bitmap, check_indexes):
        try:
            step(fs)
        except ByreError as error:
            fs.problems.add("ntfs.check", f"can't be compared: {error}")
    try:
        used = _clusters(fs)
    except ByreError as error:
        fs.problems.add("ntfs.check", f"clusters can't be compared: {error}")
    found = tuple(fs.problems)
    return CheckReport(
        format="ntfs",
        corruptions=sum(each.count for each in found if each.kind == "corruption"),
        leaks=sum(each.count for each in found if each.kind == "leak"),
        problems=found,
        allocated_blocks=used,
        total_blocks=fs.boot.clusters,
    )


def _mirror(fs: NtfsFileSystem) -> None:
    """$MFTMirr repeats the first records, at least four."""
    size = fs.boot.record_size
    count = min(max(4, fs.boot.cluster_size // size), fs.mft.count)
    mirror = fs.volume.read(fs.boot.mftmirr_lcn * fs.boot.cluster_size, count * size)
    if mirror != fs.mft.raw(0, count):
        different = [
            number for number in range(count) if mirror[number * size : (number + 1) * size] != fs.mft.raw(number)
        ]
        fs.problems.add("ntfs.mirror", f"$MFTMirr differs from $MFT in records {different}")


def _mft_bitmap(fs: NtfsFileSystem) -> None:
    bits = np.unpackbits(np.frombuffer(fs.mft_bitmap(), dtype=np.uint8), bitorder="little")
    facts = fs.table.facts
    count = min(len(bits), len(facts))
    in_use = (facts["flags"][:count] & IN_USE != 0) & (facts["marks"][:count] & SOUND != 0)
    # Records 12 to 23 are reserved: marked as used, whatever their own flag says.
    differs = np.flatnonzero((bits[:count] != 0) != in_use)
    for number in differs[differs >= 24].tolist()[:1000]:
        state = "free" if in_use[number] else "in use"
        fs.problems.add("ntfs.mft-bitmap", f"MFT record {number} is {state} by $MFT's bitmap, not by its own flag")


def _clusters(fs: NtfsFileSystem) -> int:
    """Compare every file's runs with each other and with $Bitmap; how many clusters are in use by files."""
    tables = list(fs.mft_runs(fs.problems))
    runs = np.concatenate(tables) if tables else np.zeros(0, dtype=OWNED)
    runs = runs[np.argsort(runs["lcn"], kind="stable")]
    starts, stops = runs["lcn"], runs["lcn"] + runs["clusters"]
    reach = np.maximum.accumulate(stops) if len(stops) else stops
    for row in (np.flatnonzero(starts[1:] < reach[:-1]) + 1).tolist()[:1000]:
        number = int(runs["record"][row])
        fs.problems.add("ntfs.cross-linked", f"MFT record {number} claims clusters of another file")
    heads = np.flatnonzero(np.concatenate((np.ones(min(1, len(starts)), dtype=np.bool_), starts[1:] > reach[:-1])))
    low, high = starts[heads], reach[np.concatenate((heads[1:] - 1, [len(reach) - 1]))] if len(heads) else reach
    used = 0
    for first, bits in fs.bitmap():
        mine = _below(low, high, first + len(bits)) - _below(low, high, first)
        marked_low, marked_high = (edges + first for edges in runs_of(bits != 0))
        marked = int((marked_high - marked_low).sum())
        both = int((_below(low, high, marked_high) - _below(low, high, marked_low)).sum())
        used += int(mine)
        free_but_owned, used_but_lost = int(mine) - both, marked - both
        if free_but_owned:
            fs.problems.add("ntfs.bitmap-free", "clusters of files are free by $Bitmap", count=free_but_owned)
        if used_but_lost:
            fs.problems.add("ntfs.bitmap-lost", "clusters in use belong to no file", kind="leak", count=used_but_lost)
    return used


def _below(low: Int64s, high: Int64s, place: Int64s | int) -> Int64s:
    """How many clusters of the ranges ``low`` to ``high``, ascending and apart, lie below each place."""
    lengths: Int64s = np.zeros(len(low) + 1, dtype=np.int64)
    np.cumsum(high - low, out=lengths[1:])
    at = np.searchsorted(low, place, side="right")
    last = np.maximum(at - 1, 0)
    past = np.where(at > 0, np.maximum(0, high[last] - place), 0) if len(high) else np.zeros_like(at)
    found: Int64s = np.asarray(lengths[at] - past, dtype=np.int64)
    return found
