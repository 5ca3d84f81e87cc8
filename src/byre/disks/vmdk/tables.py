"""Grain tables as arrays: loaded in chunks, kept in a bounded cache, changed in place by writers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any, TypeAlias

import numpy as np

from byre.disks.writer import Int64Array
from byre.errors import CorruptImageError
from byre.storage.base import Storage

EntryArray: TypeAlias = np.ndarray[Any, np.dtype[Any]]

CHUNK_ENTRIES = 1 << 15
"""2 GiB of disk with 64 KiB grains: 128 KiB of table, one read where the tables lie side by side."""
CACHE_BYTES = 16 << 20


class GrainTables:
    """The entries behind one grain directory.

    ``directory`` holds the byte offset of every grain table, 0 for none. Reads may run concurrently; ``set``
    needs the writer's exclusion. Mutable: a cache, and what a writer changes.
    """

    def __init__(self, storage: Storage, directory: Int64Array, *, gtes_per_gt: int, dtype: str) -> None:
        self.storage = storage
        self.directory = directory
        self.gtes_per_gt = gtes_per_gt
        self.dtype = np.dtype(dtype)
        self.table_bytes = gtes_per_gt * self.dtype.itemsize
        self._tables_per_chunk = max(1, CHUNK_ENTRIES // gtes_per_gt)
        self.chunk_entries = self._tables_per_chunk * gtes_per_gt
        self._cache: OrderedDict[int, EntryArray] = OrderedDict()
        self._lock = threading.Lock()
        self._pinned: dict[int, EntryArray] = {}
        self._dirty: set[int] = set()
        self._most = max(2, CACHE_BYTES // (self.chunk_entries * self.dtype.itemsize))

    def absent(self, chunk: int) -> bool:
        """Whether no grain table of the chunk exists."""
        first = chunk * self._tables_per_chunk
        return not self.directory[first : first + self._tables_per_chunk].any()

    def chunk(self, index: int) -> EntryArray:
        """The entries of one chunk; not to be changed by the caller."""
        pinned = self._pinned.get(index)
        if pinned is not None:
            return pinned
        with self._lock:
            found = self._cache.get(index)
            if found is not None:
                self._cache.move_to_end(index)
                return found
        loaded = self._load(index)
        with self._lock:
            self._cache[index] = loaded
            while len(self._cache) > self._most:
                self._cache.popitem(last=False)
        return loaded

    def entries(self, first: int, stop: int) -> EntryArray:
        """The entries of the grains ``[first, stop)``."""
        parts = []
        while first < stop:
            index, start = divmod(first, self.chunk_entries)
            end = min(self.chunk_entries, start + stop - first)
            parts.append(self.chunk(index)[start:end])
            first += end - start
        if not parts:
            return np.zeros(0, dtype=self.dtype)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def set(self, first: int, values: EntryArray) -> None:
        """Change the entries of the grains from ``first`` on, in memory until ``take_dirty``. Their grain tables
        must exist. Needs the writer's exclusion."""
        done = 0
        while done < len(values):
            index, start = divmod(first + done, self.chunk_entries)
            count = min(self.chunk_entries - start, len(values) - done)
            if index not in self._pinned:
                self._pinned[index] = self.chunk(index).copy()
            self._pinned[index][start : start + count] = values[done : done + count]
            table = (first + done) // self.gtes_per_gt
            self._dirty.update(range(table, (first + done + count - 1) // self.gtes_per_gt + 1))
            done += count

    @property
    def pending(self) -> int:
        """How many chunks wait to be written."""
        return len(self._pinned)

    def dirty_tables(self) -> list[int]:
        return sorted(self._dirty)

    def table(self, number: int) -> EntryArray:
        """The entries of one grain table."""
        return self.entries(number * self.gtes_per_gt, (number + 1) * self.gtes_per_gt)

    def clean(self) -> None:
        """What was pending is written."""
        with self._lock:
            self._cache.update(self._pinned)
            while len(self._cache) > self._most:
                self._cache.popitem(last=False)
        self._pinned.clear()
        self._dirty.clear()

    def _load(self, index: int) -> EntryArray:
        first = index * self._tables_per_chunk
        offsets = self.directory[first : first + self._tables_per_chunk]
        entries = np.zeros((len(offsets), self.gtes_per_gt), dtype=self.dtype)
        present = np.flatnonzero(offsets)
        if not len(present):
            return entries.reshape(-1)
        last = int(offsets[present].max())
        if last + self.table_bytes > self.storage.size:
            raise CorruptImageError(
                "has a grain table beyond the end of the file",
                path=self.storage.name,
                offset=last,
                found=f"table {first + int(offsets.argmax())}",
                expected=f"within {self.storage.size} bytes",
            )
        # Tables that follow on in the file are one read.
        follows = (np.diff(present) == 1) & (np.diff(offsets[present]) == self.table_bytes)
        heads = np.flatnonzero(np.concatenate(([True], ~follows)))
        tails = np.append(heads[1:], len(present))
        for head, tail in zip(heads.tolist(), tails.tolist(), strict=True):
            begin, count = int(present[head]), tail - head
            data = self.storage.read(int(offsets[begin]), count * self.table_bytes)
            entries[begin : begin + count] = np.frombuffer(data, dtype=self.dtype).reshape(count, -1)
        return entries.reshape(-1)


def read_directory(
    storage: Storage, offset: int, count: int, *, dtype: str, path: str, what: str = "grain directory"
) -> EntryArray:
    """The ``count`` entries of a directory at host ``offset``; CorruptImageError where the file has no room."""
    item = np.dtype(dtype).itemsize
    if offset <= 0 or offset + count * item > storage.size:
        raise CorruptImageError(
            f"has its {what} outside the file",
            path=path,
            offset=offset,
            found=f"{count * item} bytes there",
            expected=f"within {storage.size} bytes",
        )
    return np.frombuffer(storage.read(offset, count * item), dtype=dtype)
