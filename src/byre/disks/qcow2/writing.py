"""Random writes: in place where a cluster is ours alone, else into a new one.

What may be written in place is decided by COPIED and the refcount together; everything else (shared with a
snapshot, compressed, zero, unallocated) gets a new cluster, whose content is complete before an entry points
to it. Source: docs/interop/qcow2.txt; the order of writes is in ``metadata_writer``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from byre.disks.context import OpenContext
from byre.disks.qcow2.entries import (
    COPIED,
    OFFSET_MASK,
    SUBCLUSTERS,
    ZERO_FLAG,
    ClusterType,
    I64Array,
    U8Array,
    U64Array,
    classify,
    compressed_lengths,
    compressed_offsets,
    host_offsets,
)
from byre.disks.qcow2.header import CORRUPT, RAW_EXTERNAL_DATA
from byre.disks.qcow2.image import Qcow2Disk
from byre.disks.qcow2.mapping import map_entries
from byre.disks.qcow2.metadata_writer import MetadataWriter
from byre.disks.qcow2.reading import Source, check_range
from byre.disks.qcow2.snapshot_table import Snapshot
from byre.disks.writer import BoolArray
from byre.errors import CorruptImageError, StorageError
from byre.storage.base import Buffer
from byre.units import align_down, align_up

_ALL_ALLOCATED = np.uint64(0xFFFF_FFFF)
_ALL_ZERO = np.uint64(0xFFFF_FFFF << 32)
_NOTHING_BELOW = 0
_ZERO_PIECE = 1 << 20


class WritableQcow2Disk(Qcow2Disk):
    """A qcow2 image that takes writes. Mutable. ``flush`` or ``close`` makes them durable."""

    writable = True

    def __init__(
        self, source: Source, l1: U64Array, snapshot_table: tuple[Snapshot, ...], context: OpenContext
    ) -> None:
        super().__init__(source, l1, snapshot_table, context)
        check_writable(source, metadata_only=context.options.metadata_only)
        self.metadata = MetadataWriter(source, l1, snapshot_table)
        self._geometry = source.geometry
        self._bits = source.geometry.cluster_bits
        self._cluster = source.geometry.cluster_size

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        check_range(self.storage.name, offset, len(view), self.size)
        if not len(view):
            return
        self.metadata.begin()
        for start, length in self._spans(offset, offset + len(view)):
            piece = view[start - offset : start - offset + length]
            if start % self._cluster or length % self._cluster:
                self._write_partial(start, piece)
            else:
                self._write_clusters(start, piece)
            self.metadata.commit_if_large()

    def write_zeroes(self, offset: int, length: int) -> None:
        self._make_zero(offset, length, must=True)

    def discard(self, offset: int, length: int) -> None:
        self._make_zero(offset, length, must=False)

    def flush(self) -> None:
        self.metadata.commit()

    def zeroes_take_data(self, offset: int) -> bool:
        """Whether zeros from ``offset`` on, to the end of a cluster, have to be written as data; else the tables
        alone can say them."""
        if not self._geometry.zero_flag and not self._geometry.extended_l2 and offset < self._below:
            return True  # version 2 can't hide a backing image otherwise
        if not offset % self._geometry.subcluster_size:
            return False
        guest = align_down(offset, self._cluster)
        entries, bitmaps = self._entries(guest, 1)
        return not self._reads_as_zero(guest, int(classify(entries, self._geometry, bitmaps)[0]))

    def hold(self) -> None:
        """Let nothing of what is written from now on show in the file before ``release``: a kill in between leaves
        the disk as it is now. Needs a snapshot taken just before; UsageError otherwise."""
        self.metadata.hold()

    def release(self) -> None:
        """Show all that was written since ``hold`` at once, durably."""
        self.metadata.release()
        self.l1 = self.metadata.l1

    def grow_l1(self, entries: int) -> None:
        """Give the L1 table room for ``entries``; the size of the disk stays as it is."""
        self.metadata.grow_l1(entries)
        self.l1 = self.metadata.l1

    def close(self) -> None:
        try:
            self.metadata.commit()
        finally:
            super().close()

    def _spans(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """(guest offset, length) of pieces that lie in one L2 table and are whole clusters or part of one."""
        position = start
        while position < stop:
            whole = align_down(stop, self._cluster)
            if position % self._cluster or whole <= position:
                end = min(stop, align_down(position, self._cluster) + self._cluster)
            else:
                coverage = self._geometry.l2_coverage
                end = min(whole, align_down(position, coverage) + coverage)
            yield position, end - position
            position = end

    def _entries(self, guest: int, count: int) -> tuple[U64Array, U64Array]:
        """(entries, subcluster bitmaps) of ``count`` clusters of one L2 table, copies."""
        index, first = self._place(guest)
        offset = int(self.l1[index] & OFFSET_MASK)
        if not offset:
            return np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
        rows = self.source.tables.table(offset)[first : first + count].copy()
        map_entries(self.source.tables.layout, rows, align_down(guest, self._cluster))  # refuses what can't be
        if self._geometry.extended_l2:
            return rows[:, 0], rows[:, 1]
        return rows, np.zeros(count, dtype=np.uint64)

    def _set_entries(self, guest: int, which: BoolArray, entries: U64Array, bitmaps: U64Array) -> None:
        """Replace the entries from ``guest`` on where ``which``."""
        index, first = self._place(guest)
        offset, table = self.metadata.writable_table(index)
        rows = table[first : first + len(which)]
        if self._geometry.extended_l2:
            rows[which, 0] = entries[which]
            rows[which, 1] = bitmaps[which]
        else:
            rows[which] = entries[which]
        self.metadata.changed(offset, first, first + len(which))

    def _place(self, guest: int) -> tuple[int, int]:
        """(L1 index, L2 index) of a guest offset."""
        return guest // self._geometry.l2_coverage, (guest >> self._bits) & (self._geometry.l2_entries - 1)

    def _exclusive(self, entries: U64Array, kinds: U8Array) -> BoolArray:
        """Which clusters may be written in place: they have a host cluster and it is theirs alone."""
        held = (kinds == ClusterType.DATA) | (kinds == ClusterType.ZERO_ALLOCATED)
        if self._geometry.data_file:
            return np.ones(len(entries), dtype=bool)
        ours: BoolArray = held & ((entries & COPIED) != 0)
        hosts = host_offsets(entries)
        counts = self.metadata.allocator.refcounts(hosts[ours] >> self._bits)
        if (counts != 1).any():
            wrong = int(np.argmax(counts != 1))
            raise self.metadata.miscounted("data cluster", int(hosts[ours][wrong]), int(counts[wrong]))
        return ours

    def _write_clusters(self, guest: int, view: memoryview) -> None:
        """Whole clusters of one L2 table."""
        self.source.check_readable()
        count = len(view) >> self._bits
        entries, bitmaps = self._entries(guest, count)
        kinds = classify(entries, self._geometry, bitmaps)
        ours = self._exclusive(entries, kinds)
        plain = ours & (kinds == ClusterType.DATA)
        if self._geometry.extended_l2:
            plain &= bitmaps == _ALL_ALLOCATED
        hosts = host_offsets(entries)
        if self._geometry.data_file:
            hosts = guest + np.arange(count, dtype=np.int64) * self._cluster
        new = self.metadata.allocator.allocate(int((~ours).sum()))
        hosts[~ours] = new << self._bits
        try:
            self._write_runs(hosts, view)
        except BaseException:
            self.metadata.allocator.drop(new)  # nothing points to them
            raise
        if not plain.all():
            full = np.full(count, _ALL_ALLOCATED)
            self._set_entries(guest, ~plain, hosts.astype(np.uint64) | COPIED, full)
            self._drop_entries(entries[~ours])

    def _write_runs(self, hosts: I64Array, view: memoryview) -> None:
        self.metadata.touched()
        edges = np.flatnonzero(np.diff(hosts) != self._cluster) + 1
        for first, after in zip([0, *edges.tolist()], [*edges.tolist(), len(hosts)], strict=True):
            self.source.data.write(int(hosts[first]), view[first << self._bits : after << self._bits])

    def _write_partial(self, offset: int, view: memoryview) -> None:
        """Part of one cluster: what the rest of it holds comes along when it needs a new place."""
        self.source.check_readable()
        guest = align_down(offset, self._cluster)
        within = offset - guest
        entries, bitmaps = self._entries(guest, 1)
        kinds = classify(entries, self._geometry, bitmaps)
        ours = bool(self._exclusive(entries, kinds)[0])
        low, high = self._subclusters(within, within + len(view))
        touched = _bits(low, high)
        alloc = int(bitmaps[0]) & 0xFFFF_FFFF if self._geometry.extended_l2 else 0
        held = kinds[0] == ClusterType.DATA
        host = guest if self._geometry.data_file else int(host_offsets(entries)[0])
        if ours and held and (not self._geometry.extended_l2 or touched & ~alloc == 0):
            self.metadata.touched()
            self.source.data.write(host + within, view)
            return
        step = self._geometry.subcluster_size
        if (held and self._geometry.extended_l2 and not ours) or kinds[0] == ClusterType.COMPRESSED:
            low, high = 0, self._cluster // step  # everything that the old cluster holds moves
        content = self._content(guest, low * step, high * step)
        content[within - low * step : within - low * step + len(view)] = view
        bitmap = self._bitmap_after(int(bitmaps[0]), int(kinds[0]), touched)
        self._put_cluster(guest, entries, None if not ours else host, low * step, content, bitmap)

    def _bitmap_after(self, bitmap: int, kind: int, touched: int) -> int:
        """The subcluster bitmap once ``touched`` is written: those bits allocated, the others as they were."""
        if not self._geometry.extended_l2:
            return 0
        if kind == ClusterType.COMPRESSED:
            return 0xFFFF_FFFF
        return (bitmap | touched) & ~(touched << 32)

    def _put_cluster(
        self, guest: int, entries: U64Array, host: int | None, at: int, content: bytearray, bitmap: int
    ) -> None:
        """Write ``content`` at ``at`` within a cluster (a new one where ``host`` is None), then point to it."""
        new = np.zeros(0, dtype=np.int64)
        if host is None:
            new = self.metadata.allocator.allocate(1)
            host = int(new[0]) << self._bits
        try:
            self.metadata.touched()
            self.source.data.write(host + at, content)
        except BaseException:
            self.metadata.allocator.drop(new)
            raise
        entry = np.array([host], dtype=np.uint64) | COPIED
        self._set_entries(guest, np.ones(1, dtype=bool), entry, np.array([bitmap], dtype=np.uint64))
        if len(new):
            self._drop_entries(entries)

    def _content(self, guest: int, low: int, high: int) -> bytearray:
        """What the guest sees of bytes ``[low, high)`` of a cluster; zeros past the end of the disk."""
        content = bytearray(high - low)
        inside = max(0, min(high - low, self.size - guest - low))
        if inside:
            self.source.read_into(self.l1, guest + low, memoryview(content)[:inside])
        return content

    def _drop_entries(self, entries: U64Array) -> None:
        """The host clusters that these entries pointed to lose a reference."""
        if self._geometry.data_file or not len(entries):
            return
        kinds = classify(entries, self._geometry, np.zeros(len(entries), dtype=np.uint64))
        plain = (kinds == ClusterType.DATA) | (kinds == ClusterType.ZERO_ALLOCATED)
        self.metadata.drop(host_offsets(entries[plain]) >> self._bits)
        packed = entries[kinds == ClusterType.COMPRESSED]
        if len(packed):
            starts = compressed_offsets(packed, self._geometry)
            first = starts >> self._bits
            last = (starts + compressed_lengths(packed, self._geometry) - 1) >> self._bits
            counts = last - first + 1
            steps = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
            self.metadata.drop(np.repeat(first, counts) + steps)

    def _subclusters(self, start: int, stop: int) -> tuple[int, int]:
        """The subclusters ``[first, after)`` that bytes ``[start, stop)`` of a cluster touch."""
        step = self._geometry.subcluster_size
        return start // step, -(-stop // step)

    # Zeros.

    def _make_zero(self, offset: int, length: int, *, must: bool) -> None:
        check_range(self.storage.name, offset, length, self.size)
        if not length:
            return
        self.metadata.begin()
        stop = offset + length
        if stop == self.size:
            stop = align_up(stop, self._cluster)  # nothing but padding follows
        for start, span in self._spans(offset, stop):
            index = start // self._geometry.l2_coverage
            if not self.l1[index] & OFFSET_MASK and start >= self._below and not self._raw_data:
                continue
            if start % self._cluster or span % self._cluster:
                self._zero_partial(start, span, must=must)
            else:
                self._zero_clusters(start, span >> self._bits, must=must)
            self.metadata.commit_if_large()

    @property
    def _below(self) -> int:
        """Guest offset up to which something may show through from the backing image."""
        if self.source.backing is not None:
            return self.source.backing.size
        return self.size if self.header.backing_file else _NOTHING_BELOW

    @property
    def _raw_data(self) -> bool:
        """The data file is a raw image of the disk too, so zeros must be in it as well."""
        return self._geometry.data_file and bool(self.header.autoclear & RAW_EXTERNAL_DATA)

    def _zero_clusters(self, guest: int, count: int, *, must: bool) -> None:
        """Whole clusters of one L2 table."""
        entries, bitmaps = self._entries(guest, count)
        kinds = classify(entries, self._geometry, bitmaps)
        backed = guest + np.arange(count, dtype=np.int64) * self._cluster < self._below
        gone = (kinds == ClusterType.UNALLOCATED) & ~backed
        flagged = self._geometry.zero_flag or self._geometry.extended_l2
        if self._geometry.extended_l2:
            done = gone | ((bitmaps == _ALL_ZERO) & (kinds == ClusterType.ZERO))
            targets, target_bitmaps = np.zeros(count, dtype=np.uint64), np.where(backed, _ALL_ZERO, np.uint64(0))
        else:
            done = gone | (kinds == ClusterType.ZERO)
            targets, target_bitmaps = np.where(backed, ZERO_FLAG, np.uint64(0)), bitmaps
        if self._raw_data:
            self._zero_data(guest, count << self._bits)
        changed = ~done if flagged else ~done & ~backed
        if changed.any():
            self._set_entries(guest, changed, targets, target_bitmaps)
            self._drop_entries(entries[changed])
        if not flagged and must:
            self._write_zero_runs(guest, ~done & backed)

    def _write_zero_runs(self, guest: int, which: BoolArray) -> None:
        """Zeros as data: version 2 has no other way to hide a backing image."""
        zeros = memoryview(bytes(max(_ZERO_PIECE, self._cluster)))
        for run in np.split(np.flatnonzero(which), np.flatnonzero(np.diff(np.flatnonzero(which)) != 1) + 1):
            if not len(run):
                continue
            start, stop = guest + (int(run[0]) << self._bits), guest + ((int(run[-1]) + 1) << self._bits)
            for position in range(start, stop, len(zeros)):
                self._write_clusters(position, zeros[: stop - position])

    def _zero_partial(self, offset: int, length: int, *, must: bool) -> None:
        """Part of one cluster: subclusters by their bitmap, the rest as data or, for a discard, not at all."""
        guest = align_down(offset, self._cluster)
        start, stop = offset - guest, offset - guest + length
        entries, bitmaps = self._entries(guest, 1)
        kind = int(classify(entries, self._geometry, bitmaps)[0])
        if self._geometry.extended_l2 and kind != ClusterType.COMPRESSED:
            step = self._geometry.subcluster_size
            low, high = align_up(start, step), align_down(stop, step)
            if low < high:
                if self._raw_data:
                    self._zero_data(guest + low, high - low)
                zero = _bits(low // step, high // step)
                bitmap = np.uint64((int(bitmaps[0]) & ~zero) | zero << 32)
                self._set_entries(guest, np.ones(1, dtype=bool), entries, np.array([bitmap], dtype=np.uint64))
                edges = [(start, low), (high, stop)]
            else:
                edges = [(start, stop)]
        else:
            edges = [(start, stop)]
        if must and not self._reads_as_zero(guest, kind):
            for begin, end in edges:
                if begin < end:
                    self._write_partial(guest + begin, memoryview(bytes(end - begin)))

    def _reads_as_zero(self, guest: int, kind: int) -> bool:
        if self._geometry.extended_l2:
            return kind == ClusterType.UNALLOCATED and guest >= self._below
        if kind in (ClusterType.ZERO, ClusterType.ZERO_ALLOCATED):
            return True
        return kind == ClusterType.UNALLOCATED and guest >= self._below

    def _zero_data(self, guest: int, length: int) -> None:
        """Zeros into a raw data file."""
        data = self.source.data
        length = min(length, max(0, data.size - guest))
        if length <= 0:
            return
        self.metadata.touched()
        if data.punch(guest, length):
            return
        zeros = memoryview(bytes(min(length, _ZERO_PIECE)))
        for position in range(guest, guest + length, len(zeros)):
            data.write(position, zeros[: guest + length - position])


def check_writable(source: Source, *, metadata_only: bool = False) -> None:
    """Raise where nothing may be written: open for reading only, marked corrupt, or encrypted, but for
    ``metadata_only``."""
    header, name = source.header, source.storage.name
    if not metadata_only:
        source.check_readable()
    if not source.storage.writable:
        raise StorageError("the file is open for reading only", path=name)
    if header.incompatible & CORRUPT:
        raise CorruptImageError(
            "is marked corrupt, so it is only read", path=name, hint=f"Run 'byre check --repair all {name}'."
        )


def _bits(low: int, high: int) -> int:
    """Subclusters ``[low, high)`` as bits of a bitmap."""
    return ((1 << (high - low)) - 1) << low


assert SUBCLUSTERS == 32  # the bitmaps above are two halves of 64 bits
