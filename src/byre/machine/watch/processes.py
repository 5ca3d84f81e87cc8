"""The processes of an NT guest, read from its memory.

The list is followed from ``PsInitialSystemProcess`` through the page tables. The layout of EPROCESS differs by
version, but around three fields it doesn't: the process id is followed by the list's links and preceded by the time
of exit, and the name is followed by the count of threads at one distance. So the first process, which is always
called ``System`` and has a small id, tells where its fields are. Compared with what public symbols say of XP, Server
2003, XP x64, Vista and 7; on Windows 2000 the count of threads lies elsewhere and is not to be had.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.machine.watch.kernel import Kernel, first_process
from byre.machine.watch.paging import AddressSpace

_SPAN = 0x600
"""Bytes of an EPROCESS that are looked through."""
_MOST_PROCESSES = 1024
_SYSTEM_IDS = (4, 8)
"""The id of System: 4 since XP, 8 on Windows 2000."""
_NAME_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Process:
    """One process; ``threads`` is None where the count can't be what was read."""

    name: str
    id: int
    threads: int | None
    exited: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """Offsets in bytes from the start of an EPROCESS."""

    id: int
    links: int
    exit_time: int
    name: int
    threads: int


def read_processes(space: AddressSpace, kernel: Kernel) -> tuple[Process, ...]:
    """The processes in the order of the kernel's list; empty where there are none yet or it can't be read."""
    first = first_process(kernel)
    if first is None:
        return ()
    layout = _layout(space, first)
    if layout is None:
        return ()
    found: list[Process] = []
    seen = set()
    address = first
    while len(found) < _MOST_PROCESSES and address not in seen:
        seen.add(address)
        body = space.read(address, _SPAN)
        process = _process(body, layout, space.pointer)
        # The list's head is in the kernel and is no process: it has no name that could be one.
        if process is not None:
            found.append(process)
        following = _pointer(body, layout.links, space.pointer)
        if following < space.kernel_start:
            break
        address = following - layout.links
    return tuple(found)


def _layout(space: AddressSpace, system: int) -> _Layout | None:
    body = space.read(system, _SPAN)
    width = space.pointer
    name = body.find(b"System\0\0")
    while name >= 0 and name % 4:
        name = body.find(b"System\0\0", name + 1)
    if name < 0:
        return None
    for at in range(0x60, name, width):
        links = at + width
        if (
            _pointer(body, at, width) in _SYSTEM_IDS
            and _pointer(body, links, width) >= space.kernel_start
            and _pointer(body, links + width, width) >= space.kernel_start
        ):
            exit_time = at - (16 if width == 8 else 12)
            return _Layout(at, links, exit_time, name, name + (0x48 if width == 8 else 0x2C))
    return None


def _process(body: bytes, layout: _Layout, width: int) -> Process | None:
    raw = body[layout.name : layout.name + _NAME_LENGTH]
    name = raw.partition(b"\0")[0]
    if len(raw) < _NAME_LENGTH or not name or not all(32 <= letter < 127 for letter in name):
        return None
    identity = _pointer(body, layout.id, width)
    if identity % 4 or identity > 0xFFFFFF:
        return None
    threads = int.from_bytes(body[layout.threads : layout.threads + 4], "little")
    exited = any(body[layout.exit_time : layout.exit_time + 8])
    return Process(name.decode("ascii"), identity, threads if threads <= 4096 else None, exited)


def _pointer(body: bytes, at: int, width: int) -> int:
    if at < 0 or at + width > len(body):
        return 0
    value: int = struct.unpack_from("<Q" if width == 8 else "<I", body, at)[0]
    return value
