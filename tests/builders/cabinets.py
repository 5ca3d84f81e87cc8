"""Writes cabinets: stored, MSZIP, and LZX by a small encoder of our own that uses every kind of block.

What it writes is held against cabextract, so that the decoder under test isn't only held against itself.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

from byre.windows.cabinets.lzx import BASE, EXTRA

FRAME = 32768
SLOTS = {15: 30, 16: 32, 17: 34, 18: 36, 19: 38, 20: 42, 21: 50}
VERBATIM, ALIGNED, STORED = 1, 2, 3


def build_cabinet(files: Mapping[str, bytes], method: str = "mszip", **options: object) -> bytes:
    """A cabinet with one folder. ``method``: stored, mszip or lzx (``window`` bits, ``kinds`` of blocks)."""
    stream = b"".join(files.values())
    if method == "lzx":
        window = int(str(options.get("window", 15)))
        blocks = lzx_frames(stream, window, **{k: v for k, v in options.items() if k != "window"})  # type: ignore[arg-type]
        kind = 3 | window << 8
    elif method == "mszip":
        blocks, kind = _mszip(stream), 1
    else:
        blocks, kind = [stream[at : at + FRAME] for at in range(0, len(stream), FRAME)], 0
    sizes = [min(FRAME, len(stream) - at) for at in range(0, len(stream), FRAME)]
    rows, offset = b"", 0
    for name, data in files.items():
        rows += struct.pack("<IIHHHH", len(data), offset, 0, 0x3A21, 0, 0x20) + name.encode("latin-1") + b"\0"
        offset += len(data)
    files_at = 36 + 8
    data_at = files_at + len(rows)
    body = b"".join(
        struct.pack("<IHH", 0, len(block), size) + block for block, size in zip(blocks, sizes, strict=True)
    )
    header = struct.pack(
        "<4sIIIIIBBHHHHH", b"MSCF", 0, data_at + len(body), 0, files_at, 0, 3, 1, 1, len(files), 0, 7, 0
    )
    return header + struct.pack("<IHH", data_at, len(blocks), kind) + rows + body


def _mszip(stream: bytes) -> list[bytes]:
    blocks, before = [], b""
    for at in range(0, len(stream), FRAME):
        piece = stream[at : at + FRAME]
        engine = zlib.compressobj(9, zlib.DEFLATED, -15, 9, 0, before) if before else zlib.compressobj(9, 8, -15)
        blocks.append(b"CK" + engine.compress(piece) + engine.flush())
        before = (before + piece)[-FRAME:]
    return blocks


class _Bits:
    """Words of 16 bits, the first bit the highest."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.buffer = self.count = 0

    def put(self, value: int, bits: int) -> None:
        self.buffer = self.buffer << bits | value
        self.count += bits
        while self.count >= 16:
            self.count -= 16
            self.data += (self.buffer >> self.count).to_bytes(2, "little")
            self.buffer &= (1 << self.count) - 1

    def align(self, *, always: bool = False) -> None:
        if self.count or always:
            self.put(0, 16 - self.count)

    def raw(self, data: bytes) -> None:
        assert not self.count
        self.data += data


def lzx_frames(
    stream: bytes, window: int, *, kinds: Sequence[int] = (VERBATIM,), e8_size: int = 0, block: int = FRAME
) -> list[bytes]:
    """The frames of an LZX stream. Blocks of ``block`` bytes take the ``kinds`` in turn; ``e8_size`` switches the
    filter for calls on (the stream is then what comes out of it)."""
    if e8_size:
        stream = b"".join(_filtered(stream[at : at + FRAME], at, e8_size) for at in range(0, len(stream), FRAME))
    encoder = _Lzx(stream, window)
    frames, bits = [], _Bits()
    bits.put(1 if e8_size else 0, 1)
    if e8_size:
        bits.put(e8_size >> 16, 16)
        bits.put(e8_size & 0xFFFF, 16)
    for number, start in enumerate(range(0, len(stream), block)):
        kind = kinds[number % len(kinds)]
        stop = min(start + block, len(stream))
        tokens = None if kind == STORED else encoder.tokens(start, stop)
        encoder.begin(bits, kind, start, stop, tokens)
        for at in range(start - start % FRAME, stop, FRAME):
            low, high = max(start, at), min(stop, at + FRAME)
            encoder.put(bits, kind, low, high, tokens)
            if high == stop and kind == STORED and (stop - start) % 2:
                bits.raw(b"\0")
            if high == at + FRAME or high == len(stream):
                bits.align()
                frames.append(bytes(bits.data))
                bits = _Bits()
    return frames


def _filtered(frame: bytes, position: int, size: int) -> bytes:
    """Targets of calls made absolute, as the encoder does."""
    if len(frame) <= 10:
        return frame
    image, at = bytearray(frame), 0
    while at < len(image) - 10:
        if image[at] != 0xE8:
            at += 1
            continue
        here = position + at
        relative = int.from_bytes(image[at + 1 : at + 5], "little", signed=True)
        if -here <= relative < size - here:
            image[at + 1 : at + 5] = (relative + here).to_bytes(4, "little", signed=True)
        elif size - here <= relative < size:
            image[at + 1 : at + 5] = (relative - size).to_bytes(4, "little", signed=True)
        at += 5
    return bytes(image)


class _Lzx:
    def __init__(self, stream: bytes, window: int) -> None:
        self.stream, self.window = stream, 1 << window
        self.symbols = 256 + 8 * SLOTS[window]
        self.last = [1, 1, 1]
        self.main, self.length = [0] * self.symbols, [0] * 249
        self.seen: dict[bytes, int] = {}
        self.codes: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])

    def tokens(self, start: int, stop: int) -> list[tuple[int, int, int, int]]:
        """(position, length, main symbol, formatted offset) of each literal (length 1) or match."""
        found, at, data = [], start, self.stream
        while at < stop:
            frame_end = min(stop, at - at % FRAME + FRAME)
            key = data[at : at + 3]
            before = self.seen.get(key) if len(key) == 3 else None
            length = 0
            if before is not None and 0 < at - before <= self.window - 3:
                limit = min(257, frame_end - at)
                while length < limit and data[before + length] == data[at + length]:
                    length += 1
            self.seen[key] = at
            if length < 3 or before is None:
                found.append((at, 1, data[at], 0))
                at += 1
                continue
            slot, bits = self._slot(at - before)
            header = min(length - 2, 7)
            found.append((at, length, 256 + slot * 8 + header, bits))
            for step in range(at + 1, at + length):
                self.seen[data[step : step + 3]] = step
            at += length
        return found

    def _slot(self, distance: int) -> tuple[int, int]:
        for index in range(3):
            if self.last[index] == distance:
                self.last[0], self.last[index] = self.last[index], self.last[0]
                return index, 0
        self.last = [distance, self.last[0], self.last[1]]
        formatted = distance + 2
        slot = max(n for n in range(3, 50) if BASE[n] <= formatted)
        return slot, formatted - BASE[slot]

    def begin(
        self, bits: _Bits, kind: int, start: int, stop: int, tokens: list[tuple[int, int, int, int]] | None
    ) -> None:
        bits.put(kind, 3)
        bits.put(stop - start, 24)
        if tokens is None:
            bits.align(always=True)
            bits.raw(struct.pack("<III", *self.last))
            return
        if kind == ALIGNED:
            for _ in range(8):
                bits.put(3, 3)
        used = Counter(symbol for _, _, symbol, _ in tokens)
        longs = Counter(length - 9 for _, length, symbol, _ in tokens if symbol >= 256 and length >= 9)
        main, length = _lengths(used, self.symbols), _lengths(longs, 249) if longs else [0] * 249
        _put_lengths(bits, main[:256], self.main[:256])
        _put_lengths(bits, main[256:], self.main[256:])
        _put_lengths(bits, length, self.length)
        self.main, self.length = main, length
        self.codes = (_canonical(main), _canonical(length))

    def put(
        self, bits: _Bits, kind: int, low: int, high: int, tokens: list[tuple[int, int, int, int]] | None
    ) -> None:
        if tokens is None:
            bits.raw(self.stream[low:high])
            return
        main, longs = self.codes
        for at, length, symbol, offset in tokens:
            if not low <= at < high:
                continue
            bits.put(*main[symbol])
            if symbol < 256:
                continue
            if length >= 9:
                bits.put(*longs[length - 9])
            slot = (symbol - 256) >> 3
            extra = EXTRA[slot]
            if slot < 3 or not extra:
                continue
            if kind == ALIGNED and extra >= 3:
                bits.put(offset >> 3, extra - 3)
                bits.put(offset & 7, 3)
            else:
                bits.put(offset, extra)


def _lengths(used: Counter[int], count: int) -> list[int]:
    """Huffman's code lengths of at most 16 bits; a complete code even for one symbol."""
    weights = dict(used)
    for filler in range(count):
        if len(weights) >= 2:
            break
        weights.setdefault(filler, 1)
    while True:
        heap = [(weight, number, [symbol]) for number, (symbol, weight) in enumerate(sorted(weights.items()))]
        heapq.heapify(heap)
        found = dict.fromkeys(weights, 0)
        number = len(heap)
        while len(heap) > 1:
            one, other = heapq.heappop(heap), heapq.heappop(heap)
            for symbol in (*one[2], *other[2]):
                found[symbol] += 1
            heapq.heappush(heap, (one[0] + other[0], number, one[2] + other[2]))
            number += 1
        if max(found.values()) <= 16:
            return [found.get(symbol, 0) for symbol in range(count)]
        weights = {symbol: weight // 2 + 1 for symbol, weight in weights.items()}


def _canonical(lengths: Sequence[int]) -> list[tuple[int, int]]:
    codes, code = [(0, 0)] * len(lengths), 0
    for bits in range(1, 17):
        for symbol, length in enumerate(lengths):
            if length == bits:
                codes[symbol] = (code, bits)
                code += 1
        code <<= 1
    return codes


_PRE = _canonical([4] * 12 + [5] * 8)


def _put_lengths(bits: _Bits, lengths: Sequence[int], before: Sequence[int]) -> None:
    """A tree's lengths as differences, with the three kinds of runs where they fit."""
    for _ in range(12):
        bits.put(4, 4)
    for _ in range(8):
        bits.put(5, 4)
    at = 0
    while at < len(lengths):
        run = 1
        while at + run < len(lengths) and lengths[at + run] == lengths[at] and run < 51:
            run += 1
        if not lengths[at] and run >= 20:
            bits.put(*_PRE[18])
            bits.put(run - 20, 5)
        elif not lengths[at] and run >= 4:
            run = min(run, 19)
            bits.put(*_PRE[17])
            bits.put(run - 4, 4)
        elif run >= 4:
            run = min(run, 5)
            bits.put(*_PRE[19])
            bits.put(run - 4, 1)
            bits.put(*_PRE[(before[at] - lengths[at]) % 17])
        else:
            run = 1
            bits.put(*_PRE[(before[at] - lengths[at]) % 17])
        at += run
