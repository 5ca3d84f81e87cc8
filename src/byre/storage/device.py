"""A block device that is written over from its start, as if it were a new and empty file."""

from __future__ import annotations

import errno
import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path

from byre.errors import LockedError, StorageError
from byre.storage import locks, native
from byre.storage.base import Buffer
from byre.storage.local import LocalFile
from byre.units import align_down, align_up

_PIECE = 1 << 20


class DeviceFile(LocalFile):
    """Its ``size`` starts at 0 and grows with writes; what it grew over unwritten is made zeros by ``flush``.

    A device keeps what was on it, while the writers of images rely on a new file's holes reading as zeros.
    Mutable: it keeps the ascending list of gaps, under a lock, for writes come from several threads.
    """

    def __init__(self, fd: int, *, name: str, path: Path) -> None:
        super().__init__(fd, name=name, path=path, writable=True, block_device=True)
        self.capacity = self._size
        self._size = 0
        self._gaps: list[tuple[int, int]] = []
        self._lock = threading.Lock()

    def truncate(self, size: int) -> None:
        self._check(size)
        with self._lock:
            if size > self._size:
                self._gaps.append((self._size, size))
            else:
                self._gaps = [(start, min(stop, size)) for start, stop in self._gaps if start < size]
            self._size = size

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        self._fill()
        super().read_into(offset, buffer)

    def read(self, offset: int, length: int) -> bytes:
        self._fill()
        return super().read(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        self._covers(offset, len(data))
        super().write(offset, data)

    def write_vector(self, offset: int, buffers: Sequence[Buffer]) -> None:
        self._covers(offset, sum(map(len, buffers)))
        super().write_vector(offset, buffers)

    def flush(self) -> None:
        self._fill()
        super().flush()

    def _covers(self, start: int, length: int) -> None:
        """Take what is about to be written out of the gaps."""
        stop = start + length
        self._check(stop)
        with self._lock:
            if start > self._size:
                self._gaps.append((self._size, start))
            self._size = max(self._size, stop)
            first = bisect_right(self._gaps, start, key=lambda gap: gap[1])
            last = bisect_left(self._gaps, stop, key=lambda gap: gap[0])
            hit = self._gaps[first:last]
            if hit:
                edges = ((hit[0][0], min(start, hit[0][1])), (max(stop, hit[-1][0]), hit[-1][1]))
                self._gaps[first:last] = [gap for gap in edges if gap[0] < gap[1]]

    def _fill(self) -> None:
        with self._lock:
            gaps, self._gaps = self._gaps, []
        for start, stop in gaps:
            self._zero(start, stop)

    def _check(self, size: int) -> None:
        if size > self.capacity:
            raise StorageError(
                "the device is too small", path=self.name, found=f"{self.capacity} bytes", expected=f"{size} or more"
            )

    def _zero(self, start: int, stop: int) -> None:
        # Whole sectors the kernel can clear by itself, often without writing; the edges are written.
        first, last = align_up(start, 4096), align_down(stop, 4096)
        mode = native.ZERO_RANGE | native.KEEP_SIZE
        if first >= last or not native.fallocate(self._fd, mode, first, last - first):
            first = last = stop
        for begin, end in ((start, min(first, stop)), (max(last, start), stop)):
            for position in range(begin, end, _PIECE):
                LocalFile.write(self, position, bytes(min(_PIECE, end - position)))


def open_device(path: Path, *, name: str) -> DeviceFile:
    """Open a device for writing over all of it. A mounted one is refused. Raises LockedError, StorageError."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_EXCL | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise LockedError("the device is mounted or in use", path=name, hint="Unmount it first.") from error
        raise StorageError(f"can't be opened: {error.strerror}", path=name) from error
    try:
        device = DeviceFile(fd, name=name, path=path)
        device.locked = locks.lock(fd, name=name, writable=True)
    except BaseException:
        os.close(fd)
        raise
    return device
