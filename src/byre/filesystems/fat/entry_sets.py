"""exFAT directories: a file is a set of 32-byte entries (file, stream extension, names) under one checksum."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.filesystems.fat.directory import fat_time

ENTRY = 32
BITMAP, UPCASE, LABEL, FILE, STREAM, NAME = 0x81, 0x82, 0x83, 0x85, 0xC0, 0xC1
IN_USE = 0x80


@dataclass(frozen=True, slots=True)
class SystemEntry:
    """The allocation bitmap, the up-case table or the label."""

    kind: int
    flags: int
    cluster: int
    size: int
    label: str = ""


@dataclass(frozen=True, slots=True)
class FileSet:
    """One file. ``valid`` bytes were ever written; ``contiguous``: its clusters follow, the FAT isn't used."""

    name: str
    attributes: int
    cluster: int
    size: int
    valid: int
    contiguous: bool
    created: int | None
    modified: int | None
    accessed: int | None
    offset: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class Parsed:
    """One exFAT directory as it was read: files, the volume's own entries, and what was wrong."""

    files: tuple[FileSet, ...]
    system: tuple[SystemEntry, ...]
    problems: tuple[str, ...]


def parse_entry_sets(data: bytes, *, deleted: bool = False) -> Parsed:
    """Everything in a directory's bytes, up to the first unused entry; broken sets are said and skipped."""
    files: list[FileSet] = []
    system: list[SystemEntry] = []
    problems: list[str] = []
    offset = 0
    while offset + ENTRY <= len(data):
        kind = data[offset]
        if kind == 0:
            break
        if kind in (BITMAP, UPCASE):
            flags = data[offset + 1]
            cluster, size = struct.unpack_from("<IQ", data, offset + 20)
            system.append(SystemEntry(kind, flags, cluster, size))
        elif kind == LABEL:
            count = min(data[offset + 1], 11)
            text = data[offset + 2 : offset + 2 + 2 * count].decode("utf-16-le", "replace")
            system.append(SystemEntry(kind, 0, 0, 0, text))
        elif kind == FILE or (deleted and kind == FILE & ~IN_USE):
            entries = data[offset + 1] + 1
            found = _parse_set(data[offset : offset + entries * ENTRY], offset, entries, kind != FILE)
            if isinstance(found, FileSet):
                files.append(found)
                offset += entries * ENTRY
                continue
            if kind == FILE:
                problems.append(f"a file's entries at {offset:#x} {found}")
        offset += ENTRY
    return Parsed(tuple(files), tuple(system), tuple(problems[:100]))


def _parse_set(raw: bytes, offset: int, entries: int, gone: bool) -> FileSet | str:
    if not 3 <= entries <= 19 or len(raw) < entries * ENTRY:
        return "are too few or too many"
    mask = 0x7F if gone else 0xFF
    if raw[32] & mask != STREAM & mask or raw[64] & mask != NAME & mask:
        return "are of the wrong kinds"
    if not gone and _checksum(raw) != struct.unpack_from("<H", raw, 2)[0]:
        return "fail their checksum"
    flags, units = raw[33], raw[35]
    valid, cluster, size = struct.unpack_from("<Q4xIQ", raw, 40)
    text = b"".join(
        raw[at + 2 : at + 32] for at in range(64, entries * ENTRY, ENTRY) if raw[at] & mask == NAME & mask
    )
    name = text[: 2 * units].decode("utf-16-le", "surrogatepass")
    if not name or len(text) < 2 * units or size >= 1 << 63:
        return "have no name or an impossible size"
    attributes = struct.unpack_from("<H", raw, 4)[0]
    stamps = struct.unpack_from("<III", raw, 8)
    return FileSet(
        name=name,
        attributes=attributes & 0x37,
        cluster=cluster,
        size=size,
        valid=min(valid, size),
        contiguous=bool(flags & 2),
        created=_time(stamps[0], raw[20], raw[22]),
        modified=_time(stamps[1], raw[21], raw[23]),
        accessed=_time(stamps[2], 0, raw[24]),
        offset=offset,
        deleted=gone,
    )


def _checksum(raw: bytes) -> int:
    total = 0
    for index, byte in enumerate(raw):
        if index not in (2, 3):
            total = (total >> 1 | (total & 1) << 15) + byte & 0xFFFF
    return total


def _time(stamp: int, tens: int, zone: int) -> int | None:
    """A FAT time, 10 ms units, and the offset from UTC in quarters of an hour where bit 7 says that it holds."""
    value = fat_time(stamp >> 16, stamp & 0xFFFF)
    if value is None:
        return None
    quarters = (zone & 0x7F) - (0x80 if zone & 0x40 else 0) if zone & 0x80 else 0
    return value + min(tens, 199) * 10_000_000 - quarters * 900 * 1_000_000_000
