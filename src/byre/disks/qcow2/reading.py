"""Reading a qcow2 disk, today's or a snapshot's, through its backing chain."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np

from byre.disks.codecs import decoder
from byre.disks.disk import Disk
from byre.disks.qcow2.entries import COMPRESSED, OFFSET_MASK, ZERO_FLAG, U64Array
from byre.disks.qcow2.header import COMPRESSION_NAMES, Header
from byre.disks.qcow2.mapping import Layout, overlay, zero_past_end
from byre.disks.qcow2.tables import TableReader
from byre.errors import ByreError, CorruptImageError, MissingError, UnsupportedError, UsageError
from byre.extents import ExtentTable, Kind, clip, merged_slices
from byre.storage.base import Storage
from byre.units import align_up

_ZEROS = memoryview(bytes(1 << 20))
_KEPT_CLUSTERS = 16
"""Decoded clusters kept for readers that go through a compressed image in small steps."""
_SPAN = 1 << 20
"""Bytes of compressed streams that are read at once, unless one alone is longer."""

Row: TypeAlias = tuple[int, int, int, int, int]
"""An extent as numbers: start, length, kind, host, stored."""


class Source:
    """What every view of one image reads from. Mutable: caches, and the size the writer gives the file."""

    def __init__(
        self,
        storage: Storage,
        header: Header,
        *,
        data: Storage | None = None,
        backing: Disk | None = None,
        missing: ByreError | None = None,
    ) -> None:
        self.storage = storage
        self.header = header
        self.geometry = header.geometry
        self.data = storage if data is None else data
        self.backing = backing
        self.missing = missing
        """Why something that the image names isn't open; raised where it would have to be read."""
        self.files: tuple[Storage, ...] = (storage,) if data is None else (storage, data)
        self.data_file_index = len(self.files) - 1
        self.own_files = len(self.files)
        if backing is not None:
            self.files += backing.files
        self.tables = TableReader(storage, Layout(self.geometry, storage.name, self.data_file_index))
        self._decode = decoder(COMPRESSION_NAMES[header.compression_type])
        self._decoded: OrderedDict[tuple[int, int], bytes | bytearray] = OrderedDict()
        self._lock = threading.Lock()

    def check_readable(self) -> None:
        """Raise UnsupportedError for an encrypted image."""
        if self.header.encryption is not None:
            raise UnsupportedError(
                f"encrypted with {self.header.encryption}: reading it is not supported yet", path=self.storage.name
            )

    def own_extents(self, l1: U64Array, start: int, stop: int) -> Iterator[ExtentTable]:
        """What this image alone holds of ``[start, stop)``; neighbours are merged within a slice only."""
        self.check_readable()
        for table in self.tables.rows(l1, start, stop):
            yield zero_past_end(table, self.data_file_index, self.data.size, self._lost_from())

    def extents(self, l1: U64Array, start: int, stop: int) -> Iterator[ExtentTable]:
        """The extents of ``[start, stop)`` with the backing chain looked through."""
        return merged_slices(self._chained(l1, start, stop))

    def _chained(self, l1: U64Array, start: int, stop: int) -> Iterator[ExtentTable]:
        backing = self.backing
        for table in self.own_extents(l1, start, stop):
            through = np.flatnonzero(table["kind"] == Kind.UNALLOCATED)
            if len(through):
                self._require_backing()
            if backing is None or not len(through):
                yield table
                continue
            begin = int(table["start"][through[0]])
            end = int(table["start"][through[-1]] + table["length"][through[-1]])
            end = min(end, backing.size)
            if begin >= end:
                yield table
                continue
            first = int(table["start"][0])
            stop_here = int(table["start"][-1] + table["length"][-1])
            if begin > first:
                yield clip(table, first, begin)
            for below in backing.extents(begin, end):
                low, high = int(below["start"][0]), int(below["start"][-1] + below["length"][-1])
                yield overlay(clip(table, low, high), below, file_shift=self.own_files)
            if end < stop_here:
                yield clip(table, end, stop_here)

    def read_into(self, l1: U64Array, offset: int, view: memoryview, *, through: bool = True) -> None:
        """Fill ``view`` from guest ``offset``; the caller has checked the range.

        ``through`` False: what this image doesn't hold is zeros, whatever the backing image has.
        """
        self.check_readable()
        if through and self._read_inside_cluster(l1, offset, view):
            return
        position = offset
        for table in self.tables.rows(l1, offset, offset + len(view)):
            names = ("start", "length", "kind", "host", "stored")
            rows: list[Row] = list(zip(*(table[name].tolist() for name in names), strict=True))
            streams = Streams(self.storage, rows)
            for index, (start, length, kind, host, _) in enumerate(rows):
                piece = view[start - offset : start - offset + length]
                if kind == Kind.DATA:
                    read_padded(self.data, host, piece, self._lost_from())
                elif kind == Kind.COMPRESSED:
                    self._read_compressed(streams, index, piece)
                elif kind == Kind.ZERO or not through:
                    fill_zero(piece)
                else:
                    self.read_below(start, piece)
                position = start + length
        assert position == offset + len(view)

    def read_below(self, offset: int, view: memoryview) -> None:
        """What the backing image has there; zeros past its end or without one."""
        self._require_backing()
        held = 0
        if self.backing is not None and offset < self.backing.size:
            held = min(len(view), self.backing.size - offset)
            self.backing.read_into(offset, view[:held])
        fill_zero(view[held:])

    def forget(self) -> None:
        """Drop decoded clusters: their host clusters are about to be something else."""
        with self._lock:
            self._decoded.clear()

    def _require_backing(self) -> None:
        if self.backing is None and self.header.backing_file:
            raise self.missing or MissingError(
                "its backing image isn't open, and this part of the disk may lie there", path=self.storage.name
            )

    def _read_inside_cluster(self, l1: U64Array, offset: int, view: memoryview) -> bool:
        """The quick way for a read within one plain or unallocated cluster: no table of extents is built. False:
        take the long way."""
        geometry = self.geometry
        within = offset & (geometry.cluster_size - 1)
        if geometry.extended_l2 or geometry.data_file or within + len(view) > geometry.cluster_size or not len(view):
            return False
        index = offset // geometry.l2_coverage
        table_offset = int(l1[index] & OFFSET_MASK) if index < len(l1) else 0
        entry = 0
        if table_offset:
            table = self.tables.table(table_offset)
            entry = int(table[(offset >> geometry.cluster_bits) & (geometry.l2_entries - 1)])
        host = entry & int(OFFSET_MASK)
        if entry & int(COMPRESSED | ZERO_FLAG) or host & (geometry.cluster_size - 1):
            return False
        if not host:
            self.read_below(offset, view)
            return True
        read_padded(self.data, host + within, view, self._lost_from())
        return True

    def _lost_from(self) -> int | None:
        """The host offset from which data is not zeros but gone: QEMU lets the last cluster be short, no more.
        None with a data file, which may end anywhere."""
        return None if self.data is not self.storage else align_up(self.data.size, self.geometry.cluster_size)

    def _read_compressed(self, streams: Streams, index: int, view: memoryview) -> None:
        size = self.geometry.cluster_size
        start, _, _, host, stored = streams.rows[index]
        if len(view) == size:  # nobody will come back for it: neither looked up nor kept
            view[:] = self._decode_stream(streams.get(index), host)
            return
        within = start & (size - 1)
        with self._lock:
            cluster = self._decoded.get((host, stored))
        if cluster is None:
            cluster = self._decode_stream(streams.get(index), host)
            with self._lock:
                self._decoded[host, stored] = cluster
                while len(self._decoded) > _KEPT_CLUSTERS:
                    self._decoded.popitem(last=False)
        view[:] = memoryview(cluster)[within : within + len(view)]

    def decode_cluster(self, host: int, stored: int) -> bytes | bytearray:
        """One whole compressed cluster."""
        return self._decode_stream(Streams(self.storage, [(0, 0, Kind.COMPRESSED, host, stored)]).get(0), host)

    def _decode_stream(self, stream: memoryview, host: int) -> bytes | bytearray:
        try:
            return self._decode(stream, self.geometry.cluster_size)
        except CorruptImageError as error:
            raise CorruptImageError(
                f"a compressed cluster can't be decoded: {error.what}",
                path=self.storage.name,
                offset=host,
                found=error.found,
                expected=error.expected,
                hint="Its 'byre check' may be clean: the data itself is damaged.",
            ) from error


class Streams:
    """The compressed streams of some rows; those that follow each other in the file are read at once. Mutable: it
    holds what it read last."""

    def __init__(self, storage: Storage, rows: list[Row]) -> None:
        self.rows = rows
        self._storage = storage
        self._from = self._to = 0
        self._bytes = memoryview(b"")

    def get(self, index: int) -> memoryview:
        """The stream of a compressed row, and the padding that counts as part of it."""
        _, _, _, host, stored = self.rows[index]
        stop = min(host + stored, self._storage.size)
        if stop <= host:
            raise CorruptImageError(
                "a compressed cluster lies past the end of the file",
                path=self._storage.name,
                offset=host,
                expected=f"within {self._storage.size} bytes",
            )
        if not (self._from <= host and stop <= self._to):
            end = min(self._run(index), self._storage.size)
            buffer = bytearray(end - host)
            self._storage.read_into(host, buffer)
            self._from, self._to, self._bytes = host, end, memoryview(buffer)
        return self._bytes[host - self._from : stop - self._from]

    def _run(self, index: int) -> int:
        """Where the run of streams that begins with this one ends in the file."""
        _, _, _, begin, stored = self.rows[index]
        end = begin + stored
        for _, _, kind, host, more in self.rows[index + 1 :]:
            if kind != Kind.COMPRESSED or not begin <= host <= end or host + more - begin > _SPAN:
                break
            end = max(end, host + more)
        return end


def fill_zero(view: memoryview) -> None:
    """Overwrite with zeros."""
    for at in range(0, len(view), len(_ZEROS)):
        piece = view[at : at + len(_ZEROS)]
        piece[:] = _ZEROS[: len(piece)]


def read_padded(storage: Storage, host: int, view: memoryview, lost_from: int | None = None) -> None:
    """Read plain data; past the end of the file it is zeros, as for QEMU.

    CorruptImageError past ``lost_from``: there the file has been cut, and zeros would be a lie.
    """
    if lost_from is not None and host + len(view) > lost_from:
        raise CorruptImageError(
            "the file has been cut short: data of the disk lies past its end",
            path=storage.name,
            offset=max(host, storage.size),
            found=f"a file of {storage.size} bytes",
            expected=f"at least {host + len(view)} bytes",
            hint=f"Get a whole copy of it; 'byre check {storage.name}' counts what is missing.",
        )
    inside = min(len(view), max(0, storage.size - host))
    if inside:
        storage.read_into(host, view[:inside])
    if inside < len(view):
        fill_zero(view[inside:])


def check_range(name: str, offset: int, length: int, size: int) -> None:
    """Raise UsageError for a range that leaves the disk."""
    if offset < 0 or length < 0 or offset + length > size:
        raise UsageError(
            "the range leaves the disk", path=name, found=f"{offset}+{length}", expected=f"within {size} bytes"
        )
