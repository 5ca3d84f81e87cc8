"""Grains of a compressed extent: zlib streams, each alone, fast and from several threads at once."""

from __future__ import annotations

import zlib
from collections.abc import Callable

from byre.errors import CorruptImageError

try:
    import deflate
except ImportError:  # no wheel for this platform
    deflate = None  # type: ignore[assignment]

try:
    from isal import isal_zlib
except ImportError:
    isal_zlib = None  # type: ignore[assignment]


def decompress_grain(data: bytes | memoryview, grain_bytes: int, *, path: str, offset: int) -> bytes | bytearray:
    """One grain from its zlib stream; what follows the stream is ignored. May be shorter than a grain: a disk's
    last one is stored short by some writers. Raises CorruptImageError."""
    if deflate is not None:
        try:
            return deflate.zlib_decompress(data, grain_bytes)
        except (deflate.DeflateError, ValueError, OverflowError):
            pass  # zlib has the last word, and says why
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(data, grain_bytes)
    except zlib.error as error:
        raise CorruptImageError(
            f"has a grain that can't be decompressed: {error}", path=path, offset=offset
        ) from error
    if not inflate.eof:
        more = bool(inflate.unconsumed_tail)
        raise CorruptImageError(
            "has a compressed grain that holds more than one grain" if more else "has a compressed grain cut short",
            path=path,
            offset=offset,
            expected=f"{grain_bytes} bytes",
        )
    return plain


def grain_compressor(level: int | None) -> Callable[[bytes | memoryview], bytes]:
    """A function from a grain to its zlib stream. ``level`` None: the fastest there is, about 250 MB/s a thread
    (ISA-L 1, 45 % of system libraries kept); 1 to 12: libdeflate, smaller and slower (6: 74 MB/s, 39 %)."""
    if level is None and isal_zlib is not None:
        return lambda data: bytes(isal_zlib.compress(data, 1))
    if deflate is not None:
        chosen = 1 if level is None else level
        return lambda data: bytes(deflate.zlib_compress(data, chosen))
    return lambda data: zlib.compress(data, min(9, level or 1))
