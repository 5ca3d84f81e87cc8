"""How the program that changes NTFS volumes is kept in: limits, another user, and system calls.

Run by ``ntfs_helper``, which finds it beside itself: that program uses nothing of Byre, and its search path is empty.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import sys

ALLOWED = {
    "x86_64": (
        0xC000003E,
        (0, 1, 3, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20, 24, 25, 28, 35, 39, 60, 96, 131, 158, 186, 202, 219, 228,
         230, 231, 262, 271, 318, 332, 334),
    ),
    "aarch64": (
        0xC00000B7,
        (57, 62, 63, 64, 66, 73, 79, 80, 93, 94, 98, 99, 101, 113, 115, 124, 128, 132, 134, 135, 139, 169, 172,
         178, 214, 215, 216, 222, 226, 233, 278, 291, 293),
    ),
}  # fmt: skip
"""(audit architecture, numbers of the system calls that stay): read, write, close, fstat, poll, lseek, memory, time,
the return from signals, exit and their kin. Nothing that opens, connects or starts anything, nor what sends signals
or sets limits: those would reach every process of the same user, its parent too. What aborts ends by SIGSEGV then."""


def confine(wanted: bool) -> str:
    """Give up everything but the two pipes; returns what could be done, for the parent to tell."""
    for limit, value in (
        (resource.RLIMIT_AS, 768 << 20),
        (resource.RLIMIT_CPU, 900),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 16),
    ):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (value, value))
    if not wanted:
        return "limits"
    done = ["limits"]
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            done.append("unprivileged user")
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    if seal():
        done.append("seccomp")
    return ", ".join(done)


def seal() -> bool:
    """A seccomp filter that leaves only what reading, writing and memory need; everything else is EPERM."""
    row = ALLOWED.get(platform.machine())
    if row is None or sys.platform != "linux":
        return False
    architecture, calls = row
    program = [(0x20, 0, 0, 4), (0x15, 1, 0, architecture), (0x06, 0, 0, 0x80000000), (0x20, 0, 0, 0)]
    for place, call in enumerate(calls):
        program.append((0x15, len(calls) - place, 0, call))
    program += [(0x06, 0, 0, 0x00050000 | errno.EPERM), (0x06, 0, 0, 0x7FFF0000)]
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    no_new_privileges, seccomp, filter_mode = 38, 22, 2
    whole = Program(len(program), ctypes.addressof(buffer))
    if libc.prctl(no_new_privileges, 1, 0, 0, 0):
        return False
    return bool(libc.prctl(seccomp, filter_mode, ctypes.addressof(whole), 0, 0) == 0)
