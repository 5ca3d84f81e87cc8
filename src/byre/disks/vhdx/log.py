"""The VHDX log (section 2.3): find the active sequence and say what replaying it would write.

Nothing here writes: ``Replay`` is a list of patches that an overlay shows or a writable open applies.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from byre.disks.vhdx.crc32c import crc32c
from byre.disks.vhdx.layout import Header
from byre.disks.vhdx.overlay import Patch
from byre.errors import CorruptImageError, UnsupportedError
from byre.storage.base import Storage
from byre.units import MIB, align_up

LOG_SECTOR = 4096
MAX_LOG = 16 * MIB
"""Hyper-V and QEMU make logs of 1 MiB; a larger one than this is refused before it is read."""
MAX_DESCRIPTORS = 1 << 16
_CHECK_BUDGET = 8
"""How often the log's own length may be checksummed in the search: entries of an honest log don't overlap
beyond a few stale ones, a crafted one could make the search quadratic."""

_ENTRY = struct.Struct("<4sIIIQII16sQQ")
_ZERO = struct.Struct("<4s4xQQQ")
_DATA = struct.Struct("<4s4s8sQQ")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One valid entry; ``offset`` and ``tail`` are offsets into the log, ``patches`` what it writes."""

    offset: int
    length: int
    tail: int
    sequence_number: int
    flushed_file_offset: int
    last_file_offset: int
    patches: tuple[Patch, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """What the log holds: the patches in order, and how long the file has to be afterwards."""

    patches: list[Patch]
    entries: int
    file_size: int


class _Log:
    """The log's bytes, and entries parsed once each. Mutable: it caches, and counts what it has checked."""

    def __init__(self, data: bytes, guid: UUID, *, path: str) -> None:
        self.data = data
        self.guid = guid
        self.path = path
        self._budget = _CHECK_BUDGET * len(data)
        self._cache: dict[int, LogEntry | None] = {}

    def entry(self, offset: int) -> LogEntry | None:
        if offset not in self._cache:
            self._cache[offset] = self._parse(offset)
        return self._cache[offset]

    def _circular(self, offset: int, length: int) -> bytes:
        piece = self.data[offset : offset + length]
        return piece + self.data[: length - len(piece)]

    def _parse(self, offset: int) -> LogEntry | None:
        head = self.data[offset : offset + _ENTRY.size]
        signature, checksum, length, tail, sequence, count, _, guid, flushed, last = _ENTRY.unpack(head)
        if signature != b"loge" or guid != self.guid.bytes_le or sequence == 0:
            return None
        if not 0 < length <= len(self.data) or length % LOG_SECTOR or tail % LOG_SECTOR or tail >= len(self.data):
            return None
        if count > MAX_DESCRIPTORS or align_up(_ENTRY.size + 32 * count, LOG_SECTOR) > length:
            return None
        self._budget -= length
        if self._budget < 0:
            raise CorruptImageError("the log's entries overlap each other", path=self.path)
        data = self._circular(offset, length)
        if crc32c(data[:4] + bytes(4) + data[8:]) != checksum:
            return None
        patches = _patches(data, count, sequence)
        if patches is None:
            return None
        return LogEntry(offset, length, tail, sequence, flushed, last, patches)

    def begun(self) -> bool:
        """Whether an entry was ever written to its end under the log's name, valid now or not.

        A first entry whose sectors don't all bear its sequence number was torn while it was being written, and
        nothing of the file may have changed before it was whole. One that is all there with a wrong checksum is
        damaged: it may have been applied in part.
        """
        heads = [
            offset
            for offset in range(0, len(self.data), LOG_SECTOR)
            if self.data[offset : offset + 4] == b"loge"
            and self.data[offset + 32 : offset + 48] == self.guid.bytes_le
        ]
        if len(heads) != 1:
            return bool(heads)
        _, _, length, _, sequence, count, *_ = _ENTRY.unpack_from(self.data, heads[0])
        if length > len(self.data) or count > MAX_DESCRIPTORS:
            return True
        return _patches(self._circular(heads[0], length), count, sequence) is not None

    def sequence_from(self, tail: int) -> list[LogEntry]:
        """The valid entries from ``tail`` on, each with the next sequence number."""
        entries: list[LogEntry] = []
        offset, covered = tail, 0
        while covered < len(self.data):
            entry = self.entry(offset)
            if entry is None or (entries and entry.sequence_number != entries[-1].sequence_number + 1):
                break
            covered += entry.length
            if covered > len(self.data):
                break
            entries.append(entry)
            offset = (offset + entry.length) % len(self.data)
        return entries


def _patches(data: bytes, count: int, sequence: int) -> tuple[Patch, ...] | None:
    """What the descriptors of one entry write; None where the entry contradicts itself."""
    sector = align_up(_ENTRY.size + 32 * count, LOG_SECTOR)
    patches: list[Patch] = []
    if _ENTRY.size + 32 * count > len(data):
        return None
    for index in range(count):
        place = _ENTRY.size + 32 * index
        kind = data[place : place + 4]
        if kind == b"zero":
            _, length, offset, number = _ZERO.unpack_from(data, place)
            if length % LOG_SECTOR:
                return None
            patch = Patch(offset, offset + length, None)
        elif kind == b"desc":
            _, trailing, leading, offset, number = _DATA.unpack_from(data, place)
            body = data[sector : sector + LOG_SECTOR]
            sector += LOG_SECTOR
            stored = int.from_bytes(body[4:8], "little") << 32 | int.from_bytes(body[4092:4096], "little")
            if len(body) < LOG_SECTOR or body[:4] != b"data" or stored != sequence:
                return None
            patch = Patch(offset, offset + LOG_SECTOR, leading + body[8:4092] + trailing)
        else:
            return None
        if number != sequence or offset % LOG_SECTOR or patch.stop >= 1 << 63:
            return None
        patches.append(patch)
    return tuple(patches)


def _active_sequence(log: _Log) -> list[LogEntry]:
    """The valid sequence with the newest head (section 2.3.2); empty where the log holds none."""
    best: list[LogEntry] = []
    tail = 0
    while tail < len(log.data):
        entries = log.sequence_from(tail)
        places = {entry.offset: index for index, entry in enumerate(entries)}
        while entries and places.get(entries[-1].tail, len(entries)) >= len(entries):
            entries.pop()  # a head whose tail lies elsewhere doesn't close this sequence
        if not entries:
            tail += LOG_SECTOR
            continue
        if not best or entries[-1].sequence_number > best[-1].sequence_number:
            best = entries[places[entries[-1].tail] :]
        head = entries[-1]
        if head.offset + head.length > len(log.data) or head.offset < tail:
            break
        tail = head.offset + head.length
    return best


def read_log(storage: Storage, header: Header) -> Replay | None:
    """What has to be replayed before anything else of the file counts, or None where the log is clean.

    A header that names a log whose entries form no valid sequence is corrupt (section 2.3.2): what the file says
    then can't be trusted. A log under whose name nothing was written whole yet is one that holds nothing: QEMU
    names it in the header before it writes the first entry, and a crash in between leaves this behind.
    """
    name = storage.name
    if header.log_guid.int == 0:
        return None
    if header.log_version != 0:
        raise UnsupportedError("the log has an unknown version", path=name, found=header.log_version, expected=0)
    if header.log_length > MAX_LOG:
        raise UnsupportedError(
            "the log is larger than any that is written",
            path=name,
            offset=header.log_offset,
            found=header.log_length,
            expected=f"at most {MAX_LOG}",
        )
    log = _Log(storage.read(header.log_offset, header.log_length), header.log_guid, path=name)
    entries = _active_sequence(log)
    if not entries and not log.begun():
        return Replay(patches=[], entries=0, file_size=storage.size)
    if not entries:
        raise CorruptImageError(
            "the log has to be replayed but holds no valid sequence of entries",
            path=name,
            offset=header.log_offset,
            expected=f"entries of log {header.log_guid}",
            hint="A copy made while the machine ran, or a damaged file.",
        )
    head = entries[-1]
    if storage.size < head.flushed_file_offset:
        raise CorruptImageError(
            "the file is shorter than its log says it was: it has been truncated",
            path=name,
            found=storage.size,
            expected=f"at least {head.flushed_file_offset}",
        )
    patches = [patch for entry in entries for patch in entry.patches]
    if len(patches) > MAX_DESCRIPTORS:
        raise UnsupportedError("the log writes more than any machine's", path=name, found=f"{len(patches)} writes")
    end = max((patch.stop for patch in patches), default=0)
    size = max(storage.size, head.last_file_offset, end)
    if size >= 1 << 62:
        raise CorruptImageError("the log makes the file longer than any file can be", path=name, found=size)
    return Replay(patches=patches, entries=len(entries), file_size=size)
