"""Writes small 32-bit PE files with imports, delay imports, exports and a version resource.

They hold no code but a single ``ret``: good for parsing, never for running.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from byre.windows.pe import parse_pe

RVA = 0x1000
ALIGN = 0x200


@dataclass(frozen=True)
class PeSpec:
    """What to build. ``imports``: DLL → names, or ordinals as integers. ``exports``: name → None for code, or a
    forwarder such as ``NTDLL.RtlX``."""

    name: str = "sample.dll"
    imports: Mapping[str, Sequence[str | int]] = field(default_factory=dict)
    delay_imports: Mapping[str, Sequence[str | int]] = field(default_factory=dict)
    exports: Mapping[str, str | None] = field(default_factory=dict)
    version: tuple[int, int, int, int] = (5, 1, 2600, 5512)
    strings: Mapping[str, str] = field(default_factory=dict)
    dll: bool = True
    subsystem: int = 2
    machine: int = 0x14C
    timestamp: int = 0x4802A0C9
    padding: int = 0
    """Bytes of filler in the section, to give the file a size."""


class _Section:
    """A growing section: bytes with RVAs. Mutable while it is built."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, data: bytes, align: int = 4) -> int:
        self.data += bytes(-len(self.data) % align)
        at = RVA + len(self.data)
        self.data += data
        return at

    def text(self, text: str) -> int:
        return self.add(text.encode("latin-1") + b"\0", 2)


def build_pe(spec: PeSpec) -> bytes:
    """The bytes of the file, with a right checksum."""
    section = _Section()
    entry = section.add(b"\xc3" + bytes(15), 16)
    directories = [(0, 0)] * 16
    if spec.exports:
        directories[0] = _exports(section, spec, entry)
    if spec.imports:
        directories[1] = _imports(section, spec.imports)
    if spec.strings:
        directories[2] = _resources(section, spec)
    if spec.delay_imports:
        directories[13] = _delay_imports(section, spec.delay_imports)
    section.add(bytes(i * 31 & 255 for i in range(spec.padding)))
    body = bytes(section.data).ljust(-(-len(section.data) // ALIGN) * ALIGN, b"\0")
    image_size = RVA + -(-len(body) // 0x1000) * 0x1000
    optional = struct.pack(
        "<HBBIIIIIIIIIHHHHHHIIIIHHIIIIII",
        *(0x10B, 7, 10, len(body), 0, 0, entry, RVA, RVA, 0x10000000 if spec.dll else 0x400000, 0x1000, ALIGN),
        *(5, 1, 5, 1, 4, 0, 0, image_size, ALIGN * 2, 0, spec.subsystem, 0),
        *(0x100000, 0x1000, 0x100000, 0x1000, 0, 16),
    ) + b"".join(struct.pack("<II", *pair) for pair in directories)
    coff = struct.pack(
        "<HHIIIHH", spec.machine, 1, spec.timestamp, 0, 0, len(optional), 0x010E | (0x2000 if spec.dll else 0)
    )
    table = struct.pack(
        "<8sIIIIIIHHI", b".text", len(section.data), RVA, len(body), ALIGN * 2, 0, 0, 0, 0, 0xE0000060
    )
    dos = b"MZ" + bytes(58) + struct.pack("<I", 64)
    image = bytearray((dos + b"PE\0\0" + coff + optional + table).ljust(ALIGN * 2, b"\0") + body)
    parsed = parse_pe(bytes(image), path=spec.name)
    struct.pack_into("<I", image, parsed.headers.checksum_offset, parsed.computed_checksum)
    return bytes(image)


def _thunks(section: _Section, symbols: Sequence[str | int]) -> list[int]:
    values = []
    for index, symbol in enumerate(symbols):
        if isinstance(symbol, int):
            values.append(0x8000_0000 | symbol)
        else:
            values.append(section.add(struct.pack("<H", index) + symbol.encode("latin-1") + b"\0", 2))
    return [*values, 0]


def _imports(section: _Section, imports: Mapping[str, Sequence[str | int]]) -> tuple[int, int]:
    rows = []
    for dll, symbols in imports.items():
        values = _thunks(section, symbols)
        packed = struct.pack(f"<{len(values)}I", *values)
        rows.append((section.add(packed), 0, 0, section.text(dll), section.add(packed)))
    table = b"".join(struct.pack("<5I", *row) for row in rows) + bytes(20)
    return section.add(table), len(table)


def _delay_imports(section: _Section, imports: Mapping[str, Sequence[str | int]]) -> tuple[int, int]:
    rows = []
    for dll, symbols in imports.items():
        values = _thunks(section, symbols)
        packed = struct.pack(f"<{len(values)}I", *values)
        rows.append((1, section.text(dll), section.add(bytes(4)), section.add(packed), section.add(packed), 0, 0, 0))
    table = b"".join(struct.pack("<8I", *row) for row in rows) + bytes(32)
    return section.add(table), len(table)


def _exports(section: _Section, spec: PeSpec, entry: int) -> tuple[int, int]:
    names = sorted(spec.exports)
    count = len(names)
    start = section.add(bytes(40))
    functions = section.add(bytes(4 * count))
    name_table = section.add(b"".join(struct.pack("<I", section.text(name)) for name in names))
    ordinals = section.add(struct.pack(f"<{count}H", *range(count)))
    title = section.text(spec.name)
    forwards = [spec.exports[name] for name in names]
    addresses = [entry if target is None else section.text(target) for target in forwards]
    end = RVA + len(section.data)
    struct.pack_into(f"<{count}I", section.data, functions - RVA, *addresses)
    header = struct.pack(
        "<IIHHIIIIIII", 0, spec.timestamp, 0, 0, title, 1, count, count, functions, name_table, ordinals
    )
    section.data[start - RVA : start - RVA + 40] = header
    return start, end - start


def _resources(section: _Section, spec: PeSpec) -> tuple[int, int]:
    start = section.add(bytes(88), 16)
    version = _version_block(spec)
    data = section.add(version)
    tree = bytearray()
    for identifier, offset in ((16, 0x8000_0018), (1, 0x8000_0030), (0x409, 0x48)):
        tree += struct.pack("<IIHHHHII", 0, 0, 0, 0, 0, 1, identifier, offset)
    tree += struct.pack("<IIII", data, len(version), 0, 0)
    section.data[start - RVA : start - RVA + len(tree)] = tree
    return start, RVA + len(section.data) - start


def _block(key: str, value: bytes, children: bytes, *, text: bool = False) -> bytes:
    head = key.encode("utf-16-le") + b"\0\0"
    head += bytes(-(6 + len(head)) % 4)
    body = head + value
    if children:
        body += bytes(-(6 + len(body)) % 4) + children
    return struct.pack("<HHH", 6 + len(body), len(value) // 2 if text else len(value), int(text)) + body


def _join(blocks: Sequence[bytes]) -> bytes:
    joined = b""
    for block in blocks:
        joined += bytes(-len(joined) % 4) + block
    return joined


def _version_block(spec: PeSpec) -> bytes:
    major, minor, build, revision = spec.version
    high, low = major << 16 | minor, build << 16 | revision
    fixed = struct.pack("<13I", 0xFEEF04BD, 0x10000, high, low, high, low, 0x3F, 0, 0x40004, 2, 0, 0, 0)
    rows = [_block(key, value.encode("utf-16-le") + b"\0\0", b"", text=True) for key, value in spec.strings.items()]
    table = _block("StringFileInfo", b"", _block("040904B0", b"", _join(rows), text=True), text=True)
    return _block("VS_VERSION_INFO", fixed, table)
