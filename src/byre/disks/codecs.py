"""Decoding one compressed cluster or grain, in native code that releases the GIL. Pure.

Every function takes what may be more than the stream (padding to a sector follows it) and returns exactly
``size`` bytes, or raises CorruptImageError without a path: the caller knows the file and the offset.
"""

from __future__ import annotations

import threading
import zlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from byre.errors import CorruptImageError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from byre.storage.base import Buffer

_deflate: ModuleType | None
_inflater: ModuleType
try:  # libdeflate: the fastest, no wheel everywhere
    import deflate as _deflate
except ImportError:  # pragma: no cover - depends on the platform
    _deflate = None
try:
    from isal import isal_zlib as _inflater
except ImportError:  # pragma: no cover - depends on the platform
    _inflater = zlib


def inflate_raw(data: Buffer, size: int) -> bytes | bytearray:
    """Raw deflate, as qcow2 stores it: no header, no checksum. A stream that goes on past ``size`` is cut there,
    as QEMU does; one that ends before is corrupt."""
    if _deflate is not None:
        try:
            fast: bytearray = _deflate.deflate_decompress(data, size)
        except _deflate.DeflateError:
            fast = bytearray()  # corrupt, or longer than wanted: the slow way tells which
        if len(fast) == size:
            return fast
    return _inflate(data, size, -15)


def unzstd(data: Buffer, size: int) -> bytes | bytearray:
    """One zstd frame, padded to a sector or not."""
    import zstandard

    try:
        stated = zstandard.get_frame_parameters(data).content_size
    except zstandard.ZstdError as error:
        raise CorruptImageError(f"the compressed data is no zstd frame: {error}") from error
    # The frame's own word is what zstandard allocates by: look before it does.
    if stated not in (size, zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR):
        raise CorruptImageError(
            "the zstd frame is of another size than the cluster", found=f"{stated} bytes", expected=f"{size} bytes"
        )
    try:
        found: bytes = _zstd_decompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise CorruptImageError(f"the zstd frame is broken: {error}") from error
    if len(found) != size:
        raise CorruptImageError("the zstd frame ends early", found=f"{len(found)} bytes", expected=f"{size} bytes")
    return found


DECODERS: dict[str, Callable[[Buffer, int], bytes | bytearray]] = {"zlib": inflate_raw, "zstd": unzstd}
"""By the names of qcow2's compression types."""


def decoder(name: str) -> Callable[[Buffer, int], bytes | bytearray]:
    """The function for a compression by its name in qcow2."""
    if name not in DECODERS:
        raise UnsupportedError(f"nothing here reads {name} compression")
    return DECODERS[name]


def _inflate(data: Buffer, size: int, wbits: int) -> bytes:
    last: Exception | None = None
    for module in dict.fromkeys((_inflater, zlib)):  # ISA-L refuses a few streams that zlib takes
        stream = module.decompressobj(wbits)
        try:
            found: bytes = stream.decompress(bytes(data), size)
            if len(found) < size and not stream.eof:
                found += stream.flush(size - len(found))[: size - len(found)]
        except (zlib.error, module.error) as error:
            last = error
            continue
        if len(found) == size:
            return found
        last = None
    if last is not None:
        raise CorruptImageError(f"the compressed data is no deflate stream: {last}") from last
    raise CorruptImageError("the deflate stream ends early", found=f"{len(found)} bytes", expected=f"{size} bytes")


_local = threading.local()


def _zstd_decompressor() -> Any:
    """One for each thread: they are not safe to share."""
    import zstandard

    made = getattr(_local, "zstd", None)
    if made is None:
        made = _local.zstd = zstandard.ZstdDecompressor()
    return made
