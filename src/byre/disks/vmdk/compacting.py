"""Compacting hosted sparse extents: grains of zeros go, grains from the end move into the room, the file is cut.

The order makes every cut harmless: entries of zero grains are cleared before their room is used, moved grains are on
the disk before any entry names them, the file is cut last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from byre.disks.vmdk.editing import SparseEditor
from byre.disks.vmdk.extent import KindArray, SparseExtent
from byre.disks.vmdk.layout import GTE_ZEROED, MAX_CAPACITY
from byre.disks.writer import BoolArray, Int64Array
from byre.errors import CorruptImageError, StorageError, UnsupportedError
from byre.extents import Kind
from byre.units import SECTOR, align_up

if TYPE_CHECKING:
    from byre.disks.vmdk.disk import VmdkDisk

_RUN = 4 << 20
MAX_GRAINS = 1 << 25
"""2 TiB of 64 KiB grains: 400 MB would be the next step."""


def compact(disk: VmdkDisk) -> int:
    """Pack every extent; returns the bytes by which the files became shorter.

    Raises UnsupportedError for what has nothing to pack, CorruptImageError where grains overlap.
    """
    name = disk.source.storage.name
    if not disk.writable:
        raise StorageError("was opened read-only", path=name)
    editor = disk.editor()
    editor.flush()
    parts = [editor.part(index) for index in range(len(disk.parts))]
    sparse = [part for part in parts if isinstance(part, SparseEditor)]
    if not sparse:
        raise UnsupportedError("a flat VMDK has nothing to pack", path=name)
    gained = sum(_Packing(part, has_parent=disk.descriptor.has_parent).run() for part in sparse)
    disk.forget_editor()
    return gained


@dataclass(frozen=True, slots=True)
class _Grains:
    """The stored grains of an extent: their numbers and host offsets, parallel."""

    number: Int64Array
    host: Int64Array


class _Packing:
    def __init__(self, editor: SparseEditor, *, has_parent: bool) -> None:
        self._editor = editor
        self._extent: SparseExtent = editor.extent
        self._storage = editor.storage
        self._has_parent = has_parent

    def run(self) -> int:
        before = self._storage.size
        grains = self._stored()
        busy = self._busy(grains)  # refuses overlaps before anything is changed
        empty = self._empty(grains)
        if not self._has_parent or self._extent.zeroed_grains:
            self._enter(grains.number[empty], np.full(int(empty.sum()), GTE_ZEROED if self._has_parent else 0))
            grains = _Grains(grains.number[~empty], grains.host[~empty])
            busy = self._busy(grains)
        overhead = min(self._editor.header.overhead, MAX_CAPACITY) * SECTOR
        slots = _slots(busy, self._extent.grain_bytes, overhead, most=len(grains.host))
        order = np.argsort(grains.host)[::-1]
        pairs = min(len(slots), len(order))
        worth = int((slots[:pairs] < grains.host[order[:pairs]]).sum())
        moved, places = order[:worth], slots[:worth]
        self._copy(grains.host[moved], places)
        self._enter(grains.number[moved], places // SECTOR)
        hosts = grains.host.copy()
        hosts[moved] = places
        end = self._end(_Grains(grains.number, hosts))
        if end < before:
            self._storage.truncate(end)
            self._storage.flush()
        return max(0, before - end)

    def _stored(self) -> _Grains:
        extent, tables = self._extent, self._extent.tables
        if extent.grains > MAX_GRAINS:
            raise UnsupportedError("has too many grains to be packed", path=self._storage.name)
        numbers, hosts = [], []
        for first in range(0, extent.grains, tables.chunk_entries):
            if tables.absent(first // tables.chunk_entries):
                continue
            stop = min(extent.grains, first + tables.chunk_entries)
            entries = tables.entries(first, stop)
            kinds: KindArray
            kinds, places = extent.locate(entries)
            held = np.flatnonzero(kinds == Kind.DATA)
            numbers.append(first + held)
            hosts.append(places[held])
        if not numbers:
            return _Grains(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        return _Grains(np.concatenate(numbers), np.concatenate(hosts))

    def _metadata(self) -> tuple[Int64Array, Int64Array]:
        """Starts and ends of what isn't a grain, in bytes."""
        header, tables = self._editor.header, self._extent.tables
        length = header.grain_tables * 4
        starts = [np.array([0, header.gd_offset * SECTOR])]
        head = (header.descriptor_offset + header.descriptor_size) * SECTOR
        ends = [np.array([max(SECTOR, head), header.gd_offset * SECTOR + length])]
        for directory in (tables.directory, self._editor.mirror):
            if directory is not None:
                present = directory[directory > 0]
                starts.append(present)
                ends.append(present + tables.table_bytes)
        if self._editor.mirror is not None:
            starts.append(np.array([header.rgd_offset * SECTOR]))
            ends.append(np.array([header.rgd_offset * SECTOR + length]))
        return np.concatenate(starts), np.concatenate(ends)

    def _busy(self, grains: _Grains) -> tuple[Int64Array, Int64Array]:
        """Starts and ends of everything in the file, ascending. Raises CorruptImageError where two things overlap, or
        a grain begins where there is no file any more."""
        outside = grains.host[grains.host >= self._storage.size]
        if len(outside):
            raise CorruptImageError(
                "can't be packed: a grain lies past the end of the file",
                path=self._storage.name,
                offset=int(outside[0]),
                expected=f"within {self._storage.size} bytes",
                hint=f"See 'byre check {self._storage.name}'.",
            )
        starts, ends = self._metadata()
        starts = np.concatenate((starts, grains.host))
        ends = np.concatenate((ends, grains.host + self._extent.grain_bytes))
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], ends[order]
        overlap = np.flatnonzero(ends[:-1] > starts[1:])
        if len(overlap):
            raise CorruptImageError(
                "can't be packed: grains or tables overlap",
                path=self._storage.name,
                offset=int(starts[overlap[0] + 1]),
                hint=f"See 'byre check {self._storage.name}'.",
            )
        return starts, ends

    def _end(self, grains: _Grains) -> int:
        _, ends = self._metadata()
        last = max(int(ends.max()), int(grains.host.max()) + self._extent.grain_bytes if len(grains.host) else 0)
        return max(align_up(last, SECTOR), min(self._editor.header.overhead, MAX_CAPACITY) * SECTOR)

    def _empty(self, grains: _Grains) -> BoolArray:
        """Which grains are all zeros, read in runs as they lie in the file."""
        grain = self._extent.grain_bytes
        empty = np.zeros(len(grains.host), dtype=np.bool_)
        if not len(empty):
            return empty
        order = np.argsort(grains.host)
        per_run = max(1, _RUN // grain)
        follows = np.diff(grains.host[order]) == grain
        heads = np.flatnonzero(np.concatenate(([True], ~follows)))
        for head, tail in zip(heads.tolist(), [*heads[1:].tolist(), len(order)], strict=True):
            for first in range(head, tail, per_run):
                members = order[first : min(tail, first + per_run)]
                start = int(grains.host[members[0]])
                length = min(len(members) * grain, self._storage.size - start)
                data = self._storage.read(start, length).ljust(len(members) * grain, b"\0")
                empty[members] = ~np.frombuffer(data, dtype=np.uint64).reshape(len(members), -1).any(axis=1)
        return empty

    def _copy(self, sources: Int64Array, places: Int64Array) -> None:
        grain, size = self._extent.grain_bytes, self._storage.size
        for source, place in zip(sources.tolist(), places.tolist(), strict=True):
            data = self._storage.read(source, min(grain, size - source))
            self._storage.write(place, data.ljust(grain, b"\0"))
        self._storage.flush()

    def _enter(self, numbers: Int64Array, values: Int64Array) -> None:
        """New entries for these grains, on the disk when this returns."""
        if not len(numbers):
            return
        tables = self._extent.tables
        order = np.argsort(numbers)
        numbers, values = numbers[order], values[order]
        heads = np.flatnonzero(np.diff(numbers // tables.gtes_per_gt, prepend=-1))
        for head, tail in zip(heads.tolist(), [*heads[1:].tolist(), len(numbers)], strict=True):
            table = int(numbers[head]) // tables.gtes_per_gt
            entries = tables.table(table).copy()
            entries[numbers[head:tail] - table * tables.gtes_per_gt] = values[head:tail]
            tables.set(table * tables.gtes_per_gt, entries)
        self._editor.touch()
        self._editor.flush()


def _slots(busy: tuple[Int64Array, Int64Array], grain: int, overhead: int, *, most: int) -> Int64Array:
    """Where a grain would fit between what is there: ascending, on grain boundaries, behind the overhead; no more
    than ``most``, for the gaps of a hostile file may be any length."""
    starts, ends = busy
    begin = -(-np.maximum(ends[:-1], overhead) // grain) * grain
    count = np.maximum(0, (starts[1:] - begin) // grain)
    count = np.minimum(count, most)
    count = np.clip(most - (np.cumsum(count) - count), 0, count)
    total = int(count.sum())
    first = np.repeat(np.cumsum(count) - count, count)
    slots: Int64Array = np.repeat(begin, count) + (np.arange(total, dtype=np.int64) - first) * grain
    return slots
