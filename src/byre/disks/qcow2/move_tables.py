"""Moves the tables that take several clusters in a row (L1, snapshots, refcount table, bitmaps) further down."""

from __future__ import annotations

from dataclasses import replace

from byre.disks.qcow2.allocation import allocate
from byre.disks.qcow2.bitmap_directory import read_bitmap_table
from byre.disks.qcow2.bitmaps import EXTENSION
from byre.disks.qcow2.header import EXT_BITMAPS, V2_LENGTH
from byre.disks.qcow2.l2_walk import TableSet
from byre.disks.qcow2.refcount_change import RefcountChange
from byre.disks.qcow2.snapshots import clusters_for, switch, with_snapshot_table, write_padded
from byre.disks.qcow2.survey import Survey
from byre.units import SECTOR, align_up


def move_tables_down(found: Survey) -> None:
    """Copy each table that has a free run below it there, and switch to all of them with one write."""
    storage, header = found.storage, found.header
    change = RefcountChange(found, TableSet.empty())
    after = header
    place = _copied_down(found, change, header.l1_table_offset, header.l1_size * 8)
    if place:
        after = replace(after, l1_table_offset=place)
    table_bytes = header.refcount_table_clusters << header.cluster_bits
    place = _copied_down(found, change, header.refcount_table_offset, table_bytes)
    if place:
        after = replace(after, refcount_table_offset=place)
    snapshots = []
    for snapshot in found.roots.snapshots:
        place = _copied_down(found, change, snapshot.l1_table_offset, snapshot.l1_size * 8)
        snapshots.append(replace(snapshot, l1_table_offset=place) if place else snapshot)
    if snapshots and (tuple(snapshots) != found.roots.snapshots or _fits_below(found, header.snapshots_offset, 1)):
        table = with_snapshot_table(found, change, tuple(snapshots))
        after = replace(after, nb_snapshots=table.nb_snapshots, snapshots_offset=table.snapshots_offset)
    if after != header:
        storage.flush()
        switch(found, change, after)


def move_bitmap_tables(found: Survey) -> bool:
    """The same for the bitmap directory and the tables it names; False where nothing was moved."""
    directory, header = found.roots.bitmaps, found.header
    if directory is None:
        return False
    spans = [(directory.offset, directory.size), *((e.table_offset, e.table_size * 8) for e in directory.entries)]
    place = _extension_place(found)
    if place is None or not any(_fits_below(found, at, clusters_for(found, length)) for at, length in spans):
        return False
    change = RefcountChange(found, TableSet.empty())
    raw = bytearray(found.storage.read(directory.offset, directory.size))
    for entry in directory.entries:
        moved = _copied_down(found, change, entry.table_offset, len(read_bitmap_table(found.storage, entry)) * 8)
        if moved:
            at = entry.at - directory.offset
            raw[at : at + 8] = moved.to_bytes(8, "big")
    offset = allocate(found, clusters_for(found, directory.size))
    write_padded(found, offset, bytes(raw))
    change.add(offset, directory.size, 1)
    change.add(directory.offset, directory.size, -1)
    change.raise_first()
    found.storage.flush()
    fields = EXTENSION.pack(len(directory.entries), 0, directory.size, offset)
    found.storage.write(place, fields)
    found.storage.flush()
    found.header = header.with_extension(EXT_BITMAPS, fields)
    change.lower_after()
    found.storage.flush()
    return True


def _extension_place(found: Survey) -> int | None:
    """Where the bitmaps extension's data stand, if they lie in one sector: then one write changes them."""
    position = V2_LENGTH if found.header.version == 2 else found.header.header_length
    for entry in found.header.extensions:
        position += 8
        if entry.type == EXT_BITMAPS:
            whole = position // SECTOR == (position + EXTENSION.size - 1) // SECTOR
            return position if whole else None
        position += align_up(len(entry.data), 8)
    return None


def _fits_below(found: Survey, offset: int, clusters: int) -> bool:
    """Whether the first free run that is long enough lies below ``offset``."""
    run = next((first for first, length in found.free_runs if length >= clusters), None)
    return run is not None and clusters > 0 and run << found.header.cluster_bits < offset


def _copied_down(found: Survey, change: RefcountChange, offset: int, length: int) -> int:
    """Copy the table there and note the change of refcounts; 0 where there is no place below."""
    clusters = clusters_for(found, length)
    if not length or not _fits_below(found, offset, clusters):
        return 0
    place = allocate(found, clusters)
    write_padded(found, place, found.storage.read(offset, min(length, found.storage.size - offset)))
    change.add(place, length, 1)
    change.add(offset, length, -1)
    return place
