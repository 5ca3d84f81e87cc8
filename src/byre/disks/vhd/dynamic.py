"""An open dynamic or differencing VHD: reading, random writes, resizing, compacting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from byre.disks.blockmap import BlockMapDisk, Blocks, BlockState, check_range, plan_moves
from byre.disks.disk import Backing, CheckReport, Description, Disk, Problem
from byre.disks.maptable import MapTable, copy_bytes, is_zero, pieces, zero_in_place
from byre.disks.vhd.fixed import check_size, resized
from byre.disks.vhd.footer import FOOTER_BYTES, UNUSED, DiskType, DynamicHeader, Footer
from byre.disks.vhd.layout import FOOTER_BROKEN, blocks_end, check_table, metadata_ranges
from byre.disks.writer import BoolArray
from byre.errors import CorruptImageError, UnsupportedError, UsageError
from byre.storage.base import Buffer, Storage
from byre.units import SECTOR, align_down, align_up, ceil_div

DATA_ALIGNMENT = 4096
"""Blocks' data begins on whole pages of the host, so that it can be copied by reference; the sector before is the
bitmap. The format asks for 512 only, and every reader goes by the table."""
_MAX_HELD_BITMAPS = 8192

_UNKNOWN, _FULL, _PARTIAL = 0, 1, 2


class DynamicVhdDisk(BlockMapDisk):
    """A VHD with a block allocation table behind the Disk protocol. Mutable: writes change table and bitmaps.

    Block data goes to the file at once; bitmaps and table entries with the next flush, behind the data.
    """

    format = "vhd"

    def __init__(
        self,
        storage: Storage,
        footer: Footer,
        header: DynamicHeader,
        table: MapTable,
        *,
        parent: Disk | None,
        backing: Backing | None,
        details: dict[str, object],
        problems: tuple[Problem, ...],
    ) -> None:
        self.storage = storage
        self.footer = footer
        self.header = header
        self.size = footer.size
        self.block_size = header.block_size
        self.writable = storage.writable
        self.parent = parent
        self.map = table
        self._backing = backing
        self._details = details
        self._problems = problems
        self._known = np.zeros(len(table.entries), dtype=np.uint8)
        self._bitmaps: dict[int, bytearray] = {}

    # Reading

    def blocks(self, first: int, stop: int) -> Blocks:
        entries = self.map.entries[first:stop]
        here = entries != UNUSED
        for block in (first + np.flatnonzero(here & (self._known[first:stop] == _UNKNOWN))).tolist():
            self._known[block] = self._look(block)
        state = np.where(here, np.uint8(BlockState.DATA), np.uint8(BlockState.ABSENT))
        state[here & (self._known[first:stop] == _PARTIAL)] = BlockState.PARTIAL
        return Blocks(state, entries.astype(np.int64) * SECTOR + self.header.bitmap_size)

    def present(self, block: int) -> BoolArray:
        bits = np.unpackbits(np.frombuffer(self._bitmap(block), dtype=np.uint8))
        return bits[: self.block_size // SECTOR].astype(bool)

    def _look(self, block: int) -> int:
        sectors = min(self.block_size, self.size - block * self.block_size) // SECTOR
        whole, rest = divmod(sectors, 8)
        bitmap = self._bitmap(block)
        tail = (0xFF << (8 - rest)) & 0xFF
        full = bitmap[:whole].count(0xFF) == whole and (not rest or bitmap[whole] & tail == tail)
        return _FULL if full else _PARTIAL

    def _bitmap(self, block: int) -> bytes | bytearray:
        held = self._bitmaps.get(block)
        if held is not None:
            return held
        offset = self._place(block)
        length = self.header.bitmap_size
        if offset + length > self.storage.size:
            raise CorruptImageError(
                f"the sector bitmap of block {block} lies past the end of the file",
                path=self.storage.name,
                offset=offset,
                expected=f"within {self.storage.size} bytes",
                hint=f"Run 'byre check {self.storage.name}'.",
            )
        return self.storage.read(offset, length)

    def _place(self, block: int) -> int:
        """Host offset of a stored block: of its bitmap, which its data follows."""
        return int(self.map.entries[block]) * SECTOR

    def describe(self) -> Description:
        held = int(np.count_nonzero(self.map.entries != UNUSED))
        return Description(
            format=self.format,
            virtual_size=self.size,
            subformat="differencing" if self._differencing else "dynamic",
            cluster_size=self.block_size,
            backing=self._backing,
            files=(self.storage.name,),
            details={**self._details, "allocated_blocks": held, "total_blocks": len(self.map.entries)},
        )

    @property
    def _differencing(self) -> bool:
        return self.footer.disk_type == DiskType.DIFFERENCING

    def check(self) -> CheckReport:
        report = check_table(self.footer, self.header, self.map.entries, self._end())
        corrupt = sum(problem.kind == "corruption" for problem in self._problems)
        return replace(report, corruptions=report.corruptions + corrupt, problems=(*self._problems, *report.problems))

    def _end(self) -> int:
        """Where the blocks stop and the footer at the end begins."""
        return blocks_end(self.storage.size, self._problems)

    # Writing

    def write(self, offset: int, data: Buffer) -> None:
        check_range(self.storage.name, offset, len(data), self.size)
        self._need_writable()
        view = memoryview(data).cast("B")
        for block, within, done, count in pieces(offset, len(view), self.block_size):
            self._write_piece(block, within, view[done : done + count])

    def _write_piece(self, block: int, within: int, view: memoryview) -> None:
        here = self.map.entries[block] != UNUSED
        if here and self._known[block] == _UNKNOWN:
            self._known[block] = self._look(block)
        if here and self._known[block] == _FULL:
            self.storage.write(self._place(block) + self.header.bitmap_size + within, view)
            return
        # A sector is here or it isn't: what the write covers of one is completed from what it reads as.
        begin = align_down(within, SECTOR)
        stop = align_up(within + len(view), SECTOR)
        content: memoryview | bytearray = view
        if stop - begin != len(view):
            content = bytearray(self.read(block * self.block_size + begin, stop - begin))
            content[within - begin : within - begin + len(view)] = view
        place = self._place(block) if here else self._new_place()
        self.storage.write(place + self.header.bitmap_size + begin, content)
        self._mark(block, place, begin // SECTOR, stop // SECTOR, new=not here)

    def _mark(self, block: int, place: int, first: int, stop: int, *, new: bool) -> None:
        """The sectors ``[first, stop)`` of the block at ``place`` are here from now on."""
        if new:
            length = self.header.bitmap_size
            # Without a parent nothing can show through, and QEMU relies on bitmaps that are full.
            bitmap = bytearray(length) if self._differencing else bytearray(b"\xff" * length)
        else:
            bitmap = bytearray(self._bitmap(block))
        bits = np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8))
        bits[first:stop] = 1
        bitmap = bytearray(np.packbits(bits).tobytes())
        if new:
            self.storage.write(place, bitmap)  # nothing points here before the next flush
            self.map.put(block, place // SECTOR)
            self._known[block] = self._look(block)
            return
        self._bitmaps[block] = bitmap
        self._known[block] = self._look(block)
        if len(self._bitmaps) >= _MAX_HELD_BITMAPS:
            self.flush()

    def _new_place(self) -> int:
        """Room for one block at the end, zeros but for the old footer, which its bitmap overwrites or which lies
        before it. The footer moves first: the file always ends with one."""
        bitmap = self.header.bitmap_size
        place = align_up(self._end() + bitmap, DATA_ALIGNMENT) - bitmap
        stop = place + self.header.stride
        if place // SECTOR >= UNUSED:
            raise UnsupportedError("the file can't grow beyond 2 TiB", path=self.storage.name)
        self.storage.write(stop, self.footer.encode())
        return place

    def write_zeroes(self, offset: int, length: int) -> None:
        check_range(self.storage.name, offset, length, self.size)
        self._need_writable()
        first = offset // self.block_size
        stop = ceil_div(offset + length, self.block_size) if length else first
        touched = np.arange(first, stop)
        if not self._differencing:
            touched = touched[self.map.entries[first:stop] != UNUSED]
        for block in touched.tolist():
            start = block * self.block_size
            begin, end = max(offset, start) - start, min(offset + length, start + self.block_size) - start
            self._zero_piece(block, begin, end)

    def _zero_piece(self, block: int, begin: int, end: int) -> None:
        low, high = align_up(begin, SECTOR), align_down(end, SECTOR)
        if not self._differencing:
            zero_in_place(self.storage, self._place(block) + self.header.bitmap_size + begin, end - begin)
        elif low < high:
            if begin < low:
                self._write_piece(block, begin, memoryview(bytes(low - begin)))
            new = self.map.entries[block] == UNUSED
            place = self._new_place() if new else self._place(block)
            if not new:
                zero_in_place(self.storage, place + self.header.bitmap_size + low, high - low)
            self._mark(block, place, low // SECTOR, high // SECTOR, new=bool(new))
            if high < end:
                self._write_piece(block, high, memoryview(bytes(end - high)))
        else:
            self._write_piece(block, begin, memoryview(bytes(end - begin)))

    def discard(self, offset: int, length: int) -> None:
        check_range(self.storage.name, offset, length, self.size)
        self._need_writable()
        if self._differencing:
            return  # a block can't say zero without storing it; to leave things as they are is allowed
        self.write_zeroes(offset, length)

    def flush(self) -> None:
        self.storage.flush()
        if not self._bitmaps and not self.map.dirty:
            return
        for block in sorted(self._bitmaps):
            self.storage.write(self._place(block), self._bitmaps[block])
        self._bitmaps.clear()
        self.map.flush()
        self.storage.flush()

    def close(self) -> None:
        try:
            if self._bitmaps or self.map.dirty:
                self.flush()
        finally:
            super().close()

    def _need_writable(self) -> None:
        if not self.writable:
            raise UsageError("was opened for reading only", path=self.storage.name)
        if self._problems:
            self._restore_footers()

    def _restore_footers(self) -> None:
        """Both footers as they should be, before anything else is written: a crash may have cost one of them."""
        if any(problem.code == FOOTER_BROKEN for problem in self._problems):
            self.storage.write(align_up(self.storage.size, SECTOR), self.footer.encode())
            self.storage.flush()
        self.storage.write(0, self.footer.encode())
        self.storage.flush()
        self._problems = ()

    # Size

    def resize(self, size: int) -> None:
        self._need_writable()
        if self._differencing:
            raise UnsupportedError(
                "a differencing VHD keeps its parent's size", path=self.storage.name, hint="Convert it to one image."
            )
        size = align_up(size, SECTOR)
        check_size(self.storage.name, size)
        self.flush()
        count = ceil_div(size, self.block_size)
        old = len(self.map.entries)
        if size > self.size:
            self._clear_tail()
        if count > old:
            self._extend_table(count)
        footer = resized(self.footer, size)
        self.storage.write(0, footer.encode())
        self.storage.flush()
        self.storage.write(self._end(), footer.encode())
        self.storage.flush()
        if count < old:  # only now: until the size has changed, these blocks were part of the disk
            self.map.put(np.arange(count, old), UNUSED)
            self.map.flush()
            self.map = MapTable(self.storage, self.map.offset, self.map.entries[:count].copy())
        self.footer = footer
        self.size = size
        self._known = np.zeros(count, dtype=np.uint8)
        self.storage.flush()

    def _clear_tail(self) -> None:
        """What the last block holds beyond the old end becomes part of the disk: zeros."""
        block, within = divmod(self.size, self.block_size)
        if within and self.map.entries[block] != UNUSED:
            host = self._place(block) + self.header.bitmap_size
            zero_in_place(self.storage, host + within, self.block_size - within)
            self.storage.flush()

    def _extend_table(self, count: int) -> None:
        """A table of ``count`` entries: where it is if nothing follows too soon, else at the end of the file."""
        entries = np.full(count, UNUSED, dtype=">u4")
        old = len(self.map.entries)
        entries[:old] = self.map.entries
        offset = self.header.table_offset
        used = self.map.entries[self.map.entries != UNUSED].astype(np.int64) * SECTOR
        starts = np.concatenate((used, metadata_ranges(self.footer, self.header, self._end())[:, 0], [self._end()]))
        behind = starts[starts > offset]
        if len(behind) and offset + 4 * count <= int(behind.min()):
            self.storage.write(offset + 4 * old, entries[old:].tobytes())
        else:
            offset = align_up(self._end(), DATA_ALIGNMENT)
            self.storage.write(offset + align_up(4 * count, SECTOR), self.footer.encode())
            self.storage.write(offset, entries.tobytes())
        self.storage.flush()
        header = replace(
            self.header, table_offset=offset, max_table_entries=max(count, self.header.max_table_entries)
        )
        if offset != self.header.table_offset:
            header = replace(header, max_table_entries=count)
        self.storage.write(self.footer.data_offset, header.encode())
        self.storage.flush()
        self.header = header
        self.map = MapTable(self.storage, offset, entries)

    def compact(self) -> int:
        self._need_writable()
        before = self.storage.size
        self.flush()
        self._drop_empty_blocks()
        self._pack()
        return max(0, before - self.storage.size)

    def _drop_empty_blocks(self) -> None:
        for block in np.flatnonzero(self.map.entries != UNUSED).tolist():
            if self._differencing:
                empty = not any(self._bitmap(block))
            else:
                empty = is_zero(self.storage, self._place(block) + self.header.bitmap_size, self.block_size)
            if empty:
                self.map.put(block, UNUSED)
                self._known[block] = _UNKNOWN
        self.flush()

    def _pack(self) -> None:
        """Move the last blocks into the gaps, durable before the table says so; then a footer, then the cut."""
        held = np.flatnonzero(self.map.entries != UNUSED)
        hosts = self.map.entries[held].astype(np.int64) * SECTOR
        metadata = metadata_ranges(self.footer, self.header, self._end())
        moves = plan_moves(
            hosts,
            self.header.stride,
            FOOTER_BYTES,
            fixed=metadata,
            align=DATA_ALIGNMENT,
            phase=self.header.bitmap_size,
        )
        for source, target in zip(moves.source.tolist(), moves.target.tolist(), strict=True):
            copy_bytes(self.storage, source, target, self.header.stride)
        self.map.put(held[moves.index], moves.target // SECTOR)
        self.flush()
        if moves.end < self._end():
            self.storage.write(moves.end, self.footer.encode())
            self.storage.flush()
            self.storage.truncate(moves.end + FOOTER_BYTES)
            self.storage.flush()
