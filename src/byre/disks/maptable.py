"""The table of a block map as it lies in the file: loaded whole, changed in memory, written back by sectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from byre.disks.writer import BoolArray, Int64Array
from byre.errors import CorruptImageError
from byre.storage.base import Storage
from byre.units import SECTOR, ceil_div

Entries: TypeAlias = np.ndarray[Any, np.dtype[np.uint32]]

_PER_SECTOR = SECTOR // 4


class MapTable:
    """32-bit entries of one byte order. Mutable: writers change ``entries`` through ``put``.

    A changed entry reaches the file in ``flush`` and not before: the caller makes what it points at durable
    first, so that no crash leaves an entry that points at nothing.
    """

    def __init__(self, storage: Storage, offset: int, entries: Entries) -> None:
        self.storage = storage
        self.offset = offset
        self.entries = entries
        self._dirty: BoolArray = np.zeros(ceil_div(len(entries), _PER_SECTOR), dtype=bool)

    @property
    def dirty(self) -> bool:
        return bool(self._dirty.any())

    def put(self, index: int | Int64Array, value: int | Int64Array) -> None:
        self.entries[index] = value
        self._dirty[np.asarray(index) // _PER_SECTOR] = True

    def flush(self) -> None:
        """Write the sectors that hold changed entries, ascending; durable only after the storage's flush."""
        for first, stop in _runs(self._dirty):
            part = self.entries[first * _PER_SECTOR : stop * _PER_SECTOR]
            self.storage.write(self.offset + first * SECTOR, part.tobytes())
        self._dirty[:] = False


def load_table(storage: Storage, offset: int, count: int, order: str) -> MapTable:
    """Read ``count`` entries (the caller has bounded it); ``order`` is numpy's ``<`` or ``>``. A file that ends
    inside the table is a CorruptImageError, before anything is allocated."""
    if offset + 4 * count > storage.size:
        raise CorruptImageError(
            "the file ends inside the block map",
            path=storage.name,
            offset=offset,
            found=f"{max(0, storage.size - offset)} bytes",
            expected=f"{4 * count} bytes",
        )
    buffer = bytearray(4 * count)
    storage.read_into(offset, buffer)
    return MapTable(storage, offset, np.frombuffer(buffer, dtype=f"{order}u4"))


def _runs(flags: BoolArray) -> Iterator[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


WRITE_GRAIN = 64 << 10
"""What the writers of new images take at a time where a block may be larger: of a block of 2 MiB that holds one
cluster of data the rest stays a hole in the host file. The unit that qcow2 images and NTFS leave zeros in."""


def grain_of(block_size: int, *, differencing: bool) -> int:
    """The unit in which a new image's data is handed over. Over a parent only whole blocks can be: what isn't
    written of a block would have to be the parent's."""
    return block_size if differencing else min(block_size, WRITE_GRAIN)


def pieces(offset: int, length: int, block_size: int) -> Iterator[tuple[int, int, int, int]]:
    """``(block, offset in the block, offset in the range, length)`` for each block that a guest range touches."""
    done = 0
    while done < length:
        block, within = divmod(offset + done, block_size)
        count = min(block_size - within, length - done)
        yield block, within, done, count
        done += count


def zero_in_place(storage: Storage, offset: int, length: int) -> None:
    """Zeros over stored bytes: a hole where the host can, else written."""
    if length <= 0 or storage.punch(offset, length):
        return
    zeros = memoryview(bytes(min(length, 1 << 20)))
    for position in range(0, length, len(zeros)):
        storage.write(offset + position, zeros[: length - position])


def copy_bytes(storage: Storage, source: int, target: int, length: int) -> None:
    """Copy within one file; what the file no longer holds at its end is zeros."""
    step = 1 << 20
    for position in range(0, length, step):
        count = min(step, length - position)
        inside = max(0, min(count, storage.size - source - position))
        data = bytearray(count)
        storage.read_into(source + position, memoryview(data)[:inside])
        storage.write(target + position, data)


def is_zero(storage: Storage, offset: int, length: int) -> bool:
    """Whether stored bytes are all zeros; holes of the host file aren't read."""
    for start, stop in storage.data_ranges(offset, min(offset + length, storage.size)):
        step = 1 << 18
        for position in range(start, stop, step):
            data = storage.read(position, min(step, stop - position))
            if data.count(0) != len(data):
                return False
    return True
