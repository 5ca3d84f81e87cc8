"""qcow version 1, read only: QEMU's first copy-on-write format, before 2008 the only one.

Big-endian; a two-level table of host offsets; a cluster is unallocated, plain, or raw deflate. There are no
snapshots and no reference counts, and no field for the backing image's format: the user has to say it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from byre.disks.blockmap import ParentNotOpened, check_range, over_parent
from byre.disks.context import OpenContext
from byre.disks.disk import SLICE_ROWS, Backing, Description, Disk, DiskDefaults
from byre.disks.writer import ImageWriter, Int64Array, Target
from byre.errors import ByreError, CorruptImageError, MissingError, UnsupportedError
from byre.extents import ExtentTable, Kind, clip, make_table, merge, merged_slices
from byre.storage.base import Storage
from byre.units import SECTOR, align_up, ceil_div

_HEADER = struct.Struct(">4sIQIIQBBxxIQ")
_COMPRESSED = 1 << 63
MAX_BACKING_NAME = 1023
MAX_L1_BYTES = 32 << 20
MAX_CACHED_TABLES = 256


@dataclass(frozen=True, slots=True)
class Qcow1Header:
    """The header's fields, vetted. ``size`` is bytes as it stands there."""

    backing_offset: int
    backing_length: int
    size: int
    cluster_bits: int
    l2_bits: int
    l1_offset: int

    @property
    def l1_entries(self) -> int:
        return ceil_div(self.size, 1 << (self.cluster_bits + self.l2_bits))

    @classmethod
    def parse(cls, data: bytes, *, path: str, file_size: int) -> Qcow1Header:
        if len(data) < _HEADER.size:
            raise CorruptImageError("the file is too short for a qcow header", path=path, found=f"{len(data)} bytes")
        magic, version, backing, length, _, size, cluster_bits, l2_bits, crypt, l1 = _HEADER.unpack_from(data)

        def demand(holds: bool, what: str, found: object, expected: object) -> None:
            if not holds:
                raise CorruptImageError(f"the {what} is impossible", path=path, found=found, expected=expected)

        demand(magic == b"QFI\xfb" and version == 1, "signature", data[:8], "QFI and version 1")
        demand(9 <= cluster_bits <= 16, "cluster size", f"2^{cluster_bits}", "2^9 to 2^16")
        demand(6 <= l2_bits <= 13, "L2 table size", f"2^{l2_bits} entries", "2^6 to 2^13")
        demand(length <= MAX_BACKING_NAME, "length of the backing name", length, f"at most {MAX_BACKING_NAME}")
        if crypt:
            raise UnsupportedError(
                "is encrypted" if crypt == 1 else "uses an unknown encryption",
                path=path,
                found="AES" if crypt == 1 else crypt,
                hint="'qemu-img convert' of a QEMU before 2.9 decrypts it with the key.",
            )
        header = cls(backing, length, size, cluster_bits, l2_bits, l1)
        bound = min(MAX_L1_BYTES, max(0, file_size - l1))
        demand(
            size < 1 << 62 and header.l1_entries * 8 <= bound, "L1 table", f"{size} bytes of disk", "it in the file"
        )
        return header


class Qcow1Disk(DiskDefaults):
    """Mutable: remembers some L2 tables."""

    format = "qcow"

    def __init__(
        self, storage: Storage, header: Qcow1Header, l1: Int64Array, parent: Disk | None, backing: Backing | None
    ) -> None:
        self.storage = storage
        self.header = header
        self.parent = parent
        self.size = align_up(header.size, SECTOR)
        self.block_size = 1 << header.cluster_bits
        self._backing = backing
        self._l1 = l1
        self._tables: dict[int, Int64Array] = {}

    @property
    def files(self) -> tuple[Storage, ...]:
        return (self.storage, *(self.parent.files if self.parent else ()))

    def _l2(self, index: int) -> Int64Array:
        """One L2 table as signed 64-bit numbers: a compressed entry is negative."""
        table = self._tables.get(index)
        if table is not None:
            return table
        entries = 1 << self.header.l2_bits
        offset = int(self._l1[index])
        if offset == 0:
            return np.zeros(entries, dtype=np.int64)
        if offset < 0 or offset + entries * 8 > self.storage.size:
            raise CorruptImageError(
                f"L2 table {index} lies past the end of the file",
                path=self.storage.name,
                offset=self.header.l1_offset + index * 8,
                found=f"{offset:#x}",
                expected=f"within {self.storage.size} bytes",
            )
        table = np.frombuffer(self.storage.read(offset, entries * 8), dtype=">i8").astype(np.int64)
        if len(self._tables) >= MAX_CACHED_TABLES:
            self._tables.clear()
        self._tables[index] = table
        return table

    def _own(self, start: int, stop: int) -> Iterator[ExtentTable]:
        bits, l2_bits = self.header.cluster_bits, self.header.l2_bits
        if start >= stop:
            return
        first, last = start >> (bits + l2_bits), ceil_div(stop, 1 << (bits + l2_bits))
        step = max(1, SLICE_ROWS >> l2_bits)
        for begin in range(first, last, step):
            end = min(begin + step, last)
            entries = np.concatenate([self._l2(index) for index in range(begin, min(end, len(self._l1)))] or [_NONE])
            starts = ((begin << l2_bits) + np.arange(len(entries), dtype=np.int64)) << bits
            yield clip(merge(self._rows(starts, entries)), start, stop)

    def _rows(self, starts: Int64Array, entries: Int64Array) -> ExtentTable:
        bits = self.header.cluster_bits
        packed = entries < 0
        plain = entries & ~np.int64(-(1 << 63))
        host = np.where(packed, plain & ((1 << (63 - bits)) - 1), plain)
        stored = np.where(packed, (plain >> (63 - bits)) & (self.block_size - 1), self.block_size)
        used = entries != 0
        inside = np.minimum(stored, np.maximum(self.size - starts, 0))
        bad = used & ((host > self.storage.size) | (host + np.where(packed, stored, inside) > self.storage.size))
        bad |= packed & (stored == 0)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise CorruptImageError(
                f"the cluster at guest offset {int(starts[row]):#x} lies past the end of the file",
                path=self.storage.name,
                offset=int(host[row]),
                found=f"{int(stored[row])} bytes there",
                expected=f"within {self.storage.size} bytes",
            )
        kind = np.where(packed, int(Kind.COMPRESSED), np.where(used, int(Kind.DATA), int(Kind.UNALLOCATED)))
        return make_table(
            starts,
            self.block_size,
            kind,
            host=np.where(used, host, -1),
            stored=np.where(used, stored, 0),
            file=np.where(used, 0, -1),
            depth=np.where(used, 0, -1),
        )

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        stop = self.size if stop is None else min(stop, self.size)
        return merged_slices(_whole_clusters(table) for table in over_parent(self._own(start, stop), self.parent))

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        check_range(self.storage.name, offset, len(view), self.size)
        for table in self._own(offset, offset + len(view)):
            for start, length, kind, host, stored, *_ in table.tolist():
                piece = view[start - offset : start - offset + length]
                if kind == Kind.DATA:
                    self.storage.read_into(host, piece)
                elif kind == Kind.COMPRESSED:
                    skipped = start % self.block_size
                    piece[:] = self._inflate(start - skipped, host, stored)[skipped : skipped + length]
                else:
                    inside = 0 if self.parent is None else min(length, max(0, self.parent.size - start))
                    if self.parent is not None and inside:
                        self.parent.read_into(start, piece[:inside])
                    piece[inside:] = bytes(length - inside)

    def _inflate(self, start: int, host: int, stored: int) -> bytes:
        data = b""
        with suppress(zlib.error):
            data = zlib.decompressobj(-12).decompress(self.storage.read(host, stored), self.block_size)
        if len(data) != self.block_size:
            raise CorruptImageError(
                f"the compressed cluster at guest offset {start:#x} can't be unpacked",
                path=self.storage.name,
                offset=host,
                found=f"{len(data)} bytes",
                expected=f"{self.block_size} bytes",
            )
        return data

    def describe(self) -> Description:
        return Description(
            format=self.format,
            virtual_size=self.size,
            cluster_size=self.block_size,
            compression="zlib",
            backing=self._backing,
            details={"version": 1, "l2_entries": 1 << self.header.l2_bits},
        )

    def close(self) -> None:
        try:
            if self.parent is not None:
                self.parent.close()
        finally:
            self.storage.close()


_NONE = np.zeros(0, dtype=np.int64)


def _whole_clusters(table: ExtentTable) -> ExtentTable:
    """Joins what the parent's boundaries cut through one compressed cluster."""
    before, after = table[:-1], table[1:]
    same = (
        (before["kind"] == Kind.COMPRESSED)
        & (after["kind"] == Kind.COMPRESSED)
        & (before["host"] == after["host"])
        & (before["file"] == after["file"])
        & (before["depth"] == 0)
        & (after["depth"] == 0)
    )
    if not same.any():
        return table
    heads = np.flatnonzero(np.concatenate(([True], ~same)))
    joined: ExtentTable = table[heads].copy()
    joined["length"] = np.add.reduceat(table["length"], heads)
    return joined


def open_disk(storage: Storage, context: OpenContext) -> Qcow1Disk:
    """Open the image read-only. The disk owns the storage from then on, also when opening fails."""
    try:
        return _open(storage, context)
    except BaseException:
        storage.close()
        raise


def _open(storage: Storage, context: OpenContext) -> Qcow1Disk:
    name = storage.name
    if context.options.writable:
        raise UnsupportedError("qcow version 1 is only read", path=name, hint="Convert it to qcow2 first.")
    header = Qcow1Header.parse(storage.read(0, min(_HEADER.size, storage.size)), path=name, file_size=storage.size)
    data = storage.read(header.l1_offset, header.l1_entries * 8)
    l1 = np.frombuffer(data, dtype=">i8").astype(np.int64)
    if not header.backing_offset or not header.backing_length:
        return Qcow1Disk(storage, header, l1, None, None)
    if header.backing_offset + header.backing_length > storage.size:
        raise CorruptImageError("the backing name lies past the end of the file", path=name)
    raw = storage.read(header.backing_offset, header.backing_length)
    try:
        backing_name = raw.decode()
    except UnicodeDecodeError as error:
        raise CorruptImageError("the backing name is not UTF-8", path=name, found=raw) from error
    stated = context.options.backing_format
    if context.options.with_backing:
        if stated is None:
            raise UnsupportedError(
                f"has the backing image {backing_name!r}, whose format qcow version 1 can't state",
                path=name,
                hint="Say it with --backing-format: what a guest wrote must not decide how it is read.",
            )
        parent = context.open_reference(backing_name, "backing image", image=name, format=stated)
        return Qcow1Disk(storage, header, l1, parent, Backing(backing_name, stated, parent.files[0].name))
    missing = MissingError(f"its backing image {backing_name!r} was not opened", path=name)
    backing = _describe_backing(backing_name, stated, context, name)
    return Qcow1Disk(storage, header, l1, ParentNotOpened(align_up(header.size, SECTOR), missing), backing)


def _describe_backing(name: str, format: str | None, context: OpenContext, image: str) -> Backing:
    try:
        return Backing(name, format, str(context.resolve(name, "backing image", image=image)))
    except ByreError as error:
        return Backing(name, format, reason=error.what)


def create(target: Target, size: int, options: Mapping[str, object]) -> ImageWriter:
    """Nobody should make new ones."""
    raise UnsupportedError("qcow version 1 is only read", path=target.name, hint="Write qcow2.")
