"""The few system calls that Python's ``os`` lacks: holes, reservations and early writeback on Linux.

Each returns False where the system or the file system doesn't have it; only a full disk is an error.
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
