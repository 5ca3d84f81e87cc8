"""qcow2 to qcow2 with every internal snapshot and its machine state, sharing what they share.

Works on the image's own metadata: all host clusters that today's L1 table and the snapshots' reach are
collected, each is copied once, and the L2 tables are rewritten to where the copies lie. A cluster's refcount
is the number of ways from any L1 entry to it, so an L2 table that several L1 tables share counts for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from byre.convert.bitmaps import copy_bitmaps
from byre.convert.effort import Effort
from byre.convert.hostdisk import ClusterWriter, HostDisk
from byre.convert.pipeline import Copied, copy_disk
from byre.disks.disk import Disk
from byre.disks.qcow2.compressors import make_encoder
from byre.disks.qcow2.entries import (
    COMPRESSED,
    COPIED,
    OFFSET_MASK,
    ZERO_FLAG,
    Geometry,
    I64Array,
    U64Array,
    compressed_lengths,
    compressed_offsets,
    encode_table,
)
from byre.disks.qcow2.header import (
    BITMAPS,
    COMPRESSION_TYPE,
    DIRTY,
    EXT_BACKING_FORMAT,
    EXT_BITMAPS,
    LAZY_REFCOUNTS,
    V2_LENGTH,
    Header,
)
from byre.disks.qcow2.image import Qcow2Disk
from byre.disks.qcow2.options import CreateOptions, parse_options
from byre.disks.qcow2.packing import Allocator
from byre.disks.qcow2.refcount_writer import write_refcounts
from byre.disks.qcow2.refcounts import max_refcount
from byre.disks.qcow2.snapshot_table import pack_snapshot_table
from byre.disks.qcow2.tables import read_l1
from byre.disks.writer import Target
from byre.errors import CorruptImageError, UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.units import ceil_div

_TABLES_AT_ONCE = 8 << 20
"""Bytes of L2 tables that are looked at together."""
_CHANGEABLE = {"compress", "compression", "level", "refcount_bits", "lazy_refcounts", "version"}
"""Options that may differ from the source's: the rest would mean rewriting clusters, not copying them."""


def copy_with_snapshots(
    source: Disk,
    target: Target,
    options: Mapping[str, object],
    *,
    keep_backing: bool = False,
    left_out: Sequence[I64Array] = (),
    effort: Effort,
) -> tuple[Copied, int]:
    """Copy the image with all its snapshots into ``target``; returns what was copied and the snapshots kept.

    ``left_out``: for today's disk and then each snapshot the guest ranges (start, stop) that nobody needs; a
    cluster is left out where every state that reaches it through the same table agrees.

    Cluster size, extended L2 and, unless it is said, version and refcount width are the source's. Raises
    UsageError, UnsupportedError, CorruptImageError, StorageError.
    """
    disk = _checked_source(source, options, keep_backing, left_out)
    chosen = _options(disk, options)
    tree = _Tree(disk, left_out)
    layout = _Layout(tree, target.storage, chosen)
    copied = layout.copy_clusters(effort)
    layout.write_metadata()
    return copied, len(disk.snapshot_table)


def _checked_source(
    source: Disk, options: Mapping[str, object], keep_backing: bool, left_out: Sequence[I64Array]
) -> Qcow2Disk:
    name = source.files[0].name
    if not isinstance(source, Qcow2Disk):
        what = "a snapshot is no image with snapshots" if source.format == "qcow2" else f"{source.format} has none"
        raise UsageError(f"--with-snapshots copies whole qcow2 images: {what}", path=name)
    if source.source.own_files > 1:
        raise UnsupportedError("an image with an external data file has no snapshots to keep", path=name)
    if source.header.backing_file and not keep_backing:
        raise UnsupportedError(
            "snapshots over a backing image can't be flattened", path=name, hint="Keep it: --keep-backing."
        )
    for key in options:
        if key not in _CHANGEABLE | {"backing_file", "backing_format"}:
            raise UsageError(f"{key} can't be changed while snapshots are kept", path=name)
    if left_out and source.header.backing_file:
        raise UnsupportedError("over a backing image what is left out would show what lies below", path=name)
    source.source.check_readable()
    return source


def _options(disk: Qcow2Disk, options: Mapping[str, object]) -> CreateOptions:
    header = disk.header
    own: dict[str, object] = {
        "cluster_size": header.cluster_size,
        "extended_l2": disk.source.geometry.extended_l2,
        "version": header.version,
        "refcount_bits": header.refcount_bits,
        "lazy_refcounts": bool(header.compatible & LAZY_REFCOUNTS),
        "compression": "zstd" if header.compression_type else "zlib",
    }
    chosen = parse_options({**own, **options}, 0)
    if chosen.version < header.version:
        raise UsageError("version 3 can't become version 2 while snapshots are kept", path=disk.storage.name)
    if chosen.compress and chosen.extended_l2:
        raise UnsupportedError(
            "clusters with subclusters can't be compressed while snapshots are kept", path=disk.storage.name
        )
    return chosen


class _Tree:
    """All that the image references: L1 tables, distinct L2 tables, distinct clusters, each with its count."""

    def __init__(self, disk: Qcow2Disk, left_out: Sequence[I64Array] = ()) -> None:
        self.disk = disk
        self._left_out = left_out
        self.storage = disk.storage
        self.geometry: Geometry = disk.source.geometry
        self.l1_tables = [disk.l1] + [
            read_l1(
                disk.storage,
                self.geometry,
                entry.l1_table_offset,
                entry.l1_size,
                what=f"the L1 table of {entry.info.name!r}",
            )
            for entry in disk.snapshot_table
        ]
        pointers = np.concatenate([table & OFFSET_MASK for table in self.l1_tables])
        self.l2_offsets, self.l2_counts = np.unique(pointers[pointers != 0], return_counts=True)
        for offset in (self.l2_offsets[:1], self.l2_offsets[-1:]):
            for value in offset.tolist():
                disk.source.tables.check_offset(value)
        self._users = self._who_uses() if left_out else {}
        active = disk.l1 & OFFSET_MASK
        self.l2_active = np.isin(self.l2_offsets, active[active != 0])
        self.clusters, self.cluster_counts, self.streams, self.stream_counts = self._collect()

    def tables(self) -> Iterator[tuple[slice, U64Array]]:
        """The L2 tables in slices: which of ``l2_offsets``, and their content (table, entry, column)."""
        size = self.geometry.cluster_size
        step = max(1, _TABLES_AT_ONCE // size)
        for at in range(0, len(self.l2_offsets), step):
            offsets = self.l2_offsets[at : at + step]
            data = bytearray(len(offsets) * size)
            view = memoryview(data)
            for row, offset in enumerate(offsets.tolist()):
                self.disk.source.tables.check_offset(offset)
                self.storage.read_into(offset, view[row * size : (row + 1) * size])
            words = np.frombuffer(data, dtype=">u8").astype(np.uint64)
            columns = 2 if self.geometry.extended_l2 else 1
            content = words.reshape(len(offsets), -1, columns)
            for row in range(len(offsets)) if self._left_out else ():
                content[row, self._unneeded(int(offsets[row]))] = 0
            yield slice(at, at + len(offsets)), content

    def _who_uses(self) -> dict[int, list[tuple[int, int]]]:
        """L2 table → the states that reach it, and the index in their L1 tables."""
        users: dict[int, list[tuple[int, int]]] = {}
        for state, table in enumerate(self.l1_tables):
            for index in np.flatnonzero(table & OFFSET_MASK).tolist():
                users.setdefault(int(table[index] & OFFSET_MASK), []).append((state, index))
        return users

    def _unneeded(self, offset: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which entries of an L2 table map clusters that none of its users needs."""
        size = self.geometry.cluster_size
        count = self.geometry.l2_coverage // size
        unneeded = np.ones(count, dtype=np.bool_)
        for state, index in self._users[offset]:
            ranges = self._left_out[state]
            clusters = index * self.geometry.l2_coverage + np.arange(count, dtype=np.int64) * size
            at = np.searchsorted(ranges[:, 0], clusters, side="right") - 1
            stops = ranges[:, 1][np.maximum(at, 0)] if len(ranges) else np.zeros(count, dtype=np.int64)
            unneeded &= (at >= 0) & (clusters + size <= stops)
        return unneeded

    def _collect(self) -> tuple[I64Array, I64Array, U64Array, I64Array]:
        total = ceil_div(self.storage.size, self.geometry.cluster_size)
        counts = np.zeros(total, dtype=np.uint32)
        streams = np.zeros(0, dtype=np.uint64)
        stream_counts = np.zeros(0, dtype=np.int64)
        for where, content in self.tables():
            entries = content[..., 0]
            weights = np.broadcast_to(self.l2_counts[where][:, None], entries.shape)
            plain = has_cluster(entries, self.geometry)
            numbers = (entries[plain] & OFFSET_MASK) >> np.uint64(self.geometry.cluster_bits)
            self._check(numbers, entries[plain], total)
            np.add.at(counts, numbers.astype(np.int64), weights[plain].astype(np.uint32))
            packed = (entries & COMPRESSED) != 0
            found = np.concatenate((streams, entries[packed] & ~COPIED))
            weight = np.concatenate((stream_counts, weights[packed]))
            streams, where_to = np.unique(found, return_inverse=True)
            stream_counts = np.bincount(where_to, weights=weight, minlength=len(streams)).astype(np.int64)
        if len(streams) and int(compressed_offsets(streams, self.geometry).max()) >= self.storage.size:
            raise CorruptImageError("a compressed cluster lies past the end of the file", path=self.storage.name)
        clusters = np.flatnonzero(counts)
        return clusters, counts[clusters].astype(np.int64), streams, stream_counts

    def _check(self, numbers: U64Array, entries: U64Array, total: int) -> None:
        aligned = (entries & OFFSET_MASK & np.uint64(self.geometry.cluster_size - 1)) == 0
        if len(numbers) and (int(numbers.max()) >= total or not aligned.all()):
            raise CorruptImageError(
                "an L2 entry points where no cluster can be",
                path=self.storage.name,
                expected=f"whole clusters within {self.storage.size} bytes",
                hint=f"Run 'byre check {self.storage.name}'.",
            )


def has_cluster(entries: U64Array, geometry: Geometry) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which entries name a plain host cluster whose bytes matter: not those that are zeros by their flag."""
    holds: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = ((entries & COMPRESSED) == 0) & (
        (entries & OFFSET_MASK) != 0
    )
    if geometry.zero_flag and not geometry.extended_l2:
        holds &= (entries & ZERO_FLAG) == 0
    return holds


class _Layout:
    """The new image: where everything goes. Mutable: it is filled step by step."""

    def __init__(self, tree: _Tree, storage: Storage, options: CreateOptions) -> None:
        self._tree = tree
        self._storage = storage
        self._options = options
        self._bits = options.cluster_bits
        most = max_refcount(options.refcount_order)
        heaviest = max(
            int(counts.max(initial=1)) for counts in (tree.cluster_counts, tree.stream_counts, tree.l2_counts)
        )
        if heaviest > most:
            raise UsageError(
                "the refcounts are too narrow for the shared clusters",
                path=storage.name,
                found=f"{heaviest} references",
                hint="Choose more refcount_bits.",
            )
        self._allocator = Allocator(self._bits, most // heaviest)
        self._allocator.clusters(1)
        size = 1 << self._bits
        self._l1_offsets = [
            self._allocator.clusters(max(1, ceil_div(len(table) * 8, size))) for table in tree.l1_tables
        ]
        self._new_clusters = np.zeros(len(tree.clusters), dtype=np.uint64)
        self._new_streams = np.zeros(len(tree.streams), dtype=np.uint64)
        self._stream_lengths = np.zeros(len(tree.streams), dtype=np.int64)
        self._cluster_lengths = np.zeros(len(tree.clusters), dtype=np.int64)

    def copy_clusters(self, effort: Effort) -> Copied:
        """Copy the plain clusters, then the compressed streams, each once."""
        tree, options = self._tree, self._options
        geometry = replace(tree.geometry, zero_flag=options.version >= 3)
        encode = make_encoder(options.compression, options.level) if options.compress else None
        plain = HostDisk.of_clusters(tree.disk, tree.clusters)
        writer = ClusterWriter(
            self._storage, self._allocator, geometry, encode, self._new_clusters, self._cluster_lengths
        )
        total = copy_disk(plain, writer, keep_backing=True, effort=effort)
        if not len(tree.streams):
            return total
        if options.compression == ("zstd" if tree.disk.header.compression_type else "zlib"):
            done = self._copy_streams(effort)
        else:
            again = make_encoder(options.compression, options.level)
            streams = HostDisk.of_streams(tree.disk, tree.streams)
            writer = ClusterWriter(
                self._storage, self._allocator, geometry, again, self._new_streams, self._stream_lengths
            )
            done = copy_disk(streams, writer, keep_backing=True, effort=effort)
        return total + done

    def _copy_streams(self, effort: Effort) -> Copied:
        """Streams of the right kind are copied as they stand, to the end of their last sector."""
        from byre.disks.qcow2.entries import make_compressed

        tree, size = self._tree, 1 << self._bits
        offsets = compressed_offsets(tree.streams, tree.geometry)
        lengths = compressed_lengths(tree.streams, tree.geometry)
        lengths = np.minimum(lengths, tree.storage.size - offsets)
        for index in np.flatnonzero(lengths > size).tolist():
            # The sectors are more than a cluster, the stream itself hardly ever is.
            tree.disk.source.decode_cluster(int(offsets[index]), size)
        lengths = np.minimum(lengths, size)
        order = np.argsort(offsets, kind="stable")
        written = 0
        for at in range(0, len(order), 256):
            effort.check(tree.storage.name)
            some = order[at : at + 256]
            host = self._allocator.pack(lengths[some])
            for old, new, length in zip(offsets[some].tolist(), host.tolist(), lengths[some].tolist(), strict=True):
                self._storage.write(new, tree.storage.read(old, length))
            self._new_streams[some] = make_compressed(host, lengths[some], tree.geometry)
            written += int(lengths[some].sum())
            effort.done(len(some) << self._bits)
        self._stream_lengths[:] = lengths
        return Copied(len(order) << self._bits, written, 0)

    def write_metadata(self) -> None:
        """L2 and L1 tables, snapshot table, refcounts, and the header last."""
        tree, allocator = self._tree, self._allocator
        allocator.close_arena()
        first_table = allocator.clusters(len(tree.l2_offsets)) if len(tree.l2_offsets) else 0
        new_tables = first_table + np.arange(len(tree.l2_offsets), dtype=np.int64) * (1 << self._bits)
        self._write_l2(new_tables)
        for index, (table, offset) in enumerate(zip(tree.l1_tables, self._l1_offsets, strict=True)):
            self._storage.write(offset, encode_table(self._new_l1(table, new_tables, active=index == 0)))
        snapshots = tuple(
            replace(
                entry,
                l1_table_offset=offset,
                disk_size=tree.disk.size if entry.disk_size is None else entry.disk_size,
            )
            for entry, offset in zip(tree.disk.snapshot_table, self._l1_offsets[1:], strict=True)
        )
        packed = pack_snapshot_table(snapshots)
        snapshots_offset = allocator.clusters(ceil_div(len(packed), 1 << self._bits)) if packed else 0
        if packed:
            self._storage.write(snapshots_offset, packed)
        bitmaps = copy_bitmaps(tree.disk, self._storage, allocator)
        counts = allocator.counts().astype(np.uint64)
        self._count(counts)
        counts[new_tables >> self._bits] = tree.l2_counts
        table_offset, table_clusters = write_refcounts(
            self._storage, counts, self._bits, self._options.refcount_order
        )
        header = self._header(snapshots_offset, len(snapshots), table_offset, table_clusters)
        header = header.with_extension(EXT_BITMAPS, bitmaps)
        header = replace(header, autoclear=BITMAPS if bitmaps is not None else 0)
        self._storage.write(0, header.pack())

    def _write_l2(self, new_tables: I64Array) -> None:
        tree = self._tree
        for where, content in tree.tables():
            entries = content[..., 0]
            plain = has_cluster(entries, tree.geometry)
            packed = (entries & COMPRESSED) != 0
            fresh = entries & ZERO_FLAG if tree.geometry.zero_flag and not tree.geometry.extended_l2 else entries * 0
            numbers = ((entries[plain] & OFFSET_MASK) >> np.uint64(self._bits)).astype(np.int64)
            at = np.searchsorted(tree.clusters, numbers)
            fresh[plain] = self._with_copied(self._new_clusters[at], tree.cluster_counts[at])
            at = np.searchsorted(tree.streams, entries[packed] & ~COPIED)
            fresh[packed] = self._with_copied(self._new_streams[at], tree.stream_counts[at])
            inactive = ~tree.l2_active[where]
            fresh[inactive] &= ~COPIED
            content[..., 0] = fresh
            data = encode_table(content.reshape(-1))
            self._storage.write(int(new_tables[where.start]), data)

    @staticmethod
    def _with_copied(entries: U64Array, counts: I64Array) -> U64Array:
        single = (counts == 1) & ((entries & COMPRESSED) == 0) & ((entries & OFFSET_MASK) != 0)
        result: U64Array = np.where(single, entries | COPIED, entries)
        return result

    def _new_l1(self, table: U64Array, new_tables: I64Array, *, active: bool) -> U64Array:
        fresh = np.zeros_like(table)
        old = table & OFFSET_MASK
        held = old != 0
        at = np.searchsorted(self._tree.l2_offsets, old[held])
        values = new_tables[at].astype(np.uint64)
        if active:
            values[self._tree.l2_counts[at] == 1] |= COPIED
        fresh[held] = values
        return fresh

    def _count(self, counts: U64Array) -> None:
        """Give the clusters that data went to the references that the source's clusters had."""
        geometry = self._tree.geometry
        counted = (
            (self._new_clusters, self._tree.cluster_counts, self._cluster_lengths),
            (self._new_streams, self._tree.stream_counts, self._stream_lengths),
        )
        for entries, _, _ in counted:  # first forget what the allocator counted for streams
            packed = (entries & COMPRESSED) != 0
            hosts = compressed_offsets(entries[packed], geometry)
            counts[hosts >> self._bits] = 0
        for entries, _, lengths in counted:
            packed = (entries & COMPRESSED) != 0
            ends = compressed_offsets(entries[packed], geometry) + lengths[packed] - 1
            counts[ends >> self._bits] = 0
        for entries, weights, lengths in counted:
            packed = (entries & COMPRESSED) != 0
            plain = ~packed & ((entries & OFFSET_MASK) != 0)
            counts[((entries[plain] & OFFSET_MASK) >> np.uint64(self._bits)).astype(np.int64)] = weights[plain]
            hosts = compressed_offsets(entries[packed], geometry)
            first, last = hosts >> self._bits, (hosts + lengths[packed] - 1) >> self._bits
            weight = weights[packed].astype(np.uint64)
            np.add.at(counts, first, weight)
            crossing = last > first
            np.add.at(counts, last[crossing], weight[crossing])

    def _header(self, snapshots_offset: int, count: int, table_offset: int, table_clusters: int) -> Header:
        old, options = self._tree.disk.header, self._options
        zstd = options.compression == "zstd"
        incompatible = old.incompatible & ~(COMPRESSION_TYPE | DIRTY) | (COMPRESSION_TYPE if zstd else 0)
        header = replace(
            old,
            version=options.version,
            l1_size=len(self._tree.l1_tables[0]),
            l1_table_offset=self._l1_offsets[0],
            refcount_table_offset=table_offset,
            refcount_table_clusters=table_clusters,
            nb_snapshots=count,
            snapshots_offset=snapshots_offset,
            incompatible=incompatible,
            compatible=LAZY_REFCOUNTS if options.lazy_refcounts else 0,
            refcount_order=options.refcount_order,
            header_length=V2_LENGTH if options.version == 2 else max(112, old.header_length),
            compression_type=1 if zstd else 0,
        )
        if options.backing_file is not None:
            header = replace(header, backing_file=options.backing_file.encode("utf-8", "surrogateescape"))
            if header.extension(EXT_BACKING_FORMAT) is None and options.backing_format is not None:
                header = header.with_extension(EXT_BACKING_FORMAT, options.backing_format.encode())
        return header
