"""The master file table as a file: where it lies, and its records."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from byre.errors import ByreError, CorruptImageError, MissingError
from byre.extents import Kind
from byre.filesystems.base import FileExtents
from byre.filesystems.ntfs.boot import BootSector
from byre.filesystems.ntfs.records import ATTRIBUTE_LIST, DATA, Attribute, Bytes2D, Record, parse_record
from byre.filesystems.ntfs.runs import decode_runs
from byre.filesystems.ntfs.streams import StreamMap, all_attributes, plain_extents, stream_map
from byre.filesystems.tree import fill_extents, read_extents
from byre.volumes.partition import VolumeDisk
from byre.volumes.problems import Problems

SLICE_BYTES = 4 << 20
"""Records are scanned in slices of this many bytes: beyond 2 MiB, larger slices were no faster."""

BLOCK_BYTES = 1 << 16
MAX_BLOCKS = 64
"""Single records are read with their neighbours: files of one folder mostly lie together. 4 MiB are kept."""


class Mft:
    """The table's extents and the reader of its records. Mutable: it keeps the blocks that it read last."""

    def __init__(self, volume: VolumeDisk, boot: BootSector, extents: FileExtents, size: int) -> None:
        self.volume = volume
        self.boot = boot
        self.extents = extents
        mapped = int(extents["start"][-1] + extents["length"][-1]) if len(extents) else 0
        self.count = min(size, mapped) // boot.record_size
        self._blocks: dict[int, bytes] = {}

    def place(self, number: int) -> int:
        """The guest offset on the disk of a record's first byte."""
        start = number * self.boot.record_size
        row = self.extents[int(self.extents["start"].searchsorted(start, side="right")) - 1]
        return int(row["disk"]) + start - int(row["start"])

    def raw(self, number: int, count: int = 1) -> bytes:
        """Records as stored, fixups in place."""
        if number < 0 or count < 1 or number + count > self.count:
            raise MissingError("no such MFT record", path=self.volume.name, found=number, expected=f"< {self.count}")
        size = self.boot.record_size
        return read_extents(self.volume, self.extents, number * size, (number + count) * size)

    def record(self, number: int) -> Record:
        """One record; those of files that lie together come out of one read."""
        size = self.boot.record_size
        each = max(1, BLOCK_BYTES // size)
        block = number // each
        data = self._blocks.get(block)
        if data is None:
            first = block * each
            try:
                data = self.raw(first, min(each, self.count - first))
            except ByreError:
                return parse_record(self.raw(number), number)
            if len(self._blocks) >= MAX_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = data
        start = (number - block * each) * size
        return parse_record(data[start : start + size], number)

    def slices(self, problems: Problems) -> Iterator[tuple[int, Bytes2D]]:
        """``(first record, rows)`` over the whole table; what can't be read is reported and left out.

        A hole in the disk (a sparse part of the image) is skipped without reading.
        """
        size = self.boot.record_size
        step = SLICE_BYTES // size
        for first in range(0, self.count, step):
            count = min(step, self.count - first)
            try:
                data = fill_extents(self.volume, self.extents, first * size, (first + count) * size)
            except ByreError as error:
                what = f"MFT records from {first} can't be read: {error}"
                problems.add("ntfs.mft-unreadable", what, hides_names=True)
                continue
            yield first, np.frombuffer(data, dtype=np.uint8).reshape(count, size)


def open_mft(volume: VolumeDisk, boot: BootSector, problems: Problems) -> Mft:
    """Find the table by its own first record, else by the mirror's."""
    errors: list[ByreError] = []
    for lcn, name in ((boot.mft_lcn, "$MFT"), (boot.mftmirr_lcn, "$MFTMirr")):
        try:
            record = parse_record(volume.read(lcn * boot.cluster_size, boot.record_size), 0)
            mft = _assemble(volume, boot, record)
        except ByreError as error:
            errors.append(error)
            continue
        if errors:
            problems.add("ntfs.mft-record", f"the MFT's first record is broken, {name} is used: {errors[0]}")
        return mft
    raise CorruptImageError(f"the MFT can't be found: {errors[0]}", path=volume.name) from errors[0]


def _assemble(volume: VolumeDisk, boot: BootSector, record: Record) -> Mft:
    """The table's own extents. Its attribute list names records that lie in the part known so far, so the parts
    are added in order of their VCN, each found through the ones before."""
    head = next(
        (each for each in record.attributes if each.type == DATA and not each.name and not each.resident), None
    )
    if head is None:
        raise CorruptImageError("the MFT's first record has no $DATA")
    known = [head]
    mft = _from_parts(volume, boot, known)
    if not any(each.type == ATTRIBUTE_LIST for each in record.attributes):
        return mft
    while True:
        parts = [
            each
            for each in all_attributes(record, mft.record, lambda listed: list_bytes(volume, boot, listed))
            if each.type == DATA and not each.name and not each.resident
        ]
        if len(parts) <= len(known):
            return mft
        known = parts
        mft = _from_parts(volume, boot, known)


def _from_parts(volume: VolumeDisk, boot: BootSector, parts: list[Attribute]) -> Mft:
    contiguous: list[Attribute] = []
    expected = 0
    for part in sorted(parts, key=lambda each: each.lowest_vcn):
        if part.lowest_vcn != expected:
            break
        contiguous.append(part)
        runs = decode_runs(part.value, expected, boot.clusters)
        if any(lcn < 0 for _, lcn, _ in runs):
            raise CorruptImageError("the MFT has a hole")
        expected = runs[-1][0] + runs[-1][2] if runs else expected
    stream = stream_map(contiguous, DATA, "", boot.cluster_size, boot.clusters)
    if stream is None or not stream.runs:
        raise CorruptImageError("the MFT's first record has no runs")
    extents = plain_extents(stream, boot.cluster_size, volume.start)
    extents = extents[extents["kind"] == Kind.DATA]
    return Mft(volume, boot, extents, stream.initialized)


def list_bytes(volume: VolumeDisk, boot: BootSector, listed: Attribute) -> bytes:
    """The bytes of a non-resident attribute list."""
    stream = stream_map([listed], listed.type, listed.name, boot.cluster_size, boot.clusters)
    if stream is None:
        return b""
    return read_stream(volume, stream, boot.cluster_size, 0, stream.size)


def read_stream(volume: VolumeDisk, stream: StreamMap, cluster_size: int, start: int, stop: int) -> bytes:
    """The bytes ``[start, stop)`` of a resident or plain stream."""
    if stream.resident is not None:
        return stream.resident[start:stop]
    return read_extents(volume, plain_extents(stream, cluster_size, volume.start), start, stop)
