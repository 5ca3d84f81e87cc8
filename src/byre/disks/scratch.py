"""A disk that takes writes without any of them reaching the image: they go to a scratch file beside it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from byre.disks.disk import Description, Disk, DiskDefaults
from byre.disks.writer import BoolArray
from byre.errors import StorageError, UsageError
from byre.extents import ExtentTable, Kind, cut, merge
from byre.ranges import touched
from byre.storage.base import Buffer, Storage
from byre.storage.local import LocalFile
from byre.units import SECTOR

_CHUNK = 1 << 20
_SECTORS = _CHUNK // SECTOR


class ScratchDisk(DiskDefaults):
    """``base`` with changes over it; ``base`` is never written to and stays the caller's.

    The changes lie in ``scratch``, a sparse file, at the offsets that they have on the disk. Closing drops them.
    Mutable; writes are exclusive.
    """

    writable = True

    def __init__(self, base: Disk, scratch: Storage) -> None:
        self.base = base
        self.format = base.format
        self.size = base.size
        self.sector_size = base.sector_size
        self.block_size = base.block_size
        self._scratch = scratch
        self._changed: dict[int, BoolArray] = {}

    @property
    def files(self) -> tuple[Storage, ...]:
        return (*self.base.files, self._scratch)

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        self._check(offset, len(view))
        if not len(view):
            return
        start, stop = self._to_sectors(offset, len(view))
        if (start, stop) == (offset, offset + len(view)):
            self._scratch.write(offset, view)
        else:
            whole = bytearray(stop - start)
            self.read_into(start, whole)
            whole[offset - start : offset - start + len(view)] = view
            self._scratch.write(start, whole)
        self._mark(start, stop)

    def write_zeroes(self, offset: int, length: int) -> None:
        zeros = bytes(min(length, _CHUNK))
        for position in range(offset, offset + length, _CHUNK):
            self.write(position, zeros[: offset + length - position])

    def discard(self, offset: int, length: int) -> None:
        """Nothing: what the guest gave up is left out when the result is written."""
        self._check(offset, length)

    def flush(self) -> None:
        """Nothing: the changes last as long as this object."""

    def changes(self) -> Iterator[tuple[int, int]]:
        """``(start, stop)`` of what was written, guest bytes in whole sectors, ascending and apart."""
        held: tuple[int, int] | None = None
        for index in sorted(self._changed):
            for start, stop in self._runs(index):
                if held is not None and held[1] == start:
                    held = (held[0], stop)
                    continue
                if held is not None:
                    yield held
                held = (start, stop)
        if held is not None:
            yield held

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        self._check(offset, len(view))
        end = offset + len(view)
        self.base.read_into(offset, view)
        for index in range(offset // _CHUNK, -(-end // _CHUNK)):
            for start, stop in self._runs(index):
                low, high = max(start, offset), min(stop, end)
                if low < high:
                    self._scratch.read_into(low, view[low - offset : high - offset])

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        for table in self.base.extents(start, stop):
            yield self._overlay(table)

    def describe(self) -> Description:
        return self.base.describe()

    def close(self) -> None:
        self._scratch.close()

    def _overlay(self, table: ExtentTable) -> ExtentTable:
        first, end = int(table["start"][0]), int(table["start"][-1] + table["length"][-1])
        runs = [
            (max(low, first), min(high, end))
            for index in self._between(first, end)
            for low, high in self._runs(index)
            if low < end and high > first
        ]
        if not runs:
            return table
        pairs = np.array(runs, dtype=np.int64)
        rows = cut(table, pairs.ravel())
        ours = touched(pairs, rows["start"], rows["start"] + 1)
        rows["kind"][ours] = Kind.DATA
        rows["host"][ours] = rows["start"][ours]
        rows["stored"][ours] = rows["length"][ours]
        rows["file"][ours] = len(self.base.files)
        rows["depth"][ours] = 0
        return merge(rows)

    def _between(self, start: int, stop: int) -> list[int]:
        """The changed chunks of a range, ascending. A disk may have a million times more that aren't."""
        low, high = start // _CHUNK, -(-stop // _CHUNK)
        if high - low <= len(self._changed):
            return [index for index in range(low, high) if index in self._changed]
        return sorted(index for index in self._changed if low <= index < high)

    def _runs(self, index: int) -> Iterator[tuple[int, int]]:
        """What of one chunk was written, as guest bytes."""
        changed = self._changed.get(index)
        if changed is None:
            return
        edges = np.flatnonzero(np.diff(np.concatenate(([False], changed, [False])).astype(np.int8)))
        base = index * _CHUNK
        for low, high in edges.reshape(-1, 2).tolist():
            yield base + low * SECTOR, min(base + high * SECTOR, self.size)

    def _mark(self, start: int, stop: int) -> None:
        for index in range(start // _CHUNK, -(-stop // _CHUNK)):
            changed = self._changed.setdefault(index, np.zeros(_SECTORS, dtype=bool))
            low = max(0, start - index * _CHUNK) // SECTOR
            high = -(-min(_CHUNK, stop - index * _CHUNK) // SECTOR)
            changed[low:high] = True

    def _to_sectors(self, offset: int, length: int) -> tuple[int, int]:
        start = offset - offset % SECTOR
        return start, min(self.size, -(-(offset + length) // SECTOR) * SECTOR)

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise UsageError(
                "the range leaves the disk",
                path=self.files[0].name if self.base.files else None,
                offset=offset,
                found=f"{length} bytes",
                expected=f"a disk of {self.size} bytes",
            )


def open_scratch(base: Disk, folder: str | os.PathLike[str]) -> ScratchDisk:
    """``base`` with room for changes: a nameless file in ``folder``, gone when the process is, however it ends."""
    where = Path(folder)
    try:
        with tempfile.TemporaryFile(dir=where, prefix=".byre-", suffix=".scratch") as file:
            descriptor = os.dup(file.fileno())
    except OSError as error:
        raise StorageError(
            f"can't make a scratch file: {error.strerror}",
            path=where,
            hint="Choose an output in a folder that can be written to.",
        ) from error
    scratch = LocalFile(descriptor, name=str(where / "(scratch file)"), path=where, writable=True)
    scratch.path = None  # it has no name that anyone could open
    return ScratchDisk(base, scratch)
