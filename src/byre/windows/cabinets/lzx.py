"""LZX as cabinets use it: Lempel-Ziv with Huffman codes in a window of up to 2 MiB, and a filter for x86 calls.

A frame is 32 KiB of output; its input begins on a word. Written for whole files of the installation media, some of
them megabytes: the inner loop keeps its state in local names. Source: [MS-PATCH] 2 "LZX"; the E8 filter and the
limits of frames as the notes on LZX in cabinets have them.
"""

from __future__ import annotations

import numpy as np

from byre.errors import CorruptImageError

FRAME = 32768
_SLOTS = {15: 30, 16: 32, 17: 34, 18: 36, 19: 38, 20: 42, 21: 50}
_VERBATIM, _ALIGNED, _STORED = 1, 2, 3
_LITERALS, _LENGTHS = 256, 249
_FILTERED = 1 << 30
"""The filter works on the first gigabyte of output (32,768 frames)."""
EXTRA = tuple(0 if slot < 4 else min(17, slot // 2 - 1) for slot in range(51))
"""Bits behind each position slot."""
BASE = tuple(sum(1 << bits for bits in EXTRA[:slot]) for slot in range(51))
"""The first position of each slot."""

Table = tuple[list[int], int]
"""(symbol << 5 | length for each possible beginning, bits of a beginning); 0 where no code begins so."""


State = tuple[int, int, int]
"""Words taken, bits of them not yet used, how many those are."""


class LzxDecoder:
    """One stream. Mutable: it keeps window, trees and the last three distances from frame to frame."""

    def __init__(self, window_bits: int, *, path: str) -> None:
        if window_bits not in _SLOTS:
            raise CorruptImageError("an LZX window of this size", path=path, found=window_bits, expected="15 to 21")
        self._path = path
        self._window = 1 << window_bits
        self._symbols = _LITERALS + 8 * _SLOTS[window_bits]
        self._out = bytearray()
        """What has been expanded, as far back as the window reaches."""
        self._done = 0
        self._main = [0] * self._symbols
        self._length = [0] * _LENGTHS
        self._tables: tuple[Table, Table, Table | None] | None = None
        self._last = (1, 1, 1)
        self._kind = 0
        self._left = 0
        self._odd = False
        self._filter_size: int | None = None
        self._raw = b""
        self._base = 0
        self._words: list[int] = []
        self._at = 0
        self._buffer = 0
        self._bits = 0

    def frame(self, packed: bytes, length: int) -> bytes:
        """The next ``length`` bytes (a whole frame but for the last) from one block's bytes."""
        self._raw = packed
        self._load(0)
        if self._filter_size is None:
            self._filter_size = self._take(16) << 16 | self._take(16) if self._take(1) else 0
        if len(self._out) > 2 * self._window:
            del self._out[: len(self._out) - self._window]
        start = len(self._out)
        stop = start + length
        try:
            while len(self._out) < stop:
                if not self._left:
                    self._begin_block()
                if self._kind == _STORED:
                    self._copy_stored(stop)
                else:
                    self._decode(stop)
        except IndexError as error:
            raise self._corrupt("its bits end too early") from error
        data = bytes(self._out[start:stop])
        position = self._done
        self._done += length
        return self._unfiltered(data, position) if self._filter_size and position < _FILTERED else data

    def _corrupt(self, what: str) -> CorruptImageError:
        return CorruptImageError(f"an LZX stream: {what}", path=self._path, offset=self._done)

    def _take(self, count: int) -> int:
        """The next bits; IndexError where the input ends."""
        while self._bits < count:
            self._buffer = self._buffer << 16 | self._words[self._at]
            self._at += 1
            self._bits += 16
        self._bits -= count
        value = self._buffer >> self._bits
        self._buffer &= (1 << self._bits) - 1
        return value

    def _begin_block(self) -> None:
        self._kind = self._take(3)
        self._left = self._take(16) << 8 | self._take(8)
        if not self._left:
            raise self._corrupt("an empty block")
        if self._kind == _STORED:
            # There is always padding, up to the next word, or a whole word where none would be needed.
            start = self._base + 2 * ((16 * self._at - self._bits) // 16 + 1)
            raw = self._raw[start : start + 12]
            if len(raw) < 12:
                raise self._corrupt("its bits end too early")
            self._load(start + 12)
            first, second, third = (int.from_bytes(raw[n : n + 4], "little") for n in (0, 4, 8))
            self._last = (first, second, third)
            self._odd = self._left % 2 == 1
        elif self._kind in (_VERBATIM, _ALIGNED):
            aligned = self._table([self._take(3) for _ in range(8)]) if self._kind == _ALIGNED else None
            self._read_lengths(self._main, 0, _LITERALS)
            self._read_lengths(self._main, _LITERALS, self._symbols)
            self._read_lengths(self._length, 0, _LENGTHS)
            self._tables = (self._table(self._main), self._table(self._length, empty=True), aligned)
        else:
            raise self._corrupt(f"a block of type {self._kind}")

    def _copy_stored(self, stop: int) -> None:
        """Bytes as they are. One byte that says nothing follows a block of odd length."""
        count = min(self._left, stop - len(self._out))
        at = self._base + 2 * self._at
        if at + count > len(self._raw):
            raise self._corrupt("its bytes end too early")
        self._out += self._raw[at : at + count]
        self._left -= count
        self._load(at + count + (self._odd and not self._left))

    def _load(self, at: int) -> None:
        """Read words from this byte of the frame's input on."""
        rest = self._raw[at:]
        self._base, self._at, self._buffer, self._bits = at, 0, 0, 0
        self._words = np.frombuffer(rest + bytes(len(rest) % 2), dtype="<u2").tolist()

    def _read_lengths(self, lengths: list[int], start: int, stop: int) -> None:
        """Code lengths, coded as differences by a tree of their own."""
        pre, width = self._table([self._take(4) for _ in range(20)])
        at = start
        while at < stop:
            code = self._symbol(pre, width)
            if code in (17, 18):
                count = self._take(4) + 4 if code == 17 else self._take(5) + 20
                value = 0
            elif code == 19:
                count = self._take(1) + 4
                value = (lengths[at] - self._symbol(pre, width)) % 17
            else:
                count, value = 1, (lengths[at] - code) % 17
            if at + count > stop:
                raise self._corrupt("more code lengths than symbols")
            lengths[at : at + count] = [value] * count
            at += count

    def _symbol(self, table: list[int], width: int) -> int:
        while self._bits < width:
            self._buffer = self._buffer << 16 | (self._words[self._at] if self._at < len(self._words) else 0)
            self._at += 1
            self._bits += 16
        entry = table[self._buffer >> (self._bits - width)]
        if not entry:
            raise self._corrupt("a code that stands for nothing")
        self._bits -= entry & 31
        self._buffer &= (1 << self._bits) - 1
        return entry >> 5

    def _table(self, lengths: list[int], *, empty: bool = False) -> Table:
        """A table for looking codes up, from their lengths. ``empty``: it may have no code at all."""
        width = max(lengths)
        if not width:
            if not empty:
                raise self._corrupt("a tree without codes")
            return [0, 0], 1
        table: list[int] = []
        for bits in range(1, width + 1):
            repeat = 1 << (width - bits)
            for symbol, length in enumerate(lengths):
                if length == bits:
                    table += [symbol << 5 | bits] * repeat
        if len(table) > 1 << width:
            raise self._corrupt("a tree with too many codes")
        return table + [0] * ((1 << width) - len(table)), width

    def _decode(self, stop: int) -> None:
        """Literals and matches up to ``stop`` or the block's end."""
        assert self._tables is not None
        size = len(self._out)
        end = min(stop, size + self._left)
        state = (self._at, self._buffer, self._bits)
        try:
            state, self._last = _expand(self._out, self._words, state, self._last, self._tables, end)
        except _BadCodeError as error:
            raise self._corrupt(str(error)) from None
        self._at, self._buffer, self._bits = state
        if self._at - self._bits // 16 > len(self._words):
            raise self._corrupt("its bits end too early")
        self._left -= len(self._out) - size

    def _unfiltered(self, data: bytes, position: int) -> bytes:
        """The frame with the targets of x86 calls made relative again."""
        if len(data) <= 10:
            return data
        image = bytearray(data)
        size = self._filter_size or 0
        at = image.find(0xE8)
        while 0 <= at < len(image) - 10:
            here = position + at
            target = int.from_bytes(image[at + 1 : at + 5], "little", signed=True)
            if -here <= target < size:
                relative = target - here if target >= 0 else target + size
                image[at + 1 : at + 5] = (relative & 0xFFFFFFFF).to_bytes(4, "little")
            at = image.find(0xE8, at + 5)
        return bytes(image)


class _BadCodeError(Exception):
    """What the bits say can't be; the decoder tells where."""


def _expand(
    out: bytearray,
    words: list[int],
    state: State,
    last: tuple[int, int, int],
    tables: tuple[Table, Table, Table | None],
    end: int,
) -> tuple[State, tuple[int, int, int]]:
    """Grow ``out`` to ``end`` bytes; the state of the bits and the last three distances afterwards.

    One loop with local names and no calls but for aligned distances: Python spends its time here, and each name that
    is looked up or call that is made for every symbol costs a tenth of the speed.
    """
    (main, main_width), (long, long_width), aligned = tables
    at, buffer, bits = state
    first, second, third = last
    size, most = len(out), len(words)
    while size < end:
        while bits < 48:  # a match takes 16 + 16 + 17 bits at most, so a second filling is rare
            buffer = buffer << 16 | (words[at] if at < most else 0)
            at += 1
            bits += 16
        entry = main[buffer >> (bits - main_width)]
        bits -= entry & 31
        buffer &= (1 << bits) - 1
        symbol = entry >> 5
        if not entry:
            raise _BadCodeError("a code that stands for nothing")
        if symbol < 256:
            out.append(symbol)
            size += 1
            continue
        slot, length = (symbol - 256) >> 3, symbol & 7
        if length == 7:
            entry = long[buffer >> (bits - long_width)]
            bits -= entry & 31
            buffer &= (1 << bits) - 1
            if not entry:
                raise _BadCodeError("a length that stands for nothing")
            length += entry >> 5
        length += 2
        if slot == 0:
            distance = first
        elif slot == 1:
            distance, second = second, first
        elif slot == 2:
            distance, third = third, first
        else:
            while bits < 32:
                buffer = buffer << 16 | (words[at] if at < most else 0)
                at += 1
                bits += 16
            count = EXTRA[slot]
            if aligned is not None and count >= 3:
                value, buffer, bits = _aligned_distance(aligned, count, buffer, bits)
            else:
                bits -= count
                value = buffer >> bits
                buffer &= (1 << bits) - 1
            distance = BASE[slot] + value - 2
            third, second = second, first
        first = distance
        if not 0 < distance <= size or size + length > end:
            raise _BadCodeError("a match outside of the window or across a frame's end")
        if distance >= length:
            out += out[size - distance : size - distance + length]
        else:
            out += (bytes(out[size - distance :]) * (length // distance + 1))[:length]
        size += length
    return (at, buffer, bits), (first, second, third)


def _aligned_distance(aligned: Table, count: int, buffer: int, bits: int) -> tuple[int, int, int]:
    """A distance whose last three bits are coded; what is left of the bits."""
    bits -= count - 3
    value = (buffer >> bits) << 3
    buffer &= (1 << bits) - 1
    entry = aligned[0][buffer >> (bits - aligned[1])]
    if not entry:
        raise _BadCodeError("a distance that stands for nothing")
    bits -= entry & 31
    return value + (entry >> 5), buffer & ((1 << bits) - 1), bits
