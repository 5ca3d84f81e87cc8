"""A disk made longer by zeros, and a file made dense by zeros: what some targets ask for."""

from __future__ import annotations

from collections.abc import Iterator

from byre.disks.disk import Description, Disk, DiskDefaults
from byre.errors import UsageError
from byre.extents import ExtentTable, Kind, one_extent
from byre.storage.base import Storage

_STEP = 1 << 20


class PaddedDisk(DiskDefaults):
    """``disk`` and then zeros up to ``size`` bytes. Closing it is left to the disk's owner."""

    def __init__(self, disk: Disk, size: int) -> None:
        self._disk = disk
        self.size = max(size, disk.size)
        self.format = disk.format
        self.sector_size = disk.sector_size
        self.block_size = disk.block_size

    @property
    def files(self) -> tuple[Storage, ...]:
        return self._disk.files

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        end = self.size if stop is None else min(stop, self.size)
        inside = min(end, self._disk.size)
        if start < inside:
            yield from self._disk.extents(start, inside)
        first = max(start, inside)
        if first < end:
            yield one_extent(first, end - first, Kind.ZERO, depth=0)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        if offset < 0 or offset + len(view) > self.size:
            raise UsageError("the range leaves the disk", found=f"{offset}+{len(view)}", expected=self.size)
        inside = max(0, min(len(view), self._disk.size - offset))
        if inside:
            self._disk.read_into(offset, view[:inside])
        view[inside:] = bytes(len(view) - inside)

    def describe(self) -> Description:
        return self._disk.describe()


def fill_holes(storage: Storage) -> int:
    """Write zeros into every hole of the file, so that it takes all its space on the host; returns the bytes."""
    holes = []
    position = 0
    for start, stop in storage.data_ranges(0, storage.size):
        if start > position:
            holes.append((position, start))
        position = stop
    if position < storage.size:
        holes.append((position, storage.size))
    zeros = memoryview(bytes(_STEP))
    for start, stop in holes:
        for at in range(start, stop, _STEP):
            storage.write(at, zeros[: stop - at])
    return sum(stop - start for start, stop in holes)
