"""One qcow2 image with internal snapshots from any list of states, each block stored once.

A state begins with the L2 entries of the state before it and replaces those of the blocks that it holds itself.
L2 tables in which nothing changed are shared, as QEMU shares them, and so is every cluster that stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np

from byre.convert.effort import Effort
from byre.convert.hostdisk import ClusterWriter
from byre.convert.pipeline import Copied, copy_disk
from byre.convert.states import State
from byre.disks.disk import Description, DiskDefaults
from byre.disks.qcow2.compressors import make_encoder
from byre.disks.qcow2.entries import (
    COMPRESSED,
    COPIED,
    OFFSET_MASK,
    Geometry,
    I64Array,
    U64Array,
    compressed_lengths,
    compressed_offsets,
    encode_table,
)
from byre.disks.qcow2.options import CreateOptions, parse_options
from byre.disks.qcow2.packing import Allocator
from byre.disks.qcow2.refcount_writer import write_refcounts
from byre.disks.qcow2.refcounts import max_refcount
from byre.disks.qcow2.snapshot_table import Snapshot, pack_snapshot_table
from byre.disks.qcow2.writer import new_header
from byre.disks.writer import Int64Array, Target
from byre.errors import UnsupportedError, UsageError
from byre.extents import ExtentTable, Kind, one_extent
from byre.storage.base import Storage
from byre.units import ceil_div

_REFUSED = ("extended_l2", "data_file", "data_file_raw", "backing_file", "backing_format", "preallocation")
"""Options of a qcow2 image that one with the states of a chain can't have."""
_MAX_NAME = 255
Counts = np.ndarray[Any, np.dtype[np.uint32]]


def write_states(
    states: Sequence[State],
    target: Target,
    options: Mapping[str, object],
    *,
    effort: Effort,
) -> Copied:
    """Write all states into ``target`` as a qcow2 image: the last is the disk, the others its snapshots.

    Raises UsageError for options that don't go together with it, UnsupportedError for a disk that has shrunk
    and grown again, and what the states' disks raise.
    """
    for name in _REFUSED:
        if options.get(name) not in (None, False, "off", "false", "no"):
            raise UsageError(f"{name} and a chain's snapshots exclude each other", path=target.name)
    last = states[-1].disk
    chosen = parse_options(options, last.size)
    if max_refcount(chosen.refcount_order) < len(states):
        raise UsageError(
            "the refcounts are too narrow for the shared clusters",
            path=target.name,
            found=f"{chosen.refcount_bits} bits, {len(states)} states",
            hint="Choose more refcount_bits.",
        )
    _check_sizes(states, chosen.cluster_size, target.name)
    image = _Image(target.storage, chosen, len(states))
    total = Copied(0, 0, 0)
    for number, state in enumerate(states):
        total += image.add(state, newest=number == len(states) - 1, effort=effort)
    image.finish(last.size)
    return total


def _check_sizes(states: Sequence[State], cluster_size: int, path: str) -> None:
    """A cluster that straddled the end of a shorter state would bring back what lay there before."""
    sizes = [state.disk.size for state in states]
    for number in range(1, len(sizes) - 1):
        shrunk = sizes[number] < sizes[number - 1] and sizes[number] % cluster_size
        if shrunk and max(sizes[number + 1 :]) > sizes[number]:
            raise UnsupportedError(
                "a disk that shrank inside a cluster and grew again can't be taken over with its snapshots",
                path=path,
                found=f"{states[number].name!r} of {sizes[number]} bytes",
            )


class _Image:
    """The image as it grows, state by state. Mutable: that is what it is for."""

    def __init__(self, storage: Storage, options: CreateOptions, states: int) -> None:
        self._storage = storage
        self._options = options
        self._geometry = Geometry(options.cluster_bits, zero_flag=options.version >= 3)
        self._encode = make_encoder(options.compression, options.level) if options.compress else None
        # Every stream of a cluster may come to be referenced by each state.
        self._allocator = Allocator(options.cluster_bits, max_refcount(options.refcount_order) // states)
        self._allocator.clusters(1)
        self._entries: U64Array = np.zeros((0, self._geometry.l2_entries), dtype=np.uint64)
        """The L2 tables of the newest state, one in each row, machine state left out."""
        self._l1: U64Array = np.zeros(0, dtype=np.uint64)
        self._counts: Counts = np.zeros(1 << 12, dtype=np.uint32)
        self._snapshots: list[Snapshot] = []
        self._active = (0, 0)

    def add(
        self,
        state: State,
        *,
        newest: bool,
        effort: Effort,
    ) -> Copied:
        """Copy what this state holds itself and write its tables."""
        geometry = self._geometry
        rows = geometry.l1_entries_for(state.disk.size)
        entries = np.zeros((rows, geometry.l2_entries), dtype=np.uint64)
        flat = entries.reshape(-1)[: ceil_div(state.disk.size, geometry.cluster_size)]
        kept = self._entries.reshape(-1)[: len(flat)]
        flat[: len(kept)] = kept
        copied = copy_disk(
            state.disk,
            self._writer(flat),
            keep_backing=bool(self._snapshots),
            effort=effort,
        )
        # A machine state isn't among the bytes that are told.
        machine = self._machine_state(state, replace(effort, advance=None))
        self._count(entries)
        self._count(machine)
        l1 = np.concatenate((self._tables(entries, newest=newest), self._tables(machine, newest=newest, fresh=True)))
        self._count_tables(l1)
        offset = self._allocator.clusters(max(1, ceil_div(len(l1) * 8, geometry.cluster_size)))
        self._storage.write(offset, encode_table(l1).ljust(geometry.cluster_size, b"\0"))
        if newest:
            self._active = (offset, len(l1))
        else:
            self._snapshots.append(_snapshot(state, offset, len(l1)))
        self._entries, self._l1 = entries, l1[:rows]
        return copied

    def finish(self, size: int) -> None:
        """Snapshot table, refcounts, and the header last."""
        allocator, cluster_size = self._allocator, self._options.cluster_size
        allocator.close_arena()
        packed = pack_snapshot_table(tuple(self._snapshots))
        offset = allocator.clusters(ceil_div(len(packed), cluster_size)) if packed else 0
        if packed:
            self._storage.write(offset, packed)
        counts = allocator.counts().astype(np.uint64)
        counted = self._counts[: len(counts)]
        counts[: len(counted)][counted > 0] = counted[counted > 0]
        table, clusters = write_refcounts(
            self._storage, counts, self._options.cluster_bits, self._options.refcount_order
        )
        header = replace(
            new_header(self._options, size),
            l1_table_offset=self._active[0],
            l1_size=self._active[1],
            refcount_table_offset=table,
            refcount_table_clusters=clusters,
            nb_snapshots=len(self._snapshots),
            snapshots_offset=offset,
        )
        self._storage.write(0, header.pack())

    def _writer(self, entries: U64Array) -> ClusterWriter:
        lengths = np.zeros(len(entries), dtype=np.int64)
        return _StateClusters(self._storage, self._allocator, self._geometry, self._encode, entries, lengths)

    def _machine_state(self, state: State, effort: Effort) -> U64Array:
        """The tables for the machine state, which lies behind the disk in the snapshot's L1 table."""
        geometry = self._geometry
        rows = geometry.l1_entries_for(state.vm_state_size)
        entries = np.zeros((rows, geometry.l2_entries), dtype=np.uint64)
        if state.vm_state_size:
            part = entries.reshape(-1)[: ceil_div(state.vm_state_size, geometry.cluster_size)]
            copy_disk(_MachineState(state), self._writer(part), effort=effort)
        return entries

    def _tables(self, entries: U64Array, *, newest: bool, fresh: bool = False) -> U64Array:
        """L1 entries for these tables: the state before's where nothing changed, else newly written ones."""
        l1 = np.zeros(len(entries), dtype=np.uint64)
        held = entries.any(axis=1)
        common = 0 if fresh else min(len(entries), len(self._entries))
        same = np.zeros(len(entries), dtype=bool)
        same[:common] = (entries[:common] == self._entries[:common]).all(axis=1) & (self._l1[:common] != 0)
        l1[same] = self._l1[:common][same[:common]]
        rows = np.flatnonzero(held & ~same)
        if not len(rows):
            return l1
        size = self._geometry.cluster_size
        start = self._allocator.clusters(len(rows))
        l1[rows] = (start + np.arange(len(rows), dtype=np.int64) * size).astype(np.uint64)
        step = max(1, (4 << 20) // size)
        for at in range(0, len(rows), step):
            content = entries[rows[at : at + step]]
            if newest:
                content = self._with_copied(content)
            self._storage.write(start + at * size, encode_table(content))
        if newest:
            l1[rows] |= COPIED
        return l1

    def _with_copied(self, content: U64Array) -> U64Array:
        """In today's tables a cluster that nothing else references carries the flag that says so."""
        plain = ((content & COMPRESSED) == 0) & ((content & OFFSET_MASK) != 0)
        hosts = ((content & OFFSET_MASK) >> np.uint64(self._options.cluster_bits)).astype(np.int64)
        single = plain & (self._counts[np.where(plain, hosts, 0)] == 1)
        result: U64Array = np.where(single, content | COPIED, content)
        return result

    def _count(self, entries: U64Array) -> None:
        """One more reference to each cluster that these entries name."""
        bits = self._options.cluster_bits
        held = entries[entries != 0]
        packed = (held & COMPRESSED) != 0
        self._add(((held[~packed] & OFFSET_MASK) >> np.uint64(bits)).astype(np.int64))
        hosts = compressed_offsets(held[packed], self._geometry)
        last = (hosts + compressed_lengths(held[packed], self._geometry) - 1) >> bits
        first = hosts >> bits
        self._add(first)
        self._add(last[last > first])

    def _count_tables(self, l1: U64Array) -> None:
        tables = l1 & OFFSET_MASK
        self._add((tables[tables != 0] >> np.uint64(self._options.cluster_bits)).astype(np.int64))

    def _add(self, clusters: I64Array) -> None:
        if not len(clusters):
            return
        found = np.bincount(clusters)
        if len(found) > len(self._counts):
            grown = np.zeros(max(len(found), 2 * len(self._counts)), dtype=np.uint32)
            grown[: len(self._counts)] = self._counts
            self._counts = grown
        self._counts[: len(found)] += found.astype(np.uint32)


class _StateClusters(ClusterWriter):
    """Entries of one state: no backing image lies below, so zeros need no mark."""

    def place_zero(self, blocks: Int64Array) -> None:
        self._entries[blocks] = 0


class _MachineState(DiskDefaults):
    """A state's machine state as a disk, so that the pipeline moves it."""

    format = "vmstate"

    def __init__(self, state: State) -> None:
        self._state = state
        self.size = state.vm_state_size

    @property
    def files(self) -> tuple[Storage, ...]:
        return self._state.disk.files

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        end = self.size if stop is None else min(stop, self.size)
        # Compressed: where its bytes lie is the state's own business, so they are asked for, not read.
        yield one_extent(start, end - start, Kind.COMPRESSED, host=0, stored=0, file=0, depth=0)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        assert self._state.read_vm_state is not None
        view = memoryview(buffer)
        view[:] = self._state.read_vm_state(offset, len(view))

    def describe(self) -> Description:
        return Description(format=self.format, virtual_size=self.size)


def _snapshot(state: State, l1_offset: int, l1_size: int) -> Snapshot:
    seconds, nanoseconds = moment_of(state.created)
    name = state.name.encode("utf-8", "surrogateescape")[:_MAX_NAME]
    return Snapshot(
        l1_table_offset=l1_offset,
        l1_size=l1_size,
        id=state.id.encode("utf-8", "surrogateescape"),
        name=name,
        date_sec=seconds,
        date_nsec=nanoseconds,
        vm_clock_nsec=state.vm_clock_ns or 0,
        vm_state_size=state.vm_state_size,
        disk_size=state.disk.size,
        icount=state.icount,
    )


def moment_of(created: str | None) -> tuple[int, int]:
    """Seconds since 1970 and nanoseconds of an RFC 3339 time; zeros where it isn't one."""
    if created is None:
        return 0, 0
    try:
        when = datetime.fromisoformat(created)
    except ValueError:
        return 0, 0
    seconds = int(when.timestamp())
    return (seconds, when.microsecond * 1000) if 0 < seconds < 1 << 32 else (0, 0)
