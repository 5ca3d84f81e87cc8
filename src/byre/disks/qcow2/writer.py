"""A new qcow2 image, written from start to end.

Host clusters are handed out in rising order: header, L1 table, then data with each group of L2 tables as soon
as it is complete, and last the refcounts, which are known by then. The header comes at the very end, so what
was not finished is no image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from byre.disks.qcow2.compressors import make_encoder
from byre.disks.qcow2.entries import (
    COPIED,
    ZERO_FLAG,
    I64Array,
    U64Array,
    decode_table,
    encode_table,
    make_compressed,
)
from byre.disks.qcow2.header import (
    COMPRESSION_TYPE,
    EXT_BACKING_FORMAT,
    EXT_DATA_FILE,
    EXT_FEATURE_NAMES,
    EXTENDED_L2,
    EXTERNAL_DATA_FILE,
    LAZY_REFCOUNTS,
    RAW_EXTERNAL_DATA,
    V2_LENGTH,
    Extension,
    Header,
    feature_name_table,
)
from byre.disks.qcow2.options import CreateOptions, parse_options
from byre.disks.qcow2.packing import Allocator
from byre.disks.qcow2.refcount_writer import write_refcounts
from byre.disks.qcow2.refcounts import max_refcount
from byre.disks.writer import BoolArray, Encoder, Int64Array, Placement, Target
from byre.errors import UsageError
from byre.storage.base import Storage
from byre.units import ceil_div

_TABLE_CHUNK = 4 << 20
"""Bytes of L2 tables that are built and written at once."""
_PENDING = 1 << 16
"""Entries that are collected before complete L2 tables are written."""
_ALL_SUBCLUSTERS = np.uint64(0xFFFF_FFFF)
_FEATURE_NAMES_FROM = 4096
"""The name table takes 400 bytes: too many for the first cluster where clusters are tiny."""

_QEMU_NAMES = {"vhd": "vpc"}
"""What the backing format extension calls formats for which Byre has another name."""


class Qcow2Writer:
    """Implements ``ImageWriter``. Mutable: it remembers entries until their L2 table is written."""

    def __init__(self, target: Target, size: int, options: CreateOptions) -> None:
        self.size = size
        self.block_size = options.cluster_size
        self.encode: Encoder | None = make_encoder(options.compression, options.level) if options.compress else None
        self._options = options
        self._storage = target.storage
        self.files: tuple[Storage, ...] = (self._storage,)
        if options.data_file is not None:
            self.files = (self._storage, target.extra(options.data_file))
        self._header = new_header(options, size)
        self._geometry = self._header.geometry
        self._header.pack()  # says at once where names don't fit
        self._l1 = np.zeros(self._header.l1_size, dtype=np.uint64)
        l1_clusters = ceil_div(len(self._l1) * 8, self.block_size)
        self._allocator = Allocator(options.cluster_bits, max_refcount(options.refcount_order))
        self._allocator.clusters(1 + l1_clusters)
        self._blocks = ceil_div(size, self.block_size)
        self._pending: list[tuple[Int64Array, U64Array, U64Array]] = []
        self._pending_rows = 0
        self._filled = 0  # L2 tables before this one are preallocated already

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        if len(self.files) > 1:
            host = blocks * self.block_size
            self._remember(blocks, host.astype(np.uint64) | COPIED, self._data_bitmap(len(blocks)))
            return Placement(file=np.ones(len(blocks), dtype=np.int64), host=host)
        host = np.empty(len(blocks), dtype=np.int64)
        plain = ~compressed
        if plain.all():
            host[:] = self._clusters(len(blocks))
            entries = host.astype(np.uint64) | COPIED
        else:
            host[plain] = self._clusters(int(plain.sum()))
            host[compressed] = self._allocator.pack(stored[compressed])
            entries = host.astype(np.uint64) | COPIED
            entries[compressed] = make_compressed(host[compressed], stored[compressed], self._geometry)
        bitmaps = self._data_bitmap(len(blocks))
        bitmaps[compressed] = 0
        self._remember(blocks, entries, bitmaps)
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=host)

    def place_zero(self, blocks: Int64Array) -> None:
        nothing = np.zeros(len(blocks), dtype=np.uint64)
        if self._geometry.extended_l2:
            self._remember(blocks, nothing, np.full(len(blocks), _ALL_SUBCLUSTERS << np.uint64(32)))
        elif self._geometry.zero_flag:
            self._remember(blocks, np.full(len(blocks), ZERO_FLAG), nothing)
        else:  # version 2 can't say zero: a cluster that is never written reads as zeros
            host = self._clusters(len(blocks))
            self._remember(blocks, host.astype(np.uint64) | COPIED, nothing)

    def finish(self) -> None:
        self._allocator.close_arena()
        self._write_tables(len(self._l1))
        if self._options.preallocation != "off":
            self._preallocate(len(self._l1))
        self._storage.write(self.block_size, encode_table(self._l1))
        offset, clusters = write_refcounts(
            self._storage, self._allocator.counts(), self._options.cluster_bits, self._options.refcount_order
        )
        header = replace(self._header, refcount_table_offset=offset, refcount_table_clusters=clusters)
        if len(self.files) > 1:
            self.files[1].truncate(self.size)
        self._storage.write(0, header.pack())

    def _clusters(self, count: int) -> I64Array:
        return self._allocator.clusters(count) + np.arange(count, dtype=np.int64) * self.block_size

    def _data_bitmap(self, count: int) -> U64Array:
        return np.full(count, _ALL_SUBCLUSTERS if self._geometry.extended_l2 else 0, dtype=np.uint64)

    def _remember(self, blocks: Int64Array, entries: U64Array, bitmaps: U64Array) -> None:
        if not len(blocks):
            return
        self._pending.append((blocks, entries, bitmaps))
        self._pending_rows += len(blocks)
        if self._pending_rows >= _PENDING:
            self._write_tables(int(blocks[0]) // self._geometry.l2_entries)

    def _write_tables(self, stop: int) -> None:
        """Write the L2 tables before number ``stop`` from the pending entries, the rest stays pending."""
        if not self._pending:
            return
        blocks, entries, bitmaps = (np.concatenate(column) for column in zip(*self._pending, strict=True))
        if (blocks[1:] < blocks[:-1]).any():
            order = np.argsort(blocks, kind="stable")
            blocks, entries, bitmaps = blocks[order], entries[order], bitmaps[order]
        split = int(np.searchsorted(blocks, stop * self._geometry.l2_entries))
        rest = (blocks[split:], entries[split:], bitmaps[split:])
        self._pending = [rest] if len(rest[0]) else []
        self._pending_rows = 0  # counts what is new, or a table that isn't complete would be tried at every call
        blocks, entries, bitmaps = blocks[:split], entries[:split], bitmaps[:split]
        numbers = blocks // self._geometry.l2_entries
        tables = np.unique(numbers)
        step = max(1, _TABLE_CHUNK // self.block_size)
        for at in range(0, len(tables), step):
            group = tables[at : at + step]
            if self._options.preallocation != "off":
                self._preallocate(int(group[0]))
            low, high = np.searchsorted(numbers, (group[0], group[-1] + 1))
            self._write_group(group, blocks[low:high], entries[low:high], bitmaps[low:high])

    def _write_group(self, group: Int64Array, blocks: Int64Array, entries: U64Array, bitmaps: U64Array) -> None:
        if self._options.preallocation != "off" and int(group[-1] - group[0]) >= len(group):
            for number in group.tolist():  # tables that were never mentioned lie between these
                self._preallocate(number)
                inside = blocks // self._geometry.l2_entries == number
                self._write_group(np.array([number]), blocks[inside], entries[inside], bitmaps[inside])
            return
        per_table = self._geometry.l2_entries
        content = np.zeros((len(group), per_table, 2), dtype=np.uint64)
        old = self._l1[group] != 0
        for row in np.flatnonzero(old).tolist():  # rare: blocks that came late
            content[row] = self._read_table(int(self._l1[group[row]] & ~COPIED))
        rows = np.searchsorted(group, blocks // per_table)
        content[rows, blocks % per_table, 0] = entries
        content[rows, blocks % per_table, 1] = bitmaps
        if self._options.preallocation != "off":
            self._fill_missing(content, group)
            self._filled = max(self._filled, int(group[-1]) + 1)
        fresh = np.flatnonzero(~old)
        if len(fresh):
            self._l1[group[fresh]] = self._clusters(len(fresh)).astype(np.uint64) | COPIED
            start = int(self._l1[group[fresh[0]]] & ~COPIED)
            self._storage.write(start, self._encode_tables(content[fresh]))
        for row in np.flatnonzero(old).tolist():
            self._storage.write(int(self._l1[group[row]] & ~COPIED), self._encode_tables(content[row : row + 1]))

    def _encode_tables(self, content: U64Array) -> bytes:
        return encode_table(content if self._geometry.extended_l2 else content[..., 0])

    def _read_table(self, offset: int) -> U64Array:
        words = decode_table(self._storage.read(offset, self.block_size))
        if self._geometry.extended_l2:
            return words.reshape(-1, 2)
        return np.stack((words, np.zeros_like(words)), axis=1)

    def _preallocate(self, stop: int) -> None:
        """Make full L2 tables for those before ``stop`` that nothing was placed in."""
        step = max(1, _TABLE_CHUNK // self.block_size)
        while self._filled < stop:
            group = np.arange(self._filled, min(stop, self._filled + step))
            self._filled = int(group[-1]) + 1
            group = group[self._l1[group] == 0]
            if len(group):
                nothing = np.zeros(0, dtype=np.int64)
                self._write_group(group, nothing, nothing.astype(np.uint64), nothing.astype(np.uint64))

    def _fill_missing(self, content: U64Array, group: Int64Array) -> None:
        """Give every cluster of these tables that has none a host cluster of its own."""
        numbers = group[:, None] * self._geometry.l2_entries + np.arange(self._geometry.l2_entries)
        missing = (content[..., 0] == 0) & (content[..., 1] == 0) & (numbers < self._blocks)
        count = int(missing.sum())
        if len(self.files) > 1:
            host = numbers[missing] * self.block_size
        else:
            host = self._clusters(count)
        content[missing, 0] = host.astype(np.uint64) | COPIED
        if self._geometry.extended_l2:
            content[missing, 1] = _ALL_SUBCLUSTERS
        if count:
            self._reserve(host)

    def _reserve(self, host: Int64Array) -> None:
        storage = self.files[-1]
        breaks = np.flatnonzero(np.diff(host) != self.block_size) + 1
        for run in np.split(host, breaks):
            start, stop = int(run[0]), int(run[-1]) + self.block_size
            if len(self.files) > 1:
                stop = min(stop, self.size)
            if self._options.preallocation == "full":
                for at in range(start, stop, 1 << 20):
                    storage.write(at, bytes(min(1 << 20, stop - at)))
            elif self._options.preallocation == "falloc" and not storage.preallocate(start, stop - start):
                raise UsageError("this file system can't reserve space", path=storage.name, hint="Use full instead.")


def create(target: Target, size: int, options: Mapping[str, object]) -> Qcow2Writer:
    """Begin a new image of ``size`` bytes in the target. Raises UsageError for what can't be."""
    return Qcow2Writer(target, size, parse_options(options, size))


def new_header(options: CreateOptions, size: int) -> Header:
    """The header of a new image whose L1 table follows it; refcounts and snapshots are filled in later."""
    incompatible = (
        (EXTENDED_L2 if options.extended_l2 else 0)
        | (COMPRESSION_TYPE if options.compression == "zstd" else 0)
        | (EXTERNAL_DATA_FILE if options.data_file is not None else 0)
    )
    entries = options.cluster_size // (16 if options.extended_l2 else 8)
    return Header(
        version=options.version,
        cluster_bits=options.cluster_bits,
        size=size,
        l1_size=ceil_div(size, entries * options.cluster_size),
        l1_table_offset=options.cluster_size,
        refcount_table_offset=0,
        refcount_table_clusters=0,
        incompatible=incompatible,
        compatible=LAZY_REFCOUNTS if options.lazy_refcounts else 0,
        autoclear=RAW_EXTERNAL_DATA if options.data_file_raw else 0,
        refcount_order=options.refcount_order,
        header_length=V2_LENGTH if options.version == 2 else 112,
        compression_type=1 if options.compression == "zstd" else 0,
        extensions=tuple(_extensions(options)),
        backing_file=None
        if options.backing_file is None
        else options.backing_file.encode("utf-8", "surrogateescape"),
    )


def _extensions(options: CreateOptions) -> list[Extension]:
    found = []
    if options.backing_format is not None:
        name = _QEMU_NAMES.get(options.backing_format, options.backing_format)
        found.append(Extension(EXT_BACKING_FORMAT, name.encode()))
    if options.data_file is not None:
        found.append(Extension(EXT_DATA_FILE, PurePath(options.data_file).name.encode("utf-8", "surrogateescape")))
    if options.version >= 3 and options.cluster_size >= _FEATURE_NAMES_FROM:
        found.append(Extension(EXT_FEATURE_NAMES, feature_name_table()))
    return found
