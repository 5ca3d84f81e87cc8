"""Imports, delay imports, bound imports, exports and debug entries of a PE file. Pure.

Every walk is bounded by the file's own length: a table that leaves it ends there and is reported.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from byre.windows.pe.headers import Headers

MAX_DLLS = 4096
MAX_SYMBOLS = 1 << 16
"""Ordinals have 16 bits: no table of imports from one DLL or of exports has a reason to be longer."""
MAX_NAME = 4096
Report = Callable[[str], None]


class Symbol(NamedTuple):
    """One imported symbol: by name, or by ordinal where ``name`` is None."""

    name: str | None
    ordinal: int | None
    hint: int | None = None


class Import(NamedTuple):
    """What is imported from one DLL. ``delay``: only when first called. ``bound``: a bound import names it."""

    dll: str
    symbols: tuple[Symbol, ...]
    delay: bool = False
    bound: bool = False


class Export(NamedTuple):
    """One export. ``name`` None: by ordinal only. ``forwarder``: ``OTHER.Symbol`` or ``OTHER.#5``."""

    name: str | None
    ordinal: int
    rva: int
    forwarder: str | None = None


class DebugEntry(NamedTuple):
    """One entry of the debug directory; ``pdb`` where it is CodeView."""

    type: int
    timestamp: int
    pdb: str | None


class Mapped:
    """A PE file's bytes addressed by RVA. Mutable: it keeps the section that was asked for last, since one table's
    names lie together; of sections that overlap that one counts."""

    __slots__ = ("_last", "data", "headers", "ranges", "report")

    def __init__(self, data: bytes, headers: Headers, report: Report) -> None:
        self.data = data
        self.headers = headers
        self.report = report
        self._last = (0, 0, 0)
        self.ranges = [(0, min(headers.size_of_headers, len(data)), 0)]
        for section in headers.sections:
            stored = min(section.size, max(0, len(data) - section.offset))
            if section.virtual_size:
                stored = min(stored, -(-section.virtual_size // 4096) * 4096)
            self.ranges.append((section.rva, section.rva + stored, section.offset - section.rva))

    def offset(self, rva: int) -> int | None:
        """The file offset of an RVA; None where the file holds no byte for it."""
        start, stop, shift = self._last
        if start <= rva < stop:
            return rva + shift
        for row in self.ranges:
            if row[0] <= rva < row[1]:
                self._last = row
                return rva + row[2]
        return None

    def text(self, rva: int) -> str | None:
        """The NUL-terminated name at an RVA; None where there is none."""
        at = self.offset(rva)
        if at is None:
            return None
        end = self.data.find(b"\0", at, at + MAX_NAME)
        return None if end < 0 else self.data[at:end].decode("latin-1")


def read_imports(pe: Mapped) -> tuple[Import, ...]:
    """Imports and delay imports, in the order of their tables."""
    bound = set(read_bound(pe))
    found = [
        Import(dll, symbols, False, dll.lower() in bound) for dll, symbols in _descriptors(pe, "import", 20, _plain)
    ]
    found += [Import(dll, symbols, True) for dll, symbols in _descriptors(pe, "delayimport", 32, _delayed)]
    return tuple(found)


def _plain(pe: Mapped, fields: tuple[int, ...]) -> tuple[int, int]:
    return fields[3], fields[0] or fields[4]


def _delayed(pe: Mapped, fields: tuple[int, ...]) -> tuple[int, int]:
    if fields[0] & 1:
        return fields[1], fields[4]
    base = pe.headers.image_base  # Visual C++ 6 wrote addresses, not RVAs
    return fields[1] - base, fields[4] - base


def _descriptors(
    pe: Mapped, directory: str, width: int, columns: Callable[[Mapped, tuple[int, ...]], tuple[int, int]]
) -> list[tuple[str, tuple[Symbol, ...]]]:
    rva, _ = pe.headers.directories.get(directory, (0, 0))
    if not rva:
        return []
    at = pe.offset(rva)
    if at is None:
        pe.report(f"the {directory} directory lies outside the file")
        return []
    layout = struct.Struct(f"<{width // 4}I")
    found: list[tuple[str, tuple[Symbol, ...]]] = []
    while len(found) < MAX_DLLS:
        if at + width > len(pe.data):
            pe.report(f"the {directory} directory is cut off")
            break
        fields = layout.unpack_from(pe.data, at)
        if not any(fields) or not fields[3 if directory == "import" else 1]:
            break
        name_rva, thunks = columns(pe, fields)
        dll = pe.text(name_rva)
        if dll is None:
            pe.report(f"the {directory} directory names a DLL outside the file")
            break
        found.append((dll, _thunks(pe, thunks, dll)))
        at += width
    return found


def _thunks(pe: Mapped, rva: int, dll: str) -> tuple[Symbol, ...]:
    start = pe.offset(rva)
    if start is None:
        pe.report(f"the imports from {dll} lie outside the file")
        return ()
    data, is_64, new, find = pe.data, pe.headers.is_64, tuple.__new__, pe.data.find
    width = 8 if is_64 else 4
    by_ordinal = 1 << (63 if is_64 else 31)
    count = min(MAX_SYMBOLS, (len(data) - start) // width)
    found: list[Symbol] = []
    chunk, position = 64, 0
    while position < count:
        take = min(chunk, count - position)
        for thunk in struct.unpack_from(f"<{take}{'Q' if is_64 else 'I'}", data, start + position * width):
            if thunk == 0:
                return tuple(found)
            if thunk & by_ordinal:
                found.append(new(Symbol, (None, thunk & 0xFFFF, None)))
                continue
            at = pe.offset(thunk & 0x7FFFFFFF)
            end = -1 if at is None else find(b"\0", at + 2, at + 2 + MAX_NAME)
            if at is None or end < 0:
                pe.report(f"an import from {dll} has its name outside the file")
                return tuple(found)
            name = data[at + 2 : end].decode("latin-1")
            found.append(new(Symbol, (name, None, data[at] | data[at + 1] << 8)))
        position += take
        chunk = 1024
    pe.report(f"the imports from {dll} have no end")
    return tuple(found)


def read_bound(pe: Mapped) -> tuple[str, ...]:
    """The DLLs that the bound import directory names, lower case; it lies in the headers."""
    start, size = pe.headers.directories.get("boundimport", (0, 0))
    if not start or start + 8 > len(pe.data):
        return ()
    found: list[str] = []
    at, end = start, min(start + size, len(pe.data))
    while at + 8 <= end and len(found) < MAX_DLLS:
        stamp, name, forwarders = struct.unpack_from("<IHH", pe.data, at)
        if not stamp and not name:
            break
        stop = pe.data.find(b"\0", start + name, start + name + MAX_NAME)
        if stop < 0:
            break
        found.append(pe.data[start + name : stop].decode("latin-1").lower())
        at += 8 * (1 + forwarders)
    return tuple(found)


def read_exports(pe: Mapped) -> tuple[str | None, tuple[Export, ...]]:
    """The DLL's own name for itself and its exports, by ordinal."""
    rva, size = pe.headers.directories.get("export", (0, 0))
    at = pe.offset(rva) if rva else None
    if at is None or at + 40 > len(pe.data):
        if rva:
            pe.report("the export directory lies outside the file")
        return None, ()
    name, base, functions, names, function_rva, name_rva, ordinal_rva = struct.unpack_from("<7I", pe.data, at + 12)
    functions = _bounded(pe, "functions", functions, function_rva, 4)
    names = min(_bounded(pe, "names", names, name_rva, 4), _bounded(pe, "ordinals", names, ordinal_rva, 2))
    addresses = _column(pe, function_rva, functions, "I")
    labels: dict[int, list[str]] = {}
    text_at = pe.text
    for text_rva, index in zip(_column(pe, name_rva, names, "I"), _column(pe, ordinal_rva, names, "H"), strict=True):
        text = text_at(text_rva)
        if text is None or index >= functions:
            pe.report("an export has its name or its index outside the table")
            continue
        labels.setdefault(index, []).append(text)
    found: list[Export] = []
    new, nameless = tuple.__new__, (None,)
    for index, address in enumerate(addresses):
        if not address:
            continue
        forwarder = pe.text(address) if rva <= address < rva + size else None
        for label in labels.get(index, nameless):
            found.append(new(Export, (label, base + index, address, forwarder)))
    return pe.text(name), tuple(found)


def _bounded(pe: Mapped, what: str, count: int, rva: int, width: int) -> int:
    at = pe.offset(rva) if count else None
    if not count:
        return 0
    most = 0 if at is None else min(MAX_SYMBOLS, (len(pe.data) - at) // width)
    if count > most:
        pe.report(f"the table of exported {what} is longer than the file allows: {count}")
    return min(count, most)


def _column(pe: Mapped, rva: int, count: int, code: str) -> tuple[int, ...]:
    at = pe.offset(rva) if count else None
    return struct.unpack_from(f"<{count}{code}", pe.data, at) if at is not None else ()


def read_debug(pe: Mapped) -> tuple[DebugEntry, ...]:
    """The debug directory's entries, at most 16."""
    rva, size = pe.headers.directories.get("debug", (0, 0))
    at = pe.offset(rva) if rva else None
    if at is None:
        return ()
    found = []
    for index in range(min(size // 28, 16)):
        if at + 28 * (index + 1) > len(pe.data):
            break
        _, stamp, _, _, kind, length, _, where = struct.unpack_from("<IIHHIIII", pe.data, at + 28 * index)
        pdb = None
        if kind == 2 and where + 4 <= len(pe.data):
            skip = {b"RSDS": 24, b"NB10": 16}.get(pe.data[where : where + 4])
            if skip is not None:
                raw = pe.data[where + skip : where + min(length, MAX_NAME)]
                pdb = raw.split(b"\0", 1)[0].decode("utf-8", "replace")
        found.append(DebugEntry(kind, stamp, pdb))
    return tuple(found)
