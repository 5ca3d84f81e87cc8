"""Beginning a new VMDK: which writer, which files, which descriptor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from byre.disks.vmdk.descriptor import NO_PARENT, Descriptor, ExtentLine, disk_database
from byre.disks.vmdk.options import VmdkOptions, parse_options
from byre.disks.vmdk.sparse_writer import PieceWriter, SplitWriter
from byre.disks.vmdk.stream_writer import StreamWriter
from byre.disks.vmdk.writers import FlatWriter
from byre.disks.writer import ImageWriter, Target
from byre.errors import UnsupportedError, UsageError
from byre.units import GIB, MIB, SECTOR, TIB, align_up, ceil_div

SPLIT_BYTES = 2047 * MIB
"""VMware's own: with its tables such a piece stays below 2 GiB, which is the point of it."""
MAX_PIECES = 900
"""Below the 1,024 files that a process may usually have open."""
MAX_SIZE = 62 * TIB
"""VMware's limit for a virtual disk."""


def create(target: Target, size: int, options: Mapping[str, object]) -> ImageWriter:
    """Begin a new VMDK of ``size`` bytes, rounded up to sectors. Raises UsageError for options and sizes."""
    chosen = parse_options(options, path=target.name)
    size = align_up(size, SECTOR)
    if not 0 < size <= MAX_SIZE:
        raise UsageError("a VMDK can't have this size", path=target.name, found=size, expected=f"1 to {MAX_SIZE}")
    chosen = _with_parent(target, size, chosen)
    if chosen.subformat == "monolithicFlat":
        name = f"{_stem(target.name)}-flat.vmdk"
        descriptor = _descriptor(size, chosen, (ExtentLine("RW", size // SECTOR, "FLAT", name, 0),), target.name)
        return FlatWriter(target.storage, target.extra(name), size, descriptor)
    if chosen.subformat == "twoGbMaxExtentSparse":
        return _split(target, size, chosen)
    line = ExtentLine("RW", size // SECTOR, "SPARSE", _safe(Path(target.name).name, target.name))
    descriptor = _descriptor(size, chosen, (line,), target.name)
    if chosen.subformat == "streamOptimized":
        return StreamWriter(target.storage, size, descriptor, chosen)
    return PieceWriter(target.storage, size, chosen.grain_size, descriptor, has_parent=descriptor.has_parent)


def _split(target: Target, size: int, chosen: VmdkOptions) -> SplitWriter:
    pieces = ceil_div(size, SPLIT_BYTES)
    if pieces > MAX_PIECES:
        raise UsageError(
            "a disk of this size has too many pieces of 2 GiB",
            path=target.name,
            found=pieces,
            expected=f"at most {MAX_PIECES}: {MAX_PIECES * SPLIT_BYTES // GIB} GiB",
            hint="Use subformat=monolithicSparse.",
        )
    stem = _stem(target.name)
    sizes = [min(SPLIT_BYTES, size - index * SPLIT_BYTES) for index in range(pieces)]
    names = [f"{stem}-s{index + 1:03d}.vmdk" for index in range(pieces)]
    lines = tuple(ExtentLine("RW", each // SECTOR, "SPARSE", name) for each, name in zip(sizes, names, strict=True))
    descriptor = _descriptor(size, chosen, lines, target.name)
    writers = tuple(
        PieceWriter(target.extra(name), each, chosen.grain_size, None, has_parent=descriptor.has_parent)
        for each, name in zip(sizes, names, strict=True)
    )
    return SplitWriter(target.storage, size, SPLIT_BYTES, writers, descriptor)


def _stem(name: str) -> str:
    last = Path(name).name
    return _safe(last[:-5] if last.lower().endswith(".vmdk") else last, name)


def _safe(name: str, path: str) -> str:
    """A name that can stand between quotes on one line."""
    if not name or any(character in name for character in '"\r\n\0'):
        raise UsageError("a VMDK can't have quotes or line ends in its name", path=path)
    return name


def _descriptor(size: int, chosen: VmdkOptions, lines: tuple[ExtentLine, ...], path: str) -> Descriptor:
    hint = None if chosen.backing_file is None else _safe(chosen.backing_file, path)
    return Descriptor(
        cid=chosen.cid,
        parent_cid=chosen.parent_cid,
        create_type=chosen.subformat,
        extents=lines,
        parent_hint=hint,
        ddb=disk_database(size, chosen.adapter_type, chosen.hw_version, chosen.uuid),
    )


def _with_parent(target: Target, size: int, chosen: VmdkOptions) -> VmdkOptions:
    """With the parent's CID, read from the parent where it isn't given; the size must be the parent's."""
    if chosen.backing_file is None or chosen.parent_cid != NO_PARENT:
        if chosen.backing_file is None and chosen.parent_cid != NO_PARENT:
            raise UsageError("parent_cid without backing_file", path=target.name)
        return chosen
    from byre.disks.opening import open_disk

    path = Path(os.path.realpath(target.name)).parent / chosen.backing_file
    with open_disk(path, with_backing=False, force_share=True) as parent:
        cid = getattr(parent, "cid", None)
        if parent.format != "vmdk" or cid is None:
            raise UnsupportedError(
                f"the parent of a VMDK must be a VMDK, not {parent.format}", path=target.name, found=path
            )
        if parent.size != size:
            raise UsageError(
                "a VMDK must be as large as its parent", path=target.name, found=size, expected=parent.size
            )
    return replace(chosen, parent_cid=cid)
