"""The few native calls that Python lacks: holes, reservations and early writeback on Linux, and a memcmp that
lets other threads run.

Each system call returns False where the system or the file system doesn't have it; only a full disk is an error.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from functools import cache
from typing import Any

KEEP_SIZE = 0x01
PUNCH_HOLE = 0x02
ZERO_RANGE = 0x10
_SYNC_FILE_RANGE_WRITE = 2
_FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}


@cache
def _libc() -> Any:
    if sys.platform != "linux":
        return None
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
        libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    except (OSError, AttributeError):
        return None
    return libc


def fallocate(fd: int, mode: int, offset: int, length: int) -> bool:
    """``fallocate(2)``. Raises OSError when the disk is full or broken."""
    libc = _libc()
    if libc is None or length <= 0:
        return length == 0
    while libc.fallocate(fd, mode, offset, length):
        code = ctypes.get_errno()
        if code == errno.EINTR:
            continue
        if code in _FATAL:
            raise OSError(code, os.strerror(code))
        return False
    return True


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Have the kernel begin to write these dirty pages, without waiting; an error shows at the fsync."""
    libc = _libc()
    if libc is not None:
        libc.sync_file_range(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


@cache
def _memcmp() -> Any:
    try:
        memcmp = (ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)).memcmp
    except (OSError, AttributeError):
        return None
    memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    memcmp.restype = ctypes.c_int
    return memcmp


def equal(first: bytearray, second: bytearray, length: int) -> bool:
    """Whether two buffers begin with the same ``length`` bytes. Python's own comparison is the same memcmp, but
    keeps every other thread waiting."""
    if length > min(len(first), len(second)):
        raise ValueError("the buffers are shorter than what is to be compared")
    memcmp = _memcmp()
    if memcmp is None:
        return first.startswith(memoryview(second)[:length])
    if not length:
        return True
    one, other = (ctypes.c_char.from_buffer(buffer) for buffer in (first, second))
    same: bool = memcmp(ctypes.byref(one), ctypes.byref(other), length) == 0
    return same
