"""A local file or block device."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from byre.errors import MissingError, StorageError
from byre.storage.base import Buffer, StorageDefaults


class LocalFile(StorageDefaults):
    """An open file descriptor behind the Storage protocol. Made by ``open_file``."""

    def __init__(self, fd: int, *, name: str, path: Path, writable: bool, block_device: bool) -> None:
        self.name = name
        self.path: Path | None = path
        self.writable = writable
        self.block_device = block_device
        self._fd = fd
        self._size = os.lseek(fd, 0, os.SEEK_END) if block_device else os.fstat(fd).st_size

    @property
    def size(self) -> int:
        return self._size

    @property
    def allocated(self) -> int:
        if self.block_device:
            return self._size
        return os.fstat(self._fd).st_blocks * 512

    def fileno(self) -> int | None:
        return self._fd

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self._fd, [view[done:]], offset + done)
            except (OSError, OverflowError, ValueError) as error:
                raise StorageError(f"read failed: {_reason(error)}", path=self.name, offset=offset + done) from error
            if count == 0:
                raise StorageError(
                    "the file ends early",
                    path=self.name,
                    offset=offset,
                    found=f"{done} bytes",
                    expected=f"{len(view)} bytes",
                )
            done += count

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            try:
                done += os.pwrite(self._fd, view[done:], offset + done)
            except OSError as error:
                raise StorageError(f"write failed: {_reason(error)}", path=self.name, offset=offset + done) from error
        self._size = max(self._size, offset + len(view))

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise StorageError(f"changing the length failed: {_reason(error)}", path=self.name) from error
        self._size = size

    def flush(self) -> None:
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise StorageError(f"flush failed: {_reason(error)}", path=self.name) from error

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        stop = min(stop, self._size)
        position = start
        while position < stop:
            try:
                begin = os.lseek(self._fd, position, os.SEEK_DATA)
                end = os.lseek(self._fd, begin, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                yield position, stop
                return
            if begin >= stop:
                return
            yield max(begin, position), min(end, stop)
            position = end

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_file(path: str | os.PathLike[str], *, writable: bool = False) -> LocalFile:
    """Open an existing file or block device; nothing is created. Raises MissingError, StorageError."""
    name = os.fspath(path)
    flags = os.O_CLOEXEC | (os.O_RDWR if writable else os.O_RDONLY) | getattr(os, "O_NONBLOCK", 0)
    try:
        fd = os.open(name, flags)
    except FileNotFoundError as error:
        raise MissingError("no such file", path=name) from error
    except (OSError, ValueError) as error:
        raise StorageError(f"can't be opened: {_reason(error)}", path=name) from error
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
        os.close(fd)
        raise StorageError("is neither a file nor a block device", path=name)
    return LocalFile(fd, name=name, path=Path(name).resolve(), writable=writable, block_device=stat.S_ISBLK(mode))


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
