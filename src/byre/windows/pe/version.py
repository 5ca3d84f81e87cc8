"""The version resource: VS_VERSIONINFO beneath RT_VERSION. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from byre.windows.pe.directories import Mapped

RT_VERSION = 16
_FIXED_MAGIC = 0xFEEF04BD
_MAX_ENTRIES = 1024


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """The fixed numbers and the strings of the first string table."""

    file_version: tuple[int, int, int, int]
    product_version: tuple[int, int, int, int]
    file_type: int
    strings: dict[str, str] = field(default_factory=dict)
    language: int | None = None

    @property
    def company(self) -> str | None:
        return self.strings.get("CompanyName")

    @property
    def original_filename(self) -> str | None:
        return self.strings.get("OriginalFilename")


def read_version(pe: Mapped) -> VersionInfo | None:
    """The version resource, or None where there is none that can be read."""
    base, _ = pe.headers.directories.get("resource", (0, 0))
    found = _find_resource(pe, base, RT_VERSION) if base else None
    if found is None:
        return None
    data, language = found
    root = _block(data, 0)
    if root is None or root.key != "VS_VERSION_INFO" or root.value_length < 52:
        return None
    fixed = struct.unpack_from("<13I", data, root.value) if root.value + 52 <= len(data) else (0,) * 13
    if fixed[0] != _FIXED_MAGIC:
        return None
    return VersionInfo(
        file_version=_quad(fixed[2], fixed[3]),
        product_version=_quad(fixed[4], fixed[5]),
        file_type=fixed[9],
        strings=_strings(data, root),
        language=language,
    )


def _quad(high: int, low: int) -> tuple[int, int, int, int]:
    return high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF


@dataclass(frozen=True, slots=True)
class _Block:
    key: str
    value: int
    value_length: int
    end: int
    children: int


def _block(data: bytes, at: int) -> _Block | None:
    """One VS_* block: length, value length, type, a UTF-16 key, then value and children, 4-aligned."""
    if at + 6 > len(data):
        return None
    length, value_length, is_text = struct.unpack_from("<HHH", data, at)
    end = min(at + length, len(data))
    stop = at + 6
    while stop + 2 <= end and data[stop : stop + 2] != b"\0\0":
        stop += 2
    if length < 8 or stop + 2 > end:
        return None
    value = -(-(stop + 2) // 4) * 4
    size = value_length * 2 if is_text else value_length
    return _Block(
        data[at + 6 : stop].decode("utf-16-le", "replace"), value, value_length, end, -(-(value + size) // 4) * 4
    )


def _children(data: bytes, block: _Block) -> list[tuple[int, _Block]]:
    found: list[tuple[int, _Block]] = []
    at = block.children
    while at < block.end and len(found) < _MAX_ENTRIES:
        child = _block(data, at)
        if child is None:
            break
        found.append((at, child))
        at = -(-child.end // 4) * 4
    return found


def _strings(data: bytes, root: _Block) -> dict[str, str]:
    for _, info in _children(data, root):
        if info.key != "StringFileInfo":
            continue
        at = -(-(info.value) // 4) * 4
        table = _block(data, at)
        if table is None:
            return {}
        listed = {}
        for _, entry in _children(data, _Block(table.key, table.value, 0, table.end, table.value)):
            raw = data[entry.value : min(entry.end, entry.value + 2 * entry.value_length)]
            listed[entry.key] = raw[: len(raw) & ~1].decode("utf-16-le", "replace").split("\0", 1)[0]
        return listed
    return {}


def _find_resource(pe: Mapped, base: int, kind: int) -> tuple[bytes, int] | None:
    """The first resource of a type and its language: three levels of directories, type, name, language."""
    node, language = base, 0
    for level in range(3):
        at = pe.offset(node)
        if at is None or at + 16 > len(pe.data):
            return None
        named, numbered = struct.unpack_from("<HH", pe.data, at + 12)
        count = min(named + numbered, _MAX_ENTRIES, (len(pe.data) - at - 16) // 8)
        entries = list(struct.iter_unpack("<II", pe.data[at + 16 : at + 16 + 8 * count]))
        if level == 0:
            entries = [entry for entry in entries if entry[0] == kind]
        if not entries:
            return None
        identifier, where = entries[0]
        if level < 2 and not where >> 31:
            return None
        language = identifier
        node = base + (where & 0x7FFFFFFF)
    at = pe.offset(node)
    if at is None or at + 16 > len(pe.data):
        return None
    rva, size = struct.unpack_from("<II", pe.data, at)
    start = pe.offset(rva)
    return None if start is None else (pe.data[start : start + min(size, 1 << 16)], language)
