"""Internal snapshots, offline: create, revert, delete, rename.

Each change writes what is new beside what is old, flushes, switches with one write of header bytes 24 to 71 (one
sector), flushes, and only then releases the old. A cut before the switch leaves the image as it was, one after it
the image as it was meant to be; leaked clusters and missing COPIED flags are the worst that is left.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from byre.disks.disk import SnapshotInfo
from byre.disks.qcow2.allocation import allocate
from byre.disks.qcow2.bitmaps import mark_inconsistent
from byre.disks.qcow2.copied_flags import clear_flags, clear_l1_flags, rebuild_flags
from byre.disks.qcow2.entries import COPIED, U64Array, encode_table
from byre.disks.qcow2.header import (
    CORRUPT,
    DIRTY,
    EXTERNAL_DATA_FILE,
    KNOWN_AUTOCLEAR,
    MAX_L1_BYTES,
    MAX_SNAPSHOTS,
    Header,
)
from byre.disks.qcow2.l2_walk import TableSet, read_table
from byre.disks.qcow2.refcount_change import RefcountChange
from byre.disks.qcow2.refcounts import max_refcount
from byre.disks.qcow2.repair import rebuild_dirty
from byre.disks.qcow2.snapshot_table import MAX_TABLE_BYTES, Snapshot, pack_snapshot_table
from byre.disks.qcow2.survey import Survey, survey
from byre.errors import CorruptImageError, ExistsError, UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.units import align_up

MAX_NAME_BYTES = 255
"""QEMU holds id and name in arrays of 128 and 256 bytes."""
SWITCH_OFFSET = 24
SWITCH_STOP = 72


@dataclass(frozen=True, slots=True)
class SnapshotChange:
    """What a change did. ``freed`` is host bytes that were given back."""

    snapshot: SnapshotInfo
    freed: int = 0


def create_snapshot(storage: Storage, name: str, *, created: float | None = None) -> SnapshotChange:
    """Keep the disk as it is now under ``name``; ``created`` is seconds since 1970, None means now.

    Raises ExistsError where a snapshot has that name or that id, UnsupportedError where the format can't.
    """
    encoded = _checked_name(storage.name, name)
    found = prepare(storage, "taking a snapshot")
    header = found.header
    refuse_new_snapshot(header, [each.info for each in found.roots.snapshots], name, path=storage.name)
    l1 = _disk_part(found.roots.active, header, header.size)
    change = RefcountChange(found, TableSet.of(l1))
    change.plan()
    moment = time.time() if created is None else created
    l1_offset = allocate(found, clusters_for(found, len(l1) * 8))
    snapshot = Snapshot(
        l1_table_offset=l1_offset,
        l1_size=len(l1),
        id=_next_id(found.roots.snapshots),
        name=encoded,
        date_sec=int(moment),
        date_nsec=int(moment * 1_000_000_000) % 1_000_000_000,
        disk_size=header.size,
    )
    write_padded(found, l1_offset, encode_table(l1 & ~COPIED))
    change.add(l1_offset, len(l1) * 8, 1)
    after = with_snapshot_table(found, change, (*found.roots.snapshots, snapshot))
    storage.flush()  # a full disk says so by now, while nothing of the image has been touched
    clear_flags(found, change.tables)
    clear_l1_flags(found, l1)
    storage.flush()
    switch(found, change, after)
    return SnapshotChange(snapshot.info)


def refuse_new_snapshot(header: Header, snapshots: Sequence[SnapshotInfo], name: str | None, *, path: str) -> None:
    """Raise what ``create_snapshot`` would for an image with these snapshots; ``name`` None: any that is free."""
    if name is not None:
        _checked_name(path, name)
        _check_free_name(snapshots, name, path=path)
    if len(snapshots) >= MAX_SNAPSHOTS:
        raise UnsupportedError("has as many snapshots as the format allows", path=path, found=MAX_SNAPSHOTS)
    if max_refcount(header.refcount_order) < 2:
        raise UnsupportedError(
            "can't have snapshots: its refcounts are one bit wide, so no cluster can be shared",
            path=path,
            hint="Convert the image to one with wider refcounts (refcount_bits=16).",
        )


def rename_snapshot(storage: Storage, snapshot_id: str, name: str) -> SnapshotChange:
    """Give the snapshot with this exact id another name."""
    encoded = _checked_name(storage.name, name)
    found = prepare(storage, "renaming a snapshot")
    index = _index_of(found, snapshot_id)
    others = [*found.roots.snapshots[:index], *found.roots.snapshots[index + 1 :]]
    _check_free_name([each.info for each in others], name, path=storage.name)
    renamed = replace(found.roots.snapshots[index], name=encoded)
    snapshots = (*found.roots.snapshots[:index], renamed, *found.roots.snapshots[index + 1 :])
    change = RefcountChange(found, TableSet.empty())
    switch(found, change, with_snapshot_table(found, change, snapshots))
    return SnapshotChange(renamed.info)


def delete_snapshot(storage: Storage, snapshot_id: str) -> SnapshotChange:
    """Remove the snapshot with this exact id and give the space that only it used back to the host."""
    found = prepare(storage, "deleting a snapshot")
    index = _index_of(found, snapshot_id)
    gone = found.roots.snapshots[index]
    l1 = read_table(storage, gone.l1_table_offset, gone.l1_size)
    change = RefcountChange(found, TableSet.empty().plus(TableSet.of(l1), -1))
    change.plan()
    change.add(gone.l1_table_offset, gone.l1_size * 8, -1)
    snapshots = (*found.roots.snapshots[:index], *found.roots.snapshots[index + 1 :])
    switch(found, change, with_snapshot_table(found, change, snapshots))
    rebuild_flags(found, found.roots.active)
    storage.flush()
    return SnapshotChange(gone.info, change.freed << found.header.cluster_bits)


def revert_to_snapshot(storage: Storage, snapshot_id: str) -> SnapshotChange:
    """Make the disk what it was in the snapshot with this exact id, its size included; the snapshot stays.

    Its VM state stays in the snapshot. Persistent bitmaps are marked as not to be trusted.
    """
    found = prepare(storage, "reverting")
    wanted = found.roots.snapshots[_index_of(found, snapshot_id)]
    header = found.header
    size = header.size if wanted.disk_size is None else wanted.disk_size
    source = read_table(storage, wanted.l1_table_offset, wanted.l1_size) & ~COPIED
    l1 = _disk_part(source, header, size)
    old_tables, new_tables = found.roots.active_tables, TableSet.of(l1)
    change = RefcountChange(found, new_tables.plus(old_tables, -1))
    change.plan()
    l1_bytes = len(l1) * 8
    l1_offset = allocate(found, clusters_for(found, l1_bytes))
    fresh = ~np.isin(new_tables.offsets, old_tables.offsets)
    clear_flags(found, TableSet(new_tables.offsets[fresh], new_tables.weights[fresh]))
    mark_inconsistent(storage, found.header, disabled_too=True)
    storage.flush()
    write_padded(found, l1_offset, encode_table(l1))
    change.add(l1_offset, l1_bytes, 1)
    change.add(header.l1_table_offset, header.l1_size * 8, -1)
    after = replace(found.header, size=size, l1_table_offset=l1_offset, l1_size=len(l1))
    switch(found, change, after)
    return SnapshotChange(wanted.info, change.freed << header.cluster_bits)


def shorten(storage: Storage) -> int:
    """Cut the unused end off the file; returns how many bytes that was."""
    found = prepare(storage, "shortening the file")
    end = found.end_cluster << found.header.cluster_bits
    saved = storage.size - end
    if saved <= 0:
        return 0
    storage.truncate(end)
    storage.flush()
    return saved


def prepare(storage: Storage, what: str) -> Survey:
    """A survey of an image that is fit to be changed: dirty refcounts rebuilt, unknown autoclear bits cleared."""
    found = survey(storage)
    header = found.header
    if header.incompatible & EXTERNAL_DATA_FILE:
        raise UnsupportedError(f"{what} is not possible: its data lie in an external data file", path=storage.name)
    if header.incompatible & CORRUPT:
        raise CorruptImageError(
            "is marked corrupt, so it is only read",
            path=storage.name,
            offset=72,
            hint=f"Run 'byre check --repair all {storage.name}'.",
        )
    if header.incompatible & DIRTY:
        rebuild_dirty(found)
        found = survey(storage)
        header = found.header
    found.require_sound(what)
    if header.version >= 3 and header.autoclear & ~KNOWN_AUTOCLEAR:
        found.header = replace(header, autoclear=header.autoclear & KNOWN_AUTOCLEAR)
        storage.write(88, found.header.autoclear.to_bytes(8, "big"))
        storage.flush()
    return found


def switch(found: Survey, change: RefcountChange, after: Header) -> None:
    """Raise refcounts, switch the header, lower refcounts; everything is on stable storage in that order."""
    storage = found.storage
    change.raise_first()
    storage.flush()
    storage.write(SWITCH_OFFSET, after.pack()[SWITCH_OFFSET:SWITCH_STOP])
    storage.flush()
    found.header = after
    change.lower_after()
    storage.flush()


def with_snapshot_table(found: Survey, change: RefcountChange, snapshots: tuple[Snapshot, ...]) -> Header:
    """Write a new snapshot table; returns the header that names it. The old one is released by ``change``."""
    if found.roots.snapshots:
        change.add(found.header.snapshots_offset, len(pack_snapshot_table(found.roots.snapshots)), -1)
    if not snapshots:
        return replace(found.header, nb_snapshots=0, snapshots_offset=0)
    size = found.header.size  # version 2 needn't say a snapshot's size; then it was today's
    stated = tuple(replace(entry, disk_size=size) if entry.disk_size is None else entry for entry in snapshots)
    table = pack_snapshot_table(stated)
    if len(table) > MAX_TABLE_BYTES:
        raise UnsupportedError("the snapshot table would be too large", path=found.storage.name, found=len(table))
    offset = allocate(found, clusters_for(found, len(table)))
    write_padded(found, offset, table)
    change.add(offset, len(table), 1)
    return replace(found.header, nb_snapshots=len(snapshots), snapshots_offset=offset)


def _disk_part(l1: U64Array, header: Header, size: int) -> U64Array:
    """The entries for a disk of ``size`` bytes: VM state behind them is left out, missing ones are added."""
    needed = header.geometry.l1_entries_for(size)
    if needed * 8 > MAX_L1_BYTES:
        raise CorruptImageError(
            "a disk is larger than its L1 table can be",
            found=f"{size} bytes, {needed} entries",
            expected=f"at most {MAX_L1_BYTES // 8} entries",
        )
    part = np.zeros(needed, dtype=np.uint64)
    part[: len(l1)] = l1[:needed]
    return part


def clusters_for(found: Survey, length: int) -> int:
    return align_up(length, found.header.cluster_size) >> found.header.cluster_bits


def write_padded(found: Survey, offset: int, data: bytes) -> None:
    """Write whole clusters: what follows the data is zeros, and the file holds all of the last cluster."""
    if data:
        found.storage.write(offset, data.ljust(align_up(len(data), found.header.cluster_size), b"\0"))


def _index_of(found: Survey, snapshot_id: str) -> int:
    for index, snapshot in enumerate(found.roots.snapshots):
        if snapshot.info.id == snapshot_id:
            return index
    raise CorruptImageError(f"the snapshot with id {snapshot_id!r} is gone", path=found.storage.name)


def _checked_name(path: str, name: str) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    if not 0 < len(encoded) <= MAX_NAME_BYTES or b"\0" in encoded:
        raise UsageError(
            "a snapshot's name has 1 to 255 bytes, none of them NUL",
            path=path,
            found=f"{len(encoded)} bytes",
        )
    return encoded


def _check_free_name(snapshots: Sequence[SnapshotInfo], name: str, *, path: str) -> None:
    for each in snapshots:
        if name in (each.name, each.id):
            raise ExistsError(
                f"has a snapshot {name!r} already",
                path=path,
                found=f"id {each.id}, name {each.name!r}",
                hint="Choose another name, or delete that one first.",
            )


def _next_id(snapshots: tuple[Snapshot, ...]) -> bytes:
    """The highest number plus one, as QEMU counts; further up where a snapshot is *named* so."""
    numbers = [re.match(rb"\s*(\d{1,18})", snapshot.id) for snapshot in snapshots]
    wanted = 1 + max((int(number[1]) for number in numbers if number), default=0)
    names = {snapshot.name for snapshot in snapshots}
    while str(wanted).encode() in names:
        wanted += 1
    return str(wanted).encode()
