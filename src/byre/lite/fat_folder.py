"""One FAT directory in memory, as it is being changed: slots, names, and where its bytes lie."""

from __future__ import annotations

import re
import struct
import time
from dataclasses import dataclass, field

from byre.errors import UsageError
from byre.filesystems.base import ARCHIVE, DIRECTORY
from byre.filesystems.capitals import capitals
from byre.filesystems.fat.directory import ENTRY, LONG_NAME, MAX_DIRECTORY, checksum, parse_directory

_PART = 13
"""UTF-16 units of a long name in one entry."""
_DELETED = 0xE5
_SHORT = re.compile(r"[A-Z0-9!#$%&'()\-@^_`{}~]{1,8}(?:\.[A-Z0-9!#$%&'()\-@^_`{}~]{1,3})?")
_SHORT_LETTER = re.compile(r"[^A-Z0-9!#$%&'()\-@^_`{}~]")
MAX_NAME = 255
_UNUSED = bytes(byte in (0, _DELETED) for byte in range(256))
"""For ``translate``: 1 for the first byte of an entry that is free."""


@dataclass(slots=True)
class Folder:
    """``data`` is the directory's bytes; ``rows`` say where they lie: (offset in them, offset in the volume, length).
    ``fixed``: the root of FAT12 and FAT16, which can't grow. ``cluster`` is its first, 0 for that root."""

    data: bytearray
    rows: list[tuple[int, int, int]]
    cluster: int
    fixed: bool
    changed: set[int] = field(default_factory=set)
    """Offsets of the 32-byte entries that are new."""
    _names: set[str] | None = None
    """Every long and short name in capitals. Made when it is first asked for, since many names may be added."""
    _shorts: set[bytes] | None = None
    _numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    """The last ``~1`` of a stem and an extension."""

    def position(self, place: int) -> int:
        """The offset in ``data`` of what lies at ``place`` in the volume."""
        for start, at, length in self.rows:
            if at <= place < at + length:
                return start + place - at
        raise UsageError("an entry that isn't in its folder", found=place)

    def entry(self, offset: int) -> bytes:
        return bytes(self.data[offset : offset + ENTRY])

    def put(self, offset: int, raw: bytes) -> None:
        self.data[offset : offset + ENTRY] = raw
        self.changed.add(offset)

    def erase(self, offset: int) -> None:
        """Mark the short entry at ``offset`` and the long-name entries in front of it as deleted."""
        self._names = self._shorts = None
        sum_ = checksum(self.entry(offset)[:11])
        self.data[offset] = _DELETED
        self.changed.add(offset)
        before = offset - ENTRY
        while before >= 0 and self.data[before + 11] & 0x3F == LONG_NAME and self.data[before] != _DELETED:
            if self.data[before + 13] != sum_:
                break
            last = bool(self.data[before] & 0x40)
            self.data[before] = _DELETED
            self.changed.add(before)
            if last:
                break
            before -= ENTRY

    def free_slots(self, count: int) -> int | None:
        """The offset of ``count`` unused entries in a row; None where the folder has to grow."""
        found = bytes(self.data[::ENTRY]).translate(_UNUSED).find(b"\1" * count)
        return found * ENTRY if found >= 0 else None

    def grow(self, places: list[int], cluster_size: int) -> None:
        """Add zeroed clusters that lie at these offsets in the volume."""
        for place in places:
            if len(self.data) + cluster_size > MAX_DIRECTORY:
                raise UsageError("the folder has as many entries as FAT allows")
            self.rows.append((len(self.data), place, cluster_size))
            self.changed.update(range(len(self.data), len(self.data) + cluster_size, ENTRY))
            self.data += bytes(cluster_size)

    def add(
        self, name: str, offset: int, *, cluster: int, size: int, folder: bool, like: bytes | None = None
    ) -> None:
        """Write the entries of a new name at ``offset``, where ``slots_needed`` of them are free. ``like``: an entry
        that says all but the name."""
        short = self.short_name(name)
        long = _long_entries(name, short) if needs_long_name(name) else []
        after = offset + (len(long) + 1) * ENTRY
        ended = any(self.data[at] == 0 for at in range(offset, after, ENTRY))
        last = _short_entry(short, cluster, size, folder)
        if like is not None:
            last = short + like[11:12] + b"\0" + like[13:]  # the byte between tells the short name's case
        for place, raw in enumerate([*long, last]):
            self.put(offset + place * ENTRY, raw)
        if ended and after < len(self.data) and self.data[after] != 0:
            self.put(after, bytes(ENTRY))  # what lay behind the end was never an entry
        if self._names is not None:
            self._names |= {capitals(name), capitals(_unpacked(short))}
        if self._shorts is not None:
            self._shorts.add(short)

    def short_name(self, name: str) -> bytes:
        """The 11 bytes of a name's short form, unlike every other one of the folder."""
        if self._shorts is None:
            self._shorts = {bytes(self.data[at : at + 11]) for at in range(0, len(self.data), ENTRY)}
        taken = self._shorts
        plain = name.upper()
        if _SHORT.fullmatch(plain):
            packed = _packed(plain)
            if packed not in taken:
                return packed
        stem, dot, extension = plain.strip(". ").rpartition(".")
        if not dot:
            stem, extension = extension, ""
        stem = _SHORT_LETTER.sub("_", stem.replace(" ", "").replace(".", "")) or "_"
        extension = _SHORT_LETTER.sub("_", extension.replace(" ", ""))[:3]
        for number in range(self._numbers.get((stem, extension), 0) + 1, 1_000_000):
            tail = f"~{number}"
            packed = _packed(f"{stem[: 8 - len(tail)]}{tail}" + (f".{extension}" if extension else ""))
            if packed not in taken:
                self._numbers[stem, extension] = number
                return packed
        raise UsageError("the folder has no short name left", found=repr(name))

    def has(self, name: str, *, wide: bool, codepage: str) -> bool:
        if self._names is None:
            entries = parse_directory(bytes(self.data), wide=wide, codepage=codepage).entries
            self._names = {capitals(each) for entry in entries for each in (entry.name, entry.short_name)}
        return capitals(name) in self._names


def needs_long_name(name: str) -> bool:
    return _SHORT.fullmatch(name) is None


def slots_needed(name: str) -> int:
    units = len(name.encode("utf-16-le", "surrogatepass")) // 2
    return 1 + (-(-units // _PART) if needs_long_name(name) else 0)


def with_content(raw: bytes, cluster: int, size: int) -> bytes:
    """A file's short entry with other content, written now: what it was made and called stays."""
    now = struct.unpack_from("<HH", _short_entry(bytes(11), 0, 0, False), 22)
    head = bytearray(raw)
    struct.pack_into("<HHH", head, 18, now[1], cluster >> 16, now[0])
    struct.pack_into("<HHI", head, 24, now[1], cluster & 0xFFFF, size)
    head[11] |= ARCHIVE
    return bytes(head)


def dots(own: int, above: int) -> bytes:
    """The ``.`` and ``..`` entries of a new folder."""
    return _short_entry(b".          ", own, 0, True) + _short_entry(b"..         ", above, 0, True)


def _packed(short: str) -> bytes:
    stem, _, extension = short.partition(".")
    return stem.encode("ascii").ljust(8) + extension.encode("ascii").ljust(3)


def _unpacked(short: bytes) -> str:
    stem, extension = short[:8].decode("ascii").rstrip(), short[8:].decode("ascii").rstrip()
    return f"{stem}.{extension}" if extension else stem


def _long_entries(name: str, short: bytes) -> list[bytes]:
    units = name.encode("utf-16-le", "surrogatepass")
    count = -(-len(units) // (_PART * 2))
    padded = units if len(units) == count * _PART * 2 else (units + b"\0\0").ljust(count * _PART * 2, b"\xff")
    found = []
    for number in range(count, 0, -1):
        part = padded[(number - 1) * _PART * 2 : number * _PART * 2]
        order = number | (0x40 if number == count else 0)
        head = bytes([order]) + part[:10] + bytes([LONG_NAME, 0, checksum(short)])
        found.append(head + part[10:22] + b"\0\0" + part[22:])
    return found


def _short_entry(short: bytes, cluster: int, size: int, folder: bool) -> bytes:
    now = time.localtime()
    date = max(0, now.tm_year - 1980) << 9 | now.tm_mon << 5 | now.tm_mday
    clock = now.tm_hour << 11 | now.tm_min << 5 | min(now.tm_sec, 59) // 2
    attributes = DIRECTORY if folder else ARCHIVE
    return struct.pack(
        "<11sBBBHHHHHHHI",
        short,
        attributes,
        0,
        0,
        clock,
        date,
        date,
        cluster >> 16,
        clock,
        date,
        cluster & 0xFFFF,
        size,
    )
