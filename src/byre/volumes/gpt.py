"""The GUID partition table: a header with its rows after sector 0, and a copy of both at the end of the disk.

Source: UEFI specification 2.10, section 5.3.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass

from byre.disks.disk import Disk
from byre.errors import ByreError, CorruptImageError
from byre.units import is_power_of_two
from byre.volumes.partition import Partition
from byre.volumes.problems import Problems
from byre.volumes.types import GPT_TYPES

SIGNATURE = b"EFI PART"
MAX_ENTRIES = 4096
"""The specification asks for at least 128 and sets no end; nobody makes more than a few hundred."""

_HEADER = struct.Struct("<8sIIIIQQQQ16sQIII")
_ROW = struct.Struct("<16s16sQQQ")


@dataclass(frozen=True, slots=True)
class GptHeader:
    """One copy of the header. ``*_lba`` count sectors."""

    my_lba: int
    alternate_lba: int
    first_usable_lba: int
    last_usable_lba: int
    disk_guid: str
    entries_lba: int
    entry_count: int
    entry_size: int
    entries_crc: int

    @classmethod
    def parse(cls, sector: bytes, lba: int) -> GptHeader:
        """The header from its sector; raises CorruptImageError, the checksum included."""
        if sector[:8] != SIGNATURE:
            raise CorruptImageError("the GPT header lacks its signature", found=sector[:8], expected=SIGNATURE)
        fields = _HEADER.unpack_from(sector)
        size, stored = fields[2], fields[3]
        if not 92 <= size <= len(sector):
            raise CorruptImageError("the GPT header has an impossible size", found=size, expected="92 or more")
        actual = zlib.crc32(sector[:16] + b"\0\0\0\0" + sector[20:size])
        if actual != stored:
            raise CorruptImageError("the GPT header fails its checksum", found=actual, expected=stored)
        if fields[5] != lba:
            raise CorruptImageError("the GPT header says that it lies elsewhere", found=fields[5], expected=lba)
        header = cls(
            my_lba=fields[5],
            alternate_lba=fields[6],
            first_usable_lba=fields[7],
            last_usable_lba=fields[8],
            disk_guid=str(uuid.UUID(bytes_le=fields[9])),
            entries_lba=fields[10],
            entry_count=fields[11],
            entry_size=fields[12],
            entries_crc=fields[13],
        )
        if not is_power_of_two(header.entry_size) or not 128 <= header.entry_size <= 4096:
            raise CorruptImageError("GPT rows of an impossible size", found=header.entry_size, expected=128)
        if header.entry_count > MAX_ENTRIES:
            raise CorruptImageError("too many GPT rows", found=header.entry_count, expected=f"<= {MAX_ENTRIES}")
        return header


@dataclass(frozen=True, slots=True)
class GptCopy:
    """One of a GPT's two copies, with its partitions in the table's order."""

    header: GptHeader
    partitions: tuple[Partition, ...]


def read_gpt(disk: Disk, sector_size: int, problems: Problems) -> GptCopy | None:
    """The table from its first copy, else from the second; None where neither holds.

    What is wrong with either is added to ``problems``.
    """
    last_lba = disk.size // sector_size - 1
    primary = _try_copy(disk, sector_size, 1, "primary", problems)
    backup_lba = last_lba
    if primary is not None and 1 < primary.header.alternate_lba <= last_lba:
        backup_lba = primary.header.alternate_lba
        if backup_lba != last_lba:
            problems.add(
                "gpt.backup-not-last",
                "the backup GPT isn't in the last sector: the disk was grown",
                kind="note",
                offset=backup_lba * sector_size,
            )
    backup = _try_copy(disk, sector_size, backup_lba, "backup", problems)
    if primary is None and backup is not None:
        problems.add("gpt.backup-used", "the primary GPT is broken: the backup is used", offset=sector_size)
    elif primary is not None and backup is not None and primary.partitions != backup.partitions:
        problems.add("gpt.copies-differ", "the two copies of the GPT differ: the primary is used")
    return primary or backup


def _try_copy(disk: Disk, sector_size: int, lba: int, which: str, problems: Problems) -> GptCopy | None:
    offset = lba * sector_size
    try:
        if lba < 1 or offset + sector_size > disk.size:
            raise CorruptImageError("the GPT header lies outside the disk", found=lba)
        header = GptHeader.parse(disk.read(offset, sector_size), lba)
        where = header.entries_lba * sector_size
        length = header.entry_count * header.entry_size
        if where + length > disk.size:
            raise CorruptImageError("the GPT rows lie outside the disk", found=header.entries_lba)
        rows = disk.read(where, length)
        if zlib.crc32(rows) != header.entries_crc:
            raise CorruptImageError("the GPT rows fail their checksum")
    except ByreError as error:
        problems.add(f"gpt.{which}-broken", f"{which} GPT: {error}", offset=offset)
        return None
    return GptCopy(header, _parse_rows(rows, header, sector_size))


def _parse_rows(rows: bytes, header: GptHeader, sector_size: int) -> tuple[Partition, ...]:
    found = []
    for slot in range(header.entry_count):
        base = slot * header.entry_size
        kind, guid, first, last, attributes = _ROW.unpack_from(rows, base)
        if kind == bytes(16):
            continue
        name = rows[base + 56 : base + 128].decode("utf-16-le", "replace").split("\0", 1)[0]
        type_guid = str(uuid.UUID(bytes_le=kind))
        found.append(
            Partition(
                index=slot + 1,
                start=first * sector_size,
                length=max(0, last - first + 1) * sector_size,
                role="gpt",
                type=type_guid,
                type_name=GPT_TYPES.get(type_guid, "unknown"),
                name=name,
                active=bool(attributes & 4),
                guid=str(uuid.UUID(bytes_le=guid)),
                attributes=attributes,
            )
        )
    return tuple(found)
