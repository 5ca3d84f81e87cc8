"""An open VHDX image: where its blocks lie, read through its parents."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import numpy as np

from byre.disks.blockmap import BlockMapDisk, Blocks, BlockState, ParentNotOpened
from byre.disks.context import OpenContext
from byre.disks.disk import Backing, CheckReport, Description, Disk
from byre.disks.vhdx.layout import HEADER_OFFSETS, NO_GUID, Header
from byre.disks.vhdx.log import Replay
from byre.disks.vhdx.overlay import flatten
from byre.disks.vhdx.parents import describe_parent, open_parent, parent_name
from byre.disks.vhdx.structures import (
    Bat,
    Structures,
    find_replay,
    read_bat,
    read_headers,
    read_structures,
    replayed,
)
from byre.disks.writer import BoolArray, Int64Array
from byre.errors import CorruptImageError, MissingError
from byre.storage.base import Storage
from byre.units import MIB

NOT_PRESENT, UNDEFINED, ZERO, UNMAPPED, FULLY_PRESENT, PARTIALLY_PRESENT = 0, 1, 2, 3, 6, 7
"""Payload block states (section 2.5.1.1). 5 was UNMAPPED in version 0.95 of the format; 4 is reserved."""
BITMAP_PRESENT = 6
BITMAP_BLOCK_SIZE = MIB

INVALID = 0xFF
"""A state that no payload block of this image can have, beside those of ``BlockState``."""
_STATES = np.array(
    [
        BlockState.ABSENT,
        BlockState.ZERO,  # undefined: anything may be read, but never the parent
        BlockState.ZERO,
        BlockState.ZERO,  # unmapped: the guest gave it up; zeros are always right
        INVALID,
        BlockState.ZERO,
        BlockState.DATA,
        BlockState.PARTIAL,
    ],
    dtype=np.uint8,
)


class VhdxDisk(BlockMapDisk):
    """Reading. Mutable as its subclass that writes changes ``bat`` and ``structures``."""

    format = "vhdx"

    def __init__(
        self,
        storage: Storage,
        structures: Structures,
        bat: Bat,
        parent: Disk | None,
        *,
        backing: Backing | None = None,
        replay: Replay | None = None,
    ) -> None:
        self.storage = storage
        self.structures = structures
        self.bat = bat
        self.parent = parent
        self.size = structures.metadata.virtual_size
        self.block_size = structures.metadata.block_size
        self.sector_size = structures.metadata.logical_sector_size
        self._ratio = structures.metadata.chunk_ratio
        self._backing = backing
        self._replay = replay
        self._states = _STATES.copy()
        if not structures.metadata.has_parent:
            self._states[PARTIALLY_PRESENT] = INVALID

    def payload_index(self, blocks: Int64Array) -> Int64Array:
        """Where in the BAT the entries of these payload blocks stand: a bitmap entry follows every chunk."""
        return blocks + blocks // self._ratio

    def bitmap_index(self, block: int) -> int:
        """Where in the BAT the entry of this block's sector bitmap stands."""
        return (block // self._ratio + 1) * (self._ratio + 1) - 1

    def states_of(self, entries: Bat) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        """What BAT entries of payload blocks mean here: a ``BlockState`` each, or ``INVALID``."""
        return self._states[(entries & np.uint64(7)).astype(np.intp)]

    def blocks(self, first: int, stop: int) -> Blocks:
        index = self.payload_index(np.arange(first, stop, dtype=np.int64))
        entries = self.bat[index]
        state = self.states_of(entries)
        bad = np.flatnonzero(state == INVALID)
        if len(bad):
            raise CorruptImageError(
                f"block {first + int(bad[0])} is in an impossible state",
                path=self.storage.name,
                offset=self.structures.bat_region.file_offset + int(index[bad[0]]) * 8,
                found=int(entries[bad[0]]) & 7,
                expected="0, 1, 2, 3, 6, or 7 with a parent",
            )
        return Blocks(state, file_offsets(entries))

    def present(self, block: int) -> BoolArray:
        """The block's slice of its chunk's sector bitmap, least significant bit first (section 2.4)."""
        sectors = self.block_size // self.sector_size
        where = self.bitmap_offset(block)
        data = self.storage.read(where, sectors // 8)
        return np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little").astype(np.bool_)

    def bitmap_offset(self, block: int) -> int:
        """Host offset of the first bit of this block; CorruptImageError where there is no bitmap."""
        index = self.bitmap_index(block)
        entry = self.bat[index]
        offset = int(file_offsets(self.bat[index : index + 1])[0])
        if int(entry) & 7 != BITMAP_PRESENT or not MIB <= offset <= self.storage.size - BITMAP_BLOCK_SIZE:
            raise CorruptImageError(
                f"block {block} is partially present but its sector bitmap is not in the file",
                path=self.storage.name,
                offset=self.structures.bat_region.file_offset + index * 8,
                found=f"{int(entry):#x}",
                expected=f"state {BITMAP_PRESENT} and an offset within {self.storage.size} bytes",
            )
        return offset + block % self._ratio * (self.block_size // self.sector_size // 8)

    def check(self) -> CheckReport:
        from byre.disks.vhdx.check import check_image

        return check_image(self)

    @property
    def replay(self) -> Replay | None:
        """The log as it was replayed for this opening, None where it was clean."""
        return self._replay

    @property
    def subformat(self) -> str:
        metadata = self.structures.metadata
        if metadata.has_parent:
            return "differencing"
        return "fixed" if metadata.leave_block_allocated else "dynamic"

    def describe(self) -> Description:
        metadata, header = self.structures.metadata, self.structures.header
        return Description(
            format=self.format,
            virtual_size=self.size,
            subformat=self.subformat,
            sector_size=self.sector_size,
            cluster_size=self.block_size,
            backing=self._backing,
            details={
                "creator": self.structures.creator,
                "disk_guid": str(metadata.disk_id),
                "data_guid": str(header.data_write_guid),
                "file_guid": str(header.file_write_guid),
                "sequence_number": header.sequence_number,
                "physical_sector_size": metadata.physical_sector_size,
                "log": "clean" if self._replay is None else "replayed in memory",
                "log_entries": 0 if self._replay is None else self._replay.entries,
                "parent_locator": dict(metadata.locator),
            },
        )


def file_offsets(entries: Bat) -> Int64Array:
    """Host offsets in bytes of BAT entries; -1 where it is more than any file can have."""
    mebibytes = (entries >> np.uint64(20)).astype(np.int64)
    return np.where(mebibytes < 1 << 42, mebibytes << 20, -1)


def open_disk(storage: Storage, context: OpenContext) -> VhdxDisk:
    """Open the image, replaying its log: in memory when read-only, in the file when writable.

    The disk owns the storage from then on, also when opening fails.
    """
    try:
        return _open(storage, context)
    except BaseException:
        storage.close()
        raise


def _open(storage: Storage, context: OpenContext) -> VhdxDisk:
    headers, current = read_headers(storage)
    header = headers[current]
    assert header is not None
    replay = find_replay(storage, header)
    structures = read_structures(replayed(storage, replay))
    bat = read_bat(replayed(storage, replay), structures)
    parent, backing = _parent(structures, context, storage.name)
    if not context.options.writable:
        return VhdxDisk(replayed(storage, replay), structures, bat, parent, backing=backing, replay=replay)
    from byre.disks.vhdx.edit import WritableVhdxDisk

    try:
        if replay is not None:
            # Only now: a log that leaves an image unreadable is better not let loose on the file.
            _apply(storage, replay, header, current)
            structures = read_structures(storage)
    except BaseException:
        if parent is not None:
            parent.close()
        raise
    return WritableVhdxDisk(storage, structures, bat, parent, backing=backing)


def _parent(structures: Structures, context: OpenContext, name: str) -> tuple[Disk | None, Backing | None]:
    metadata = structures.metadata
    if not metadata.has_parent:
        return None, None
    if context.options.with_backing:
        parent = open_parent(metadata.locator, context, image=name)
        where = parent.files[0].name if parent.files else None
        return parent, Backing(name=parent_name(metadata.locator), format="vhdx", resolved=where)
    missing = MissingError(f"its parent {parent_name(metadata.locator)!r} was not opened", path=name)
    backing = describe_parent(metadata.locator, context, image=name)
    return ParentNotOpened(metadata.virtual_size, missing), backing


def _apply(storage: Storage, replay: Replay, header: Header, current: int) -> None:
    """Replay for good (section 2.3.3): the writes, a flush, and only then headers that name no log.

    Cut short anywhere, the log is still named by a valid header and is replayed again to the same result.
    """
    end = storage.size
    if replay.file_size > end:
        storage.truncate(replay.file_size)
    for patch in flatten(replay.patches):
        if patch.data is not None:
            storage.write(patch.start, patch.data)
            continue
        # What the file has just grown by is zeros already, and a crafted log could claim any length of it.
        for start in range(patch.start, min(patch.stop, end), MIB):
            storage.write(start, bytes(min(MIB, patch.stop - start)))
    storage.flush()
    write_headers(storage, replace(header, log_guid=NO_GUID, file_write_guid=uuid4()), current)


def write_headers(storage: Storage, header: Header, current: int) -> tuple[Header, int]:
    """Make ``header`` count, by way of the copy that doesn't; returns it as written, and which copy it is.

    Both copies are written, each flushed before the next, so that whichever one a cut tears, the other is whole.
    """
    if header.sequence_number >= (1 << 64) - 2:
        raise CorruptImageError(
            "the header's sequence number can't go on: no honest writer comes that far",
            path=storage.name,
            offset=HEADER_OFFSETS[current],
            found=header.sequence_number,
        )
    for _ in range(2):
        current = 1 - current
        header = replace(header, sequence_number=header.sequence_number + 1)
        storage.write(HEADER_OFFSETS[current], header.pack())
        storage.flush()
    return header, current
