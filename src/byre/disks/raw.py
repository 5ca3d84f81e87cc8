"""Raw images and block devices: guest offset is host offset; holes in the file are known zeros."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from byre.disks.context import OpenContext
from byre.disks.disk import SLICE_ROWS, Description, DiskDefaults
from byre.disks.writer import BoolArray, Encoder, Int64Array, Placement, Target
from byre.errors import UsageError
from byre.extents import ExtentTable, Kind, make_table, one_extent
from byre.storage.base import Buffer, Storage
from byre.units import SECTOR, align_up


class RawDisk(DiskDefaults):
    """A storage seen as a disk; a size that isn't whole sectors is rounded up and the rest reads as zeros."""

    format = "raw"

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.size = align_up(storage.size, SECTOR)
        self.writable = storage.writable

    @property
    def files(self) -> tuple[Storage, ...]:
        return (self.storage,)

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        stop = self.size if stop is None else min(stop, self.size)
        rows: list[tuple[int, int, Kind]] = []
        position = start
        for begin, end in self.storage.data_ranges(start, min(stop, self.storage.size)):
            if begin > position:
                rows.append((position, begin - position, Kind.ZERO))
            rows.append((begin, end - begin, Kind.DATA))
            position = end
            if len(rows) >= SLICE_ROWS:
                yield _table(rows)
                rows.clear()
        if position < stop:
            rows.append((position, stop - position, Kind.ZERO))
        if rows:
            yield _table(rows)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        _check_range(self.storage.name, offset, len(buffer), self.size)
        inside = min(len(buffer), max(0, self.storage.size - offset))
        view = memoryview(buffer)
        self.storage.read_into(offset, view[:inside])
        view[inside:] = bytes(len(buffer) - inside)

    def read(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0 or offset + length > self.storage.size:
            return super().read(offset, length)
        return self.storage.read(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        _check_range(self.storage.name, offset, len(data), self.size)
        self.storage.write(offset, data)

    def write_zeroes(self, offset: int, length: int) -> None:
        _check_range(self.storage.name, offset, length, self.size)
        if self.storage.punch(offset, length):
            return
        zeros = bytes(min(length, 1 << 20))
        for position in range(offset, offset + length, len(zeros) or 1):
            self.storage.write(position, memoryview(zeros)[: offset + length - position])

    def discard(self, offset: int, length: int) -> None:
        _check_range(self.storage.name, offset, length, self.size)
        self.storage.punch(offset, length)

    def flush(self) -> None:
        self.storage.flush()

    def describe(self) -> Description:
        return Description(format="raw", virtual_size=self.size)

    def close(self) -> None:
        self.storage.close()


class RawWriter:
    """Blocks go where the guest sees them; what is never placed stays a hole."""

    encode: Encoder | None = None
    block_size = 1 << 16

    def __init__(self, storage: Storage, size: int) -> None:
        self.files = (storage,)
        self.size = size

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=blocks * self.block_size)

    def place_zero(self, blocks: Int64Array) -> None:
        return None

    def finish(self) -> None:
        return None


def open_disk(storage: Storage, context: OpenContext) -> RawDisk:
    return RawDisk(storage)


def create(target: Target, size: int, options: Mapping[str, object]) -> RawWriter:
    """Begin a raw image. Its only option is ``preallocation``: off (a sparse file), falloc or full."""
    given = {name: value for name, value in options.items() if value is not None}
    preallocation = given.pop("preallocation", "off")
    if given:
        raise UsageError(f"raw has no option {next(iter(given))!r}", path=target.name, expected="preallocation")
    if preallocation not in ("off", "falloc", "full"):
        raise UsageError(
            "preallocation is unknown", path=target.name, found=preallocation, expected="off, falloc, full"
        )
    storage = target.storage
    storage.truncate(size)
    if preallocation == "falloc" and size and not storage.preallocate(0, size):
        raise UsageError("this file system can't reserve space", path=target.name, hint="Use full instead.")
    if preallocation == "full":
        zeros = bytes(1 << 20)
        for position in range(0, size, len(zeros)):
            storage.write(position, memoryview(zeros)[: size - position])
    return RawWriter(storage, size)


def _check_range(name: str, offset: int, length: int, size: int) -> None:
    if offset < 0 or offset + length > size:
        raise UsageError(
            "the range leaves the disk",
            path=name,
            found=f"{offset}+{length}",
            expected=f"within {size} bytes",
        )


def _table(rows: list[tuple[int, int, Kind]]) -> ExtentTable:
    if len(rows) == 1:
        start, length, kind = rows[0]
        data = kind == Kind.DATA
        return one_extent(start, length, kind, host=start if data else -1, file=0 if data else -1, depth=0)
    columns = np.array(rows, dtype=np.int64)
    data_rows = columns[:, 2] == Kind.DATA
    return make_table(
        columns[:, 0],
        columns[:, 1],
        columns[:, 2],
        host=np.where(data_rows, columns[:, 0], -1),
        file=np.where(data_rows, 0, -1),
        depth=0,
    )
