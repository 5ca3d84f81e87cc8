"""One stream of one file: its attributes from every record put together, its extents, its bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from byre.errors import ByreError, CorruptImageError
from byre.extents import Kind
from byre.filesystems.base import FileExtents, file_extents, no_extents
from byre.filesystems.ntfs.records import (
    ATTRIBUTE_LIST,
    IS_COMPRESSED,
    REFERENCE_MASK,
    Attribute,
    Record,
)
from byre.filesystems.ntfs.runs import Run, decode_runs

MAX_ATTRIBUTE_LIST = 1 << 18
"""Windows' own limit for an attribute list, bytes."""

_LIST_ENTRY = struct.Struct("<IHBBQQH")

RecordReader = Callable[[int], Record]
ListReader = Callable[[Attribute], bytes]


@dataclass(frozen=True, slots=True)
class StreamMap:
    """A stream: resident bytes, or runs. ``size`` and ``initialized`` in bytes, ``unit`` bytes of a compression
    unit or 0; ``record`` and ``where`` say in which record and at what offset in it a resident value lies."""

    size: int
    initialized: int
    flags: int
    resident: bytes | None
    runs: tuple[Run, ...] = ()
    unit: int = 0
    record: int = 0
    where: int = 0


def all_attributes(base: Record, read_record: RecordReader, read_list: ListReader) -> list[Attribute]:
    """The attributes of a file, those in extension records too, each record visited once.

    A broken extension record is a CorruptImageError only when nothing else can be said: it is left out here,
    and the gap it leaves in a stream's runs is found by ``stream_map``.
    """
    found = [each for each in base.attributes if each.type != ATTRIBUTE_LIST]
    listed = next((each for each in base.attributes if each.type == ATTRIBUTE_LIST), None)
    if listed is None:
        return found
    if listed.size > MAX_ATTRIBUTE_LIST:
        raise CorruptImageError("an attribute list too large to be one", found=listed.size)
    data = listed.value if listed.resident else read_list(listed)
    seen = {base.number}
    position = 0
    while position + _LIST_ENTRY.size <= len(data):
        _, length, _, _, _, reference, _ = _LIST_ENTRY.unpack_from(data, position)
        if length < _LIST_ENTRY.size:
            break
        position += length
        number = reference & REFERENCE_MASK
        if number in seen:
            continue
        seen.add(number)
        try:
            extension = read_record(number)
        except ByreError:
            continue
        if extension.base == base.number and extension.base_sequence in (base.sequence, 0):
            found += [each for each in extension.attributes if each.type != ATTRIBUTE_LIST]
    return found


def stream_map(
    attributes: list[Attribute], kind: int, name: str, cluster_size: int, clusters: int
) -> StreamMap | None:
    """Put one stream together; None where the file has no such stream. Raises CorruptImageError."""
    parts = [each for each in attributes if each.type == kind and each.name == name]
    if not parts:
        return None
    head = next((each for each in parts if each.resident or each.lowest_vcn == 0), None)
    if head is None:
        raise CorruptImageError("a stream has lost the record with its start")
    if head.resident:
        return StreamMap(head.size, head.size, head.flags, head.value, record=head.record, where=head.where)
    if head.size >= 1 << 63 or head.initialized >= 1 << 63 or head.allocated >= 1 << 63:
        raise CorruptImageError("a stream of an impossible size", found=head.size)
    runs: list[Run] = []
    expected = 0
    for part in sorted((each for each in parts if not each.resident), key=lambda each: each.lowest_vcn):
        if part.lowest_vcn != expected:
            raise CorruptImageError(
                "a part of a stream's runs is missing", found=f"VCN {part.lowest_vcn}", expected=f"VCN {expected}"
            )
        piece = decode_runs(part.value, expected, clusters)
        runs += piece
        if piece:
            expected = piece[-1][0] + piece[-1][2]
    unit = 0
    if head.flags & IS_COMPRESSED and head.compression_unit:
        if head.compression_unit > 6:
            raise CorruptImageError("an impossible compression unit", found=head.compression_unit)
        unit = cluster_size << head.compression_unit
    return StreamMap(head.size, min(head.initialized, head.size), head.flags, None, tuple(runs), unit)


def plain_extents(stream: StreamMap, cluster_size: int, origin: int, *, slack: bool = False) -> FileExtents:
    """The extents of a stream that isn't compressed; ``origin`` is the volume's first byte on the disk."""
    end = stream.size
    written = stream.initialized
    rows: list[tuple[int, int, int, int, int]] = []
    for vcn, lcn, count in stream.runs:
        start, length = vcn * cluster_size, count * cluster_size
        if not slack:
            length = min(length, end - start)
        if length <= 0:
            break
        if lcn < 0:
            rows.append((start, length, Kind.ZERO, -1, 0))
            continue
        valid = length if slack else max(0, min(length, written - start))
        if valid:
            rows.append((start, valid, Kind.DATA, origin + lcn * cluster_size, valid))
        if valid < length:
            rows.append((start + valid, length - valid, Kind.ZERO, -1, 0))
    return file_extents(rows) if rows else no_extents()


@dataclass(frozen=True, slots=True)
class Unit:
    """One compression unit: where it starts in the stream, its bytes, and its pieces ``(lcn, clusters)``."""

    start: int
    length: int
    pieces: tuple[tuple[int, int], ...]
    packed: bool


def units(stream: StreamMap, cluster_size: int, first: int, stop: int) -> list[Unit]:
    """The compression units that touch the bytes ``[first, stop)``. Pieces with no clusters at all: zeros."""
    per_unit = stream.unit // cluster_size
    low, high = first // stream.unit, -(-stop // stream.unit)
    pieces: dict[int, list[tuple[int, int]]] = {number: [] for number in range(low, high)}
    for vcn, lcn, count in stream.runs:
        if lcn < 0 or vcn >= high * per_unit or vcn + count <= low * per_unit:
            continue
        begin, end = max(vcn, low * per_unit), min(vcn + count, high * per_unit)
        while begin < end:
            number = begin // per_unit
            part = min(end, (number + 1) * per_unit) - begin
            pieces[number].append((lcn + begin - vcn, part))
            begin += part
    return [
        Unit(number * stream.unit, stream.unit, tuple(parts), 0 < sum(each[1] for each in parts) < per_unit)
        for number, parts in pieces.items()
    ]


def compressed_extents(stream: StreamMap, cluster_size: int, origin: int, *, slack: bool = False) -> FileExtents:
    """The extents of a compressed stream, one row for each piece of a unit on the disk.

    The pieces of a packed unit share its bytes among them in the order in which they are stored: each takes as
    many bytes of the stream as it takes on the disk, the last one takes the rest.
    """
    end = sum(run[2] for run in stream.runs) * cluster_size if slack else stream.size
    written = end if slack else stream.initialized
    per_unit = stream.unit // cluster_size
    rows: list[tuple[int, int, int, int, int]] = []

    def put(start: int, length: int, kind: int, disk: int, stored: int) -> None:
        length = min(length, end - start)
        if length <= 0:
            return
        if kind == Kind.DATA:
            valid = max(0, min(length, written - start))
            if valid:
                rows.append((start, valid, kind, disk, valid))
            if valid < length:
                rows.append((start + valid, length - valid, Kind.ZERO, -1, 0))
        else:
            rows.append((start, length, kind, disk, stored))

    for start_vcn, pieces in _units_of_runs(stream.runs, per_unit):
        start = start_vcn * cluster_size
        taken = sum(count for _, count in pieces)
        if not taken:
            put(start, pieces_length(pieces, per_unit) * cluster_size, Kind.ZERO, -1, 0)
            continue
        kind = Kind.COMPRESSED if taken < per_unit else Kind.DATA
        limit = start + stream.unit
        for index, (lcn, count) in enumerate(pieces):
            stored = count * cluster_size
            length = limit - start if index == len(pieces) - 1 else stored
            put(start, length, kind, origin + lcn * cluster_size, stored)
            start += length
    return file_extents(rows) if rows else no_extents()


def pieces_length(pieces: list[tuple[int, int]], per_unit: int) -> int:
    """Clusters of a unit without data: a long sparse run is kept as one piece with lcn -1 and count 0."""
    return max((-lcn for lcn, _ in pieces), default=per_unit)


def _units_of_runs(runs: tuple[Run, ...], per_unit: int) -> list[tuple[int, list[tuple[int, int]]]]:
    """``(first vcn, pieces)`` in order. Whole units inside one sparse run come as one row whose only piece is
    ``(-clusters, 0)``, so that a 16 EiB hole costs one row."""
    table: list[tuple[int, list[tuple[int, int]]]] = []
    for vcn, lcn, count in runs:
        begin, end = vcn, vcn + count
        while begin < end:
            head = begin - begin % per_unit
            step = min(end, head + per_unit) - begin
            if lcn < 0 and begin == head and end - begin >= per_unit:
                step = (end - begin) // per_unit * per_unit
                table.append((begin, [(-step, 0)]))
            else:
                if not table or table[-1][0] != head:
                    table.append((head, []))
                if lcn >= 0:
                    table[-1][1].append((lcn + begin - vcn, step))
            begin += step
    return table


def file_extents_of_resident(stream: StreamMap, record_place: int) -> FileExtents:
    """A resident stream lies inside its MFT record, the last two bytes of a sector of which are fixups."""
    if not stream.size:
        return no_extents()
    return file_extents([(0, stream.size, Kind.DATA, record_place + stream.where, stream.size)])
