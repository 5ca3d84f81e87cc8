"""The states that a disk has had, oldest first, wherever they are kept.

A chain of differencing images holds one in each file; a qcow2 image has its internal snapshots and today's
disk. Either way a ``State`` is a disk whose extents of depth 0 are all that sets it apart from the state before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePath

import numpy as np

from byre.disks.disk import Description, Disk, DiskDefaults
from byre.disks.layers import layers_of
from byre.disks.qcow2.image import Qcow2Disk, Qcow2View
from byre.disks.writer import BoolArray, Int64Array
from byre.errors import UnsupportedError, UsageError
from byre.extents import ExtentTable, Kind, merge, one_extent
from byre.storage.base import Storage

_COMPARE_BYTES = 1 << 20
_UNIT = 1 << 16
"""Where two states name different places, their bytes are compared in pieces of this size."""


@dataclass(frozen=True, slots=True)
class State:
    """One state. ``created`` is RFC 3339; ``read_vm_state(offset, length)`` gives the machine state's bytes.

    The newest state of a list is the disk as it is today: it has no VM state, and its id and name mean nothing.
    """

    disk: Disk
    id: str
    name: str
    created: str | None = None
    vm_state_size: int = 0
    vm_clock_ns: int | None = None
    icount: int | None = None
    read_vm_state: Callable[[int, int], bytes] | None = None


def states_of(disk: Disk) -> tuple[State, ...]:
    """All states of an open disk, oldest first, today's last.

    Raises UsageError where there is only one, UnsupportedError for snapshots inside of a chain.
    """
    name = disk.files[0].name
    layers = layers_of(disk)
    inner = [layer for layer in layers if isinstance(layer, Qcow2Disk) and layer.snapshot_table]
    if isinstance(disk, Qcow2Disk) and inner == [disk]:
        return _internal(disk)
    if inner:
        raise UnsupportedError(
            "a chain of images with internal snapshots inside has no one order of states",
            path=name,
            found=f"snapshots in {inner[0].files[0].name}",
            hint="Convert that image on its own first.",
        )
    if isinstance(disk, Qcow2View) and not isinstance(disk, Qcow2Disk):
        raise UsageError("a snapshot is one state, not an image with several", path=name)
    if len(layers) < 2:
        raise UsageError(
            f"--with-snapshots needs several states, and this {disk.format} image is just one",
            path=name,
            expected="a qcow2 image with internal snapshots, or the newest image of a differencing chain",
        )
    return tuple(_numbered(layers[::-1]))


def same_place(one: ExtentTable, other: ExtentTable) -> BoolArray:
    """Which rows of two tables with the same bounds must hold the same bytes, going by where they lie."""
    nothing = np.array([Kind.UNALLOCATED, Kind.ZERO])
    empty = np.isin(one["kind"], nothing) & np.isin(other["kind"], nothing)
    result: BoolArray = empty | (
        (one["kind"] == other["kind"])
        & (one["file"] == other["file"])
        & (one["host"] == other["host"])
        & ((one["kind"] == Kind.DATA) | (one["stored"] == other["stored"]))
    )
    return result


class Changes(DiskDefaults):
    """A disk as what has changed since ``before``: those extents have depth 0, all others depth 1 or more.

    Two snapshots of an image share their files: equal places are equal bytes, and only what lies elsewhere is
    read and compared. ``layered``: the disk is the image over ``before``, and what it holds itself (a block of
    a mebibyte for one changed sector) is read and compared.
    """

    def __init__(self, disk: Disk, before: Disk, *, layered: bool = False) -> None:
        self._disk = disk
        self._before = before
        self._layered = layered
        self.format = disk.format
        self.size = disk.size
        self.sector_size = disk.sector_size
        self.block_size = disk.block_size

    @property
    def files(self) -> tuple[Storage, ...]:
        return self._disk.files

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        self._disk.read_into(offset, buffer)

    def describe(self) -> Description:
        return self._disk.describe()

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        for table in self._disk.extents(start, self.size if stop is None else min(stop, self.size)):
            yield merge(self._marked(table))

    def _marked(self, table: ExtentTable) -> ExtentTable:
        if self._layered:
            return self._compared(table, table["depth"] == 0)
        first, end = int(table["start"][0]), int(table["start"][-1] + table["length"][-1])
        known = min(end, self._before.size)
        old = list(self._before.extents(first, known)) if known > first else []
        before = np.concatenate(old) if old else table[:0]
        # Bytes past the older disk's end were nothing.
        if known < end:
            past_end = max(first, known)
            before = np.concatenate((before, one_extent(past_end, end - past_end, Kind.UNALLOCATED)))
        edges = np.unique(np.concatenate((table["start"], before["start"], [end])))
        new, past = _split(table, edges), _split(before, edges)
        changed = ~same_place(new, past)
        new["depth"] = np.where(changed, 0, np.maximum(new["depth"], 0) + 1)
        new = self._compared(new, changed)
        fresh = (new["depth"] == 0) & (new["kind"] == Kind.UNALLOCATED)
        new["kind"][fresh] = Kind.ZERO
        return new

    def _compared(self, rows: ExtentTable, changed: BoolArray) -> ExtentTable:
        """Rows that lie elsewhere, split where their bytes turn out to be what they were."""
        cuts: list[Int64Array] = [rows["start"]]
        equal: list[tuple[int, int]] = []
        turns = np.flatnonzero(np.diff(np.concatenate(([False], changed, [False])).astype(np.int8)))
        for head, tail in zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True):
            start, stop = int(rows["start"][head]), int(rows["start"][tail - 1] + rows["length"][tail - 1])
            for low, high in self._equal_parts(start, min(stop, self._before.size)):
                equal.append((low, high))
                cuts.append(np.array([low, high]))
        if not equal:
            return rows
        end = int(rows["start"][-1] + rows["length"][-1])
        edges = np.unique(np.concatenate((*cuts, [end])))
        fine = _split(rows, edges[edges <= end])
        starts = np.array([low for low, _ in equal])
        stops = np.array([high for _, high in equal])
        at = np.searchsorted(starts, fine["start"], side="right") - 1
        inside = (at >= 0) & (fine["start"] < stops[np.maximum(at, 0)])
        fine["depth"][inside & (fine["depth"] == 0)] = 1
        return fine

    def _equal_parts(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Ranges of whole units inside ``[start, stop)`` whose bytes are equal, joined where they touch."""
        open_at: int | None = None
        position = start
        while position < stop:
            end = min(stop, (position // _COMPARE_BYTES + 1) * _COMPARE_BYTES)
            new, old = self._disk.read(position, end - position), self._before.read(position, end - position)
            if new == old:
                open_at = position if open_at is None else open_at
                position = end
                continue
            while position < end:
                edge = min(end, (position // _UNIT + 1) * _UNIT)
                low, high = position - (end - len(new)), edge - (end - len(new))
                if new[low:high] == old[low:high]:
                    open_at = position if open_at is None else open_at
                elif open_at is not None:
                    yield open_at, position
                    open_at = None
                position = edge
        if open_at is not None:
            yield open_at, stop


def _split(table: ExtentTable, edges: Int64Array) -> ExtentTable:
    """The rows cut at every edge; edges are ascending, from the table's first byte to its end."""
    starts = edges[:-1]
    at = np.searchsorted(np.ascontiguousarray(table["start"]), starts, side="right") - 1
    rows: ExtentTable = table[at].copy()
    plain = rows["kind"] == Kind.DATA
    rows["host"][plain] += (starts - rows["start"])[plain]
    rows["start"] = starts
    rows["length"] = edges[1:] - starts
    rows["stored"][plain] = rows["length"][plain]
    return rows


def _internal(disk: Qcow2Disk) -> tuple[State, ...]:
    states: list[State] = []
    before: Disk | None = None
    for info in disk.snapshots():
        view: Disk = disk.open_snapshot(info.id)
        states.append(
            State(
                view if before is None else Changes(view, before),
                info.id,
                info.name,
                info.created,
                info.vm_state_size,
                info.vm_clock_ns,
                info.icount,
                _vm_state_reader(disk, info.id) if info.vm_state_size else None,
            )
        )
        before = view
    assert before is not None
    states.append(State(Changes(disk, before), "", ""))
    return tuple(states)


def _vm_state_reader(disk: Qcow2Disk, snapshot_id: str) -> Callable[[int, int], bytes]:
    return lambda offset, length: disk.read_vm_state(snapshot_id, offset, length)


def _numbered(layers: tuple[Disk, ...]) -> Iterator[State]:
    """Names from the file names, made unique; the newest is today's disk."""
    taken: set[str] = set()
    for number, layer in enumerate(layers, 1):
        storage = layer.files[0]
        disk = layer if number == 1 else Changes(layer, layers[number - 2], layered=True)
        if number == len(layers):
            yield State(disk, "", "")
            return
        stem = PurePath(storage.name).stem[:80] or f"state {number}"
        name, more = stem, 1
        while name in taken:
            more += 1
            name = f"{stem}-{more}"
        taken.add(name)
        yield State(disk, str(number), name, _modified(storage))


def _modified(storage: Storage) -> str | None:
    """When the file was last written to: nothing was written to a parent after its child was made."""
    try:
        moment = None if storage.path is None else storage.path.stat().st_mtime
    except OSError:
        return None
    return None if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
