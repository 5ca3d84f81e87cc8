"""A storage as it will be once a log is replayed onto it, without a byte of it being written."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from byre.errors import StorageError
from byre.storage.base import Buffer, Storage, StorageDefaults


@dataclass(frozen=True, slots=True)
class Patch:
    """Bytes to appear at ``[start, stop)``; ``data`` None means zeros."""

    start: int
    stop: int
    data: bytes | None


def flatten(patches: list[Patch]) -> list[Patch]:
    """The same picture without overlaps, ascending: where two overlap the later one of the list counts."""
    shown: list[Patch] = []
    starts: list[int] = []
    for patch in patches:
        if patch.stop <= patch.start:
            continue
        first = max(bisect_right(starts, patch.start) - 1, 0)
        if first < len(shown) and shown[first].stop <= patch.start:
            first += 1
        last = bisect_right(starts, patch.stop - 1)
        kept: list[Patch] = [patch]
        if first < last:
            head, tail = shown[first], shown[last - 1]
            if head.start < patch.start:
                kept.insert(0, _cut(head, head.start, patch.start))
            if tail.stop > patch.stop:
                kept.append(_cut(tail, patch.stop, tail.stop))
        shown[first:last] = kept
        starts[first:last] = [entry.start for entry in kept]
    return shown


def _cut(patch: Patch, start: int, stop: int) -> Patch:
    data = None if patch.data is None else patch.data[start - patch.start : stop - patch.start]
    return Patch(start, stop, data)


class OverlayStorage(StorageDefaults):
    """``base`` with patches over it. Read-only; closes ``base``. Past the end of ``base`` it reads as zeros."""

    writable = False

    def __init__(self, base: Storage, patches: list[Patch], size: int) -> None:
        self.base = base
        self.name = base.name
        self.path = base.path
        self.patches = flatten(patches)
        self.size = size
        self._starts = [patch.start for patch in self.patches]

    @property
    def allocated(self) -> int:
        return self.base.allocated

    def _touching(self, start: int, stop: int) -> Iterator[Patch]:
        for index in range(max(bisect_right(self._starts, start) - 1, 0), len(self.patches)):
            patch = self.patches[index]
            if patch.start >= stop:
                return
            if patch.stop > start:
                yield patch

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        stop = offset + len(view)
        if offset < 0 or stop > self.size:
            raise StorageError("read past the end", path=self.name, offset=offset, expected=f"{len(view)} bytes")
        inside = min(len(view), max(0, self.base.size - offset))
        if inside:
            self.base.read_into(offset, view[:inside])
        view[inside:] = bytes(len(view) - inside)
        for patch in self._touching(offset, stop):
            start, end = max(patch.start, offset), min(patch.stop, stop)
            piece = bytes(end - start) if patch.data is None else patch.data[start - patch.start : end - patch.start]
            view[start - offset : end - offset] = piece

    def write(self, offset: int, data: Buffer) -> None:
        raise StorageError("write to a storage that was opened read-only", path=self.name, offset=offset)

    def truncate(self, size: int) -> None:
        raise StorageError("change of length of a storage that was opened read-only", path=self.name)

    def flush(self) -> None:
        return None

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The base's ranges and every patch with data; neighbours are not joined, overlaps are."""
        stop = min(stop, self.size)
        ranges = list(self.base.data_ranges(start, min(stop, self.base.size)))
        ranges += [
            (max(patch.start, start), min(patch.stop, stop))
            for patch in self._touching(start, stop)
            if patch.data is not None
        ]
        ranges.sort()
        position = start
        for begin, end in ranges:
            if end > position:
                yield max(begin, position), end
                position = end

    def close(self) -> None:
        self.base.close()
