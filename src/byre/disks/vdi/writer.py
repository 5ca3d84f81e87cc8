"""A new VDI, written from start to end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np

from byre.disks.create_options import CreateOptions
from byre.disks.fixed import BlockFiller
from byre.disks.formats import format_named
from byre.disks.maptable import Entries, grain_of
from byre.disks.parents import read_ends
from byre.disks.vdi.header import (
    DISCARDED,
    FREE,
    HEADER_BYTES,
    MAX_BLOCK_SIZE,
    MAX_BLOCKS,
    ImageType,
    VdiHeader,
    fresh_uuid,
    identity,
)
from byre.disks.writer import BoolArray, Encoder, Int64Array, Placement, Target
from byre.errors import UsageError
from byre.storage.base import Storage
from byre.units import MIB, SECTOR, align_up, ceil_div, is_power_of_two

DATA_ALIGNMENT = MIB
"""VirtualBox's own since 4.0: blocks lie on whole mebibytes, and the map has room to grow to 255 GiB of disk."""
FORMAT_NAMES = ("vdi",)
"""What a parent may be."""


class VdiWriter:
    """Dynamic and differencing: blocks in the order in which they come. Fixed: each at its own place."""

    encode: Encoder | None = None

    def __init__(self, storage: Storage, header: VdiHeader, *, sparse: bool = True) -> None:
        self.files = (storage,)
        self.size = header.size
        self.block_size = grain_of(header.block_size, differencing=header.differencing)
        self.header = header
        self._entries: Entries = np.full(header.blocks, FREE, dtype="<u4")
        self._next = 0
        self._filler = None if sparse else BlockFiller(header.blocks * (header.block_size // self.block_size))
        storage.truncate(header.data_offset)
        if header.image_type == ImageType.FIXED:
            self._entries[:] = np.arange(header.blocks, dtype=np.uint32)
            self._next = header.blocks
            storage.truncate(header.data_offset + header.blocks * header.stride)

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        if self._filler is not None:
            self._filler.placed[blocks] = True
        owners, within = np.divmod(blocks * self.block_size, self.header.block_size)
        new = np.unique(owners[self._entries[owners] == FREE])
        self._entries[new] = self._next + np.arange(len(new), dtype=np.uint32)
        self._next += len(new)
        host = self.header.data_offset + self._entries[owners].astype(np.int64) * self.header.stride + within
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=host)

    def place_zero(self, blocks: Int64Array) -> None:
        if self.header.differencing:
            self._entries[blocks] = DISCARDED

    def finish(self) -> None:
        storage = self.files[0]
        if self._filler is not None and self.header.image_type == ImageType.FIXED:
            self._filler.fill(storage, self.header.data_offset, self.block_size)
        storage.write(self.header.blocks_offset, self._entries.view(np.uint8).data)  # up to 256 MiB: no copy
        storage.write(0, replace(self.header, blocks_allocated=self._next).encode())
        end = self.header.data_offset + self._next * self.header.stride
        if storage.size < end:  # the last block of the disk may be short; in the file it is whole
            storage.truncate(end)


def create(target: Target, size: int, options: Mapping[str, object]) -> VdiWriter:
    """Begin a VDI. Without ``uuid`` it gets a fresh one: VirtualBox refuses two media of the same."""
    given = CreateOptions("vdi", target.name, options, format_named("vdi").options)
    parent = _parent(given, target)
    subformat = given.choice(
        "subformat", ("dynamic", "fixed", "differencing"), "differencing" if parent else "dynamic"
    )
    if (subformat == "differencing") != (parent is not None):
        raise UsageError(
            "a differencing VDI, and no other, has a parent",
            path=target.name,
            hint="Give backing_file or parent_uuid together with subformat=differencing.",
        )
    block_size = given.size("block_size", MIB)
    if not is_power_of_two(block_size) or not 4096 <= block_size <= MAX_BLOCK_SIZE:
        raise UsageError(
            "the block size of a VDI is a power of two", found=block_size, expected=f"4096 to {MAX_BLOCK_SIZE}"
        )
    if size <= 0 or ceil_div(size, block_size) > MAX_BLOCKS:
        raise UsageError(
            f"a VDI with blocks of {block_size} bytes can't have this size",
            path=target.name,
            found=size,
            expected=f"1 to {MAX_BLOCKS * block_size} bytes",
        )
    blocks = ceil_div(size, block_size)
    own = given.uuid("uuid")
    if own is None and given.flag("keep_uuid", False):
        raise UsageError("keep_uuid needs a UUID to keep", path=target.name, hint="Give uuid as well.")
    header = VdiHeader(
        image_type={"dynamic": ImageType.DYNAMIC, "fixed": ImageType.FIXED}.get(subformat, ImageType.DIFFERENCING),
        disk_size=align_up(size, SECTOR),
        block_size=block_size,
        blocks=blocks,
        blocks_allocated=0,
        blocks_offset=HEADER_BYTES,
        data_offset=align_up(HEADER_BYTES + 4 * blocks, DATA_ALIGNMENT),
        uuid=own or fresh_uuid(),
        modification_uuid=given.uuid("modification_uuid") or own or fresh_uuid(),
        parent_uuid=parent[0] if parent else UUID(int=0),
        parent_modification_uuid=parent[1] if parent else UUID(int=0),
    )
    return VdiWriter(target.storage, header, sparse=given.flag("sparse", True))


def _parent(given: CreateOptions, target: Target) -> tuple[UUID, UUID] | None:
    """(UUID, modification UUID) of the parent: as given, else read from the file that is named."""
    given.choice("backing_format", FORMAT_NAMES, FORMAT_NAMES[0])
    named = given.text("backing_file")
    own = given.uuid("parent_uuid")
    modified = given.uuid("parent_modification_uuid")
    if own is not None:
        return own, modified or UUID(int=0)
    if named is None:
        return None
    path = Path(os.path.realpath(Path(target.name).parent / named))
    found = identity(read_ends(path, HEADER_BYTES, 0)[0])
    if found is None:
        raise UsageError("the parent of a differencing VDI must be a VDI that is there", path=path)
    return found[0], modified or found[1]
