"""The pieces that a VMDK is made of: a sparse, flat or zero extent, each a range of bytes of its own.

Every extent answers in its own offsets, from 0; ``rows`` leaves the ``file`` column at 0 for bytes in its storage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, TypeAlias

import numpy as np

from byre.disks.vmdk.grains import decompress_grain
from byre.disks.vmdk.layout import GRAIN_MARKER, GTE_ZEROED, SparseHeader
from byre.disks.vmdk.tables import EntryArray, GrainTables
from byre.disks.writer import Int64Array
from byre.errors import CorruptImageError
from byre.extents import ExtentTable, Kind, make_table, merge, one_extent
from byre.storage.base import Storage
from byre.units import SECTOR

KindArray: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]


class Extent(Protocol):
    """One extent. ``size`` is its bytes of the disk; ``storage`` None: it lies in no file."""

    size: int
    storage: Storage | None
    grain_bytes: int
    kind: str

    def rows(self, start: int, stop: int) -> Iterator[ExtentTable]:
        """Where ``[start, stop)`` lies; UNALLOCATED: nothing here, a parent shows."""
        ...

    def read_grain(self, host: int, stored: int, skip: int, view: memoryview) -> None:
        """Fill ``view`` with a compressed grain's bytes from ``skip`` on."""
        ...


class FlatExtent:
    """A range of a file, byte for byte; holes of the file are known zeros."""

    grain_bytes = 1 << 16

    def __init__(self, storage: Storage, offset: int, size: int, kind: str) -> None:
        self.storage: Storage | None = storage
        self.offset = offset
        self.size = size
        self.kind = kind
        if offset + size > storage.size:
            raise CorruptImageError(
                "is shorter than the descriptor says",
                path=storage.name,
                found=f"{storage.size} bytes",
                expected=f"{offset + size} bytes",
            )

    def rows(self, start: int, stop: int) -> Iterator[ExtentTable]:
        assert self.storage is not None
        position = start
        for begin, end in self.storage.data_ranges(self.offset + start, self.offset + stop):
            if begin - self.offset > position:
                yield one_extent(position, begin - self.offset - position, Kind.ZERO, depth=0)
            yield one_extent(begin - self.offset, end - begin, Kind.DATA, host=begin, file=0, depth=0)
            position = end - self.offset
        if position < stop:
            yield one_extent(position, stop - position, Kind.ZERO, depth=0)

    def read_grain(self, host: int, stored: int, skip: int, view: memoryview) -> None:
        raise AssertionError("a flat extent has no compressed grains")


class ZeroExtent:
    """Zeros that lie nowhere."""

    storage: Storage | None = None
    grain_bytes = 1 << 16
    kind = "ZERO"

    def __init__(self, size: int) -> None:
        self.size = size

    def rows(self, start: int, stop: int) -> Iterator[ExtentTable]:
        yield one_extent(start, stop - start, Kind.ZERO, depth=0)

    def read_grain(self, host: int, stored: int, skip: int, view: memoryview) -> None:
        raise AssertionError("zeros are never compressed")


class SparseExtent:
    """Grains found through a grain directory and grain tables: hosted sparse, stream-optimised, COWD or seSparse.

    ``header`` is that of a hosted one, the footer's where there is one. Mutable only through its tables.
    """

    def __init__(
        self,
        storage: Storage,
        tables: GrainTables,
        *,
        size: int,
        grain_bytes: int,
        kind: str,
        zeroed_grains: bool = False,
        compressed: bool = False,
        markers: bool = False,
        header: SparseHeader | None = None,
    ) -> None:
        self.storage: Storage | None = storage
        self.header = header
        self.file = storage
        self.tables = tables
        self.size = size
        self.grain_bytes = grain_bytes
        self.kind = kind
        self.zeroed_grains = zeroed_grains
        self.compressed = compressed
        self.markers = markers

    @property
    def grains(self) -> int:
        return -(-self.size // self.grain_bytes)

    def locate(self, entries: EntryArray) -> tuple[KindArray, Int64Array]:
        """(kinds, host offsets) of grain table entries; a host offset counts only where the grain is stored."""
        hosts = entries.astype(np.int64) * SECTOR
        stored = Kind.COMPRESSED if self.compressed else Kind.DATA
        kinds = np.where(entries == 0, np.uint8(Kind.UNALLOCATED), np.uint8(stored))
        if self.zeroed_grains:
            kinds[entries == GTE_ZEROED] = Kind.ZERO
        return kinds, hosts

    def rows(self, start: int, stop: int) -> Iterator[ExtentTable]:
        grain = self.grain_bytes
        first, last = start // grain, -(-stop // grain)
        per_chunk = self.tables.chunk_entries
        while first < last:
            chunk = first // per_chunk
            end = min(last, (chunk + 1) * per_chunk)
            begin_byte, end_byte = max(start, first * grain), min(stop, end * grain)
            if self.tables.absent(chunk):
                yield one_extent(begin_byte, end_byte - begin_byte, Kind.UNALLOCATED)
            else:
                yield self._rows(first, end, begin_byte, end_byte)
            first = end

    def _rows(self, first: int, stop: int, begin_byte: int, end_byte: int) -> ExtentTable:
        grain = self.grain_bytes
        beyond = stop
        if self.compressed:  # one more than asked for: the next grain's place bounds the length of a compressed one
            per_chunk = self.tables.chunk_entries
            beyond = min(stop + 1, self.grains, ((stop - 1) // per_chunk + 1) * per_chunk)
        kinds, hosts = self.locate(self.tables.entries(first, beyond))
        self._check_hosts(first, kinds[: stop - first], hosts[: stop - first])
        starts = np.arange(first, stop, dtype=np.int64) * grain
        starts[0] = begin_byte
        lengths = np.diff(starts, append=end_byte)
        sizes = self._stored_sizes(kinds, hosts)[: stop - first] if self.compressed else None
        kinds, hosts = kinds[: stop - first], hosts[: stop - first]
        held = (kinds == Kind.DATA) | (kinds == Kind.COMPRESSED)
        offsets = np.where(held, hosts, -1)
        if kinds[0] == Kind.DATA:
            offsets[0] += begin_byte - first * grain
        table = make_table(
            starts,
            lengths,
            kinds,
            host=offsets,
            stored=None if sizes is None else np.where(held, sizes, 0),
            file=np.where(held, 0, -1),
            depth=np.where(kinds == Kind.UNALLOCATED, -1, 0),
        )
        return merge(table)

    def _check_hosts(self, first: int, kinds: KindArray, hosts: Int64Array) -> None:
        """Every stored grain begins behind the header and, if plain, ends inside the file."""
        if self.compressed:
            needed = np.full(len(hosts), GRAIN_MARKER.size if self.markers else 2, dtype=np.int64)
        else:
            starts = (first + np.arange(len(hosts), dtype=np.int64)) * self.grain_bytes
            needed = np.minimum(self.grain_bytes, self.size - starts)
        held = (kinds == Kind.DATA) | (kinds == Kind.COMPRESSED)
        bad = held & ((hosts < SECTOR) | (hosts + needed > self.file.size))
        if bad.any():
            at = int(np.argmax(bad))
            raise CorruptImageError(
                "has a grain outside the file",
                path=self.file.name,
                offset=int(hosts[at]),
                found=f"grain {first + at}, {int(needed[at])} bytes",
                expected=f"within {self.file.size} bytes",
                hint=f"The file was cut short or its tables are damaged: 'byre check {self.file.name}' counts such "
                "grains.",
            )

    @property
    def _most_stored(self) -> int:
        """The most that one grain takes: zlib's worst case, the marker, the padding to a sector."""
        return -(-(self.grain_bytes + self.grain_bytes // 1000 + 64) // SECTOR) * SECTOR + SECTOR

    def _stored_sizes(self, kinds: KindArray, hosts: Int64Array) -> Int64Array:
        """Bytes from each compressed grain to whatever lies next in the file: its length, rounded up. Reading every
        marker for the exact length would cost one read a grain."""
        held = kinds == Kind.COMPRESSED
        known = np.unique(np.concatenate((hosts[held], self._marks(hosts[held]), [self.file.size])))
        following = known[np.minimum(np.searchsorted(known, hosts, side="right"), len(known) - 1)]
        sizes = np.minimum(following - hosts, self._most_stored)
        if self.markers and held.any():
            last = int(np.argmax(np.where(held, hosts, -1)))
            _, size = GRAIN_MARKER.unpack(self.file.read(int(hosts[last]), GRAIN_MARKER.size))
            exact = -(-(size + GRAIN_MARKER.size) // SECTOR) * SECTOR
            sizes[last] = min(int(sizes[last]), exact)
        return np.maximum(sizes, 0)

    def _marks(self, hosts: Int64Array) -> Int64Array:
        """Grain tables among these hosts, with the marker in front of each."""
        if not len(hosts):
            return hosts
        directory = self.tables.directory
        near = directory[(directory > int(hosts.min())) & (directory <= int(hosts.max()) + self._most_stored)]
        return near - SECTOR if self.markers else near

    def read_grain(self, host: int, stored: int, skip: int, view: memoryview) -> None:
        path = self.file.name
        data = memoryview(bytearray(min(stored, self.file.size - host)))
        self.file.read_into(host, data)
        if self.markers:
            _, size = GRAIN_MARKER.unpack_from(data)
            if not 0 < size <= self._most_stored:
                raise CorruptImageError(
                    "has a grain marker with an impossible length",
                    path=path,
                    offset=host + 8,
                    found=size,
                    expected=f"1 to {self._most_stored} bytes",
                )
            if size + GRAIN_MARKER.size > len(data):
                if host + GRAIN_MARKER.size + size > self.file.size:
                    raise CorruptImageError("has a grain cut short by the end of the file", path=path, offset=host)
                data = memoryview(self.file.read(host, size + GRAIN_MARKER.size))
            data = data[GRAIN_MARKER.size : GRAIN_MARKER.size + size]
        plain = decompress_grain(data, self.grain_bytes, path=path, offset=host)
        if len(plain) < skip + len(view):
            raise CorruptImageError(
                "has a compressed grain that is too short",
                path=path,
                offset=host,
                found=f"{len(plain)} bytes",
                expected=f"{skip + len(view)} bytes",
            )
        view[:] = memoryview(plain)[skip : skip + len(view)]


_NIBBLE = np.uint64(60)


class SeSparseExtent(SparseExtent):
    """seSparse: 64-bit entries whose top four bits say what the grain is."""

    def __init__(self, storage: Storage, tables: GrainTables, *, size: int, grains_offset: int) -> None:
        super().__init__(storage, tables, size=size, grain_bytes=8 * SECTOR, kind="SESPARSE")
        self.grains_offset = grains_offset

    def locate(self, entries: EntryArray) -> tuple[KindArray, Int64Array]:
        kind_bits = entries >> _NIBBLE
        # The grain's number is rotated: bits 48 to 59 are its lowest twelve, bits 0 to 47 the rest.
        low = (entries >> np.uint64(48)) & np.uint64(0xFFF)
        number = low | ((entries & np.uint64((1 << 48) - 1)) << np.uint64(12))
        bad = (kind_bits > 3) | ((kind_bits == 0) & (entries != 0)) | (number >> np.uint64(40) != 0)
        bad &= ~((kind_bits == 1) | (kind_bits == 2))
        if bad.any():
            raise CorruptImageError(
                "has a grain table entry that means nothing",
                path=self.file.name,
                found=hex(int(entries[int(np.argmax(bad))])),
            )
        kinds = np.array([Kind.UNALLOCATED, Kind.ZERO, Kind.ZERO, Kind.DATA], dtype=np.uint8)[
            kind_bits.astype(np.int64)
        ]
        hosts = np.where(kinds == Kind.DATA, number, np.uint64(0)).astype(np.int64) * self.grain_bytes
        return kinds, hosts + self.grains_offset
