"""A file behind HTTP or S3, read by ranges through a bounded cache. Never written.

A server that answers a range with anything else than exactly that range of the same file is an error: what it
sent instead is never taken for the image.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from byre.errors import StorageError
from byre.storage.base import Buffer, StorageDefaults
from byre.storage.http_ranges import HttpSource
from byre.storage.object_ranges import ObjectSource
from byre.storage.urls import redact

BLOCK = 1 << 16
"""Bytes of a cached block, and the least that is asked for: one qcow2 cluster at its usual size."""
MAX_FETCH = 4 << 20
"""Bytes of one request at most; sequential readers reach it by doubling."""
CACHE_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Traffic:
    """What has gone over the wire for one file."""

    requests: int
    bytes: int


class RangeSource(Protocol):
    """Something that gives byte ranges of one file that must not change meanwhile."""

    size: int

    def fetch(self, start: int, length: int) -> bytes:
        """Exactly these bytes. Raises StorageError for anything else."""
        ...

    def close(self) -> None: ...


class RemoteStorage(StorageDefaults):
    """Ranges behind the Storage protocol. Mutable: an LRU of blocks, and the count of what was fetched."""

    def __init__(self, source: RangeSource, *, name: str) -> None:
        self.name = name
        self.path: Path | None = None
        self.writable = False
        self._source = source
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0
        self._ahead = BLOCK
        self._next = -1

    @property
    def size(self) -> int:
        return self._source.size

    @property
    def allocated(self) -> int:
        return self._source.size

    @property
    def traffic(self) -> Traffic:
        return Traffic(self._requests, self._bytes)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        if offset < 0 or offset + len(view) > self.size:
            raise StorageError(
                "the file ends early",
                path=self.name,
                offset=offset,
                found=f"{max(0, self.size - offset)} bytes",
                expected=f"{len(view)} bytes",
            )
        if not len(view):
            return
        with self._lock:
            end = offset + len(view)
            at = offset
            while at < end:
                block = self._block(at // BLOCK, -(-end // BLOCK))
                within = at % BLOCK
                piece = block[within : within + end - at]
                view[at - offset : at - offset + len(piece)] = piece
                at += len(piece)

    def write(self, offset: int, data: Buffer) -> None:
        raise StorageError("remote files are read-only", path=self.name)

    def truncate(self, size: int) -> None:
        raise StorageError("remote files are read-only", path=self.name)

    def flush(self) -> None:
        return None

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        if start < min(stop, self.size):
            yield start, min(stop, self.size)

    def close(self) -> None:
        self._source.close()

    def _block(self, index: int, until: int) -> bytes:
        """The block, fetched with as many of its missing successors as are wanted or worth reading ahead."""
        known = self._blocks.get(index)
        if known is not None:
            self._blocks.move_to_end(index)
            return known
        self._ahead = min(self._ahead * 2, MAX_FETCH) if index == self._next else BLOCK
        most = max(until - index, self._ahead // BLOCK)
        stop = index + 1
        last = -(-self.size // BLOCK)
        while stop < last and stop - index < min(most, MAX_FETCH // BLOCK) and stop not in self._blocks:
            stop += 1
        start = index * BLOCK
        body = self._source.fetch(start, min(stop * BLOCK, self.size) - start)
        self._requests += 1
        self._bytes += len(body)
        self._next = stop
        for number in range(index, stop):
            self._blocks[number] = body[(number - index) * BLOCK : (number - index + 1) * BLOCK]
        while len(self._blocks) > CACHE_BYTES // BLOCK:
            oldest = next(iter(self._blocks))
            if oldest == index:
                break
            del self._blocks[oldest]
        return self._blocks[index]


def open_remote(url: str) -> RemoteStorage:
    """Open ``http(s)://…`` or ``s3://…`` for reading. Raises MissingError, StorageError, UnsupportedError."""
    source: RangeSource = ObjectSource(url) if url.lower().startswith("s3://") else HttpSource(url, BLOCK)
    return RemoteStorage(source, name=redact(url))
