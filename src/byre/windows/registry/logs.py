"""Transaction logs replayed in memory: the old dirty-vector form and the new log entries. Pure.

Source: Suhanov's "Windows registry file format specification", "Format of transaction log files" and "Dirty
state of a hive".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from byre.errors import CorruptImageError
from byre.windows.registry.layout import BINS_START, base_block_checksum, parse_base_block

_ENTRY = struct.Struct("<4sIIIIIQQ")
_SECTOR = 512
_MARVIN_SEED = 0x82EF4D887A4E55C5
MAX_BINS = 2 << 30
"""A hive's bins can't pass 2 GiB: the cell offsets' top bit marks volatile storage."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One new-style entry: its sequence number, the hive's size after it, and the pages that it replaces."""

    sequence: int
    bins_size: int
    pages: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """What replaying the logs did to a dirty hive."""

    applied: int
    """Log entries (or 1 for an old log)."""
    pages: int
    log_names: tuple[str, ...]


def replay(hive: bytearray, logs: Sequence[tuple[str, bytes]], *, path: str) -> Replay:
    """Apply ``logs`` (name, bytes) to the bytes of a dirty hive, in place, as the next boot would.

    Logs that don't belong (older, damaged) are left aside. The base block is made clean when anything was
    applied.
    """
    base = parse_base_block(hive, path=path)
    parsed = []
    for name, data in logs:
        try:
            log_base = parse_base_block(data, path=name)
        except CorruptImageError:
            continue
        if log_base.checksum_valid:
            parsed.append((log_base, name, data))
    old = [item for item in parsed if item[0].file_type in (1, 2)]
    new = sorted((item for item in parsed if item[0].file_type == 6), key=lambda item: item[0].primary_sequence)
    used: list[str] = []
    applied = pages = 0
    if new:
        minimum = base.secondary_sequence if base.checksum_valid else 0
        expected: int | None = None
        for log_base, name, data in new:
            for entry in log_entries(data, log_base.primary_sequence):
                if entry.sequence < minimum or (expected is not None and entry.sequence != expected):
                    continue
                _apply(hive, entry)
                expected = entry.sequence + 1
                applied += 1
                pages += len(entry.pages)
                if name not in used:
                    used.append(name)
    elif old:
        log_base, name, data = max(old, key=lambda item: item[0].primary_sequence)
        entry_or_none = _dirty_vector(data, log_base.bins_size, log_base.primary_sequence)
        fits = not base.checksum_valid or log_base.primary_sequence >= base.secondary_sequence
        if entry_or_none is not None and fits:
            hive[:_SECTOR] = data[:_SECTOR]
            struct.pack_into("<I", hive, 28, 0)
            _apply(hive, entry_or_none)
            applied, pages, used = 1, len(entry_or_none.pages), [name]
    return Replay(applied=applied, pages=pages, log_names=tuple(used))


def log_entries(data: bytes, first_sequence: int) -> Iterator[LogEntry]:
    """The valid entries of a new-style log, in order, up to the first one that is torn or out of turn."""
    position, expected = _SECTOR, first_sequence
    while position + _ENTRY.size <= len(data):
        magic, size, _, sequence, bins_size, count, hash1, hash2 = _ENTRY.unpack_from(data, position)
        end = position + size
        if magic != b"HvLE" or size < _ENTRY.size or size % _SECTOR or end > len(data):
            return
        if sequence != expected or bins_size % 4096 or bins_size > MAX_BINS or count > size // 8:
            return
        if marvin32(data[position : position + 32]) != hash2 or marvin32(data[position + 40 : end]) != hash1:
            return
        references = struct.iter_unpack("<II", data[position + 40 : position + 40 + 8 * count])
        at = position + 40 + 8 * count
        pages = []
        for offset, length in references:
            if at + length > end or offset + length > bins_size:
                return
            pages.append((offset, data[at : at + length]))
            at += length
        yield LogEntry(sequence=sequence, bins_size=bins_size, pages=tuple(pages))
        position, expected = end, expected + 1


def marvin32(data: bytes) -> int:
    """The Marvin32 checksum with the registry's seed; ``data`` is padded as the algorithm says."""
    low, high = _MARVIN_SEED & 0xFFFFFFFF, _MARVIN_SEED >> 32
    whole = len(data) & ~3
    tail = data[whole:] + b"\x80"
    words = np.frombuffer(data[:whole] + tail.ljust(4, b"\0"), dtype="<u4").tolist()
    words.append(0)
    mask = 0xFFFFFFFF
    for word in words:
        low = (low + word) & mask
        high ^= low
        low = ((low << 20 | low >> 12) & mask) + high & mask
        high = (high << 9 | high >> 23) & mask ^ low
        low = ((low << 27 | low >> 5) & mask) + high & mask
        high = (high << 19 | high >> 13) & mask
    return high << 32 | low


def _dirty_vector(data: bytes, bins_size: int, sequence: int) -> LogEntry | None:
    if data[_SECTOR : _SECTOR + 4] != b"DIRT" or bins_size > MAX_BINS:
        return None
    bitmap_bytes = bins_size // _SECTOR // 8
    bitmap = np.frombuffer(data[_SECTOR + 4 : _SECTOR + 4 + bitmap_bytes], dtype=np.uint8)
    if len(bitmap) < bitmap_bytes:
        return None
    dirty = np.flatnonzero(np.unpackbits(bitmap, bitorder="little"))
    start = _SECTOR + -(-(4 + bitmap_bytes) // _SECTOR) * _SECTOR
    if start + len(dirty) * _SECTOR > len(data):
        return None
    pages = tuple(
        (int(sector) * _SECTOR, data[start + index * _SECTOR : start + (index + 1) * _SECTOR])
        for index, sector in enumerate(dirty.tolist())
    )
    return LogEntry(sequence=sequence, bins_size=bins_size, pages=pages)


def _apply(hive: bytearray, entry: LogEntry) -> None:
    needed = BINS_START + entry.bins_size
    if len(hive) < needed:
        hive.extend(bytes(needed - len(hive)))
    for offset, page in entry.pages:
        hive[BINS_START + offset : BINS_START + offset + len(page)] = page
    struct.pack_into("<II", hive, 4, entry.sequence, entry.sequence)
    struct.pack_into("<I", hive, 40, entry.bins_size)
    struct.pack_into("<I", hive, 508, base_block_checksum(hive[:512]))
