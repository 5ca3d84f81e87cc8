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
    out = bytearray()
    position, end = 0, len(chunk)
    while position < end:
        flags = chunk[position]
        position += 1
        if flags == 0:
            out += chunk[position : position + 8]
            position += 8
            continue
        for bit in range(8):
            if position >= end:
                break
            if not flags >> bit & 1:
                out.append(chunk[position])
                position += 1
                continue
            if position + 2 > end or not out:
                raise CorruptImageError("a compressed chunk refers to nothing", found=position)
            token = chunk[position] | chunk[position + 1] << 8
            position += 2
            shift = 12 - max(0, (len(out) - 1).bit_length() - 4)
            start = len(out) - (token >> shift) - 1
            length = (token & ((1 << shift) - 1)) + 3
            if start < 0 or len(out) + length > CHUNK:
                raise CorruptImageError("a compressed chunk refers to before its start or past its end")
            _copy(out, start, length)
    if len(out) > CHUNK:
        raise CorruptImageError("a compressed chunk is longer than it may be", found=len(out), expected=CHUNK)
    return out


def _copy(out: bytearray, start: int, length: int) -> None:
    distance = len(out) - start
    if length <= distance:
        out += out[start : start + length]
    else:
        piece = bytes(out[start:])
        out += (piece * (length // distance + 1))[:length]
