"""Checking a VMDK's own metadata: directories, tables, their copies, overlaps, lost room. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from byre.disks.disk import CheckReport
from byre.disks.findings import CORRUPTION, LEAK, NOTE, Findings
from byre.disks.vmdk import layout
from byre.disks.vmdk.editing import redundant_directory
from byre.disks.vmdk.extent import SparseExtent
from byre.disks.vmdk.layout import GRAIN_MARKER, SparseHeader
from byre.disks.vmdk.tables import GrainTables
from byre.disks.writer import Int64Array
from byre.errors import CorruptImageError
from byre.extents import Kind
from byre.units import SECTOR

if TYPE_CHECKING:
    from byre.disks.vmdk.disk import VmdkDisk

MAX_MARKERS = 1 << 21
"""Markers read one by one: 128 GiB of full grains, some seconds."""


def check_disk(disk: VmdkDisk) -> CheckReport:
    """Check every extent. The parent isn't looked at: it is an image of its own."""
    found = Findings("vmdk")
    allocated = total = end = 0
    for part in disk.parts:
        if isinstance(part, SparseExtent):
            result = _check_extent(part, found, footer=disk.source.footer_offset is not None)
            allocated += result.grains
            total += part.grains
            end = max(end, result.end)
    _check_words(disk, found)
    return found.report(
        allocated_blocks=allocated if total else None,
        total_blocks=total or None,
        image_end=end or None,
    )


def _check_words(disk: VmdkDisk, found: Findings) -> None:
    header, lines = disk.source.header, disk.descriptor.extents
    if header is not None and header.capacity and disk.descriptor.sectors != header.capacity:
        found.add(
            CORRUPTION if disk.descriptor.sectors > header.capacity else NOTE,
            "capacity-mismatch",
            f"the descriptor says {disk.descriptor.sectors} sectors, the header {header.capacity}; the header is "
            "believed",
            offset=disk.source.descriptor_offset,
        )
    if header is not None and header.capacity and len(lines) != 1:
        found.add(NOTE, "extent-lines", f"the embedded descriptor lists {len(lines)} extents, not one")
    if disk.source.trailing:
        found.add(
            NOTE,
            "trailing-bytes",
            f"{disk.source.trailing} bytes follow the end-of-stream marker; some products refuse such a file",
            offset=disk.source.storage.size - disk.source.trailing,
        )


@dataclass(frozen=True, slots=True)
class _Result:
    grains: int
    end: int


def _check_extent(part: SparseExtent, found: Findings, *, footer: bool) -> _Result:
    header = part.header
    if header is not None:
        _check_header(header, found)
    tables, starts, ends = _check_directory(part, found)
    if header is not None and header.redundant:
        mirror = _check_mirror(part, header, tables, found)
        starts, ends = np.concatenate((starts, mirror)), np.concatenate((ends, mirror + tables.table_bytes))
    hosts, numbers = _grains(part, tables, found)
    lengths = _lengths(part, hosts, numbers, found)
    _check_overlaps(starts, ends, hosts, hosts + lengths, found)
    end = max([SECTOR, *(int(array.max()) for array in (ends, hosts + lengths) if len(array))])
    if header is not None and not part.compressed:
        _check_leaks(part, header, starts, ends, hosts, found)
    elif part.markers and not footer:
        _check_stream_end(part, end, found)
    return _Result(len(hosts), end)


def _check_header(header: SparseHeader, found: Findings) -> None:
    if header.newline_test != layout.NEWLINE_TEST:
        found.add(
            CORRUPTION,
            "newline-test",
            f"the line-end test bytes are {header.newline_test.hex(' ')}, not 0a 20 0d 0a: the file went through a "
            "transfer in text mode",
            offset=73,
        )
    if header.unclean_shutdown:
        found.add(
            NOTE, "unclean-shutdown", "the image wasn't closed properly; VMware checks it before use", offset=72
        )


def _check_directory(part: SparseExtent, found: Findings) -> tuple[GrainTables, Int64Array, Int64Array]:
    """(tables without those outside the file, starts and ends of the others)"""
    old, size = part.tables, part.file.size
    directory = old.directory
    bad = (directory != 0) & ((directory < SECTOR) | (directory + old.table_bytes > size))
    if bad.any():
        found.add(
            CORRUPTION,
            "table-outside-file",
            "a grain table lies outside the file",
            offset=int(directory[np.argmax(bad)]),
            count=int(bad.sum()),
        )
    kept = np.where(bad, 0, directory)
    tables = GrainTables(part.file, kept, gtes_per_gt=old.gtes_per_gt, dtype=old.dtype.str)
    starts = kept[kept > 0]
    return tables, starts, starts + old.table_bytes


def _check_mirror(part: SparseExtent, header: SparseHeader, tables: GrainTables, found: Findings) -> Int64Array:
    """The offsets of the redundant grain tables that could be compared."""
    try:
        mirror = redundant_directory(part.file, header)
    except CorruptImageError as error:
        found.add(CORRUPTION, "redundant-directory", error.what, offset=error.offset)
        return np.zeros(0, dtype=np.int64)
    bad = (mirror != 0) & ((mirror < SECTOR) | (mirror + tables.table_bytes > part.file.size))
    if bad.any():
        found.add(
            CORRUPTION,
            "redundant-table-outside-file",
            "a redundant grain table lies outside the file",
            count=int(bad.sum()),
            repairable=True,
        )
    mirror = np.where(bad, 0, mirror)
    copies = GrainTables(part.file, mirror, gtes_per_gt=tables.gtes_per_gt, dtype=tables.dtype.str)
    different = 0
    first = None
    for index in range(-(-part.grains // tables.chunk_entries)):
        here = tables.chunk(index).reshape(-1, tables.gtes_per_gt)
        there = copies.chunk(index).reshape(-1, tables.gtes_per_gt)
        unequal = (here != there).any(axis=1)
        if unequal.any() and first is None:
            first = index * len(here) + int(np.argmax(unequal))
        different += int(unequal.sum())
    if different and first is not None:
        found.add(
            CORRUPTION,
            "redundant-tables-differ",
            f"a grain table differs from its redundant copy; the first is number {first}. The first set is believed",
            offset=int(tables.directory[first]),
            count=different,
            repairable=True,
        )
    return mirror[mirror > 0]


def _grains(part: SparseExtent, tables: GrainTables, found: Findings) -> tuple[Int64Array, Int64Array]:
    """(host offsets, numbers) of the stored grains inside the file."""
    hosts, numbers = [], []
    outside = meaningless = 0
    where = None
    for chunk in range(-(-part.grains // tables.chunk_entries)):
        if tables.absent(chunk):
            continue
        first = chunk * tables.chunk_entries
        entries = tables.entries(first, min(part.grains, first + tables.chunk_entries))
        try:
            kinds, places = part.locate(entries)
        except CorruptImageError:
            meaningless += 1
            continue
        held = np.flatnonzero((kinds == Kind.DATA) | (kinds == Kind.COMPRESSED))
        places, held = places[held], held + first
        needed = 2 if part.compressed else np.minimum(part.grain_bytes, part.size - held * part.grain_bytes)
        bad = (places < SECTOR) | (places + needed > part.file.size)
        if bad.any():
            where = int(places[np.argmax(bad)]) if where is None else where
            outside += int(bad.sum())
        hosts.append(places[~bad])
        numbers.append(held[~bad])
    if outside:
        found.add(CORRUPTION, "grain-outside-file", "a grain lies outside the file", offset=where, count=outside)
    if meaningless:
        found.add(
            CORRUPTION,
            "entry-meaningless",
            "a piece of a grain table holds entries that mean nothing",
            count=meaningless,
        )
    if not hosts:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    return np.concatenate(hosts), np.concatenate(numbers)


def _lengths(part: SparseExtent, hosts: Int64Array, numbers: Int64Array, found: Findings) -> Int64Array:
    """Bytes that each grain takes; of compressed ones as their markers say, which are checked on the way."""
    if not part.compressed:
        return np.full(len(hosts), part.grain_bytes, dtype=np.int64)
    lengths = np.full(len(hosts), 2, dtype=np.int64)
    if not part.markers:
        return lengths
    strange = 0
    per_grain = part.grain_bytes // SECTOR
    # Each marker stands with its own grain: there is no table to read them from.
    for index, (host, number) in enumerate(zip(hosts.tolist(), numbers.tolist(), strict=True)):
        if index >= MAX_MARKERS:
            found.add(NOTE, "markers-unread", f"only the first {MAX_MARKERS} grain markers were looked at")
            break
        if host + GRAIN_MARKER.size > part.file.size:
            strange += 1
            continue
        lba, size = GRAIN_MARKER.unpack(part.file.read(host, GRAIN_MARKER.size))
        if lba != number * per_grain or not size or host + GRAIN_MARKER.size + size > part.file.size:
            strange += 1
        else:
            lengths[index] = GRAIN_MARKER.size + size
    if strange:
        found.add(CORRUPTION, "marker", "a grain marker doesn't fit its grain", count=strange)
    return lengths


def _check_overlaps(
    starts: Int64Array, ends: Int64Array, grain_starts: Int64Array, grain_ends: Int64Array, found: Findings
) -> None:
    both = np.concatenate((starts, grain_starts))
    order = np.argsort(both, kind="stable")
    both = both[order]
    reach = np.maximum.accumulate(np.concatenate((ends, grain_ends))[order]) if len(order) else both
    overlaps = np.flatnonzero(reach[:-1] > both[1:])
    if len(overlaps):
        found.add(
            CORRUPTION,
            "overlap",
            "a grain or grain table overlaps another",
            offset=int(both[overlaps[0] + 1]),
            count=len(overlaps),
        )


def _check_leaks(
    part: SparseExtent,
    header: SparseHeader,
    starts: Int64Array,
    ends: Int64Array,
    hosts: Int64Array,
    found: Findings,
) -> None:
    """Whole grains behind the overhead that nothing names."""
    overhead = min(header.overhead, layout.MAX_CAPACITY) * SECTOR
    begins = np.concatenate((starts, hosts))
    stops = np.concatenate((ends, hosts + part.grain_bytes))
    for offset in (header.gd_offset, header.rgd_offset if header.redundant else 0):
        begins = np.append(begins, min(offset, layout.MAX_CAPACITY) * SECTOR)
        stops = np.append(stops, begins[-1] + header.grain_tables * 4)
    order = np.argsort(begins, kind="stable")
    reach = np.maximum.accumulate(np.concatenate(([overhead], stops[order])))
    gaps = np.append(begins[order], part.file.size) - np.maximum(reach, overhead)
    lost = int((np.maximum(gaps, 0) // part.grain_bytes).sum())
    if lost:
        found.add(LEAK, "leaked-grains", "room for a grain belongs to nothing", count=lost, repairable=True)


def _check_stream_end(part: SparseExtent, end: int, found: Findings) -> None:
    """A stream without a footer, as qemu-img writes it, ends after its last grain or its directory."""
    header = part.header
    if header is None:
        return
    after = (header.gd_offset + -(-header.grain_tables * 4 // SECTOR)) * SECTOR
    rest = part.file.size - max(-(-end // SECTOR) * SECTOR, after)
    # An end-of-stream marker, with or without a footer, may still follow.
    if rest > 3 * SECTOR:
        found.add(
            NOTE,
            "trailing-bytes",
            f"{rest} bytes follow all that the stream holds; some products refuse such a stream",
            offset=part.file.size - rest,
        )
