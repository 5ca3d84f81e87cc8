"""Writing a streamOptimized VMDK: markers, compressed grains in ascending order, tables behind them, a footer.

Laid out as VMware's own export does it: after the grains of each grain table comes the table, after the last one
the grain directory, the footer and the end-of-stream marker, and then nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from byre.disks.vmdk import layout
from byre.disks.vmdk.descriptor import Descriptor, serialise_descriptor
from byre.disks.vmdk.grains import grain_compressor
from byre.disks.vmdk.layout import GRAIN_MARKER, SparseHeader
from byre.disks.vmdk.options import VmdkOptions
from byre.disks.vmdk.sparse_writer import DESCRIPTOR_SECTORS, MAX_SECTOR
from byre.disks.writer import BoolArray, Encoded, Encoder, Int64Array, Placement
from byre.errors import UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.units import SECTOR, align_up, ceil_div

OVERHEAD_SECTORS = 128
_TABLE_BYTES = layout.GTES_PER_GT * 4


class StreamWriter:
    """One streamOptimized file. Mutable: the entries of the grain table under way and the position."""

    def __init__(self, storage: Storage, size: int, descriptor: Descriptor, options: VmdkOptions) -> None:
        self.files: tuple[Storage, ...] = (storage,)
        self.size = size
        self.encode: Encoder | None = self._encode
        self.block_size = options.grain_size
        self._storage = storage
        self._compress = grain_compressor(options.level)
        self._header = SparseHeader(
            version=options.header_version,
            flags=layout.FLAG_NEWLINE_TEST | layout.FLAG_COMPRESSED | layout.FLAG_MARKERS,
            capacity=size // SECTOR,
            grain_size=options.grain_size // SECTOR,
            descriptor_offset=1,
            descriptor_size=DESCRIPTOR_SECTORS,
            gtes_per_gt=layout.GTES_PER_GT,
            rgd_offset=0,
            gd_offset=layout.GD_AT_END,
            overhead=OVERHEAD_SECTORS,
            unclean_shutdown=False,
            newline_test=layout.NEWLINE_TEST,
            compression=layout.COMPRESSION_DEFLATE,
        )
        tables = ceil_div(size // SECTOR, layout.GTES_PER_GT * self._header.grain_size)
        self._directory = np.zeros(tables, dtype="<u4")
        self._table = np.zeros(layout.GTES_PER_GT, dtype="<u4")
        self._table_index = -1
        self._last_block = -1
        self._next = OVERHEAD_SECTORS
        text = serialise_descriptor(descriptor)
        storage.write(0, self._header.pack() + text.ljust(DESCRIPTOR_SECTORS * SECTOR, b"\0"))

    def _encode(self, offset: int, block: memoryview) -> Encoded:
        """A grain behind its marker, padded to a sector. Always compressed: the format has no plain grains."""
        data = self._compress(block)
        marker = GRAIN_MARKER.pack(offset // SECTOR, len(data))
        length = align_up(GRAIN_MARKER.size + len(data), SECTOR)
        return Encoded(b"".join((marker, data, bytes(length - GRAIN_MARKER.size - len(data)))), compressed=True)

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        if not len(blocks):
            return Placement(file=np.zeros(0, dtype=np.int64), host=np.zeros(0, dtype=np.int64))
        if int(blocks[0]) <= self._last_block:
            raise UsageError("the grains of a stream must be written in ascending order", path=self._storage.name)
        self._last_block = int(blocks[-1])
        tables = blocks // layout.GTES_PER_GT
        sectors = stored // SECTOR
        host = np.empty(len(blocks), dtype=np.int64)
        heads = np.flatnonzero(np.diff(tables, prepend=-1))
        for head, tail in zip(heads.tolist(), [*heads[1:].tolist(), len(blocks)], strict=True):
            self._begin_table(int(tables[head]))
            lengths = sectors[head:tail]
            places = self._next + np.cumsum(lengths) - lengths
            self._next += int(lengths.sum())
            self._check_room()
            self._table[blocks[head:tail] % layout.GTES_PER_GT] = places
            host[head:tail] = places * SECTOR
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=host)

    def place_zero(self, blocks: Int64Array) -> None:
        return None  # a stream has no parent: what isn't there is zeros

    def finish(self) -> None:
        self._begin_table(-1)
        directory = self._directory.tobytes()
        sectors = ceil_div(len(directory), SECTOR)
        gd_offset = self._next + 1
        footer = replace(self._header, gd_offset=gd_offset)
        end = (
            layout.metadata_marker(sectors, layout.MARKER_GRAIN_DIRECTORY)
            + directory.ljust(sectors * SECTOR, b"\0")
            + layout.metadata_marker(1, layout.MARKER_FOOTER)
            + footer.pack()
            + layout.metadata_marker(0, layout.MARKER_END_OF_STREAM)
        )
        self._storage.write(self._next * SECTOR, end)
        self._next += len(end) // SECTOR
        self._check_room()

    def _begin_table(self, index: int) -> None:
        """Write the grain table under way, if it isn't ``index``, where the stream has got to."""
        if index == self._table_index:
            return
        if self._table_index >= 0:
            sectors = _TABLE_BYTES // SECTOR
            marker = layout.metadata_marker(sectors, layout.MARKER_GRAIN_TABLE)
            self._storage.write(self._next * SECTOR, marker + self._table.tobytes())
            self._directory[self._table_index] = self._next + 1
            self._next += 1 + sectors
            self._table[:] = 0
        self._table_index = index

    def _check_room(self) -> None:
        if self._next > MAX_SECTOR:
            raise UnsupportedError("a stream can't be larger than 2 TiB", path=self._storage.name)
