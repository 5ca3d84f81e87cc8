"""From virtual addresses to the guest's memory, through its own page tables.

Source: Intel SDM volume 3, chapter 4: 32-bit paging, PAE paging and 4-level paging, with 2 and 4 MiB and 1 GiB pages.
The tables are the guest's: every address they give is checked by reading, and no walk is longer than its levels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from byre.machine.watch.ram import PAGE, Ram

_PRESENT, _LARGE = 1, 1 << 7
_MOST_TABLES = 4096
"""Tables read when all kernel pages are listed: 16 MiB of tables, for 8 GiB of mapped memory."""


@dataclass(frozen=True, slots=True)
class _Mode:
    """``levels`` are the shifts of each level's index, from the top; ``indices`` the width of each index in bits."""

    entry: int
    levels: tuple[int, ...]
    indices: tuple[int, ...]
    mask: int
    bits: int


_MODES = {
    "32bit": _Mode(4, (22, 12), (10, 10), 0xFFFFF000, 32),
    "pae": _Mode(8, (30, 21, 12), (2, 9, 9), 0x000F_FFFF_FFFF_F000, 32),
    "long": _Mode(8, (39, 30, 21, 12), (9, 9, 9, 9), 0x000F_FFFF_FFFF_F000, 64),
}


@dataclass(frozen=True, slots=True)
class AddressSpace:
    """One process's view of memory. ``mode`` is a ``Registers.mode``; ``root`` the value of CR3."""

    ram: Ram
    root: int
    mode: str

    @property
    def pointer(self) -> int:
        """Bytes in a pointer."""
        return 8 if self.mode == "long" else 4

    @property
    def kernel_start(self) -> int:
        """Where the system's half of the addresses begins."""
        return 0xFFFF_8000_0000_0000 if self.mode == "long" else 0x8000_0000

    def translate(self, address: int) -> int | None:
        """The physical address, or None where nothing is mapped."""
        mode = _MODES.get(self.mode)
        if mode is None:
            return address if 0 <= address < self.ram.size else None
        if not 0 <= address < 1 << mode.bits:
            return None
        table = self._root(mode)
        for depth, (shift, width) in enumerate(zip(mode.levels, mode.indices, strict=True)):
            raw = self.ram.read(table + (address >> shift & (1 << width) - 1) * mode.entry, mode.entry)
            entry = int.from_bytes(raw, "little")
            if len(raw) < mode.entry or not entry & _PRESENT:
                return None
            if shift == 12 or (entry & _LARGE and _may_be_large(self.mode, depth)):
                return _frame(self.mode, entry, shift, mode) + (address & (1 << shift) - 1)
            table = entry & mode.mask
        return None

    def read(self, address: int, length: int) -> bytes:
        """The bytes at a virtual address, up to the first page that isn't there."""
        found = bytearray()
        while len(found) < length:
            at = address + len(found)
            physical = self.translate(at)
            if physical is None:
                break
            part = self.ram.read(physical, min(length - len(found), PAGE - at % PAGE))
            if not part:
                break
            found += part
        return bytes(found)

    def kernel_addresses(self, physical: int) -> tuple[int, ...]:
        """Every virtual address of the system's half at which the page of ``physical`` is mapped, lowest first."""
        wanted = physical // PAGE * PAGE
        found = []
        for virtual, frames, size in self._kernel_mappings():
            hits = np.flatnonzero((frames <= wanted) & (frames + size > wanted))
            found += [int(virtual[hit]) + wanted - int(frames[hit]) for hit in hits[:16].tolist()]
        return tuple(sorted(found)[:16])

    def _root(self, mode: _Mode) -> int:
        return self.root & (0xFFFFFFE0 if self.mode == "pae" else mode.mask)

    def _kernel_mappings(self) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64], int]]:
        """(virtual addresses, frames, page size) of the system's half, a table at a time."""
        mode = _MODES.get(self.mode)
        if mode is None:
            return
        pending = [(self._root(mode), 0, 0)]
        read = 0
        seen = set()
        while pending and read < _MOST_TABLES:
            table, depth, base = pending.pop()
            # The NT kernel maps its tables into themselves: a table is walked once at each level.
            if (table, depth) in seen:
                continue
            seen.add((table, depth))
            read += 1
            shift, width = mode.levels[depth], mode.indices[depth]
            raw = self.ram.read(table, mode.entry << width)
            entries = np.frombuffer(raw, f"<u{mode.entry}", len(raw) // mode.entry).astype(np.uint64)
            index = np.arange(entries.size, dtype=np.uint64)
            virtual = np.uint64(base) + (index << np.uint64(shift))
            kept = (entries & np.uint64(_PRESENT)) != 0
            if depth == 0:
                kept &= index >= entries.size // 2
                if mode.bits == 64:
                    virtual |= np.uint64(0xFFFF_0000_0000_0000)
            large = kept & ((entries & np.uint64(_LARGE)) != 0) & _may_be_large(self.mode, depth)
            leaf = kept if shift == 12 else large
            if leaf.any():
                frames = np.array([_frame(self.mode, e, shift, mode) for e in entries[leaf].tolist()], np.uint64)
                yield virtual[leaf], frames, 1 << shift
            if shift != 12:
                below = np.flatnonzero(kept & ~large)[::-1].tolist()
                pending += [(int(entries[i]) & mode.mask, depth + 1, int(virtual[i])) for i in below]


def _may_be_large(mode: str, depth: int) -> bool:
    """Whether bit 7 means a large page at that level; in a PAE pointer table it is reserved."""
    return {"32bit": depth == 0, "pae": depth == 1, "long": depth in (1, 2)}[mode]


def _frame(kind: str, entry: int, shift: int, mode: _Mode) -> int:
    frame = entry & mode.mask & ~((1 << shift) - 1)
    if kind == "32bit" and shift == 22:  # PSE-36: four more address bits where a 4 MiB page leaves room
        frame |= (entry >> 13 & 0xF) << 32
    return frame
