"""The master boot record, and the chain of extended boot records behind it.

Sector 0: boot code, disk signature at 0x1B8, four entries of 16 bytes at 0x1BE, 55 AA at 0x1FE. An extended
partition holds a chain of sectors of the same shape: entry 0 is a logical partition, relative to this
sector; entry 1 the next link, relative to the extended partition.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.disks.disk import Disk
from byre.errors import ByreError
from byre.volumes.partition import Partition
from byre.volumes.problems import Problems
from byre.volumes.types import EXTENDED, MBR_TYPES

MAX_LOGICAL = 256
"""Windows and Linux stop far earlier (60 and 128): a longer chain is damage."""

_ENTRY = struct.Struct("<B3sB3sII")


@dataclass(frozen=True, slots=True)
class MbrEntry:
    """One row of a table as it stands; ``start`` and ``sectors`` count sectors."""

    status: int
    type: int
    start: int
    sectors: int

    @property
    def used(self) -> bool:
        return self.type != 0 and self.sectors != 0


def parse_entries(sector: bytes) -> tuple[MbrEntry, ...] | None:
    """The four entries of a boot record, or None where 55 AA is missing."""
    if len(sector) < 512 or sector[510:512] != b"\x55\xaa":
        return None
    rows = []
    for slot in range(4):
        status, _, kind, _, start, sectors = _ENTRY.unpack_from(sector, 0x1BE + 16 * slot)
        rows.append(MbrEntry(status, kind, start, sectors))
    return tuple(rows)


def is_plausible(entries: tuple[MbrEntry, ...], total_sectors: int) -> bool:
    """Whether the four rows can be a table at all: boot code read as one rarely passes."""
    used = [entry for entry in entries if entry.used]
    return (
        bool(used)
        and all(entry.status in (0x00, 0x80) for entry in entries)
        and all(entry.start > 0 for entry in used)
        and any(entry.start < total_sectors for entry in used)
    )


def read_partitions(
    disk: Disk, entries: tuple[MbrEntry, ...], sector_size: int, problems: Problems
) -> tuple[Partition, ...]:
    """Primary, extended and logical partitions, in the order of their numbers."""
    found: list[Partition] = []
    logical: list[Partition] = []
    for slot, entry in enumerate(entries):
        if not entry.used:
            if entry.type and not entry.sectors:
                problems.add("mbr.empty-entry", f"partition {slot + 1} has a type but no sectors", kind="note")
            continue
        role = "extended" if entry.type in EXTENDED else "primary"
        found.append(_partition(slot + 1, entry, entry.start, sector_size, role))
        if role == "extended":
            logical += _logical(disk, entry, sector_size, problems, first_index=5 + len(logical))
    if sum(entry.status == 0x80 for entry in entries if entry.used) > 1:
        problems.add("mbr.several-active", "more than one partition is marked active", offset=0x1BE)
    return (*found, *logical)


def _logical(
    disk: Disk, extended: MbrEntry, sector_size: int, problems: Problems, first_index: int
) -> list[Partition]:
    rows: list[Partition] = []
    seen: set[int] = set()
    link = extended.start
    while True:
        offset = link * sector_size
        if link in seen:
            problems.add("mbr.ebr-loop", "the chain of extended boot records loops", offset=offset)
            break
        if len(seen) >= MAX_LOGICAL:
            problems.add("mbr.ebr-too-long", f"more than {MAX_LOGICAL} extended boot records", offset=offset)
            break
        seen.add(link)
        if offset + 512 > disk.size:
            problems.add("mbr.ebr-outside", "an extended boot record lies past the end of the disk", offset=offset)
            break
        try:
            entries = parse_entries(disk.read(offset, 512))
        except ByreError as error:
            problems.add("mbr.ebr-unreadable", f"an extended boot record can't be read: {error}", offset=offset)
            break
        if entries is None:
            problems.add("mbr.ebr-signature", "an extended boot record lacks 55 AA", offset=offset)
            break
        if entries[0].used and entries[0].type not in EXTENDED:
            start = link + entries[0].start
            rows.append(_partition(first_index + len(rows), entries[0], start, sector_size, "logical"))
        following = next((entry for entry in entries[1:] if entry.type in EXTENDED and entry.sectors), None)
        if following is None:
            break
        link = extended.start + following.start
    return rows


def _partition(index: int, entry: MbrEntry, start: int, sector_size: int, role: str) -> Partition:
    return Partition(
        index=index,
        start=start * sector_size,
        length=entry.sectors * sector_size,
        role=role,
        type=f"{entry.type:#04x}",
        type_name=MBR_TYPES.get(entry.type, "unknown"),
        active=entry.status == 0x80,
    )
