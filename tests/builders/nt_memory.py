"""Physical memory that looks as an NT guest's does: page tables, a kernel image, processes, strings, drivers.

Every byte is of our own making; only offsets of public structures are Windows'. Pages lie scattered, so that nothing
is found by whoever takes an image for one piece.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
LAYOUTS = {
    # id, name, threads, exit time, size of a pointer: Windows XP x86, and Windows 7 x64.
    "32bit": (0x84, 0x174, 0x1A0, 0x78, 4),
    "pae": (0x84, 0x174, 0x1A0, 0x78, 4),
    "long": (0x180, 0x2E0, 0x328, 0x170, 8),
}
KERNELS = {"32bit": 0x8040_0000, "pae": 0x8040_0000, "long": 0xFFFF_F800_0100_0000}
POOLS = {"32bit": 0x8120_0000, "pae": 0x8120_0000, "long": 0xFFFF_FA80_0000_0000}
DRIVERS = {"32bit": 0xF780_0000, "pae": 0xF780_0000, "long": 0xFFFF_F880_0100_0000}
DATA_RVA = 0x2000
BUG_CHECK_RVA = DATA_RVA + 0x10
SYSTEM_RVA = DATA_RVA + 0x80
LIST_RVA = DATA_RVA + 0x90
FIRST_FRAME = 0x40_0000
HEALTHY = (("System", 4, 55), ("smss.exe", 380, 3), ("csrss.exe", 604, 11), ("winlogon.exe", 628, 20))


@dataclass(frozen=True)
class Spec:
    """What the memory holds. ``processes``: (name, id, threads); a negative count marks one that has exited."""

    mode: str = "32bit"
    processes: Sequence[tuple[str, int, int]] = HEALTHY
    bug_check: tuple[int, int, int, int, int] = (0, 0, 0, 0, 0)
    text: bytes = b""
    """Stored in the pool; ``NtMemory.text_address`` tells where."""
    driver: str = ""
    """A driver's symbol file; ``NtMemory.driver_address`` is an address inside it."""
    kernel_name: str = "ntoskrnl.exe"


class NtMemory:
    """Grows as things are placed in it. Mutable while it is built; ``pieces`` is the outcome."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.mode = spec.mode
        self.width = LAYOUTS[spec.mode][4]
        self.frames: dict[int, bytearray] = {}
        self.virtual: dict[int, int] = {}
        self._next = FIRST_FRAME
        self._pool = POOLS[spec.mode] + 0x40
        self.kernel = KERNELS[spec.mode]
        self.text_address = self._place_in_pool(spec.text + b"\0\0") if spec.text else 0
        self.driver_address = self._driver() if spec.driver else 0
        self._kernel_image()
        self._processes()
        self.bug_check(spec.bug_check)
        self.root = self._tables()

    def write(self, address: int, data: bytes) -> None:
        """Bytes at a virtual address; pages are made where there are none."""
        for index, byte in enumerate(data):
            at = address + index
            page = at // PAGE
            if page not in self.virtual:
                self.virtual[page] = self._frame()
            self.frames[self.virtual[page]][at % PAGE] = byte

    def bug_check(self, values: Sequence[int]) -> None:
        self.write(self.kernel + BUG_CHECK_RVA, struct.pack("<5Q" if self.width == 8 else "<5I", *values))

    def pieces(self) -> list[tuple[int, bytes]]:
        """(physical address, bytes), a page each."""
        return [(address, bytes(data)) for address, data in sorted(self.frames.items())]

    def save(self, path: Path, size: int = 64 << 20) -> Path:
        """As the sparse file that QEMU would keep."""
        with path.open("wb") as file:
            file.truncate(size)
            for address, data in self.pieces():
                os.pwrite(file.fileno(), data, address)
        return path

    def _frame(self) -> int:
        address = self._next
        self._next += 3 * PAGE
        self.frames[address] = bytearray(PAGE)
        return address

    def _place_in_pool(self, data: bytes) -> int:
        address = self._pool
        self.write(address, data)
        self._pool += -(-len(data) // 64) * 64 + 64
        return address

    def _pointer(self, value: int) -> bytes:
        return struct.pack("<Q" if self.width == 8 else "<I", value)

    def _kernel_image(self) -> None:
        names = ["KeBugCheckEx", "KiBugCheckData", "PsInitialSystemProcess"]
        rvas = [0x1000, BUG_CHECK_RVA, SYSTEM_RVA]
        directory = 0x1100
        self.write(self.kernel, pe_header(self.width == 8, 0x4000, export=(directory, 0x200)))
        self.write(self.kernel + directory, export_directory(directory, self.spec.kernel_name, names, rvas))
        self.write(self.kernel + 0x3000, b"\0")

    def _driver(self) -> int:
        base = DRIVERS[self.mode]
        self.write(base, pe_header(self.width == 8, 0x3000, debug=(0x800, 28)))
        record = b"RSDS" + bytes(20) + self.spec.driver.encode() + b"\0"
        self.write(base + 0x800, struct.pack("<IIHHIIII", 0, 0, 0, 0, 2, len(record), 0x900, 0))
        self.write(base + 0x900, record)
        self.write(base + 0x2000, b"\x90")
        return base + 0x2010

    def _processes(self) -> None:
        if not self.spec.processes:
            return
        identity, name_at, threads_at, exit_at, width = LAYOUTS[self.mode]
        size = threads_at + 0x300
        addresses = [self._place_in_pool(bytes(size)) for _ in self.spec.processes]
        head = self.kernel + LIST_RVA
        links = [head, *(address + identity + width for address in addresses)]
        for index, link in enumerate(links):
            following, before = links[(index + 1) % len(links)], links[index - 1]
            self.write(link, self._pointer(following) + self._pointer(before))
        for address, (name, number, threads) in zip(addresses, self.spec.processes, strict=True):
            self.write(address, b"\x03\x00\x1b\x00")
            self.write(address + identity, self._pointer(number))
            self.write(address + name_at, name.encode()[:15].ljust(16, b"\0"))
            self.write(address + threads_at, struct.pack("<I", abs(threads)))
            if threads < 0:
                self.write(address + exit_at, struct.pack("<Q", 0x01C8_0000_0000_0000))
        self.write(self.kernel + SYSTEM_RVA, self._pointer(addresses[0]))

    def _tables(self) -> int:
        """Page tables for all that was placed, and for the first megabyte as it is; returns what goes into CR3."""
        pages = {**self.virtual, **{page: page * PAGE for page in range(256)}}
        shifts = {"32bit": (22, 12), "pae": (30, 21, 12), "long": (39, 30, 21, 12)}[self.mode]
        widths = {"32bit": (10, 10), "pae": (2, 9, 9), "long": (9, 9, 9, 9)}[self.mode]
        entry = 4 if self.mode == "32bit" else 8
        root = self._frame()
        tables = {(): root}
        for page, frame in pages.items():
            path: tuple[int, ...] = ()
            for depth, (shift, width) in enumerate(zip(shifts, widths, strict=True)):
                index = (page * PAGE) >> shift & (1 << width) - 1
                table = self.frames[tables[path]]
                path = (*path, index)
                if depth == len(shifts) - 1:
                    value = frame | 3
                else:
                    if path not in tables:
                        tables[path] = self._frame()
                    # The entries of PAE's first table have no bit that says whether they may be written.
                    value = tables[path] | (1 if self.mode == "pae" and depth == 0 else 3)
                struct.pack_into("<I" if entry == 4 else "<Q", table, index * entry, value)
        return root


def pe_header(is_64: bool, size: int, *, export: tuple[int, int] = (0, 0), debug: tuple[int, int] = (0, 0)) -> bytes:
    """The first page of a native image with no sections: only what a reader of memory asks for."""
    directories = [(0, 0)] * 16
    directories[0], directories[6] = export, debug
    common = (7, 10, 0, 0, 0, 0x1000, 0x1000)
    tail = (0x1000, 0x200, 5, 1, 5, 1, 5, 1, 0, size, 0x400, 0, 1, 0)
    if is_64:
        optional = struct.pack("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII", 0x20B, *common, 0, *tail, 0, 0, 0, 0, 0, 16)
    else:
        optional = struct.pack("<HBBIIIIIIIIIHHHHHHIIIIHHIIIIII", 0x10B, *common, 0, 0, *tail, 0, 0, 0, 0, 0, 16)
    optional += b"".join(struct.pack("<II", *pair) for pair in directories)
    coff = struct.pack("<HHIIIHH", 0x8664 if is_64 else 0x14C, 0, 0, 0, 0, len(optional), 0x10E)
    return b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + coff + optional


def export_directory(rva: int, name: str, names: Sequence[str], rvas: Sequence[int]) -> bytes:
    """An export directory with its tables and names right behind it."""
    count = len(names)
    functions = rva + 40
    name_table = functions + 4 * count
    ordinals = name_table + 4 * count
    text = ordinals + 2 * count
    strings, places = b"", []
    for each in (name, *names):
        places.append(text + len(strings))
        strings += each.encode() + b"\0"
    header = struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, places[0], 1, count, count, functions, name_table, ordinals)
    tables = struct.pack(f"<{count}I{count}I{count}H", *rvas, *places[1:], *range(count))
    return header + tables + strings
