"""The guest's memory, which QEMU keeps in a file that can be read while the guest runs.

Holes in the file are pages that the guest never touched: they are skipped, not read, since reading a hole through a
mapping would give it memory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from byre.errors import StorageError

PAGE = 4096
_SLICE = 4 << 20
LARGEST = 3 << 30
"""Above this QEMU moves memory to beyond 4 GiB, and a place in the file is no longer a physical address."""


class Ram:
    """Physical memory by address. The guest writes while we read: a value may be old or torn, never trusted."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    @classmethod
    def open(cls, path: Path) -> Ram:
        """Open the file behind QEMU's ``memory-backend-file``. StorageError where it isn't there."""
        try:
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        except OSError as error:
            raise StorageError(f"the guest's memory can't be read: {error.strerror}", path=path) from error
        return cls(descriptor, min(os.fstat(descriptor).st_size, LARGEST))

    def read(self, address: int, length: int) -> bytes:
        """The bytes at a physical address; shorter, or none, where memory ends."""
        length = min(length, self.size - address)
        if address < 0 or length <= 0:
            return b""
        try:
            return os.pread(self._descriptor, length, address)
        except OSError as error:
            raise StorageError(f"the guest's memory can't be read: {error.strerror}") from error

    def slices(self) -> Iterator[tuple[int, bytes]]:
        """(address, bytes) of all memory that was ever touched, in slices that begin on a page."""
        at = 0
        while at < self.size:
            try:
                start = os.lseek(self._descriptor, at, os.SEEK_DATA) // PAGE * PAGE
                stop = min(self.size, os.lseek(self._descriptor, start, os.SEEK_HOLE))
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole up to the end
                    return
                start, stop = at, self.size
            for position in range(start, stop, _SLICE):
                yield position, self.read(position, min(_SLICE, stop - position))
            at = max(stop, at + PAGE)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Ram:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
