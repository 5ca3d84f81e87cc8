"""From a file to an open VMDK: which kind it is, its descriptor, its extents, its parent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PureWindowsPath

import numpy as np

from byre.disks.blockmap import ParentNotOpened
from byre.disks.context import OpenContext
from byre.disks.disk import Backing, Disk
from byre.disks.vmdk import layout
from byre.disks.vmdk.descriptor import (
    MAX_EMBEDDED,
    MAX_SEPARATE,
    Descriptor,
    ExtentLine,
    looks_like_descriptor,
    parse_descriptor,
)
from byre.disks.vmdk.disk import Source, VmdkDisk
from byre.disks.vmdk.extent import Extent, FlatExtent, SeSparseExtent, SparseExtent, ZeroExtent
from byre.disks.vmdk.layout import SparseHeader
from byre.disks.vmdk.tables import GrainTables, read_directory
from byre.errors import (
    ByreError,
    CorruptImageError,
    MissingError,
    RefusedReferenceError,
    UnsupportedError,
)
from byre.storage.base import Storage
from byre.units import SECTOR, ceil_div

FOOTER_SEARCH = 256 << 10
"""How far before the end a footer is looked for: some tools pad a stream; qemu-img leaves up to 64 KiB."""
MAX_PATHS = 1024
"""Different extent files of one image; 2 TiB in pieces of 2 GiB."""


def open_disk(storage: Storage, context: OpenContext) -> VmdkDisk:
    """Open a VMDK by its descriptor file or its single sparse file. Owns the storage, also when it fails."""
    opened: list[Storage] = [storage]
    try:
        source, descriptor, header = read_source(storage)
        embedded = header is not None and header.capacity > 0
        if embedded and header is not None:
            extents: tuple[Extent, ...] = (hosted_extent(storage, header, None, kind="SPARSE"),)
        else:
            extents = _open_extents(descriptor, storage.name, context, opened)
        disk = VmdkDisk(source, descriptor, extents)
        if descriptor.has_parent:
            disk.backing, disk.parent = _open_parent(descriptor, disk, context)
        return disk
    except BaseException:
        for each in opened:
            each.close()
        raise


def read_source(storage: Storage) -> tuple[Source, Descriptor, SparseHeader | None]:
    """What the opened file says of itself, before any other file is looked at."""
    head = storage.read(0, min(4096, storage.size))
    name = storage.name
    if head.startswith(layout.KDMV):
        header = layout.parse_sparse_header(head[:SECTOR], path=name)
        if not header.descriptor_offset or not header.descriptor_size:
            raise _mere_extent(name)
        offset, length = header.descriptor_offset * SECTOR, header.descriptor_size * SECTOR
        if length > MAX_EMBEDDED or offset + length > storage.size:
            raise CorruptImageError(
                "has its descriptor outside the file or of absurd length",
                path=name,
                offset=28,
                found=f"{length} bytes at {offset}",
                expected=f"at most {MAX_EMBEDDED} bytes within {storage.size}",
            )
        text = storage.read(offset, length)
        if not text.strip(b"\0 \r\n"):
            raise _mere_extent(name)
        descriptor = parse_descriptor(text, path=name, offset=offset)
        footer, trailing = None, 0
        if header.capacity and header.gd_offset == layout.GD_AT_END:
            header, footer, trailing = find_footer(storage)
        return Source(storage, offset, length, header, footer, trailing), descriptor, header
    if head.startswith(layout.COWD) or head[:8] == layout.SE_CONSTANT_MAGIC.to_bytes(8, "little"):
        raise _mere_extent(name)
    if storage.size > MAX_SEPARATE and looks_like_descriptor(head):
        raise CorruptImageError(
            "has a descriptor of absurd length",
            path=name,
            found=f"{storage.size} bytes",
            expected=f"at most {MAX_SEPARATE}",
        )
    if not looks_like_descriptor(head):
        raise CorruptImageError(
            "is no VMDK: neither a sparse header nor a descriptor",
            path=name,
            offset=0,
            found=head[:16],
            expected="KDMV or '# Disk DescriptorFile'",
        )
    text = storage.read(0, storage.size)
    return Source(storage, 0, len(text)), parse_descriptor(text, path=name), None


def _mere_extent(name: str) -> UnsupportedError:
    return UnsupportedError(
        "is one extent of a VMDK, without the descriptor that says what disk it belongs to",
        path=name,
        hint="Open the small .vmdk text file beside it.",
    )


def find_footer(storage: Storage) -> tuple[SparseHeader, int, int]:
    """(the footer's header, its host offset, bytes that follow the end-of-stream marker). Raises
    CorruptImageError: without its footer a stream was cut short."""
    size = storage.size
    begin = max(SECTOR, (size - FOOTER_SEARCH) // SECTOR * SECTOR)
    tail = storage.read(begin, max(0, size - begin))
    at = (len(tail) // SECTOR - 1) * SECTOR
    while at >= SECTOR:
        if tail.startswith(layout.KDMV, at):
            _, length, kind = layout.parse_marker(tail[at - SECTOR : at])
            if length == 0 and kind == layout.MARKER_FOOTER:
                offset = begin + at
                header = layout.parse_sparse_header(tail[at : at + SECTOR], path=storage.name, offset=offset)
                if header.gd_offset == layout.GD_AT_END or not header.capacity:
                    raise CorruptImageError(
                        "has a footer that doesn't say where the grain directory is", path=storage.name, offset=offset
                    )
                return header, offset, max(0, size - offset - 2 * SECTOR)
        at -= SECTOR
    raise CorruptImageError(
        "is a stream without its footer: the file was cut short",
        path=storage.name,
        offset=size,
        hint="Copy or download it again; the grain directory of a stream is at its end.",
    )


def hosted_extent(storage: Storage, header: SparseHeader, size: int | None, *, kind: str) -> SparseExtent:
    """A hosted sparse or stream-optimised extent. ``size`` is what a descriptor says; None: the header's word."""
    name = storage.name
    capacity = header.capacity * SECTOR
    if size is not None and capacity < size:
        raise CorruptImageError(
            "holds less than the descriptor says",
            path=name,
            offset=12,
            found=f"{header.capacity} sectors",
            expected=f"{size // SECTOR} sectors",
        )
    directory = read_directory(
        storage, bounded(header.gd_offset) * SECTOR, header.grain_tables, dtype="<u4", path=name
    )
    tables = GrainTables(storage, directory.astype(np.int64) * SECTOR, gtes_per_gt=header.gtes_per_gt, dtype="<u4")
    return SparseExtent(
        storage,
        tables,
        size=capacity if size is None else size,
        grain_bytes=header.grain_size * SECTOR,
        kind=kind,
        zeroed_grains=header.zeroed_grains,
        compressed=header.compressed,
        markers=header.markers,
        header=header,
    )


def bounded(sector: int) -> int:
    """A sector number that int64 arithmetic can take; one that is too large stays outside any file."""
    return min(sector, layout.MAX_CAPACITY)


def _open_extents(
    descriptor: Descriptor, image: str, context: OpenContext, opened: list[Storage]
) -> tuple[Extent, ...]:
    storages: dict[str, Storage] = {}
    extents: list[Extent] = []
    for line in descriptor.extents:
        if line.type == "ZERO":
            extents.append(ZeroExtent(line.sectors * SECTOR))
            continue
        if line.access == "NOACCESS":
            raise UnsupportedError(
                "has an extent that its descriptor forbids to read",
                path=image,
                found=f"NOACCESS {line.name!r}",
                hint="Change NOACCESS to RDONLY in the descriptor if you may read it.",
            )
        name = line.name or ""
        if name not in storages:
            if len(storages) >= MAX_PATHS:
                raise UnsupportedError("has too many extent files", path=image, expected=f"at most {MAX_PATHS}")
            writable = context.options.writable and line.access == "RW"
            storages[name] = context.open_reference_storage(name, "extent", image=image, writable=writable)
            opened.append(storages[name])
        extents.append(open_extent(storages[name], line))
    return tuple(extents)


def open_extent(storage: Storage, line: ExtentLine) -> Extent:
    """One extent as its descriptor line says; a FLAT one is never looked into."""
    size = line.sectors * SECTOR
    if line.type in ("FLAT", "VMFS"):
        return FlatExtent(storage, line.offset * SECTOR, size, line.type)
    head = storage.read(0, min(layout.COWD_BYTES, storage.size))
    if line.type == "SESPARSE":
        return _se_sparse(storage, head, size)
    if head.startswith(layout.COWD):
        return _cowd(storage, head, size)
    header = layout.parse_sparse_header(head[:SECTOR], path=storage.name)
    if not header.capacity:
        raise CorruptImageError("is an extent with a capacity of nothing", path=storage.name, offset=12)
    if header.gd_offset == layout.GD_AT_END:
        header, _, _ = find_footer(storage)
    return hosted_extent(storage, header, size, kind=line.type)


def _cowd(storage: Storage, head: bytes, size: int) -> SparseExtent:
    header = layout.parse_cowd_header(head, path=storage.name)
    _check_capacity(storage, header.capacity, size)
    directory = read_directory(storage, header.gd_offset * SECTOR, header.gd_entries, dtype="<u4", path=storage.name)
    tables = GrainTables(
        storage, directory.astype(np.int64) * SECTOR, gtes_per_gt=layout.COWD_GTES_PER_GT, dtype="<u4"
    )
    return SparseExtent(storage, tables, size=size, grain_bytes=header.grain_size * SECTOR, kind="VMFSSPARSE")


def _se_sparse(storage: Storage, head: bytes, size: int) -> SeSparseExtent:
    name = storage.name
    header = layout.parse_se_header(head, path=name)
    _check_capacity(storage, header.capacity, size)
    at = header.volatile_offset * SECTOR
    if at + SECTOR > storage.size:
        raise CorruptImageError("has its volatile header outside the file", path=name, offset=at)
    layout.check_se_volatile(storage.read(at, SECTOR), path=name, offset=at)
    count = ceil_div(header.capacity, header.grain_size * layout.SE_GTES_PER_GT)
    raw = read_directory(storage, header.gd_offset * SECTOR, count, dtype="<u8", path=name)
    index = (raw & np.uint64(0xFFFFFFFF)).astype(np.int64)
    present = raw != 0
    table_bytes = layout.SE_GTES_PER_GT * 8
    room = header.tables_sectors * SECTOR // table_bytes
    bad = present & ((raw >> np.uint64(32) != 0x10000000) | (index >= room))
    if bad.any():
        first = int(np.argmax(bad))
        raise CorruptImageError(
            "has a grain directory entry that means nothing",
            path=name,
            offset=header.gd_offset * SECTOR + first * 8,
            found=hex(int(raw[first])),
        )
    offsets = np.where(present, header.tables_offset * SECTOR + index * table_bytes, 0)
    tables = GrainTables(storage, offsets, gtes_per_gt=layout.SE_GTES_PER_GT, dtype="<u8")
    return SeSparseExtent(storage, tables, size=size, grains_offset=header.grains_offset * SECTOR)


def _check_capacity(storage: Storage, capacity: int, size: int) -> None:
    if capacity * SECTOR < size:
        raise CorruptImageError(
            "holds less than the descriptor says",
            path=storage.name,
            found=f"{capacity} sectors",
            expected=f"{size // SECTOR} sectors",
        )


def _open_parent(descriptor: Descriptor, disk: VmdkDisk, context: OpenContext) -> tuple[Backing, Disk]:
    """The parent by its hint, or among what the user gave; checked by its CID."""
    image = disk.source.storage.name
    hint = descriptor.parent_hint or ""
    if not context.options.with_backing:
        try:
            where: str | None = str(context.resolve(hint, "parent", image=image))
            reason: str | None = None
        except ByreError as error:
            where, reason = None, error.what
        unasked = MissingError("the parent was not opened", path=image, expected=hint or None)
        return Backing(hint, "vmdk", where, reason), ParentNotOpened(disk.size, unasked)
    path = find_parent(descriptor, image, context)
    allowed = replace(context.options, allow_paths=(*context.options.allow_paths, *context.options.parents))
    parent = replace(context, options=allowed).open_reference(str(path), "parent", image=image, format="vmdk")
    cid = getattr(parent, "cid", None)
    if cid != descriptor.parent_cid:
        parent.close()
        raise CorruptImageError(
            f"was made from another state of its parent {str(path)!r}: the content identifiers differ",
            path=image,
            found=f"CID {cid:08x}" if cid is not None else "no CID",
            expected=f"CID {descriptor.parent_cid:08x}",
            hint="The parent was written to since, or is the wrong file: name the right one with --parent. If the "
            "parent is surely unchanged, set its CID in the descriptor.",
        )
    return Backing(hint, "vmdk", str(path)), parent


def find_parent(descriptor: Descriptor, image: str, context: OpenContext) -> Path:
    """The parent's path: what the user gave, else the hint, else a file of the hint's name beside the image (hints
    are often another machine's absolute paths; the CID is checked in any case)."""
    hint = descriptor.parent_hint
    last = PureWindowsPath(hint).name if hint else ""  # knows both kinds of slash
    for given in context.options.parents:
        if given.is_dir() and last and (given / last).is_file():
            return given / last
        if given.is_file() and _fits(given, descriptor.parent_cid):
            return given
    if not hint:
        raise CorruptImageError(
            "says that it has a parent but not which",
            path=image,
            expected="parentFileNameHint",
            hint="Name it with --parent.",
        )
    try:
        return context.resolve(hint, "parent", image=image)
    except (RefusedReferenceError, MissingError, UnsupportedError) as error:
        if last and last != hint:
            try:
                return context.resolve(last, "parent", image=image)
            except ByreError:
                pass
        if isinstance(error, MissingError):
            where = "Say where it is: --parent FILE or --parent FOLDER."
            raise MissingError(error.what, path=error.path, expected=error.expected, hint=where) from None
        raise


def _fits(path: Path, cid: int) -> bool:
    """Whether a file that the user gave as one of the parents is this image's: they may have given several."""
    from byre.storage.local import open_file

    try:
        with open_file(path) as storage:
            return read_source(storage)[1].cid == cid
    except ByreError:
        return False
