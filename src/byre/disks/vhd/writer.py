"""A new VHD, written from start to end."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np

from byre.disks.create_options import CreateOptions
from byre.disks.fixed import BlockFiller
from byre.disks.formats import format_named
from byre.disks.maptable import Entries, grain_of
from byre.disks.vhd.dynamic import DATA_ALIGNMENT
from byre.disks.vhd.fixed import check_size
from byre.disks.vhd.footer import (
    EPOCH,
    FOOTER_BYTES,
    HEADER_BYTES,
    MAX_BLOCK_SIZE,
    MAX_BLOCKS,
    UNUSED,
    DiskType,
    DynamicHeader,
    Footer,
    Locator,
)
from byre.disks.vhd.geometry import MAX_SIZE, geometry_for, rounded_up
from byre.disks.vhd.parent import identity
from byre.disks.writer import BoolArray, Encoder, Int64Array, Placement, Target
from byre.errors import UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.units import MIB, SECTOR, align_up, ceil_div, is_power_of_two

FORMAT_NAMES = ("vhd", "vpc")
"""What a parent may be."""
_FIXED_BLOCK = 64 << 10


@dataclass(frozen=True, slots=True)
class _Parent:
    uuid: UUID
    timestamp: int
    name: str


class FixedVhdWriter:
    """Blocks go where the guest sees them; the footer follows the disk."""

    encode: Encoder | None = None
    block_size = _FIXED_BLOCK

    def __init__(self, storage: Storage, footer: Footer, *, sparse: bool) -> None:
        self.files = (storage,)
        self.size = footer.size
        self._footer = footer
        self._filler = None if sparse else BlockFiller(ceil_div(self.size, self.block_size))
        storage.truncate(self.size)

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        if self._filler is not None:
            self._filler.placed[blocks] = True
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=blocks * self.block_size)

    def place_zero(self, blocks: Int64Array) -> None:
        return None

    def finish(self) -> None:
        if self._filler is not None:
            self._filler.fill(self.files[0], 0, self.block_size, self.size)
        self.files[0].write(self.size, self._footer.encode())


class DynamicVhdWriter:
    """Blocks in the order in which they come, each behind its bitmap."""

    encode: Encoder | None = None

    def __init__(self, storage: Storage, footer: Footer, header: DynamicHeader, names: tuple[bytes, ...]) -> None:
        self.files = (storage,)
        self.size = footer.size
        self.block_size = grain_of(header.block_size, differencing=footer.disk_type == DiskType.DIFFERENCING)
        self._footer = footer
        self._header = header
        self._names = names
        self._entries: Entries = np.full(header.max_table_entries, UNUSED, dtype=">u4")
        after = max(
            header.table_offset + align_up(4 * header.max_table_entries, SECTOR),
            *(locator.offset + locator.space for locator in header.locators),
            0,
        )
        self._first = align_up(after + header.bitmap_size, DATA_ALIGNMENT) - header.bitmap_size
        self._step = align_up(header.stride, DATA_ALIGNMENT)
        self._count = 0
        storage.truncate(self._first)

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        owners, within = np.divmod(blocks * self.block_size, self._header.block_size)
        new = np.unique(owners[self._entries[owners] == UNUSED])
        places = self._first + (self._count + np.arange(len(new), dtype=np.int64)) * self._step
        self._count += len(new)
        if len(places) and int(places[-1]) // SECTOR >= UNUSED:
            raise UnsupportedError(
                "a dynamic VHD file can't be longer than 2 TiB",
                path=self.files[0].name,
                hint="Use the default block size, or VHDX.",
            )
        self._entries[new] = places // SECTOR
        host = self._entries[owners].astype(np.int64) * SECTOR + self._header.bitmap_size + within
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=host)

    def place_zero(self, blocks: Int64Array) -> None:
        if self._footer.disk_type == DiskType.DIFFERENCING:
            # The format has no mark for zeros: the block is taken, and its bytes are a hole.
            self.place(blocks, np.zeros(len(blocks), dtype=np.int64), np.zeros(len(blocks), dtype=bool))

    def finish(self) -> None:
        storage = self.files[0]
        full = b"\xff" * self._header.bitmap_size
        for place in range(self._first, self._first + self._count * self._step, self._step):
            storage.write(place, full)
        storage.write(self._header.table_offset, self._entries.tobytes())
        padding = -(4 * len(self._entries)) % SECTOR
        storage.write(self._header.table_offset + 4 * len(self._entries), b"\xff" * padding)
        for locator, name in zip(self._header.locators, self._names, strict=True):
            storage.write(locator.offset, name)
        storage.write(self._footer.data_offset, self._header.encode())
        storage.write(0, self._footer.encode())
        end = self._first + self._count * self._step
        storage.write(end, self._footer.encode())


def create(target: Target, size: int, options: Mapping[str, object]) -> FixedVhdWriter | DynamicVhdWriter:
    """Begin a VHD. The size is exact unless ``size_rule=geometry`` rounds it up to cylinders as QEMU does; with
    ``uuid`` given, and no ``timestamp``, two runs write the same bytes."""
    given = CreateOptions("vhd", target.name, options, format_named("vhd").options)
    parent = _parent(given, target)
    usual = "differencing" if parent else "dynamic"
    subformat = given.choice("subformat", ("dynamic", "fixed", "differencing"), usual)
    if (subformat == "differencing") != (parent is not None):
        raise UsageError(
            "a differencing VHD, and no other, has a parent",
            path=target.name,
            hint="Give backing_file together with subformat=differencing.",
        )
    footer = _footer(given, size, subformat)
    if subformat == "fixed":
        return FixedVhdWriter(target.storage, footer, sparse=given.flag("sparse", True))
    block_size = given.size("block_size", 2 * MIB)
    if not is_power_of_two(block_size) or not 4096 <= block_size <= MAX_BLOCK_SIZE:
        raise UsageError(
            "the block size of a VHD is a power of two", found=block_size, expected=f"4096 to {MAX_BLOCK_SIZE}"
        )
    entries = ceil_div(footer.size, block_size)
    if entries > MAX_BLOCKS:
        raise UsageError(f"blocks of {block_size} bytes are too small for this size", found=footer.size)
    header = DynamicHeader(table_offset=FOOTER_BYTES + HEADER_BYTES, max_table_entries=entries, block_size=block_size)
    names: tuple[bytes, ...] = ()
    if parent is not None:
        header, names = _with_parent(header, parent)
    return DynamicVhdWriter(target.storage, footer, header, names)


def _footer(given: CreateOptions, size: int, subformat: str) -> Footer:
    check_size(given.path, size)
    sectors = ceil_div(size, SECTOR)
    geometry = geometry_for(sectors)
    creator = b"win "
    if given.choice("size_rule", ("exact", "geometry"), "exact") == "geometry":
        sectors, geometry = rounded_up(sectors)
        sectors = min(sectors, MAX_SIZE // SECTOR)
        creator = b"vpc "
    own = given.uuid("uuid")
    kept = given.flag("keep_uuid", False)
    if own is None and kept:
        raise UsageError("keep_uuid needs a UUID to keep", path=given.path, hint="Give uuid as well.")
    now = 0 if own is not None and not kept else max(0, int(time.time()) - EPOCH)
    kinds = {"fixed": DiskType.FIXED, "dynamic": DiskType.DYNAMIC, "differencing": DiskType.DIFFERENCING}
    footer = Footer(
        disk_type=kinds[subformat],
        current_size=sectors * SECTOR,
        original_size=sectors * SECTOR,
        geometry=geometry,
        uuid=own or uuid4(),
        timestamp=given.number("timestamp", now),
        creator=creator,
    )
    return footer if subformat == "fixed" else replace(footer, data_offset=FOOTER_BYTES)


def _with_parent(header: DynamicHeader, parent: _Parent) -> tuple[DynamicHeader, tuple[bytes, ...]]:
    """The header with the parent's UUID and its name relative to the image, as Windows writes it."""
    header = replace(header, parent_uuid=parent.uuid, parent_timestamp=parent.timestamp)
    if not parent.name:
        return header, ()
    name = parent.name.replace("/", "\\")
    relative = name if name.startswith("..") else ".\\" + name.removeprefix(".\\")
    stored = relative.encode("utf-16-le")
    offset = header.table_offset + align_up(4 * header.max_table_entries, SECTOR)
    locator = Locator(b"W2ru", align_up(len(stored), SECTOR), len(stored), offset)
    last = name.rpartition("\\")[2][:255]
    return replace(header, parent_name=last, locators=(locator,)), (stored,)


def _parent(given: CreateOptions, target: Target) -> _Parent | None:
    """As given, else read from the file that ``backing_file`` names, seen from the new image's folder."""
    given.choice("backing_format", FORMAT_NAMES, FORMAT_NAMES[0])
    named = given.text("backing_file") or ""
    own = given.uuid("parent_uuid")
    if own is None and not named:
        return None
    if Path(named).is_absolute():
        named = os.path.relpath(named, Path(target.name).resolve().parent)
    if own is not None:
        return _Parent(own, given.number("parent_timestamp", 0), named)
    path = Path(os.path.realpath(Path(target.name).parent / named))
    found = identity(path)
    if found is None:
        raise UsageError("the parent of a differencing VHD must be a VHD that is there", path=path)
    return _Parent(found[0], given.number("parent_timestamp", found[1]), named)
