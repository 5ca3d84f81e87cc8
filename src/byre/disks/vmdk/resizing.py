"""Growing a VMDK of one file: new tables behind everything else, then one write that makes them count."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from byre.disks.vmdk import layout
from byre.disks.vmdk.descriptor import Descriptor, geometry, serialise_descriptor
from byre.disks.vmdk.editing import Editor, clear, redundant_directory
from byre.disks.vmdk.extent import FlatExtent, SparseExtent
from byre.disks.vmdk.layout import SparseHeader
from byre.disks.vmdk.opening import hosted_extent
from byre.errors import StorageError, UnsupportedError, UsageError
from byre.extents import Kind
from byre.storage.base import Storage
from byre.units import SECTOR, align_up

if TYPE_CHECKING:
    from byre.disks.vmdk.disk import VmdkDisk

MAX_SIZE = 62 << 40


def resize(disk: VmdkDisk, size: int) -> None:
    """Grow to ``size`` bytes, rounded up to sectors; what is new reads as zeros.

    Raises UnsupportedError for shrinking, children, streams and images of several files.
    """
    name = disk.source.storage.name
    size = align_up(size, SECTOR)
    if not disk.writable:
        raise StorageError("was opened read-only", path=name)
    if size == disk.size:
        return
    if size < disk.size:
        raise UnsupportedError("a VMDK can't shrink", path=name, hint="Convert it to a smaller new image.")
    if size > MAX_SIZE:
        raise UsageError("a VMDK can't have this size", path=name, found=size, expected=f"at most {MAX_SIZE}")
    if disk.descriptor.has_parent:
        raise UnsupportedError("a VMDK with a parent can't grow", path=name, hint="Flatten it first with 'convert'.")
    disk.flush()
    if len(disk.parts) == 1 and isinstance(disk.parts[0], FlatExtent) and disk.parts[0].offset == 0:
        _grow_flat(disk, disk.parts[0], size)
        return
    part = disk.parts[0]
    header = disk.source.header
    if len(disk.parts) != 1 or header is None or not isinstance(part, SparseExtent) or not header.capacity:
        raise UnsupportedError(
            f"a VMDK of several files ({disk.descriptor.create_type}) can't grow in place",
            path=name,
            hint="Convert it to subformat=monolithicSparse first.",
        )
    Editor.for_disk(disk).mark_changed()  # refuses what isn't written to, too
    _grow_sparse(disk, part, header, size)


def _grow_flat(disk: VmdkDisk, part: FlatExtent, size: int) -> None:
    assert part.storage is not None
    Editor.for_disk(disk).mark_changed()
    storage, source = part.storage, disk.source
    if storage.size > disk.size:
        # What lies behind the disk's old end was never the guest's.
        clear(storage, disk.size, min(storage.size, size) - disk.size)
    if storage.size < size:
        storage.truncate(size)
    storage.flush()
    descriptor = _described(disk, size)
    text = serialise_descriptor(descriptor)
    source.storage.write(0, text)
    source.storage.truncate(len(text))
    source.storage.flush()
    disk.rearrange(
        replace(source, descriptor_bytes=len(text)), descriptor, (FlatExtent(storage, 0, size, part.kind),)
    )


def _described(disk: VmdkDisk, size: int) -> Descriptor:
    """The descriptor for the new size, with the CID as it stands in the file now."""
    from byre.disks.vmdk.descriptor import parse_descriptor

    source = disk.source
    name = source.storage.name
    now = parse_descriptor(source.storage.read(source.descriptor_offset, source.descriptor_bytes), path=name)
    ddb = dict(now.ddb)
    adapter = next((value for key, value in ddb.items() if key.lower() == "ddb.adaptertype"), "ide")
    values = zip(("cylinders", "heads", "sectors"), geometry(size, adapter), strict=True)
    ddb |= {f"ddb.geometry.{key}": str(value) for key, value in values if f"ddb.geometry.{key}" in ddb}
    return replace(now, extents=(replace(now.extents[0], sectors=size // SECTOR),), ddb=ddb, encoding="UTF-8")


def _grow_sparse(disk: VmdkDisk, part: SparseExtent, header: SparseHeader, size: int) -> None:
    storage, source = disk.source.storage, disk.source
    text = serialise_descriptor(_described(disk, size))
    if len(text) > source.descriptor_bytes or source.descriptor_offset != SECTOR:
        raise UnsupportedError("has no room for its descriptor to change", path=storage.name)
    _clear_tail(part)
    new = replace(header, capacity=size // SECTOR)
    layout.check_capacity(new.capacity, new.gtes_per_gt * new.grain_size, path=storage.name, offset=12)
    if new.grain_tables > header.grain_tables:
        new = _more_tables(storage, part, header, new)
    storage.flush()
    # The header and the descriptor stand side by side: one write.
    storage.write(0, new.pack() + text.ljust(source.descriptor_bytes, b"\0"))
    storage.flush()
    extent = hosted_extent(storage, new, None, kind=part.kind)
    disk.rearrange(replace(source, header=new), _described(disk, size), (extent,))


def _clear_tail(part: SparseExtent) -> None:
    """Zeros where the old end of the disk cut a grain, and no entries behind the last one."""
    grain, storage = part.grain_bytes, part.file
    over = part.grains * grain - part.size
    if over:
        for table in part.rows(part.size - 1, part.size):
            if int(table["kind"][0]) == Kind.DATA:
                at = int(table["host"][0]) + 1
                storage.write(at, bytes(over))
    used = part.grains % part.tables.gtes_per_gt
    if used and part.header is not None:
        mirror = redundant_directory(storage, part.header) if part.header.redundant else None
        for directory in (mirror, part.tables.directory):
            at = int(directory[-1]) if directory is not None else 0
            if at:
                storage.write(at + used * 4, bytes((part.tables.gtes_per_gt - used) * 4))


def _more_tables(storage: Storage, part: SparseExtent, header: SparseHeader, new: SparseHeader) -> SparseHeader:
    """Both directories anew at the end of the file, pointing at the old tables and at new empty ones."""
    added = new.grain_tables - header.grain_tables
    table_sectors = align_up(new.gtes_per_gt * 4, SECTOR) // SECTOR
    directory_sectors = align_up(new.grain_tables * 4, SECTOR) // SECTOR
    copies = [part.tables.directory]
    if header.redundant:
        copies.insert(0, redundant_directory(storage, header))
    at = align_up(storage.size, part.grain_bytes) // SECTOR
    if at + len(copies) * (added * table_sectors + directory_sectors) > (1 << 32) - 1:
        raise UnsupportedError("a sparse VMDK file can't be larger than 2 TiB", path=storage.name)
    places = []
    for old in copies:
        pointers = at + directory_sectors + np.arange(added, dtype=np.int64) * table_sectors
        entries = np.concatenate((old // SECTOR, pointers)).astype("<u4")
        storage.write(at * SECTOR, entries.tobytes().ljust(directory_sectors * SECTOR, b"\0"))
        places.append(at)
        at += directory_sectors + added * table_sectors
    # The new tables are a hole of the file: zeros without being written.
    storage.truncate(align_up(at * SECTOR, part.grain_bytes))
    return replace(new, gd_offset=places[-1], rgd_offset=places[0] if header.redundant else header.rgd_offset)
