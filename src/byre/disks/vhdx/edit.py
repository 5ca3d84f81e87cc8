"""Writing into a VHDX image in place: random writes, growing, shrinking, packing.

The order of writes keeps every cut harmless, without the log. Blocks are written to room that no entry on disk
refers to, then flushed; sector bitmaps and their BAT entries follow, flushed; the payload BAT entries come last.
Each entry is eight aligned bytes within one sector, refers to nothing newer than itself, and is valid before and
after, so it doesn't matter which of several entries a cut lets through. Room that an entry gave up is handed out
again only after that entry is on disk. What a cut can leave behind is unclaimed room: ``check`` calls it a leak,
``compact`` takes it back. Until ``flush`` all of the map's changes stay in memory.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import numpy as np

from byre.disks.blockmap import BlockState, check_range
from byre.disks.disk import Backing, Disk
from byre.disks.vhdx.image import (
    BITMAP_BLOCK_SIZE,
    BITMAP_PRESENT,
    FULLY_PRESENT,
    PARTIALLY_PRESENT,
    ZERO,
    VhdxDisk,
    file_offsets,
    write_headers,
)
from byre.disks.vhdx.layout import NO_GUID
from byre.disks.vhdx.space import Allocator, claims
from byre.disks.vhdx.structures import Bat, Structures
from byre.disks.writer import BoolArray, Int64Array
from byre.errors import CorruptImageError
from byre.storage.base import Buffer, Storage
from byre.units import MIB, align_down, align_up, ceil_div

_ZEROS = bytes(MIB)


class WritableVhdxDisk(VhdxDisk):
    """Mutable: holds the BAT's changes until ``flush``."""

    writable = True

    def __init__(
        self,
        storage: Storage,
        structures: Structures,
        bat: Bat,
        parent: Disk | None,
        *,
        backing: Backing | None = None,
    ) -> None:
        super().__init__(storage, structures, bat, parent, backing=backing)
        self._dirty = np.zeros(len(bat), dtype=np.bool_)
        self._bitmaps: dict[int, BoolArray] = {}
        self._freed: list[tuple[int, int]] = []
        self._room: Allocator | None = None
        self._file_touched = False
        self._data_touched = False

    # -- guest writes

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        check_range(self.storage.name, offset, len(view), self.size)
        if not len(view):
            return
        self.touch(data=True)
        start = align_down(offset, self.sector_size)
        stop = min(align_up(offset + len(view), self.sector_size), self.size)
        if start != offset or stop != offset + len(view):
            # A sector is the least that a bitmap can mark: the rest of it has to come along.
            whole = bytearray(stop - start)
            self.read_into(start, whole)
            whole[offset - start : offset - start + len(view)] = view
            view = memoryview(whole)
        self._write_sectors(start, view)

    def write_zeroes(self, offset: int, length: int) -> None:
        check_range(self.storage.name, offset, length, self.size)
        if not length:
            return
        self.touch(data=True)
        self._zero(offset, length, parts=True)

    def discard(self, offset: int, length: int) -> None:
        check_range(self.storage.name, offset, length, self.size)
        if not length or self.structures.metadata.leave_block_allocated:
            return
        self.touch(data=True)
        self._zero(offset, length, parts=False)

    def flush(self) -> None:
        self.storage.flush()
        if not self._pending():
            return
        dirty = np.flatnonzero(self._dirty)
        is_bitmap = dirty % (self._ratio + 1) == self._ratio
        for block, bits in self._bitmaps.items():
            self.storage.write(self.bitmap_offset(block), np.packbits(bits, bitorder="little").tobytes())
        if self._bitmaps or is_bitmap.any():
            self._write_entries(dirty[is_bitmap])
            self.storage.flush()
            self._bitmaps.clear()
        if not is_bitmap.all():
            self._write_entries(dirty[~is_bitmap])
            self.storage.flush()
        self._dirty[dirty] = False
        room = self.room
        for start, stop in self._freed:
            room.release(start, stop)
        self._freed.clear()
        room.join()

    def close(self) -> None:
        try:
            if self._pending():
                self.flush()
        finally:
            super().close()

    def resize(self, size: int) -> None:
        from byre.disks.vhdx.resize import resize

        resize(self, size)

    def compact(self) -> int:
        from byre.disks.vhdx.compact import compact

        return compact(self)

    # -- the map

    def present(self, block: int) -> BoolArray:
        bits = self._bitmaps.get(block)
        return super().present(block) if bits is None else bits

    @property
    def room(self) -> Allocator:
        """Where new blocks go. Refuses to write into an image in which blocks overlap."""
        if self._room is None:
            table = claims(self)
            rows = table.overlaps()
            if len(rows) or int(table.stop.max()) > align_up(self.storage.size, self.block_size) + self.block_size:
                raise CorruptImageError(
                    "blocks overlap or lie outside of the file: writing would do more damage",
                    path=self.storage.name,
                    offset=int(table.start[rows[0]]) if len(rows) else int(table.start.max()),
                    hint=f"See 'byre check {self.storage.name}'; convert the image to save what can be read.",
                )
            end = max(self.storage.size, int(table.stop.max()))
            self._room = Allocator(claims(self, anchored=True).gaps(self.storage.size), end)
        return self._room

    def set_entry(self, index: int, state: int, host: int = 0) -> None:
        """Change a BAT entry in memory; the room that it gives up is free after the next flush."""
        self.set_entries(np.array([index], dtype=np.int64), state, host)

    def set_entries(self, index: Int64Array, state: int, host: Int64Array | int = 0) -> None:
        """The same for many entries, all of payload blocks or all of bitmap blocks."""
        if not len(index):
            return
        bitmap = int(index[0]) % (self._ratio + 1) == self._ratio
        before = self.bat[index]
        offsets = file_offsets(before)
        held = (before & np.uint64(7)) >= (BITMAP_PRESENT if bitmap else FULLY_PRESENT)
        length = BITMAP_BLOCK_SIZE if bitmap else self.block_size
        given_up = np.sort(offsets[held & (offsets > 0) & (offsets != host)])
        for run in np.split(given_up, np.flatnonzero(np.diff(given_up) != length) + 1) if len(given_up) else ():
            self._freed.append((int(run[0]), int(run[-1]) + length))
        after = np.broadcast_to(np.asarray(host, dtype=np.int64) | state, index.shape).astype(np.uint64)
        self.bat[index] = after
        self._dirty[index] |= before != after

    def replace_map(self, structures: Structures, bat: Bat) -> None:
        """Another size, table or place of the table; everything pending must have been flushed."""
        dirty = np.zeros(len(bat), dtype=np.bool_)
        self.structures, self.bat, self._dirty = structures, bat, dirty
        self.size = structures.metadata.virtual_size

    def touch(self, *, data: bool) -> None:
        """Before the first change of an opening the header gets a new FileWriteGuid, and before the first one
        that a guest could see a new DataWriteGuid (section 2.2.2): children of the disk as it was must notice."""
        if self._data_touched or (self._file_touched and not data):
            return
        _ = self.room  # refuse before anything is written
        header = replace(self.structures.header, file_write_guid=uuid4(), log_guid=NO_GUID)
        if data:
            header = replace(header, data_write_guid=uuid4())
        header, current = write_headers(self.storage, header, self.structures.current)
        older = replace(header, sequence_number=header.sequence_number - 1)
        headers = (header, older) if current == 0 else (older, header)
        self.structures = replace(self.structures, headers=headers, current=current)
        self._file_touched = True
        self._data_touched = data

    def _pending(self) -> bool:
        return bool(self._bitmaps) or bool(self._dirty.any())

    def _write_entries(self, index: Int64Array) -> None:
        """The entries as they are in memory, in one write for each run of neighbours."""
        for run in np.split(index, np.flatnonzero(np.diff(index) != 1) + 1) if len(index) else ():
            first = int(run[0])
            data = self.bat[first : int(run[-1]) + 1].astype("<u8").tobytes()
            self.storage.write(self.structures.bat_region.file_offset + first * 8, data)

    # -- blocks

    def _write_sectors(self, offset: int, view: memoryview) -> None:
        done = 0
        while done < len(view):
            block, within = divmod(offset + done, self.block_size)
            piece = view[done : done + self.block_size - within]
            self._write_block(block, within, piece)
            done += len(piece)

    def _write_block(self, block: int, within: int, piece: memoryview) -> None:
        here = self.blocks(block, block + 1)
        state, host = int(here.state[0]), int(here.host[0])
        inside = min(self.block_size, self.size - block * self.block_size)
        if state in (BlockState.DATA, BlockState.PARTIAL):
            self.storage.write(host + within, piece)
            if state == BlockState.PARTIAL:
                self._mark(block, host, within, len(piece), self.present(block).copy())
            return
        anchor = int(here.host[0]) if self.structures.metadata.leave_block_allocated else 0
        if MIB <= anchor < self.storage.size:
            host, fresh = anchor, False  # a fixed disk's block has its room although it says that it is zeros
        else:
            host, fresh = self.room.take(self.block_size)
        if self.storage.size < host + self.block_size:
            self.storage.truncate(host + self.block_size)
        if len(piece) < inside and state == BlockState.ABSENT and self.parent is not None:
            self.storage.write(host + within, piece)
            bits = np.zeros(self.block_size // self.sector_size, dtype=np.bool_)
            self._mark(block, host, within, len(piece), bits)
            return
        if not fresh:
            self.fill_zeros(host, self.block_size)
        self.storage.write(host + within, piece)
        self.set_entry(block + block // self._ratio, FULLY_PRESENT, host)

    def _mark(self, block: int, host: int, within: int, length: int, bits: BoolArray) -> None:
        """These sectors of a block lie here from now on; a block that is whole needs no bitmap."""
        bits[within // self.sector_size : (within + length) // self.sector_size] = True
        inside = min(self.block_size, self.size - block * self.block_size)
        index = block + block // self._ratio
        if bits[: inside // self.sector_size].all():
            self._bitmaps.pop(block, None)
            self.set_entry(index, FULLY_PRESENT, host)
            return
        self._need_bitmap_block(block)
        self._bitmaps[block] = bits
        self.set_entry(index, PARTIALLY_PRESENT, host)

    def _need_bitmap_block(self, block: int) -> None:
        index = self.bitmap_index(block)
        if int(self.bat[index]) & 7 == BITMAP_PRESENT:
            return
        host, fresh = self.room.take(BITMAP_BLOCK_SIZE)
        if fresh:
            self.storage.truncate(host + BITMAP_BLOCK_SIZE)
        else:
            self.fill_zeros(host, BITMAP_BLOCK_SIZE)
        self.set_entry(index, BITMAP_PRESENT, host)

    def _zero(self, offset: int, length: int, *, parts: bool) -> None:
        """Make the range zeros: whole blocks by their state, the parts at either end, if wanted, by data."""
        stop = offset + length
        first = ceil_div(offset, self.block_size)
        last = ceil_div(stop, self.block_size) if stop == self.size else stop // self.block_size
        if self.structures.metadata.leave_block_allocated or first >= last:
            whole = (stop, stop)
        else:
            whole = (first * self.block_size, min(last * self.block_size, self.size))
            blocks = np.arange(first, last, dtype=np.int64)
            for block in [block for block in self._bitmaps if first <= block < last]:
                del self._bitmaps[block]
            self.set_entries(self.payload_index(blocks), ZERO)
        for begin, end in ((offset, whole[0]), (whole[1], stop)) if parts else ():
            while begin < end:
                until = min(end, align_down(begin, self.block_size) + self.block_size)
                self.zero_part(begin, until - begin)
                begin = until

    def zero_part(self, offset: int, length: int) -> None:
        block, within = divmod(offset, self.block_size)
        here = self.blocks(block, block + 1)
        state = int(here.state[0])
        if state == BlockState.DATA:
            self.fill_zeros(int(here.host[0]) + within, length)
        elif state == BlockState.PARTIAL or (state == BlockState.ABSENT and self.parent is not None):
            start = align_down(offset, self.sector_size)
            stop = align_up(offset + length, self.sector_size)
            whole = bytearray(stop - start)
            self.read_into(start, whole)
            whole[offset - start : offset - start + length] = bytes(length)
            self._write_sectors(start, memoryview(whole))

    def fill_zeros(self, host: int, length: int) -> None:
        if self.storage.punch(host, length):
            return
        for position in range(host, host + length, MIB):
            self.storage.write(position, memoryview(_ZEROS)[: host + length - position])

    # -- for resize and compact

    def forget_room(self) -> None:
        """After the file was cut: what is free is worked out anew, at once, while the table in memory is the one
        on disk: an entry that was given up in memory only still needs its room."""
        self._room = None
        _ = self.room

    def copy_range(self, source: int, target: int, length: int) -> None:
        """Copy bytes of the file onto others of it that nothing refers to."""
        for done in range(0, length, MIB):
            size = min(MIB, length - done)
            data = self.storage.read(source + done, size)
            if data == _ZEROS[:size]:
                self.fill_zeros(target + done, size)
            else:
                self.storage.write(target + done, data)
