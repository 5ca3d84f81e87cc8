"""FAT directories: 32-byte entries, long names in front of short ones, times without a zone."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

from byre.filesystems.base import DIRECTORY

ENTRY = 32
MAX_DIRECTORY = 1 << 21
"""65,536 entries: FAT's own limit, bytes."""
LONG_NAME, VOLUME_ID = 0x0F, 0x08

_ENTRY = struct.Struct("<11sBBBHHHHHHHI")


@dataclass(frozen=True, slots=True)
class FatEntry:
    """One file as its directory says it. ``offset`` of its short entry within the directory's bytes."""

    name: str
    short_name: str
    attributes: int
    cluster: int
    size: int
    created: int | None
    modified: int | None
    accessed: int | None
    offset: int
    deleted: bool


@dataclass(frozen=True, slots=True)
class FatDirectory:
    """One directory as it was read. ``label`` is the volume's, which only the root holds."""

    entries: tuple[FatEntry, ...]
    label: str | None
    orphaned_names: int
    """Long-name entries that belong to no short one."""


def parse_directory(data: bytes, *, wide: bool, codepage: str, deleted: bool = False) -> FatDirectory:
    """The entries of a directory's bytes, up to the first unused one; ``.`` and ``..`` are left out."""
    found: list[FatEntry] = []
    label: str | None = None
    parts: list[bytes] = []
    orphaned = 0
    for offset in range(0, len(data) - ENTRY + 1, ENTRY):
        raw = data[offset : offset + ENTRY]
        if raw[0] == 0:
            break
        gone = raw[0] == 0xE5
        attributes = raw[11]
        if attributes & 0x3F == LONG_NAME:
            if raw[0] & 0x40 and not gone:
                orphaned += bool(parts)
                parts = []
            parts.append(raw)
            if len(parts) > 20:
                parts = parts[-20:]
            continue
        if attributes & VOLUME_ID:
            if not gone and not attributes & DIRECTORY and label is None:
                label = raw[:11].decode(codepage, "replace").rstrip()
            parts = []
            continue
        long_name = _long_name(parts, raw[:11], gone)
        orphaned += bool(parts) and long_name is None and not gone
        parts = []
        if raw[:11] in (b".          ", b"..         ") or (gone and not deleted):
            continue
        found.append(_entry(raw, offset, long_name, wide, codepage, gone))
    return FatDirectory(tuple(found), label, orphaned)


def _entry(raw: bytes, offset: int, long_name: str | None, wide: bool, codepage: str, gone: bool) -> FatEntry:
    name, attributes, case, tenths, ctime, cdate, adate, high, mtime, mdate, low, size = _ENTRY.unpack(raw)
    short = _short_name(name, codepage, gone)
    shown = long_name or _with_case(short, case)
    created = fat_time(cdate, ctime)
    if created is not None and tenths < 200:
        created += tenths * 10_000_000
    return FatEntry(
        name=shown,
        short_name=short,
        attributes=attributes & 0x37,
        cluster=low | (high << 16 if wide else 0),
        size=0 if attributes & DIRECTORY else size,
        created=created,
        modified=fat_time(mdate, mtime),
        accessed=fat_time(adate, 0),
        offset=offset,
        deleted=gone,
    )


def _short_name(name: bytes, codepage: str, gone: bool) -> str:
    if gone:
        name = b"?" + name[1:]
    elif name[0] == 0x05:  # stands for 0xE5, which would mean deleted
        name = b"\xe5" + name[1:]
    stem = name[:8].decode(codepage, "replace").rstrip(" ")
    extension = name[8:].decode(codepage, "replace").rstrip(" ")
    return f"{stem}.{extension}" if extension else stem


def _with_case(short: str, case: int) -> str:
    """NT keeps an all-lower-case stem or extension in two bits instead of a long name."""
    stem, dot, extension = short.partition(".")
    return (stem.lower() if case & 0x08 else stem) + dot + (extension.lower() if case & 0x10 else extension)


def checksum(short: bytes) -> int:
    """Of an 11-byte name, as each of its long-name entries repeats it."""
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total


def _long_name(parts: list[bytes], short: bytes, gone: bool) -> str | None:
    """The name out of the entries before a short one, last part first, or None where they don't belong."""
    if not parts:
        return None
    if not gone:
        wanted = checksum(short)
        numbers = [part[0] & 0x1F for part in parts]
        if numbers != list(range(len(parts), 0, -1)) or any(part[13] != wanted for part in parts):
            return None
    units = b"".join(part[1:11] + part[14:26] + part[28:32] for part in reversed(parts))
    text = units.decode("utf-16-le", "surrogatepass").split("\0", 1)[0]
    return text.rstrip("\uffff") or None


def fat_time(date: int, time: int) -> int | None:
    """Nanoseconds since 1970 of a date and time without a zone, as if UTC; None where it is no date."""
    try:
        moment = datetime(
            1980 + (date >> 9),
            date >> 5 & 15,
            date & 31,
            time >> 11,
            time >> 5 & 63,
            min((time & 31) * 2, 59),
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp()) * 1_000_000_000
