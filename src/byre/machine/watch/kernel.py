"""The NT kernel in the guest's memory: where it is, the STOP it recorded, the strings that the STOP points at.

``KiBugCheckData`` is an export: five pointer-sized values, the code and its four parameters, all zero until a STOP;
only the code says that there was one (a healthy kernel keeps a seed in the last value). Measured on ReactOS 0.4.16.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from byre.machine.watch.loaded_image import LoadedImage, export_rvas, image_around, own_name, read_loaded_image
from byre.machine.watch.paging import AddressSpace
from byre.machine.watch.ram import PAGE, Ram

_NATIVE = 1
_WANTED = frozenset({"KiBugCheckData", "PsInitialSystemProcess"})
_MOST_CANDIDATES = 4096
_LONGEST_TEXT = 512


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel image in memory. ``exports`` holds the RVAs of what is read from it; ``physical`` is where its header
    page lies, ``image`` how the rest is reached: through page tables, or as one piece of physical memory."""

    physical: int
    image: LoadedImage
    exports: dict[str, int]

    @property
    def name(self) -> str:
        return own_name(self.image) or "ntoskrnl.exe"


@dataclass(frozen=True, slots=True)
class BugCheck:
    """A STOP: ``parameters`` are the four values after the code."""

    code: int
    parameters: tuple[int, int, int, int]


def find_kernels(ram: Ram, space: AddressSpace | None) -> tuple[Kernel, ...]:
    """Every image in memory that exports what an NT kernel does.

    There may be several: the file of the kernel in a cache looks the same as the kernel. Only a live one ever holds
    a code or a first process.
    """
    found = []
    for physical in _header_pages(ram):
        image = read_loaded_image(ram, physical)
        if image is None or image.headers.subsystem != _NATIVE or "export" not in image.headers.directories:
            continue
        candidates = [image]
        if space is not None:
            for virtual in space.kernel_addresses(physical):
                mapped = read_loaded_image(space, virtual)
                candidates += [mapped] if mapped is not None else []
        # Through page tables first: pages of an image needn't lie side by side.
        for candidate in reversed(candidates):
            exports = export_rvas(candidate, _WANTED)
            if "KiBugCheckData" in exports:
                found.append(Kernel(physical, candidate, exports))
                break
    return tuple(found)


def _header_pages(ram: Ram) -> list[int]:
    """Physical addresses of pages that begin as a PE file does."""
    found: list[int] = []
    for address, data in ram.slices():
        words = np.frombuffer(data, "<u2", len(data) // 2)[:: PAGE // 2]
        for index in np.flatnonzero(words == 0x5A4D).tolist():
            at = index * PAGE
            header = int.from_bytes(data[at + 60 : at + 64], "little")
            if 64 <= header <= PAGE - 256 and data[at + header : at + header + 4] == b"PE\0\0":
                found.append(address + at)
        if len(found) >= _MOST_CANDIDATES:
            break
    return found


def read_bug_check(kernel: Kernel) -> BugCheck | None:
    """The STOP that the kernel recorded; None where it recorded none."""
    width = kernel.image.pointer
    raw = kernel.image.at(kernel.exports["KiBugCheckData"], 5 * width)
    if len(raw) < 5 * width:
        return None
    code, first, second, third, fourth = struct.unpack("<5Q" if width == 8 else "<5I", raw)
    code &= 0xFFFF_FFFF
    return BugCheck(code, (first, second, third, fourth)) if code else None


def first_process(kernel: Kernel) -> int | None:
    """The virtual address of the System process, or None before there is one."""
    rva = kernel.exports.get("PsInitialSystemProcess")
    raw = kernel.image.at(rva, kernel.image.pointer) if rva is not None else b""
    address = int.from_bytes(raw, "little") if len(raw) == kernel.image.pointer else 0
    lowest = 0xFFFF_8000_0000_0000 if kernel.image.pointer == 8 else 0x8000_0000
    return address if address >= lowest else None


def text_at(space: AddressSpace, address: int) -> str | None:
    """The string that a parameter points at: ASCII, UTF-16, or a counted UNICODE_STRING; None for anything else."""
    raw = space.read(address, _LONGEST_TEXT)
    plain = raw.partition(b"\0")[0]
    if len(plain) >= 3 and _is_text(plain.decode("latin-1")):
        return plain.decode("latin-1").strip()
    wide = _wide(raw)
    if wide is not None:
        return wide
    buffer_at = 8 if space.pointer == 8 else 4
    if len(raw) >= buffer_at + space.pointer:
        length, capacity = struct.unpack_from("<HH", raw)
        pointer = int.from_bytes(raw[buffer_at : buffer_at + space.pointer], "little")
        if 0 < length <= capacity and length % 2 == 0:
            text = space.read(pointer, min(length, _LONGEST_TEXT)).decode("utf-16-le", "replace")
            if len(text) >= 3 and _is_text(text):
                return text.strip()
    return None


def _wide(raw: bytes) -> str | None:
    text = raw[: len(raw) // 2 * 2].decode("utf-16-le", "replace").partition("\0")[0]
    return text.strip() if len(text) >= 3 and _is_text(text) else None


def _is_text(text: str) -> bool:
    return all(32 <= ord(letter) < 127 or letter in "\r\n\t" for letter in text)


def driver_at(space: AddressSpace, kernel: Kernel, address: int) -> str | None:
    """The name of the driver that a parameter's address lies in; None for the kernel itself and for no driver."""
    if address < space.kernel_start:
        return None
    image = image_around(space, address)
    if image is None or space.translate(image.base) == kernel.physical:
        return None
    return own_name(image)
