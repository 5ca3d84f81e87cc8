"""QEMU's own lock protocol, so that Byre and a running machine keep off each other's images.

Locks are shared OFD locks on single bytes of the image file: byte ``100 + n`` says "I use permission n",
byte ``200 + n`` "I don't share permission n". After taking its own a program looks whether anybody else
holds the byte that contradicts it. Nobody ever takes an exclusive lock. Source: QEMU's block/file-posix.c
(raw_apply_lock_bytes, raw_check_lock_bytes) and docs/system/images.rst.

On Windows there are no such locks: share modes at open do the same for the whole file.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from enum import IntEnum

from byre.errors import LockedError, StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PERMISSION_BASE = 100
UNSHARED_BASE = 200

_FLOCK = struct.Struct("@hhqqi4x" if struct.calcsize("P") == 8 else "=hh4xqqi4x")
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM}
"""What file systems (and kernels before 3.15) answer that know no OFD locks."""


class Permission(IntEnum):
    """QEMU's block permissions, by their bit number."""

    CONSISTENT_READ = 0
    WRITE = 1
    WRITE_UNCHANGED = 2
    RESIZE = 3


READER_USES = (Permission.CONSISTENT_READ,)
READER_UNSHARES = (Permission.WRITE, Permission.RESIZE)
WRITER_USES = (Permission.CONSISTENT_READ, Permission.WRITE, Permission.RESIZE)
WRITER_UNSHARES = (Permission.WRITE, Permission.RESIZE)

available = sys.platform == "linux" and hasattr(fcntl, "F_OFD_SETLK")
"""Whether this system has OFD locks at all; a file system may still lack them."""


def lock(fd: int, *, name: str, writable: bool) -> bool:
    """Take the locks of a reader or of a writer on the open file, for as long as it is open.

    False: this file system (or system) has no such locks, and nothing is held. Raises LockedError when
    another program uses the file in a way that excludes ours.
    """
    if not available:
        return False
    uses, unshares = (WRITER_USES, WRITER_UNSHARES) if writable else (READER_USES, READER_UNSHARES)
    held = [PERMISSION_BASE + n for n in uses] + [UNSHARED_BASE + n for n in unshares]
    if not all(_set(fd, byte, fcntl.F_RDLCK) for byte in held):
        return False
    # Both sides lock first and look second: of two programs that start together at least one sees the other.
    opposed = [UNSHARED_BASE + n for n in uses] + [PERMISSION_BASE + n for n in unshares]
    clash = next((byte for byte in opposed if _held_by_another(fd, byte)), None)
    if clash is None:
        return True
    for byte in held:
        _set(fd, byte, fcntl.F_UNLCK)
    permission = Permission(clash % 100).name.lower().replace("_", " ")
    does = f"uses it for {permission}" if clash < UNSHARED_BASE else f"doesn't share {permission}"
    raise LockedError(
        "another program has the image open",
        path=name,
        found=f"a lock on byte {clash}: it {does}",
        hint="Shut the machine down first."
        if writable
        else "Shut the machine down, or read it as it is with --force-share.",
    )


def in_use(path: str | os.PathLike[str]) -> bool | None:
    """Whether another program holds any lock of the protocol on the file; None where that can't be told."""
    if not available:
        return None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not _set(fd, PERMISSION_BASE, fcntl.F_RDLCK):
            return None  # no locks on this file system: an answer would be a guess
        _set(fd, PERMISSION_BASE, fcntl.F_UNLCK)
        return any(_held_by_another(fd, base + n) for base in (PERMISSION_BASE, UNSHARED_BASE) for n in Permission)
    except StorageError:
        return None
    finally:
        os.close(fd)


def _set(fd: int, byte: int, kind: int) -> bool:
    request = _FLOCK.pack(kind, os.SEEK_SET, byte, 1, 0)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        if error.errno in (errno.EAGAIN, errno.EACCES):  # an exclusive lock: not of this protocol, still a lock
            raise LockedError(
                "another program has the image locked", path=f"fd {fd}", found=f"byte {byte}"
            ) from error
        raise StorageError(f"locking failed: {error.strerror}") from error
    return True


def _held_by_another(fd: int, byte: int) -> bool:
    request = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, request)
    except OSError as error:
        raise StorageError(f"asking for locks failed: {error.strerror}") from error
    kind: int = _FLOCK.unpack(answer)[0]
    return kind != fcntl.F_UNLCK


def open_shared_windows(name: str, *, writable: bool, share_writes: bool) -> int:
    """Windows: a file descriptor whose share mode keeps others out as the locks do. Raises LockedError, OSError."""
    if sys.platform != "win32":
        raise StorageError("share modes exist on Windows only", path=name)
    import ctypes
    import msvcrt

    read, write, delete = 1, 2, 4
    sharing_violation, invalid_handle = 32, -1
    share = read | (write | delete if share_writes else 0)
    access = 0x8000_0000 | (0x4000_0000 if writable else 0)
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)
    kernel.CreateFileW.restype = ctypes.c_void_p
    handle = kernel.CreateFileW(name, access, share, None, 3, 0x80, None)
    if handle is None or ctypes.c_void_p(handle).value == ctypes.c_void_p(invalid_handle).value:
        code = ctypes.get_last_error()
        if code == sharing_violation:
            raise LockedError("another program has the image open", path=name, hint="Shut the machine down first.")
        raise ctypes.WinError(code)
    flags = os.O_BINARY | (os.O_RDWR if writable else os.O_RDONLY)
    return msvcrt.open_osfhandle(handle, flags)
