"""Writing a new VHDX from start to end: fixed, dynamic or differencing."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np

from byre import __version__
from byre.disks.create_options import CreateOptions
from byre.disks.fixed import BlockFiller
from byre.disks.formats import format_named
from byre.disks.maptable import grain_of
from byre.disks.vhdx.image import FULLY_PRESENT, NOT_PRESENT, ZERO
from byre.disks.vhdx.layout import (
    BAT_REGION,
    HEADER_AREA,
    HEADER_OFFSETS,
    MAX_BLOCK_SIZE,
    MAX_VIRTUAL_SIZE,
    METADATA_REGION,
    MIN_BLOCK_SIZE,
    NO_GUID,
    REGION_TABLE_OFFSETS,
    Header,
    Metadata,
    Region,
    pack_identifier,
    pack_metadata,
    pack_region_table,
)
from byre.disks.vhdx.structures import MAX_BAT_ENTRIES, read_headers, read_structures
from byre.disks.writer import BoolArray, Encoder, Int64Array, Placement, Target
from byre.errors import UsageError
from byre.storage.local import open_file
from byre.units import MIB, TIB, align_up, is_power_of_two

SUBFORMATS = ("dynamic", "fixed", "differencing")
LOG_OFFSET, LOG_LENGTH = HEADER_AREA, MIB
METADATA_OFFSET, METADATA_LENGTH = 2 * MIB, MIB
BAT_OFFSET = 3 * MIB


@dataclass(frozen=True, slots=True)
class _Parent:
    """What a child takes over from its parent."""

    locator: Mapping[str, str]
    disk_id: UUID | None
    sector_size: int | None


class VhdxWriter:
    """Blocks one behind the other as they come, or each at its place when fixed. Data is taken by grains: what
    isn't placed of a block stays a hole in the host file."""

    encode: Encoder | None = None

    def __init__(self, target: Target, metadata: Metadata, data_guid: UUID, *, sparse: bool) -> None:
        self.storage = target.storage
        self.files = (target.storage,)
        self.size = metadata.virtual_size
        self.block_size = grain_of(metadata.block_size, differencing=metadata.has_parent)
        self.metadata = metadata
        self.data_guid = data_guid
        self._bat_length = max(align_up(metadata.bat_entries * 8, MIB), MIB)
        self._data_start = BAT_OFFSET + self._bat_length
        self._next = self._data_start
        # A block that is never placed is zeros, which NOT_PRESENT doesn't promise; a child's is its parent's.
        self._state = np.full(metadata.block_count, NOT_PRESENT if metadata.has_parent else ZERO, dtype=np.uint8)
        self._host = np.zeros(metadata.block_count, dtype=np.int64)
        self._grains = metadata.block_size // self.block_size
        self._filler = None if sparse else BlockFiller(metadata.block_count * self._grains)
        if metadata.leave_block_allocated:
            self._state[:] = FULLY_PRESENT
            self._host[:] = self._data_start + np.arange(metadata.block_count, dtype=np.int64) * metadata.block_size
            self._next += metadata.block_count * metadata.block_size
            self.storage.truncate(self._next)

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        owners, within = np.divmod(blocks, self._grains)
        new = np.unique(owners[self._host[owners] == 0])
        self._host[new] = self._next + np.arange(len(new), dtype=np.int64) * self.metadata.block_size
        self._next += len(new) * self.metadata.block_size
        self._state[new] = FULLY_PRESENT
        if self._filler is not None:
            self._filler.placed[blocks] = True
        return Placement(
            file=np.zeros(len(blocks), dtype=np.int64), host=self._host[owners] + within * self.block_size
        )

    def place_zero(self, blocks: Int64Array) -> None:
        if self.metadata.has_parent:  # elsewhere a block that isn't placed is zeros already
            self._state[blocks] = ZERO

    def finish(self) -> None:
        metadata, storage = self.metadata, self.storage
        storage.truncate(self._next)
        if self._filler is not None:
            self._fill(self._filler)
        bat = np.zeros(metadata.bat_entries, dtype="<u8")
        blocks = np.arange(metadata.block_count, dtype=np.int64)
        bat[blocks + blocks // metadata.chunk_ratio] = (self._host | self._state).astype(np.uint64)
        storage.write(BAT_OFFSET, bat.tobytes())
        storage.write(METADATA_OFFSET, pack_metadata(metadata))
        regions = (
            Region(BAT_REGION, BAT_OFFSET, self._bat_length, True),
            Region(METADATA_REGION, METADATA_OFFSET, METADATA_LENGTH, True),
        )
        for offset in REGION_TABLE_OFFSETS:
            storage.write(offset, pack_region_table(regions))
        file_guid = uuid4()
        for number, offset in enumerate(HEADER_OFFSETS, 1):
            header = Header(number, file_guid, self.data_guid, NO_GUID, LOG_LENGTH, LOG_OFFSET)
            storage.write(offset, header.pack())
        storage.write(0, pack_identifier(f"byre {__version__}"))

    def _fill(self, filler: BlockFiller) -> None:
        """Zeros for all that would else be a hole: around the structures, in blocks never placed, and behind the
        disk's end in its last block."""
        zeros = memoryview(bytes(max(MIB, self.block_size)))
        for start in range(0, self._data_start, MIB):
            self.storage.write(start, zeros[:MIB])
        for block in np.flatnonzero(self._state == FULLY_PRESENT).tolist():
            start = int(self._host[block])
            for grain in np.flatnonzero(~filler.placed[block * self._grains : (block + 1) * self._grains]).tolist():
                self.storage.write(start + grain * self.block_size, zeros[: self.block_size])
        if len(self._host) and self._state[-1] == FULLY_PRESENT:
            stop = int(self._host[-1]) + self.metadata.block_size
            behind = len(self._host) * self.metadata.block_size - self.size
            for start in range(stop - behind, stop, MIB):
                self.storage.write(start, zeros[: min(MIB, stop - start)])


def default_block_size(size: int) -> int:
    """2 MiB, what Hyper-V takes for differencing disks: small enough to stay lean. Vast disks get Hyper-V's 32
    MiB, so that the table stays below 128 MiB."""
    return 2 * MIB if size <= 16 * TIB else 32 * MIB


def create(target: Target, size: int, options: Mapping[str, object]) -> VhdxWriter:
    """Begin a new VHDX of ``size`` bytes, rounded up to whole sectors.

    ``subformat`` dynamic, fixed, differencing (the default with a ``backing_file``, else dynamic);
    ``block_size`` 1 MiB to 256 MiB; ``sector_size`` and ``physical_sector_size`` 512 or 4096; ``backing_file``
    the parent of a differencing one, whose GUIDs are read from it unless ``parent_guid`` (its data_guid) is
    given; ``disk_guid`` the identity that a guest sees; ``data_guid`` the one by which children know this disk;
    ``sparse`` off: the file gets no holes.
    """
    given = CreateOptions("vhdx", target.name, options, format_named("vhdx").options)
    backing = given.text("backing_file")
    subformat = given.choice("subformat", SUBFORMATS, "dynamic" if backing is None else "differencing")
    given.choice("backing_format", ("vhdx",), "vhdx")
    if (subformat == "differencing") != (backing is not None):
        raise UsageError(
            "a differencing VHDX needs backing_file, and only that one takes it", path=target.name, found=subformat
        )
    parent = None if backing is None else _parent(target.name, backing, given.uuid("parent_guid"))
    sector = given.size("sector_size", (parent and parent.sector_size) or 512)
    physical = given.size("physical_sector_size", sector)
    if sector not in (512, 4096) or physical not in (512, 4096) or physical < sector:
        raise UsageError("the sector size isn't possible", found=f"{sector}, {physical}", expected="512 or 4096")
    size = align_up(size, sector)
    block = given.size("block_size", default_block_size(size))
    if not is_power_of_two(block) or not MIN_BLOCK_SIZE <= block <= MAX_BLOCK_SIZE:
        raise UsageError("the block size isn't possible", found=block, expected="a power of two, 1M to 256M")
    metadata = Metadata(
        block_size=block,
        virtual_size=size,
        logical_sector_size=sector,
        physical_sector_size=physical,
        disk_id=given.uuid("disk_guid") or (parent and parent.disk_id) or uuid4(),
        leave_block_allocated=subformat == "fixed",
        has_parent=parent is not None,
        locator={} if parent is None else parent.locator,
    )
    if size > MAX_VIRTUAL_SIZE or metadata.bat_entries > MAX_BAT_ENTRIES:
        raise UsageError("the disk is too large for VHDX with these blocks", found=size, expected="at most 64 TiB")
    return VhdxWriter(target, metadata, given.uuid("data_guid") or uuid4(), sparse=given.flag("sparse", True))


def _parent(child: str, name: str, linkage: UUID | None) -> _Parent:
    folder = Path(child).absolute().parent
    path = folder / name  # an absolute name stands for itself
    disk_id = sector = None
    if linkage is None or path.exists():
        with open_file(path) as storage:
            headers, current = read_headers(storage)
            header = headers[current]
            assert header is not None
            if header.log_guid == NO_GUID:
                metadata = read_structures(storage).metadata
                disk_id, sector = metadata.disk_id, metadata.logical_sector_size
            linkage = linkage or header.data_write_guid
    relative = os.path.relpath(path, folder).replace("/", "\\")
    locator = {
        "parent_linkage": f"{{{linkage}}}",  # in small letters: libvhdi reads capitals as zeros
        "relative_path": relative if relative.startswith("..") else f".\\{relative}",
    }
    return _Parent(locator, disk_id, sector)
