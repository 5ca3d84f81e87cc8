"""A local file or block device."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from byre.errors import ByreError, LockedError, MissingError, StorageError
from byre.storage import locks
from byre.storage.base import Buffer, StorageDefaults
from byre.units import format_size

_IOV_MAX = 1024
"""Linux's own limit on the buffers of one pwritev."""
_WRITE_BYTES = 256 << 10
"""The most that one write hands to the kernel, which looks for a folio of page cache as long as what is written, and
compacts memory to find one. Measured on ext4, Linux 6.18, CPU seconds for each GiB: 0.24 in pieces of 128 to 384 KiB,
0.22 to 0.50 at 1 MiB, 0.37 to 1.07 at 2 MiB; most where much of the memory is page cache."""
_SEEKING = threading.Lock()
"""Windows has no pread: there a seek and its read or write must not be parted by another thread's."""


class LocalFile(StorageDefaults):
    """An open file descriptor behind the Storage protocol. Made by ``open_file``; mutable: it knows its size."""

    def __init__(self, fd: int, *, name: str, path: Path, writable: bool, block_device: bool = False) -> None:
        self.name = name
        self.path: Path | None = path
        self.writable = writable
        self.block_device = block_device
        self.locked = False
        """Whether QEMU's locks are held on it."""
        self._fd = fd
        self._size = os.lseek(fd, 0, os.SEEK_END) if block_device else os.fstat(fd).st_size

    @property
    def size(self) -> int:
        return self._size

    @property
    def allocated(self) -> int:
        if self.block_device:
            return self._size
        status = os.fstat(self._fd)
        blocks: int | None = getattr(status, "st_blocks", None)  # Windows has none
        return status.st_size if blocks is None else blocks * 512

    @property
    def identity(self) -> tuple[int, int]:
        """(device, inode): what tells that two names are one file."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def fileno(self) -> int | None:
        return self._fd

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            try:
                count = _read_at(self._fd, view[done:], offset + done)
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

    def read(self, offset: int, length: int) -> bytes:
        # One call and no copy where the system gives all at once; errors are met again below, and told there.
        if hasattr(os, "pread"):
            with suppress(OSError, OverflowError, ValueError):
                data = os.pread(self._fd, length, offset)
                if len(data) == length:
                    return data
        return super().read(offset, length)

    def write(self, offset: int, data: Buffer) -> None:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            try:
                done += _write_at(self._fd, view[done : done + _WRITE_BYTES], offset + done)
            except (OSError, OverflowError, ValueError) as error:
                raise self._failed("write failed", error, offset + done) from error
        self._size = max(self._size, offset + len(view))

    def write_vector(self, offset: int, buffers: Sequence[Buffer]) -> None:
        if not hasattr(os, "pwritev"):
            super().write_vector(offset, buffers)
            return
        for first in range(0, len(buffers), _IOV_MAX):
            group = buffers[first : first + _IOV_MAX]
            total = sum(map(len, group))
            try:
                count = os.pwritev(self._fd, group, offset)
            except (OSError, OverflowError, ValueError) as error:
                raise self._failed("write failed", error, offset) from error
            if count < total:  # a full disk says so at the next write; anything else goes on there
                self.write(offset + count, memoryview(b"".join(group))[count:])
            offset += total
        self._size = max(self._size, offset)

    def punch(self, offset: int, length: int) -> bool:
        from byre.storage import native

        try:
            return native.fallocate(self._fd, native.PUNCH_HOLE | native.KEEP_SIZE, offset, length)
        except OSError as error:
            raise self._failed("giving space back failed", error, offset) from error

    def preallocate(self, offset: int, length: int) -> bool:
        from byre.storage import native

        try:
            done = not self.block_device and native.fallocate(self._fd, 0, offset, length)
        except OSError as error:
            raise self._failed("reserving space failed", error, offset) from error
        if done:
            self._size = max(self._size, offset + length)
        return done

    def start_writeback(self, offset: int, length: int) -> None:
        from byre.storage import native

        native.start_writeback(self._fd, offset, length)

    def truncate(self, size: int) -> None:
        if self.block_device and size <= self._size:
            return  # it keeps its length; what lies behind is not part of the image any more
        try:
            os.ftruncate(self._fd, size)
        except (OSError, OverflowError) as error:
            raise self._failed("changing the length failed", error, None) from error
        self._size = size

    def flush(self) -> None:
        try:
            getattr(os, "fdatasync", os.fsync)(self._fd)
        except OSError as error:
            raise self._failed("flush failed", error, None) from error

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        stop = min(stop, self._size)
        position = start
        while position < stop:
            try:
                begin = os.lseek(self._fd, position, os.SEEK_DATA)
                end = os.lseek(self._fd, begin, os.SEEK_HOLE)
            except (OSError, AttributeError, OverflowError) as error:
                if getattr(error, "errno", None) == errno.ENXIO:
                    if os.fstat(self._fd).st_size < stop and not self.block_device:
                        raise StorageError(
                            "the file has become shorter while it was read",
                            path=self.name,
                            found=f"{os.fstat(self._fd).st_size} bytes",
                            expected=f"{self._size} bytes",
                        ) from error
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

    def _failed(self, what: str, error: Exception, offset: int | None) -> ByreError:
        hint = None
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full and self.block_device:
            hint = f"The device ends at {self._size} bytes; a larger one is needed."
        elif full:
            hint = f"{_free_space(self._fd)} free on its file system; make room, or write elsewhere."
        elif isinstance(error, OSError) and error.errno == errno.EFBIG:
            hint = "The file system, or a limit on file sizes (ulimit -f), doesn't allow a file this large."
        return StorageError(f"{what}: {_reason(error)}", path=self.name, offset=offset, hint=hint)


def open_file(
    path: str | os.PathLike[str],
    *,
    writable: bool = False,
    force_share: bool = False,
    force_unlocked: bool = False,
) -> LocalFile:
    """Open an existing file or block device with QEMU's locks; nothing is created.

    ``force_share`` reads without taking or heeding locks; ``force_unlocked`` writes where there are none.
    Raises MissingError, LockedError, StorageError.
    """
    name = os.fspath(path)
    flags = getattr(os, "O_CLOEXEC", 0) | (os.O_RDWR if writable else os.O_RDONLY) | getattr(os, "O_NONBLOCK", 0)
    try:
        if sys.platform == "win32":
            fd = locks.open_shared_windows(name, writable=writable, share_writes=force_share and not writable)
        else:
            fd = os.open(name, flags)
    except FileNotFoundError as error:
        raise MissingError("no such file", path=name) from error
    except (OSError, ValueError) as error:
        raise StorageError(f"can't be opened: {_reason(error)}", path=name) from error
    try:
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            what = "is a folder, not an image" if stat.S_ISDIR(mode) else "is neither a file nor a block device"
            raise StorageError(what, path=name)
        file = LocalFile(fd, name=name, path=Path(name).resolve(), writable=writable, block_device=stat.S_ISBLK(mode))
        if sys.platform != "win32" and (writable or not force_share):
            file.locked = _lock(fd, name, writable=writable, force_unlocked=force_unlocked)
    except BaseException:
        os.close(fd)
        raise
    return file


def _lock(fd: int, name: str, *, writable: bool, force_unlocked: bool) -> bool:
    try:
        locked = locks.lock(fd, name=name, writable=writable)
    except LockedError as error:
        error.path = name
        raise
    if locked:
        return True
    if writable and not force_unlocked:
        raise LockedError(
            "this file system can't lock the image, so a running machine wouldn't be noticed",
            path=name,
            hint="If nothing else has it open: --force-unlocked.",
        )
    import logging

    logging.getLogger("byre.storage").warning(
        "%s: this file system has no locks; whether a running machine uses the image can't be told", name
    )
    return False


def _read_at(fd: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(fd, [view], offset)
    with _SEEKING:
        os.lseek(fd, offset, os.SEEK_SET)
        data = os.read(fd, len(view))
    view[: len(data)] = data
    return len(data)


def _write_at(fd: int, view: memoryview, offset: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, view, offset)
    with _SEEKING:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, view)


def _free_space(fd: int) -> str:
    try:
        status = os.fstatvfs(fd)
    except (OSError, AttributeError):
        return "Too little space is"
    return f"{format_size(status.f_bavail * status.f_frsize)} are"


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)
