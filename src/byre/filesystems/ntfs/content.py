"""The bytes of a stream, whatever form it is stored in."""

from __future__ import annotations

from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems.ntfs.lznt1 import decompress
from byre.filesystems.ntfs.mft import read_stream
from byre.filesystems.ntfs.records import IS_COMPRESSED
from byre.filesystems.ntfs.streams import StreamMap, Unit, units
from byre.volumes.partition import VolumeDisk


def read_content(volume: VolumeDisk, stream: StreamMap, cluster_size: int, start: int, stop: int) -> bytes:
    """The bytes ``[start, stop)``, which must lie inside the stream. Raises CorruptImageError."""
    if stream.resident is not None or not stream.unit:
        return read_stream(volume, stream, cluster_size, start, stop)
    if stream.flags & IS_COMPRESSED != 1:
        raise UnsupportedError("compressed in a way that isn't LZNT1", path=volume.name, found=stream.flags)
    mapped = stream.runs[-1][0] + stream.runs[-1][2] if stream.runs else 0
    if mapped * cluster_size < stop:
        raise CorruptImageError("a file's clusters end before the file does", path=volume.name, expected=stop)
    buffer = bytearray(stop - start)
    for unit in units(stream, cluster_size, start, stop):
        if not unit.pieces or unit.start >= stream.initialized:
            continue
        plain = _read_unit(volume, unit, cluster_size)[: stream.initialized - unit.start]
        low, high = max(unit.start, start), min(unit.start + len(plain), stop)
        if low < high:
            buffer[low - start : high - start] = plain[low - unit.start : high - unit.start]
    return bytes(buffer)


def _read_unit(volume: VolumeDisk, unit: Unit, cluster_size: int) -> bytes:
    stored = b"".join(volume.read(lcn * cluster_size, count * cluster_size) for lcn, count in unit.pieces)
    return decompress(stored, unit.length) if unit.packed else stored
