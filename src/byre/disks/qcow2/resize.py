"""Changes the virtual size of a qcow2 image. Snapshots keep theirs.

Growing writes zeros over what might show through in the new range (a longer backing image, remains of an earlier
shrink) while it still lies past the end, then changes the size with one write. Shrinking changes the size first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from byre.disks.qcow2.allocation import allocate
from byre.disks.qcow2.bitmaps import mark_inconsistent
from byre.disks.qcow2.entries import encode_table
from byre.disks.qcow2.header import MAX_L1_BYTES
from byre.disks.qcow2.image import Qcow2Disk, open_disk
from byre.disks.qcow2.l2_walk import TableSet
from byre.disks.qcow2.refcount_change import RefcountChange
from byre.disks.qcow2.snapshots import clusters_for, prepare, switch, with_snapshot_table, write_padded
from byre.disks.qcow2.survey import Survey
from byre.disks.qcow2.writing import WritableQcow2Disk
from byre.errors import UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.units import SECTOR, align_up


def resize_image(disk: Qcow2Disk, size: int) -> None:
    """Make the disk ``size`` bytes long; what lies past a smaller size is gone. ``disk`` is stale afterwards and
    is only to be closed. A cut leaves the old size or the new one."""
    storage = disk.storage
    geometry = disk.header.geometry
    old = disk.size
    if size % SECTOR:
        raise UsageError("the size isn't whole sectors", path=storage.name, found=size, expected="a multiple of 512")
    entries = geometry.l1_entries_for(size)
    if entries * 8 > MAX_L1_BYTES:
        raise UsageError(
            "the disk can't be that large with these clusters",
            path=storage.name,
            found=f"an L1 table of {entries * 8} bytes",
            expected=f"at most {MAX_L1_BYTES}",
        )
    if size == old:
        return
    if disk.header.encryption is not None:
        _require_no_key(disk, size)
    found = prepare(storage, "changing the size")
    if mark_inconsistent(storage, found.header, disabled_too=True):
        storage.flush()
    if any(snapshot.disk_size is None for snapshot in found.roots.snapshots):
        change = RefcountChange(found, TableSet.empty())
        switch(found, change, with_snapshot_table(found, change, found.roots.snapshots))
        found = prepare(storage, "changing the size")
    kept = geometry.l1_entries_for(min(size, old))
    if size < old:
        replace_l1(found, kept, entries, size)
        _clear(disk, size, min(old, kept * geometry.l2_coverage), visible=False)
        return
    if entries > found.header.l1_size or found.roots.active[kept:].any():
        replace_l1(found, kept, entries, old)
    below = disk.source.backing.size if disk.source.backing is not None else 0
    _clear(disk, old, min(size, max(below, kept * geometry.l2_coverage)), visible=True)
    storage.write(24, size.to_bytes(8, "big"))
    storage.flush()


def _require_no_key(disk: Qcow2Disk, size: int) -> None:
    """Raise UnsupportedError where the new size of an encrypted image takes more than its tables.

    QEMU itself encrypts nothing when an image grows; what Byre adds is that zeros are read there, and zeros that
    have to be written as data take the key.
    """
    name, method = disk.storage.name, disk.header.encryption
    if size < disk.size:
        raise UnsupportedError(
            f"shrinking an image that is encrypted with {method} is not supported: what lies past the new end can't "
            "be seen without the key",
            path=name,
            hint="'qemu-img resize --shrink' does it with the key, and doesn't look.",
        )
    assert isinstance(disk, WritableQcow2Disk)
    if disk.zeroes_take_data(disk.size):
        raise UnsupportedError(
            f"growing this image, which is encrypted with {method}, takes the key: zeros would have to be encrypted "
            "where it ends",
            path=name,
            found=f"a disk of {disk.size} bytes",
            expected=f"whole clusters of {disk.header.geometry.cluster_size} bytes, or an end in one that is free",
            hint="'qemu-img resize' does it with the key.",
        )


def empty_image(storage: Storage) -> None:
    """Drop everything that the active disk holds: afterwards all of it is what the backing image has."""
    found = prepare(storage, "emptying the image")
    replace_l1(found, 0, found.header.geometry.l1_entries_for(found.header.size), found.header.size)


def replace_l1(found: Survey, kept: int, entries: int, size: int) -> None:
    """Switch to an L1 table of ``entries`` that has the first ``kept`` of today's, and to this virtual size."""
    active = found.roots.active
    change = RefcountChange(found, TableSet.empty().plus(TableSet.of(active[kept:]), -1))
    change.plan()
    l1 = np.zeros(entries, dtype=np.uint64)
    l1[: min(kept, len(active))] = active[:kept]
    offset = allocate(found, clusters_for(found, entries * 8))
    write_padded(found, offset, encode_table(l1))
    header = found.header
    change.add(offset, entries * 8, 1)
    change.add(header.l1_table_offset, header.l1_size * 8, -1)
    switch(found, change, replace(header, size=size, l1_table_offset=offset, l1_size=entries))


def _clear(disk: Qcow2Disk, start: int, stop: int, *, visible: bool) -> None:
    """Let ``[start, stop)``, which lies past the end of the disk, hold nothing but zeros."""
    if stop <= start:
        return
    fresh = open_disk(disk.storage, disk.context)
    assert isinstance(fresh, WritableQcow2Disk)
    try:
        fresh.size = stop
        if visible:
            fresh.write_zeroes(start, stop - start)
        else:
            edge = min(stop, align_up(start, fresh.block_size))
            fresh.write_zeroes(start, edge - start)
            fresh.discard(edge, stop - edge)
        fresh.flush()
    finally:
        if fresh.source.backing is not None:
            fresh.source.backing.close()
