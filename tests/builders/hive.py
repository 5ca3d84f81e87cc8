"""Writes small registry hives (regf 1.5) from nested dictionaries, for tests and the specimen."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from byre.filesystems.capitals import capitals
from byre.windows.registry.layout import BIG_DATA_SEGMENT, NO_CELL, ValueType, base_block_checksum

Data = str | int | bytes | list[str]
WRITTEN = 128_300_000_000_000_000
"""The time that every key carries unless told: 2007-07-27."""


@dataclass
class Node:
    """One key of the tree to build."""

    values: dict[str, Data | tuple[int, bytes]] = field(default_factory=dict)
    keys: dict[str, Node] = field(default_factory=dict)
    class_name: str | None = None
    written: int = WRITTEN

    def at(self, path: str) -> Node:
        """The node at ``A\\B``, made where it isn't there."""
        node = self
        for part in path.split("\\"):
            node = node.keys.setdefault(part, Node())
        return node


def encode(data: Data | tuple[int, bytes]) -> tuple[int, bytes]:
    """(type, bytes) of a Python value: str REG_SZ, int REG_DWORD, list REG_MULTI_SZ, bytes REG_BINARY."""
    if isinstance(data, tuple):
        return data
    if isinstance(data, str):
        return ValueType.SZ, data.encode("utf-16-le") + b"\0\0"
    if isinstance(data, int):
        return ValueType.DWORD, struct.pack("<I", data)
    if isinstance(data, list):
        return ValueType.MULTI_SZ, "".join(text + "\0" for text in data).encode("utf-16-le") + b"\0\0"
    return ValueType.BINARY, data


def expand_sz(text: str) -> tuple[int, bytes]:
    return ValueType.EXPAND_SZ, text.encode("utf-16-le") + b"\0\0"


class _Builder:
    def __init__(self) -> None:
        self.bins = bytearray(32)
        self.security = NO_CELL

    def cell(self, data: bytes) -> int:
        offset = len(self.bins)
        size = -(-(4 + len(data)) // 8) * 8
        self.bins += struct.pack("<i", -size) + data.ljust(size - 4, b"\0")
        return offset

    def key(self, name: str, node: Node, parent: int, *, root: bool = False) -> int:
        latin = _latin(name)
        raw = name.encode("latin-1") if latin else name.encode("utf-16-le")
        me = self.cell(bytes(76 + len(raw)))
        if self.security == NO_CELL:
            self.security = self._security()
        children = [(child, self.key(child, below, me)) for child, below in _ordered(node.keys)]
        values = [self.value(title, *encode(data)) for title, data in node.values.items()]
        value_list = self.cell(struct.pack(f"<{len(values)}I", *values)) if values else NO_CELL
        class_raw = (node.class_name or "").encode("utf-16-le")
        class_cell = self.cell(class_raw) if class_raw else NO_CELL
        record = struct.pack(
            "<2sHQIIIIIIIIIIIIIIIHH",
            b"nk",
            (0x20 if latin else 0) | (0x0C if root else 0),
            node.written,
            0,
            parent,
            len(children),
            0,
            self._subkey_list(children),
            NO_CELL,
            len(values),
            value_list,
            self.security,
            class_cell,
            *(0, 0, 0, 0, 0),
            len(raw),
            len(class_raw),
        )
        self.bins[me + 4 : me + 4 + len(record) + len(raw)] = record + raw
        return me

    def value(self, name: str, kind: int, data: bytes) -> int:
        latin = _latin(name)
        raw = name.encode("latin-1") if latin else name.encode("utf-16-le")
        if len(data) <= 4:
            size, where = len(data) | 0x8000_0000, int.from_bytes(data.ljust(4, b"\0"), "little")
        else:
            size, where = len(data), self._data(data)
        return self.cell(struct.pack("<2sHIIIHH", b"vk", len(raw), size, where, kind, int(latin), 0) + raw)

    def _data(self, data: bytes) -> int:
        if len(data) <= BIG_DATA_SEGMENT:
            return self.cell(data)
        pieces = [data[at : at + BIG_DATA_SEGMENT] for at in range(0, len(data), BIG_DATA_SEGMENT)]
        cells = [self.cell(piece + bytes(4)) for piece in pieces]
        listed = self.cell(struct.pack(f"<{len(cells)}I", *cells))
        return self.cell(struct.pack("<2sHI", b"db", len(cells), listed))

    def _subkey_list(self, children: list[tuple[str, int]]) -> int:
        if not children:
            return NO_CELL
        if len(children) <= 500:
            return self._leaf(children)
        leaves = [self._leaf(children[at : at + 500]) for at in range(0, len(children), 500)]
        return self.cell(struct.pack(f"<2sH{len(leaves)}I", b"ri", len(leaves), *leaves))

    def _leaf(self, children: list[tuple[str, int]]) -> int:
        rows = b"".join(struct.pack("<II", cell, _hash(name)) for name, cell in children)
        return self.cell(struct.pack("<2sH", b"lh", len(children)) + rows)

    def _security(self) -> int:
        descriptor = struct.pack("<BBHIIII", 1, 0, 0x8000, 0, 0, 0, 0)
        cell = len(self.bins)
        return self.cell(struct.pack("<2sHIIII", b"sk", 0, cell, cell, 1, len(descriptor)) + descriptor)


def build_hive(root: Node, *, name: str = "SYSTEM", root_name: str = "$$$PROTO.HIV", minor: int = 5) -> bytes:
    """The bytes of a clean hive with this tree."""
    builder = _Builder()
    return _file(builder, builder.key(root_name, root, 0, root=True), name, minor)


def build_repeating(count: int) -> bytes:
    """A hive whose key ``Values`` names one value of 1 MiB ``count`` times; ``Keys`` a list of subkeys as often, in
    which the same key stands as often."""
    builder = _Builder()
    tree = Node(keys={"Keys": Node(keys={"a": Node()}), "Values": Node(values={"v": bytes(1 << 20)})})
    top = builder.key("root", tree, 0, root=True)

    def word(cell: int, field: int) -> int:
        (found,) = struct.unpack_from("<I", builder.bins, cell + 4 + field)
        return int(found)

    keys, values = (word(word(top, 28), 4 + 8 * index) for index in range(2))
    listed = struct.pack("<I", word(word(values, 40), 0)) * count
    struct.pack_into("<II", builder.bins, values + 4 + 36, count, builder.cell(listed))
    leaf = builder.cell(struct.pack("<2sH", b"li", count) + struct.pack("<I", word(word(keys, 28), 4)) * count)
    lists = builder.cell(struct.pack("<2sH", b"ri", count) + struct.pack("<I", leaf) * count)
    struct.pack_into("<II", builder.bins, keys + 4 + 20, count * count, 0)
    struct.pack_into("<I", builder.bins, keys + 4 + 28, lists)
    return _file(builder, top, "SYSTEM", 5)


def _file(builder: _Builder, top: int, name: str, minor: int) -> bytes:
    used = len(builder.bins)
    size = -(-(used + 8) // 4096) * 4096
    builder.bins += struct.pack("<i", size - used).ljust(size - used, b"\0")
    builder.bins[:32] = struct.pack("<4sIIQQI", b"hbin", 0, size, 0, WRITTEN, 0)
    base = bytearray(4096)
    struct.pack_into("<4sIIQIIIIIII", base, 0, b"regf", 1, 1, WRITTEN, 1, minor, 0, 1, top, size, 1)
    title = name.encode("utf-16-le")[-62:]
    base[48 : 48 + len(title)] = title
    struct.pack_into("<I", base, 508, base_block_checksum(bytes(base)))
    return bytes(base) + bytes(builder.bins)


def _ordered(keys: dict[str, Node]) -> list[tuple[str, Node]]:
    return sorted(keys.items(), key=lambda item: capitals(item[0]))


def _latin(name: str) -> bool:
    try:
        name.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def _hash(name: str) -> int:
    value = 0
    for letter in capitals(name):
        value = (value * 37 + ord(letter)) & 0xFFFFFFFF
    return value
