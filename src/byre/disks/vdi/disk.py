"""An open VDI: reading, random writes, resizing, compacting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from byre.disks.blockmap import BlockMapDisk, Blocks, BlockState, ParentNotOpened, check_range, plan_moves
from byre.disks.context import OpenContext
from byre.disks.disk import Backing, CheckReport, Description, Disk
from byre.disks.maptable import MapTable, copy_bytes, is_zero, load_table, pieces, zero_in_place
from byre.disks.parents import find_parent, folder_above_has, open_parent, read_ends
from byre.disks.vdi.checking import check_map
from byre.disks.vdi.header import (
    DISCARDED,
    FREE,
    HEADER_BYTES,
    VERSION_OLD,
    ImageType,
    VdiHeader,
    fresh_uuid,
    identity,
    parse,
)
from byre.disks.writer import BoolArray, Int64Array
from byre.errors import ByreError, CorruptImageError, MissingError, UnsupportedError, UsageError
from byre.storage.base import Buffer, Storage
from byre.units import SECTOR, align_up, ceil_div

_SUBFORMATS = {ImageType.DYNAMIC: "dynamic", ImageType.FIXED: "fixed", ImageType.DIFFERENCING: "differencing"}


class VdiDisk(BlockMapDisk):
    """A VDI behind the Disk protocol. Mutable: writes change the map and, once, the modification UUID."""

    format = "vdi"

    def __init__(
        self, storage: Storage, header: VdiHeader, map_table: MapTable, parent: Disk | None, backing: Backing | None
    ) -> None:
        self.storage = storage
        self.header = header
        self.size = header.size
        self.block_size = header.block_size
        self.writable = storage.writable
        self.parent = parent
        self.map = map_table
        self._backing = backing
        self._touched = False
        self._used: BoolArray | None = None
        self._scan = 0
        self._top = 0

    def blocks(self, first: int, stop: int) -> Blocks:
        entries = self.map.entries[first:stop]
        state = np.where(entries == FREE, np.uint8(BlockState.ABSENT), np.uint8(BlockState.DATA))
        state[entries == DISCARDED] = BlockState.ZERO
        hosts: Int64Array = self._host(0) + entries.astype(np.int64) * self.header.stride
        return Blocks(state, hosts)

    def _host(self, entry: int) -> int:
        """Host offset of a stored block's first guest byte."""
        return self.header.data_offset + self.header.block_extra + entry * self.header.stride

    def describe(self) -> Description:
        header = self.header
        held = int(np.count_nonzero(self.map.entries < DISCARDED))
        details: dict[str, object] = {
            "version": "0.2"
            if header.version == VERSION_OLD
            else f"{header.version >> 16}.{header.version & 0xFFFF}",
            "uuid": str(header.uuid),
            "modification_uuid": str(header.modification_uuid),
            "allocated_blocks": held,
            "total_blocks": header.blocks,
            "blocks_offset": header.blocks_offset,
            "data_offset": header.data_offset,
            "creator": header.file_info.split(b"\0")[0].decode("latin-1").strip("<> \n"),
        }
        if header.comment:
            details["comment"] = header.comment.decode("utf-8", "replace")
        if header.differencing:
            details["parent_uuid"] = str(header.parent_uuid)
            details["parent_modification_uuid"] = str(header.parent_modification_uuid)
            details["parent_modified"] = self._parent_modified()
        return Description(
            format=self.format,
            virtual_size=self.size,
            subformat=_SUBFORMATS[header.image_type],
            cluster_size=header.block_size,
            backing=self._backing,
            files=(self.storage.name,),
            details=details,
        )

    def _parent_modified(self) -> bool | None:
        """Whether the parent was written to since this image was made; None where that can't be told."""
        if self._backing is None or self._backing.resolved is None:
            return None
        return _rank(self.header, Path(self._backing.resolved)) == 1

    def check(self) -> CheckReport:
        return check_map(self.header, self.map.entries, self.storage.size, parent_modified=self._parent_modified())

    # Writing. Block data goes to the file at once, map entries with the next flush, behind the data.

    def write(self, offset: int, data: Buffer) -> None:
        check_range(self.storage.name, offset, len(data), self.size)
        self._begin()
        view = memoryview(data).cast("B")
        for block, within, done, count in pieces(offset, len(view), self.block_size):
            self._write_piece(block, within, view[done : done + count])

    def _write_piece(self, block: int, within: int, view: memoryview) -> None:
        entry = int(self.map.entries[block])
        if entry < DISCARDED:
            self.storage.write(self._host(entry) + within, view)
            return
        content: bytearray | memoryview = view
        if len(view) < self.block_size:
            content = bytearray(self.block_size)
            start = block * self.block_size
            inside = min(self.block_size, self.size - start)
            if entry == FREE:
                self.read_into(start, memoryview(content)[:inside])
            content[within : within + len(view)] = view
        slot = self._take_slot()
        self.storage.write(self._host(slot), content)
        self.map.put(block, slot)

    def write_zeroes(self, offset: int, length: int) -> None:
        check_range(self.storage.name, offset, length, self.size)
        self._begin()
        stop = offset + length
        first = ceil_div(offset, self.block_size)
        last = ceil_div(stop, self.block_size) if stop == self.size else stop // self.block_size
        if last <= first:
            for block, within, _, count in pieces(offset, length, self.block_size):
                self._zero_piece(block, within, count)
            return
        if self.parent is not None:
            self.map.put(first + np.flatnonzero(self.map.entries[first:last] == FREE), DISCARDED)
        for block in (first + np.flatnonzero(self.map.entries[first:last] < DISCARDED)).tolist():
            self._zero_piece(block, 0, min(self.block_size, self.size - block * self.block_size))
        if offset < first * self.block_size:
            self._zero_piece(first - 1, offset - (first - 1) * self.block_size, first * self.block_size - offset)
        if stop > last * self.block_size:
            self._zero_piece(last, 0, stop - last * self.block_size)

    def _zero_piece(self, block: int, within: int, count: int) -> None:
        """Zeros in one block: stored ones where they lie, so that nothing leaks; the parent's by a copy."""
        entry = int(self.map.entries[block])
        if entry < DISCARDED:
            zero_in_place(self.storage, self._host(entry) + within, count)
        elif entry == FREE and self.parent is not None:
            self._write_piece(block, within, memoryview(bytes(count)))

    def discard(self, offset: int, length: int) -> None:
        self.write_zeroes(offset, length)

    def flush(self) -> None:
        if self._top > self.header.blocks_allocated:
            # VirtualBox puts its next block at this count: no entry may reach the file before a count above it.
            self._write_header(replace(self.header, blocks_allocated=self._top))
        self.storage.flush()
        if self.map.dirty:
            self.map.flush()
            self.storage.flush()

    def close(self) -> None:
        try:
            if self.map.dirty:
                self.flush()
        finally:
            super().close()

    def _begin(self) -> None:
        """Before the first change: a new modification UUID, by which children see that their parent moved on."""
        self._need_writable()
        if not self._touched:
            self._touched = True
            self._write_header(replace(self.header, modification_uuid=fresh_uuid()))

    def _need_writable(self) -> None:
        if not self.writable:
            raise UsageError("was opened for reading only", path=self.storage.name)
        if self._used is None:
            entries = self.map.entries[self.map.entries < DISCARDED]
            self._top = int(entries.max()) + 1 if len(entries) else 0
            self._used = np.zeros(self.header.blocks, dtype=bool)
            self._used[entries[entries < self.header.blocks]] = True
            self._scan = 0

    def _take_slot(self) -> int:
        """Where a new block goes: the first place that nothing uses. As a block that has none wants one, there is
        a free one among as many places as the disk has blocks: the file never grows beyond a fixed image's."""
        assert self._used is not None
        step = 4096
        while self._scan < len(self._used) and self._used[self._scan : self._scan + step].all():
            self._scan += step
        slot = self._scan + int(np.argmin(self._used[self._scan : self._scan + step]))
        self._used[slot] = True
        self._scan = slot + 1
        self._top = max(self._top, slot + 1)
        return slot

    def claim(self, slots: int) -> None:
        """Everything below this many places counts as taken."""
        self._top = max(self._top, slots)

    def _write_header(self, header: VdiHeader) -> None:
        self.storage.write(0, header.encode(self.storage.read(0, HEADER_BYTES)))
        self.header = header

    def resize(self, size: int) -> None:
        from byre.disks.vdi.resizing import resize

        if size <= 0:
            raise UsageError("a VDI can't be empty", path=self.storage.name, found=size)
        self._need_writable()
        self.flush()
        resize(self, align_up(size, SECTOR))

    def adopt(self, header: VdiHeader, map_table: MapTable) -> None:
        """Switch to another header and map in the same file: one sector written, so all or nothing."""
        self.storage.flush()
        self._write_header(header)
        self.storage.flush()
        self.map = map_table
        self.size = header.size
        self._used = None
        self._need_writable()

    def compact(self) -> int:
        if self.header.image_type == ImageType.FIXED:
            raise UnsupportedError("a fixed VDI has no room to give back", path=self.storage.name)
        self._need_writable()
        before = self.storage.size
        self._drop_zero_blocks()
        self._pack()
        return max(0, before - self.storage.size)

    def _drop_zero_blocks(self) -> None:
        """Blocks that hold only zeros leave the map."""
        gone = FREE if self.parent is None else DISCARDED
        for block in np.flatnonzero(self.map.entries < DISCARDED).tolist():
            if is_zero(self.storage, self._host(int(self.map.entries[block])), self.block_size):
                self.map.put(block, gone)
        self.flush()

    def _pack(self) -> None:
        """Move the last blocks into the gaps, durable before the map says so, then cut the file."""
        header = self.header
        held = np.flatnonzero(self.map.entries < DISCARDED)
        hosts = header.data_offset + self.map.entries[held].astype(np.int64) * header.stride
        moves = plan_moves(hosts, header.stride, header.data_offset)
        for source, target in zip(moves.source.tolist(), moves.target.tolist(), strict=True):
            copy_bytes(self.storage, source, target, header.stride)
        self.map.put(held[moves.index], (moves.target - header.data_offset) // header.stride)
        self.flush()
        self._used = None
        self._need_writable()
        self._write_header(replace(self.header, blocks_allocated=self._top))
        self.storage.flush()
        if moves.end < self.storage.size:
            self.storage.truncate(moves.end)
        self.storage.flush()


def open_disk(storage: Storage, context: OpenContext) -> VdiDisk:
    """Open a VDI with its chain. Raises CorruptImageError, UnsupportedError, MissingError for a lost parent."""
    try:
        header = parse(storage.read(0, min(HEADER_BYTES, storage.size)), path=storage.name)
        table = load_table(storage, header.blocks_offset, header.blocks, "<")
        if context.options.writable:
            _check_writable(storage, header, table)
        parent, backing = _parent(storage, header, context)
        return VdiDisk(storage, header, table, parent, backing)
    except BaseException:
        storage.close()
        raise


def _check_writable(storage: Storage, header: VdiHeader, table: MapTable) -> None:
    if header.version == VERSION_OLD:
        raise UnsupportedError(
            "is a VDI from before VirtualBox 1.0, which is only read", path=storage.name, hint="Convert it first."
        )
    report = check_map(header, table.entries, storage.size)
    if report.corruptions:
        raise CorruptImageError(
            "has a damaged block map and can't be written to without more damage",
            path=storage.name,
            found=report.problems[0].message,
            hint=f"Run 'byre check {storage.name}', and convert what can still be read.",
        )


def _rank(header: VdiHeader, path: Path) -> int:
    """How well a file fits as the parent: 0 not at all, 1 it has changed since, 2 as it was."""
    head, _ = read_ends(path, HEADER_BYTES, 0)
    found = identity(head)
    if found is None or found[0] != header.parent_uuid:
        return 0
    wanted = header.parent_modification_uuid
    return 2 if wanted.int == 0 or found[1] == wanted else 1


def _parent(storage: Storage, header: VdiHeader, context: OpenContext) -> tuple[Disk | None, Backing | None]:
    if not header.differencing:
        return None, None
    name = str(header.parent_uuid)

    def rank(path: Path) -> int:
        return _rank(header, path)

    path = find_parent(context, rank)
    if path is None:
        error = _missing(storage, header, folder_above_has(context, rank))
        if context.options.with_backing:
            raise error
        return ParentNotOpened(header.size, error), Backing(name, "vdi", None, error.what)
    backing = Backing(name, "vdi", str(path))
    if not context.options.with_backing:
        unopened: ByreError = MissingError(
            f"the parent {name} was left closed, and this read needs it", path=storage.name, expected=path
        )
        return ParentNotOpened(header.size, unopened), backing
    return open_parent(context, path, image=storage.name, format="vdi"), backing


def _missing(storage: Storage, header: VdiHeader, above: Path | None) -> MissingError:
    hint = f"It may be {above}: --parent {above}" if above else "Say where it is: --parent FILE or --parent FOLDER"
    return MissingError(
        f"the parent of this differencing VDI, UUID {header.parent_uuid}, is not beside it",
        path=storage.name,
        expected=f"a VDI with UUID {header.parent_uuid}",
        hint=hint,
    )
