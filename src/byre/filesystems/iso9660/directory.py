"""ISO 9660 directory records, with Rock Ridge's names, links and times from their system use area.

Sources: ECMA-119 9.1; SUSP 1.12 and RRIP 1.12.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

MAX_CONTINUATIONS = 16

_FIXED = struct.Struct("<BBI4xI4x7sBBBHHB")
"""Length, extended attributes, extent and size (little-endian halves), time, flags, interleave, volume, name."""


@dataclass(frozen=True, slots=True)
class DirectoryRecord:
    """``extent`` counts blocks, ``size`` bytes; ``more``: the file goes on in the next record."""

    extent: int
    size: int
    is_dir: bool
    hidden: bool
    more: bool
    interleaved: bool
    modified: int | None
    raw_name: bytes
    system_use: bytes
    offset: int = 0

    @property
    def is_self_or_parent(self) -> bool:
        return self.raw_name in (b"\0", b"\1")


def parse_record(raw: bytes, offset: int = 0) -> DirectoryRecord | None:
    """A record from its bytes, or None where it is malformed."""
    if len(raw) < 34:
        return None
    length, extended, extent, size, stamp, flags, unit, gap, _, name_length = _unpack(raw)
    if length < 33 + name_length or length > len(raw):
        return None
    system_at = 33 + name_length + (name_length + 1) % 2
    return DirectoryRecord(
        extent=extent + extended,
        size=size,
        is_dir=bool(flags & 2),
        hidden=bool(flags & 1),
        more=bool(flags & 0x80),
        interleaved=bool(unit or gap),
        modified=_time(stamp),
        raw_name=raw[33 : 33 + name_length],
        system_use=raw[system_at:length],
        offset=offset,
    )


def _unpack(raw: bytes) -> tuple[int, int, int, int, bytes, int, int, int, int, int]:
    length, extended, extent, size, stamp, flags, unit, gap, sequence, _, name_length = _FIXED.unpack_from(raw)
    return length, extended, extent, size, stamp, flags, unit, gap, sequence, name_length


def _time(stamp: bytes) -> int | None:
    """Seven bytes: years since 1900 … second, quarters of an hour east of Greenwich."""
    year, month, day, hour, minute, second, zone = struct.unpack("<6Bb", stamp)
    try:
        moment = datetime(1900 + year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    seconds = int(moment.timestamp()) - int(zone) * 900
    return seconds * 1_000_000_000


def records(data: bytes) -> Iterator[DirectoryRecord | int]:
    """The records of a directory's bytes; none crosses a sector. A malformed one comes as its offset, and the
    rest of its sector is skipped."""
    offset = 0
    while offset < len(data):
        length = data[offset]
        sector_end = min(offset - offset % 2048 + 2048, len(data))
        if length == 0:
            offset = sector_end
            continue
        record = parse_record(data[offset : min(offset + length, sector_end)], offset)
        if record is None:
            yield offset
            offset = sector_end
            continue
        yield record
        offset += length


@dataclass(frozen=True, slots=True)
class RockRidge:
    """What the system use area adds; None where it doesn't say."""

    name: str | None
    link: str | None
    modified: int | None
    relocated: bool


def rock_ridge(area: bytes, skip: int, continuation: Callable[[int, int, int], bytes]) -> RockRidge:
    """Read the fields of a record's system use area; ``continuation(block, offset, length)`` gives more of it."""
    name, link = b"", b""
    has_name = has_link = relocated = False
    modified: int | None = None
    area = area[skip:]
    for _ in range(MAX_CONTINUATIONS):
        following: tuple[int, int, int] | None = None
        position = 0
        while position + 4 <= len(area):
            mark, length = area[position : position + 2], area[position + 2]
            body = area[position + 4 : position + length]
            if length < 4 or position + length > len(area) or mark == b"ST":
                break
            position += length
            if mark == b"NM" and body and not body[0] & 6:
                name, has_name = (name + body[1:])[:4096], True
            elif mark == b"SL" and body:
                link, has_link = (link + _link_text(body[1:], link))[:4096], True
            elif mark == b"TF" and body:
                modified = _tf_modified(body)
            elif mark in (b"RE", b"CL"):
                relocated = True
            elif mark == b"CE" and len(body) >= 24:
                following = struct.unpack("<I4xI4xI4x", body[:24])
        if following is None:
            break
        area = continuation(*following)
    return RockRidge(
        name.decode("utf-8", "surrogateescape") if has_name else None,
        link.decode("utf-8", "surrogateescape") if has_link else None,
        modified,
        relocated,
    )


def _link_text(body: bytes, before: bytes) -> bytes:
    parts: list[bytes] = []
    position = 0
    root = b""
    while position + 2 <= len(body):
        flags, length = body[position], body[position + 1]
        text = body[position + 2 : position + 2 + length]
        position += 2 + length
        if flags & 8:
            root = b"/"
            continue
        parts.append(b"." if flags & 2 else b".." if flags & 4 else text)
    joined = root + b"/".join(parts)
    return b"/" + joined if before and not before.endswith(b"/") else joined


def _tf_modified(body: bytes) -> int | None:
    """Short-form times in the order of their bits: creation, modification, …"""
    flags = body[0]
    if flags & 0x80 or not flags & 2:
        return None
    start = 1 + 7 * (flags & 1)
    stamp = body[start : start + 7]
    return _time(stamp) if len(stamp) == 7 else None
