"""The clusters of a qcow2 file seen as a disk, so that the pipeline can move them whatever they belong to.

Block n of such a disk is the n-th cluster (or compressed stream) of a sorted list; a ``ClusterWriter`` takes
the blocks and remembers the L2 entry that each one's copy needs.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from byre.disks.disk import SLICE_ROWS, Description, DiskDefaults
from byre.disks.qcow2.entries import (
    ZERO_FLAG,
    Geometry,
    I64Array,
    U64Array,
    compressed_lengths,
    compressed_offsets,
    make_compressed,
)
from byre.disks.qcow2.image import Qcow2Disk
from byre.disks.qcow2.packing import Allocator
from byre.disks.qcow2.reading import read_padded
from byre.disks.writer import BoolArray, Encoder, Int64Array, Placement
from byre.extents import ExtentTable, Kind, make_table, merge
from byre.storage.base import Storage


class HostDisk(DiskDefaults):
    """Clusters of one file in the order of a list. ``stored`` is None for plain clusters."""

    format = "qcow2"

    def __init__(self, disk: Qcow2Disk, hosts: I64Array, stored: I64Array | None) -> None:
        self._disk = disk
        self._hosts = hosts
        self._stored = stored
        self.block_size = disk.block_size
        self.size = len(hosts) * self.block_size

    @classmethod
    def of_clusters(cls, disk: Qcow2Disk, numbers: I64Array) -> HostDisk:
        """Plain clusters by their number in the file."""
        return cls(disk, numbers << (disk.block_size.bit_length() - 1), None)

    @classmethod
    def of_streams(cls, disk: Qcow2Disk, entries: U64Array) -> HostDisk:
        """Compressed clusters by their L2 entries."""
        geometry = disk.source.geometry
        return cls(disk, compressed_offsets(entries, geometry), compressed_lengths(entries, geometry))

    @property
    def files(self) -> tuple[Storage, ...]:
        return (self._disk.storage,)

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        end = self.size if stop is None else min(stop, self.size)
        first, last = start // self.block_size, end // self.block_size
        for at in range(first, last, SLICE_ROWS):
            part = slice(at, min(last, at + SLICE_ROWS))
            starts = np.arange(part.start, part.stop, dtype=np.int64) * self.block_size
            if self._stored is None:
                yield merge(make_table(starts, self.block_size, Kind.DATA, host=self._hosts[part], file=0, depth=0))
            else:
                yield make_table(
                    starts,
                    self.block_size,
                    Kind.COMPRESSED,
                    host=self._hosts[part],
                    stored=self._stored[part],
                    file=0,
                    depth=0,
                )

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer)
        for at in range(0, len(view), self.block_size):
            number = (offset + at) // self.block_size
            piece = view[at : at + self.block_size]
            host = int(self._hosts[number])
            if self._stored is None:
                read_padded(self._disk.storage, host, piece)
            else:
                piece[:] = self._disk.source.decode_cluster(host, int(self._stored[number]))

    def describe(self) -> Description:
        return Description(format=self.format, virtual_size=self.size)


class ClusterWriter:
    """Implements ``ImageWriter`` for a ``HostDisk``: fills ``entries`` (new L2 entries without COPIED) and
    ``lengths`` (bytes of compressed copies), both indexed by block. Writes no metadata."""

    def __init__(
        self,
        storage: Storage,
        allocator: Allocator,
        geometry: Geometry,
        encode: Encoder | None,
        entries: U64Array,
        lengths: I64Array,
    ) -> None:
        self.files: tuple[Storage, ...] = (storage,)
        self.block_size = geometry.cluster_size
        self.size = len(entries) * self.block_size
        self.encode = encode
        self._allocator = allocator
        self._geometry = geometry
        self._entries = entries
        self._lengths = lengths

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        host = np.empty(len(blocks), dtype=np.int64)
        host[~compressed] = self._clusters(int((~compressed).sum()))
        host[compressed] = self._allocator.pack(stored[compressed])
        entries = host.astype(np.uint64)
        entries[compressed] = make_compressed(host[compressed], stored[compressed], self._geometry)
        self._entries[blocks] = entries
        self._lengths[blocks] = stored
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=host)

    def place_zero(self, blocks: Int64Array) -> None:
        if self._geometry.zero_flag and not self._geometry.extended_l2:
            self._entries[blocks] = ZERO_FLAG
        else:  # no flag for it, or one for each subcluster: a cluster that stays a hole
            self._entries[blocks] = self._clusters(len(blocks)).astype(np.uint64)

    def finish(self) -> None:
        return None

    def _clusters(self, count: int) -> I64Array:
        hosts: I64Array = self._allocator.clusters(count) + np.arange(count, dtype=np.int64) * self.block_size
        return hosts
