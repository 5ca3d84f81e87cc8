"""Where the space of a volume went: folders, known waste, and what the image stores of free clusters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from byre.disks.disk import Disk
from byre.extents import Kind
from byre.filesystems.base import Entry, FileSystem, FreeExtents
from byre.windows.waste import Waste, WasteFinder

Offsets: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
MAX_FOLDERS = 200_000
"""Folders that are told apart; deeper or later ones count for the folder above."""


@dataclass(frozen=True, slots=True)
class FolderSize:
    """What lies in a folder and everything below it. ``allocated`` and ``size`` in bytes."""

    path: str
    allocated: int
    size: int
    files: int


@dataclass(frozen=True, slots=True)
class WasteSize:
    """What one kind of waste takes. ``largest`` is the path of the largest file."""

    waste: Waste
    allocated: int
    files: int
    largest: str


@dataclass(frozen=True, slots=True)
class Usage:
    """The files below one folder: their sum, the folders down to a depth, and the kinds of waste, largest first."""

    top: FolderSize
    folders: tuple[FolderSize, ...]
    wastes: tuple[WasteSize, ...]


@dataclass(frozen=True, slots=True)
class FreeSpace:
    """``free`` bytes of the volume; ``stored`` of them that the image nevertheless holds as data, ``taken`` what
    that takes in its files (less where compressed)."""

    free: int
    stored: int
    taken: int


def measure(files: FileSystem, top: Entry, *, depth: int, root: str | None) -> Usage:
    """Walk everything below ``top``. A file of several names counts once; alternate streams count with theirs."""
    base = 0 if top.path == "/" else top.path.count("/")
    finder = WasteFinder(root or "/WINDOWS")
    sums: dict[str, list[int]] = {top.path: [0, 0, 0]}
    wastes: dict[str, list[int]] = {}
    largest: dict[str, tuple[int, str, Waste]] = {}
    counted: set[int] = set()
    for entry in files.walk(top) if top.is_dir else [top]:
        if entry.links > 1 and not entry.is_dir:
            if entry.id in counted:
                continue
            counted.add(entry.id)
        allocated = entry.allocated + sum(stream.allocated for stream in entry.streams)
        for folder in _above(entry, top, base, depth):
            row = sums.get(folder)
            if row is None:
                if len(sums) >= MAX_FOLDERS:
                    continue
                row = sums[folder] = [0, 0, 0]
            row[0] += allocated
            row[1] += 0 if entry.is_dir else entry.size
            row[2] += not entry.is_dir
        waste = None if entry.is_dir else finder.kind(entry.path)
        if waste is not None:
            found = wastes.setdefault(waste.kind, [0, 0])
            found[0] += allocated
            found[1] += 1
            if allocated >= largest.get(waste.kind, (-1, "", waste))[0]:
                largest[waste.kind] = (allocated, entry.path, waste)
    rows = sorted((FolderSize(path, *row) for path, row in sums.items()), key=lambda row: (-row.allocated, row.path))
    kinds = [WasteSize(largest[kind][2], row[0], row[1], largest[kind][1]) for kind, row in wastes.items()]
    return Usage(
        top=FolderSize(top.path, *sums[top.path]),
        folders=tuple(row for row in rows if row.path != top.path),
        wastes=tuple(sorted(kinds, key=lambda row: -row.allocated)),
    )


def _above(entry: Entry, top: Entry, base: int, depth: int) -> Iterable[str]:
    """The folders that an entry counts for: from ``top`` down to ``depth`` levels, itself where it is one."""
    yield top.path
    names = entry.path.split("/")[1:]
    if not entry.is_dir:
        names = names[:-1]
    for level in range(base + 1, min(len(names), base + depth) + 1):
        yield "/" + "/".join(names[:level])


def free_space(disk: Disk, files: FileSystem) -> FreeSpace:
    """What the image holds of the clusters that the file system calls free."""
    free = stored = taken = 0
    for table in files.free_extents():
        if not len(table):
            continue
        free += int(table["length"].sum())
        low, high = int(table["disk"][0]), int(table["disk"][-1] + table["length"][-1])
        for extents in disk.extents(max(low, 0), min(high, disk.size)) if low < disk.size else ():
            rows = extents[(extents["kind"] == Kind.DATA) | (extents["kind"] == Kind.COMPRESSED)]
            inside = _below(table, rows["start"] + rows["length"]) - _below(table, rows["start"])
            stored += int(inside.sum())
            taken += int((rows["stored"] * (inside / rows["length"])).sum())
    return FreeSpace(free, stored, taken)


def _below(table: FreeExtents, offsets: Offsets) -> Offsets:
    """How many free bytes lie below each offset."""
    before = np.concatenate(([0], np.cumsum(table["length"])))
    index = np.searchsorted(table["disk"], offsets, side="right") - 1
    at = np.maximum(index, 0)
    within = np.minimum(np.maximum(offsets - table["disk"][at], 0), table["length"][at])
    total: Offsets = before[at] + within
    return total
