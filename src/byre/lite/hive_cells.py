"""The cells of a hive that is being changed: which are free, taking one, giving one back.

Source: the public descriptions of the regf format, as in ``byre.windows.registry.layout``.
"""

from __future__ import annotations

import bisect
import struct

from byre.errors import CorruptImageError, UnsupportedError
from byre.units import align_up
from byre.windows.registry.layout import NO_CELL

BIN_HEADER = 32
BIN_UNIT = 4096
MAX_BINS = (1 << 31) - BIN_UNIT
_I32 = struct.Struct("<i")
_BIN = struct.Struct("<4sII")


class Cells:
    """The hive bins data. Mutable. Offsets count from its start; a cell's data lie four bytes behind its size."""

    def __init__(self, bins: bytes, *, path: str) -> None:
        self.data = bytearray(bins)
        self.path = path
        self._bin_starts: list[int] = []
        self._free: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        """Where a free cell ends, to where it begins."""
        self._by_length: list[tuple[int, int]] = []
        """(length, cell) of the free ones, sorted."""
        self._scan()
        self._ends = {cell + length: cell for cell, length in self._free.items()}
        self._by_length = sorted((length, cell) for cell, length in self._free.items())

    def _scan(self) -> None:
        """Walk every bin; CorruptImageError where the cells don't tile them: such a hive is only read."""
        position = 0
        while position < len(self.data):
            if position + BIN_HEADER > len(self.data):
                raise self._broken("a bin is cut off", position)
            magic, start, size = _BIN.unpack_from(self.data, position)
            if (
                magic != b"hbin"
                or start != position
                or size % BIN_UNIT
                or not size
                or position + size > len(self.data)
            ):
                raise self._broken("a bin's header is damaged", position)
            self._bin_starts.append(position)
            cell, end = position + BIN_HEADER, position + size
            while cell < end:
                length = _I32.unpack_from(self.data, cell)[0]
                if not length or length % 8 or cell + abs(length) > end:
                    raise self._broken("the cells of a bin don't fill it", cell)
                if length > 0:
                    self._free[cell] = length
                cell += abs(length)
            position = end

    def size(self, cell: int) -> int:
        """Bytes of an allocated cell, its size field included. CorruptImageError where it is none."""
        if cell < BIN_HEADER or cell + 8 > len(self.data) or cell % 8:
            raise self._broken("a reference leads nowhere", cell)
        length: int = _I32.unpack_from(self.data, cell)[0]
        if length >= 0 or cell - length > len(self.data):
            raise self._broken("a reference leads to a free cell", cell)
        return -length

    def read(self, cell: int) -> bytes:
        """The data of an allocated cell."""
        return bytes(self.data[cell + 4 : cell + self.size(cell)])

    def write(self, cell: int, offset: int, data: bytes) -> None:
        """Put bytes at ``offset`` of an allocated cell's data."""
        if offset < 0 or 4 + offset + len(data) > self.size(cell):
            raise self._broken("a structure is longer than its cell", cell)
        self.data[cell + 4 + offset : cell + 4 + offset + len(data)] = data

    def allocate(self, data: bytes) -> int:
        """A new cell that holds ``data``; the smallest free one that fits, else a new bin at the end."""
        wanted = align_up(len(data) + 4, 8)
        at = bisect.bisect_left(self._by_length, (wanted, 0))
        if at == len(self._by_length):
            self._grow(wanted)
            at = bisect.bisect_left(self._by_length, (wanted, 0))
        length, cell = self._by_length[at]
        self._take(cell)
        rest = length - wanted
        if rest >= 8:
            self._mark_free(cell + wanted, rest)
        else:
            wanted = length
        _I32.pack_into(self.data, cell, -wanted)
        self.data[cell + 4 : cell + wanted] = data.ljust(wanted - 4, b"\0")
        return cell

    def free(self, cell: int) -> None:
        """Give a cell back, joined with free neighbours of its bin; what it held is wiped."""
        if cell == NO_CELL:
            return
        length = self.size(cell)
        start = self._bin_starts[bisect.bisect_right(self._bin_starts, cell) - 1]
        stop = start + _BIN.unpack_from(self.data, start)[2]
        after = cell + length
        if after < stop and after in self._free:
            length += self._take(after)
        before = self._ends.get(cell)  # of the same bin: each begins with a header
        if before is not None:
            length += self._take(before)
            cell = before
        self._mark_free(cell, length)
        self.data[cell + 4 : cell + length] = bytes(length - 4)

    def _take(self, cell: int) -> int:
        """A cell is free no more; its length."""
        length = self._free.pop(cell)
        del self._ends[cell + length]
        del self._by_length[bisect.bisect_left(self._by_length, (length, cell))]
        return length

    def _mark_free(self, cell: int, length: int) -> None:
        _I32.pack_into(self.data, cell, length)
        self._free[cell] = length
        self._ends[cell + length] = cell
        bisect.insort(self._by_length, (length, cell))

    def _grow(self, wanted: int) -> None:
        start = len(self.data)
        size = align_up(wanted + BIN_HEADER, BIN_UNIT)
        if start + size > MAX_BINS:
            raise UnsupportedError("the hive can't grow any further", path=self.path, found=start)
        self.data += struct.pack("<4sIIQQI", b"hbin", start, size, 0, 0, 0).ljust(size, b"\0")
        self._bin_starts.append(start)
        self._mark_free(start + BIN_HEADER, size - BIN_HEADER)

    def _broken(self, what: str, cell: int) -> CorruptImageError:
        return CorruptImageError(
            f"{what}: the hive is damaged, so it is only read",
            path=self.path,
            offset=BIN_UNIT + cell,
            hint="Start the guest once so that it repairs its hive, then try again.",
        )
