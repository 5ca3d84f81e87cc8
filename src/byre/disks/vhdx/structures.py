"""Reads and vets everything of a VHDX file but its blocks: headers, log, regions, metadata, BAT."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from byre.disks.vhdx.layout import (
    BAT_REGION,
    FILE_SIGNATURE,
    HEADER_AREA,
    HEADER_OFFSETS,
    HEADER_SIZE,
    KNOWN_ITEMS,
    MAX_ITEM_LENGTH,
    METADATA_REGION,
    METADATA_TABLE_SIZE,
    REGION_TABLE_OFFSETS,
    REGION_TABLE_SIZE,
    Header,
    Metadata,
    MetadataEntry,
    Region,
    parse_metadata,
    parse_metadata_table,
    parse_region_table,
)
from byre.disks.vhdx.log import Replay, read_log
from byre.disks.vhdx.overlay import OverlayStorage
from byre.errors import CorruptImageError, UnsupportedError
from byre.storage.base import Storage
from byre.units import MIB

Bat: TypeAlias = np.ndarray[Any, np.dtype[np.uint64]]

MAX_BAT_ENTRIES = 1 << 25
"""256 MiB of table: a 64 TiB disk of 2 MiB blocks. Only smaller blocks on a vaster disk need more."""


@dataclass(frozen=True, slots=True)
class Structures:
    """What a file says of itself. ``headers`` and ``tables`` hold None for a copy that isn't valid."""

    headers: tuple[Header | None, Header | None]
    current: int
    """Which of the two headers counts."""
    tables: tuple[tuple[Region, ...] | None, tuple[Region, ...] | None]
    bat_region: Region
    metadata_region: Region
    entries: tuple[MetadataEntry, ...]
    metadata: Metadata
    creator: str

    @property
    def header(self) -> Header:
        header = self.headers[self.current]
        assert header is not None  # ``current`` is chosen among the valid ones
        return header


def read_headers(storage: Storage) -> tuple[tuple[Header | None, Header | None], int]:
    """Both headers, None where invalid, and which one counts: the valid one with the higher sequence number."""
    name = storage.name
    if storage.size < HEADER_AREA:
        raise CorruptImageError(
            "the file is too short for a VHDX", path=name, found=storage.size, expected=f"at least {HEADER_AREA}"
        )
    signature = storage.read(0, 8)
    if signature != FILE_SIGNATURE:
        raise CorruptImageError(
            "no VHDX signature", path=name, offset=0, found=signature, expected=FILE_SIGNATURE.decode()
        )
    first, second = (Header.parse(storage.read(offset, HEADER_SIZE)) for offset in HEADER_OFFSETS)
    if first is None and second is None:
        raise CorruptImageError(
            "neither header is valid",
            path=name,
            offset=HEADER_OFFSETS[0],
            expected="a signature 'head' and its CRC-32C",
            hint="The file was damaged in its first mebibyte.",
        )
    if first and second and first.sequence_number == second.sequence_number and first != second:
        raise CorruptImageError(
            "both headers claim to be the newer one", path=name, found=f"sequence number {first.sequence_number}"
        )
    second_counts = second is not None and (first is None or second.sequence_number > first.sequence_number)
    return (first, second), int(second_counts)


def find_replay(storage: Storage, header: Header) -> Replay | None:
    """Vet the header that counts, then read its log."""
    name = storage.name
    if header.version != 1:
        raise UnsupportedError("is of an unknown VHDX version", path=name, found=header.version, expected=1)
    # A log of no length is legal for as long as nothing has to be replayed from it.
    if header.log_length or header.log_guid.int:
        _check_place(storage, "log", header.log_offset, header.log_length)
    return read_log(storage, header)


def replayed(storage: Storage, replay: Replay | None) -> Storage:
    """The storage as the log would leave it; nothing is written."""
    return storage if replay is None else OverlayStorage(storage, replay.patches, replay.file_size)


def read_structures(storage: Storage) -> Structures:
    """Everything after the log, from a storage whose log is clean or replayed."""
    headers, current = read_headers(storage)
    header = headers[current]
    assert header is not None
    first, second = (parse_region_table(storage.read(at, REGION_TABLE_SIZE)) for at in REGION_TABLE_OFFSETS)
    regions = first if first is not None else second
    if regions is None:
        raise CorruptImageError(
            "neither region table is valid",
            path=storage.name,
            offset=REGION_TABLE_OFFSETS[0],
            expected="a signature 'regi' and its CRC-32C",
        )
    bat_region, metadata_region = _vet_regions(storage, regions, header)
    table = storage.read(metadata_region.file_offset, METADATA_TABLE_SIZE)
    entries = parse_metadata_table(table, path=storage.name, offset=metadata_region.file_offset)
    metadata = _read_metadata(storage, metadata_region, entries)
    return Structures(
        headers=headers,
        current=current,
        tables=(first, second),
        bat_region=bat_region,
        metadata_region=metadata_region,
        entries=entries,
        metadata=metadata,
        creator=storage.read(8, 512).decode("utf-16-le", "replace").split("\0", 1)[0],
    )


def read_bat(storage: Storage, structures: Structures) -> Bat:
    """The whole table, one 64-bit entry for each block of either kind; writable memory."""
    count = structures.metadata.bat_entries
    region = structures.bat_region
    if count > MAX_BAT_ENTRIES:
        raise UnsupportedError(
            "the block allocation table is larger than Byre reads",
            path=storage.name,
            found=f"{count} entries",
            expected=f"at most {MAX_BAT_ENTRIES}",
            hint="Re-create the image with larger blocks.",
        )
    if count * 8 > region.length:
        raise CorruptImageError(
            "the BAT region is too short for the disk",
            path=storage.name,
            offset=region.file_offset,
            found=f"{region.length} bytes",
            expected=f"{count * 8} bytes",
        )
    buffer = bytearray(count * 8)
    storage.read_into(region.file_offset, buffer)
    return np.frombuffer(buffer, dtype="<u8")


def _check_place(storage: Storage, what: str, offset: int, length: int) -> None:
    if offset < HEADER_AREA or offset % MIB or length % MIB or not length:
        raise CorruptImageError(
            f"the {what} region is misplaced",
            path=storage.name,
            offset=offset,
            found=f"{length} bytes",
            expected="whole mebibytes after the first",
        )
    if offset + length > storage.size:
        raise CorruptImageError(
            f"the {what} region ends past the end of the file",
            path=storage.name,
            offset=offset,
            found=f"{length} bytes there",
            expected=f"within {storage.size} bytes",
        )


def _vet_regions(storage: Storage, regions: Iterable[Region], header: Header) -> tuple[Region, Region]:
    known: dict[object, Region] = {}
    ranges = [(header.log_offset, header.log_length, "log")] if header.log_length else []
    for region in regions:
        if region.guid in (BAT_REGION, METADATA_REGION):
            if region.guid in known:
                raise CorruptImageError("a region stands twice in the region table", path=storage.name)
            known[region.guid] = region
            what = "BAT" if region.guid == BAT_REGION else "metadata"
            _check_place(storage, what, region.file_offset, region.length)
            ranges.append((region.file_offset, region.length, what))
        elif region.required:
            raise UnsupportedError(
                "needs a region that Byre doesn't know, and says that nobody may read it without",
                path=storage.name,
                offset=region.file_offset,
                found=region.guid,
            )
    for guid, what in ((BAT_REGION, "BAT"), (METADATA_REGION, "metadata")):
        if guid not in known:
            raise CorruptImageError(f"the region table names no {what} region", path=storage.name)
    ranges.sort()
    for (start, length, what), (after, _, other) in pairwise(ranges):
        if start + length > after:
            raise CorruptImageError(f"the {what} and {other} regions overlap", path=storage.name, offset=after)
    return known[BAT_REGION], known[METADATA_REGION]


def _read_metadata(storage: Storage, region: Region, entries: tuple[MetadataEntry, ...]) -> Metadata:
    items = {}
    for entry in entries:
        if entry.is_user or entry.item_id not in KNOWN_ITEMS:
            if entry.is_required:
                raise UnsupportedError(
                    "needs a metadata item that Byre doesn't know, and says that nobody may read it without",
                    path=storage.name,
                    offset=region.file_offset,
                    found=entry.item_id,
                )
            continue
        if entry.item_id in items:
            raise CorruptImageError("a metadata item stands twice", path=storage.name, found=entry.item_id)
        stop = entry.offset + entry.length
        if entry.length > MAX_ITEM_LENGTH or entry.offset < METADATA_TABLE_SIZE or stop > region.length:
            raise CorruptImageError(
                "a metadata item leaves the metadata region",
                path=storage.name,
                offset=region.file_offset,
                found=f"{entry.length} bytes at {entry.offset:#x}",
                expected=f"within {region.length} bytes",
            )
        items[entry.item_id] = storage.read(region.file_offset + entry.offset, entry.length)
    return parse_metadata(items, path=storage.name)
