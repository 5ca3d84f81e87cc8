"""LZNT1, the compression of NTFS: chunks of 4 KiB, each a two-byte header and tokens.

Source: [MS-XCA] 2.5. A token's split between displacement and length moves with the position in the chunk.
"""

from __future__ import annotations

from byre.errors import CorruptImageError

CHUNK = 4096


def decompress(data: bytes, size: int) -> bytes:
    """At most ``size`` bytes; short data is filled with zeros, as Windows does. Raises CorruptImageError."""
    out = bytearray()
    position = 0
    while position + 2 <= len(data) and len(out) < size:
        header = data[position] | data[position + 1] << 8
        if header == 0:
            break
        length = (header & 0x0FFF) + 1
        position += 2
        chunk = data[position : position + length]
        if len(chunk) < length:
            raise CorruptImageError("a compressed chunk is cut off", found=len(chunk), expected=length)
        position += length
        if header & 0x8000:
            out += _chunk(chunk)
        else:
            out += chunk
        # Every chunk but the last stands for 4096 bytes, however many it gave.
        if len(out) % CHUNK and len(out) < size:
            out += bytes(CHUNK - len(out) % CHUNK)
    del out[size:]
    return bytes(out) if len(out) == size else bytes(out) + bytes(size - len(out))


def _chunk(chunk: bytes) -> bytearray:
    """One chunk. Literals are taken by runs and copies by slices: a loop over bytes took three times as long."""
    out = bytearray()
    position, end = 0, len(chunk)
    try:
        while position < end:
            runs, rest = _RUNS[chunk[position]]
            position += 1
            for run in runs:
                if run:
                    out += chunk[position : position + run]
                    position += run
                if position >= end:
                    break
                token = chunk[position] | chunk[position + 1] << 8
                position += 2
                done = len(out)
                shift = _SHIFTS[done]
                distance = (token >> shift) + 1
                length = (token & _MASKS[done]) + 3
                if length <= distance <= done:
                    out += out[done - distance : done - distance + length]
                elif distance <= done and done + length <= CHUNK:
                    out += (out[done - distance :] * (length // distance + 1))[:length]
                else:
                    raise CorruptImageError("a compressed chunk refers to before its start or past its end")
            else:
                out += chunk[position : position + rest]
                position += rest
    except IndexError:
        raise CorruptImageError("a compressed chunk refers to nothing or is too long", found=position) from None
    if len(out) > CHUNK:
        raise CorruptImageError("a compressed chunk is longer than it may be", found=len(out), expected=CHUNK)
    return out


def _runs_of(flags: int) -> tuple[tuple[int, ...], int]:
    """The literals before each copy of a group of eight tokens, and those after the last."""
    runs, count = [], 0
    for bit in range(8):
        if flags >> bit & 1:
            runs.append(count)
            count = 0
        else:
            count += 1
    return tuple(runs), count


_RUNS = tuple(_runs_of(flags) for flags in range(256))
_SHIFTS = (12, *(12 - max(0, (done - 1).bit_length() - 4) for done in range(1, CHUNK + 1)))
"""How many bits of a copy are its length, by the bytes that the chunk has given so far."""
_MASKS = tuple((1 << shift) - 1 for shift in _SHIFTS)
