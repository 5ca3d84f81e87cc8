"""A registry hive with values and keys set and deleted, as bytes: nothing is written here.

Cells are used again, so that a hive keeps its size where there is room in it; else it grows by whole bins. Source:
the public descriptions of the regf format, as in ``byre.windows.registry.layout``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from byre.errors import CorruptImageError, MissingError, UsageError
from byre.filesystems.capitals import capitals
from byre.lite.hive_cells import Cells
from byre.windows.registry.hive import Hive, utf16
from byre.windows.registry.layout import (
    BIG_DATA_SEGMENT,
    BINS_START,
    KEY_NODE,
    MAX_DEPTH,
    NAME_IS_LATIN1_KEY,
    NAME_IS_LATIN1_VALUE,
    NO_CELL,
    RESIDENT,
    base_block_checksum,
)

MAX_LEAF = 500
"""Entries of one leaf: it stays within a bin of 4096 bytes."""
MAX_KEY_NAME, MAX_VALUE_NAME = 255, 16383
MAX_DATA = 1 << 20
_VALUE = struct.Struct("<2sHIIIHH")
# Offsets of a key node's fields.
_PARENT, _SUBKEYS, _SUBKEY_LIST, _VALUES, _VALUE_LIST = 16, 20, 28, 36, 40
_SECURITY, _CLASS, _MAX_NAME, _MAX_VALUE_NAME, _MAX_DATA = 44, 48, 52, 60, 64
_WRITTEN = 4


@dataclass(frozen=True, slots=True)
class SetValue:
    """A value has this type and these bytes afterwards; its key is made where it isn't there. ``key`` is a path
    below the hive's root, ``name`` empty for the default value."""

    key: str
    name: str
    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DeleteValue:
    """A value is gone afterwards; MissingError where it wasn't there, unless ``if_there``."""

    key: str
    name: str
    if_there: bool = False


@dataclass(frozen=True, slots=True)
class DeleteKey:
    """A key is gone with everything below it; MissingError where it wasn't there, unless ``if_there``."""

    key: str
    if_there: bool = False


@dataclass(frozen=True, slots=True)
class MakeKey:
    """A key is there afterwards, with those above it."""

    key: str


Edit = SetValue | DeleteValue | DeleteKey | MakeKey


def edited(hive: Hive, base_block: bytes, edits: Iterable[Edit], *, written: int) -> bytes:
    """The hive's file with the edits made, in order. ``base_block`` is its first 4096 bytes, ``written`` the FILETIME
    that changed keys carry. The result is clean: its logs no longer count.

    Raises MissingError for what isn't there, UsageError for names and data that can't be, CorruptImageError where
    the hive is damaged: then it may be read, but not changed.
    """
    if hive.problems:
        raise CorruptImageError(
            "the hive is damaged, so it is only read", path=hive.path, found=hive.problems[0].what
        )
    editor = _Editor(hive, written)
    for edit in edits:
        editor.make(edit)
    return editor.file(base_block)


@dataclass(slots=True)
class _Listed:
    """A key's subkeys or values, in order and by name in capitals; of two with one name the first counts. Mutable:
    the list in the hive is written once, when all edits are made."""

    cells: list[int]
    named: dict[str, int]
    changed: bool = False

    def add(self, name: str, cell: int) -> None:
        self.cells.append(cell)
        self.named[capitals(name)] = cell
        self.changed = True

    def drop(self, name: str, cell: int) -> None:
        self.cells.remove(cell)
        self.named.pop(capitals(name), None)
        self.changed = True


class _Editor:
    """One hive being edited. Mutable: lists of subkeys and values are kept until ``file`` writes them, since each
    edit of a key with thousands would else write all of them."""

    def __init__(self, hive: Hive, written: int) -> None:
        self.path = hive.path
        self.hashed = hive.base.minor >= 5
        self.big_data = hive.base.minor >= 4
        self.root = hive.base.root_cell
        self.written = written
        self.used = min(hive.base.bins_size, len(hive.bins))
        self.cells = Cells(hive.bins[: self.used], path=hive.path)
        self.tail = hive.bins[self.used :]
        self._subkeys: dict[int, _Listed] = {}
        self._own_values: dict[int, _Listed] = {}

    def make(self, edit: Edit) -> None:
        if isinstance(edit, SetValue):
            self._set(self._key(edit.key, make=True), edit)
        elif isinstance(edit, MakeKey):
            self._key(edit.key, make=True)
        else:
            try:
                if isinstance(edit, DeleteValue):
                    self._delete_value(self._key(edit.key), edit)
                else:
                    self._delete_key(edit.key)
            except MissingError:
                if not edit.if_there:
                    raise

    def file(self, base_block: bytes) -> bytes:
        """The whole file: the base block names the new size, its sequence numbers agree."""
        for cell, listed in self._subkeys.items():
            if listed.changed:
                self._put_children(cell, listed.cells)
        for cell, listed in self._own_values.items():
            if listed.changed:
                self._put_values(cell, listed.cells)
        base = bytearray(base_block[:BINS_START].ljust(BINS_START, b"\0"))
        (sequence,) = struct.unpack_from("<I", base, 4)
        sequence = (sequence + 1) & 0xFFFFFFFF
        struct.pack_into("<IIQ", base, 4, sequence, sequence, self.written)
        struct.pack_into("<I", base, 40, len(self.cells.data))
        struct.pack_into("<I", base, 508, base_block_checksum(base))
        tail = self.tail if len(self.cells.data) == self.used else b""
        return bytes(base) + bytes(self.cells.data) + tail

    # Keys

    def _key(self, path: str, *, make: bool = False) -> int:
        cell = self.root
        names = _split(path)
        for depth, name in enumerate(names):
            found = self._child(cell, name)
            if found is None:
                if not make:
                    raise MissingError(f"has no key {path!r}", path=self.path, found="\\".join(names[:depth]))
                if depth + 1 >= MAX_DEPTH:
                    raise UsageError(f"keys nest at most {MAX_DEPTH} levels deep", path=self.path)
                found = self._make_child(cell, name)
            cell = found
        return cell

    def _child(self, cell: int, name: str) -> int | None:
        return self._children(cell).named.get(capitals(name))

    def _children(self, cell: int) -> _Listed:
        known = self._subkeys.get(cell)
        if known is not None:
            return known
        count, top = self._u32(cell, _SUBKEYS), self._u32(cell, _SUBKEY_LIST)
        found: list[int] = []
        if 0 < count <= len(self.cells.data) // KEY_NODE.size:
            self._read_list(top, found, count)
        if len(found) != count:
            raise self._damaged("a list of subkeys is wrong", cell)
        return self._subkeys.setdefault(cell, _by_name(found, self._name))

    def _read_list(self, listed: int, found: list[int], most: int, depth: int = 0) -> None:
        data = self.cells.read(listed)
        kind, count = data[:2], int.from_bytes(data[2:4], "little")
        step = {b"lf": 8, b"lh": 8, b"li": 4, b"ri": 4}.get(kind)
        if step is None or 4 + count * step > len(data) or depth > 1 or len(found) > most:
            raise self._damaged("a list of subkeys is damaged", listed)
        for at in range(4, 4 + count * step, step):
            below = int.from_bytes(data[at : at + 4], "little")
            if kind == b"ri":
                self._read_list(below, found, most, depth + 1)
            else:
                found.append(below)

    def _make_child(self, parent: int, name: str) -> int:
        raw, latin = _encoded(name)
        if not name or len(_units(name)) > 2 * MAX_KEY_NAME or "\\" in name or "\0" in name:
            raise UsageError("not a name that a key can have", path=self.path, found=repr(name))
        security = self._u32(parent, _SECURITY)
        self._count_security(security, 1)
        record = KEY_NODE.pack(
            b"nk",
            NAME_IS_LATIN1_KEY if latin else 0,
            self.written,
            0,
            parent,
            *(0, 0, NO_CELL, NO_CELL),
            *(0, NO_CELL, security, NO_CELL),
            *(0, 0, 0, 0, 0),
            len(raw),
            0,
        )
        child = self.cells.allocate(record + raw)
        self._children(parent).add(name, child)
        length = max(self._u16(parent, _MAX_NAME), len(_units(name)))
        self.cells.write(parent, _MAX_NAME, struct.pack("<H", min(length, 0xFFFF)))
        return child

    def _put_children(self, cell: int, children: list[int]) -> None:
        """Replace a key's list of subkeys."""
        old = self._u32(cell, _SUBKEY_LIST)
        if self._u32(cell, _SUBKEYS):
            self._free_list(old)
        named = sorted(((self._name(child), child) for child in children), key=lambda pair: _units(pair[0]))
        leaves = [self._leaf(named[at : at + MAX_LEAF]) for at in range(0, len(named), MAX_LEAF)]
        if len(leaves) > 1:
            top = self.cells.allocate(struct.pack(f"<2sH{len(leaves)}I", b"ri", len(leaves), *leaves))
        else:
            top = leaves[0] if leaves else NO_CELL
        self._put_u32(cell, _SUBKEYS, len(children))
        self._put_u32(cell, _SUBKEY_LIST, top)
        self._touch(cell)

    def _leaf(self, named: list[tuple[str, int]]) -> int:
        if self.hashed:
            rows = b"".join(struct.pack("<II", cell, _hash(name)) for name, cell in named)
            return self.cells.allocate(struct.pack("<2sH", b"lh", len(named)) + rows)
        rows = b"".join(struct.pack("<I", cell) + _hint(name) for name, cell in named)
        return self.cells.allocate(struct.pack("<2sH", b"lf", len(named)) + rows)

    def _free_list(self, listed: int) -> None:
        data = self.cells.read(listed)
        if data[:2] == b"ri":
            for at in range(4, 4 + 4 * int.from_bytes(data[2:4], "little"), 4):
                self.cells.free(int.from_bytes(data[at : at + 4], "little"))
        self.cells.free(listed)

    def _delete_key(self, path: str) -> None:
        names = _split(path)
        if not names:
            raise UsageError("the root key can't be deleted", path=self.path)
        parent = self._key("\\".join(names[:-1]))
        gone = self._child(parent, names[-1])
        if gone is None:
            raise MissingError(f"has no key {path!r}", path=self.path)
        self._children(parent).drop(names[-1], gone)
        self._touch(parent)
        stack, seen = [gone], {gone}
        while stack:
            cell = stack.pop()
            for child in self._children(cell).cells:
                if child in seen:
                    raise self._damaged("a key hangs in two places", child)
                seen.add(child)
                stack.append(child)
            self._free_key(cell)

    def _free_key(self, cell: int) -> None:
        if self._u32(cell, _SUBKEYS):
            self._free_list(self._u32(cell, _SUBKEY_LIST))
        for value in self._values(cell).cells:
            self._free_value(value)
        if self._u32(cell, _VALUES):
            self.cells.free(self._u32(cell, _VALUE_LIST))
        if self._u16(cell, 74):
            self.cells.free(self._u32(cell, _CLASS))
        self._count_security(self._u32(cell, _SECURITY), -1)
        self.cells.free(cell)
        self._subkeys.pop(cell, None)  # another key may get this cell
        self._own_values.pop(cell, None)

    def _count_security(self, cell: int, change: int) -> None:
        """Security cells are shared and counted; the last reference gone, it leaves its ring."""
        if cell == NO_CELL:
            return
        data = self.cells.read(cell)
        if data[:2] != b"sk":
            raise self._damaged("a key's security cell is damaged", cell)
        forward, back, count = struct.unpack_from("<III", data, 4)
        if count + change > 0 or forward == cell:
            self._put_u32(cell, 12, max(count + change, 0))
            return
        self._put_u32(back, 4, forward)
        self._put_u32(forward, 8, back)
        self.cells.free(cell)

    # Values

    def _values(self, cell: int) -> _Listed:
        known = self._own_values.get(cell)
        if known is not None:
            return known
        count = self._u32(cell, _VALUES)
        data = self.cells.read(self._u32(cell, _VALUE_LIST)) if count else b""
        if 4 * count > len(data):
            raise self._damaged("a list of values is cut off", cell)
        found = list(struct.unpack_from(f"<{count}I", data))
        return self._own_values.setdefault(cell, _by_name(found, self._value_name))

    def _value(self, cell: int, name: str) -> int | None:
        return self._values(cell).named.get(capitals(name))

    def _set(self, cell: int, edit: SetValue) -> None:
        if len(_units(edit.name)) > 2 * MAX_VALUE_NAME or "\0" in edit.name:
            raise UsageError("not a name that a value can have", path=self.path, found=repr(edit.name[:60]))
        if len(edit.data) > MAX_DATA:
            raise UsageError("a value's data are too long", path=self.path, found=len(edit.data), expected=MAX_DATA)
        old = self._value(cell, edit.name)
        if old is not None:
            self._free_data(old)  # first, so that data of the same length need no more room
        size, where = self._store(edit.data)
        if old is not None:
            self.cells.write(old, 4, struct.pack("<III", size, where, edit.type))
        else:
            raw, latin = _encoded(edit.name)
            flags = NAME_IS_LATIN1_VALUE if latin and raw else 0
            record = _VALUE.pack(b"vk", len(raw), size, where, edit.type, flags, 0) + raw
            self._values(cell).add(edit.name, self.cells.allocate(record))
        longest = max(self._u32(cell, _MAX_VALUE_NAME), len(_units(edit.name)))
        self._put_u32(cell, _MAX_VALUE_NAME, longest)
        self._put_u32(cell, _MAX_DATA, max(self._u32(cell, _MAX_DATA), len(edit.data)))
        self._touch(cell)

    def _store(self, data: bytes) -> tuple[int, int]:
        """(size field, data field) of a value's bytes."""
        if len(data) <= 4:
            return len(data) | RESIDENT, int.from_bytes(data.ljust(4, b"\0"), "little")
        if len(data) <= BIG_DATA_SEGMENT or not self.big_data:
            return len(data), self.cells.allocate(data)
        pieces = [data[at : at + BIG_DATA_SEGMENT] for at in range(0, len(data), BIG_DATA_SEGMENT)]
        cells = [self.cells.allocate(piece + bytes(4)) for piece in pieces]
        listed = self.cells.allocate(struct.pack(f"<{len(cells)}I", *cells))
        return len(data), self.cells.allocate(struct.pack("<2sHI", b"db", len(cells), listed))

    def _put_values(self, cell: int, values: list[int]) -> None:
        if self._u32(cell, _VALUES):
            self.cells.free(self._u32(cell, _VALUE_LIST))
        listed = self.cells.allocate(struct.pack(f"<{len(values)}I", *values)) if values else NO_CELL
        self._put_u32(cell, _VALUES, len(values))
        self._put_u32(cell, _VALUE_LIST, listed)

    def _delete_value(self, cell: int, edit: DeleteValue) -> None:
        gone = self._value(cell, edit.name)
        if gone is None:
            raise MissingError(f"has no value {edit.name!r} in {edit.key!r}", path=self.path)
        self._values(cell).drop(edit.name, gone)
        self._free_value(gone)
        self._touch(cell)

    def _free_value(self, value: int) -> None:
        self._free_data(value)
        self.cells.free(value)

    def _free_data(self, value: int) -> None:
        size, where = struct.unpack_from("<II", self.cells.read(value), 4)
        if size & RESIDENT or not size:
            return
        data = self.cells.read(where)
        if size > BIG_DATA_SEGMENT and self.big_data and data[:2] == b"db":
            count, listed = struct.unpack_from("<HI", data, 2)
            rows = self.cells.read(listed)
            for at in range(0, min(4 * count, len(rows)), 4):
                self.cells.free(int.from_bytes(rows[at : at + 4], "little"))
            self.cells.free(listed)
        self.cells.free(where)

    # Fields

    def _node(self, cell: int) -> bytes:
        data = self.cells.read(cell)
        if data[:2] != b"nk" or len(data) < KEY_NODE.size:
            raise self._damaged("a key's cell is damaged", cell)
        return data

    def _name(self, cell: int) -> str:
        data = self._node(cell)
        flags, length = int.from_bytes(data[2:4], "little"), int.from_bytes(data[72:74], "little")
        raw = data[76 : 76 + length]
        return raw.decode("latin-1") if flags & NAME_IS_LATIN1_KEY else utf16(raw)

    def _value_name(self, cell: int) -> str:
        data = self.cells.read(cell)
        if data[:2] != b"vk" or len(data) < _VALUE.size:
            raise self._damaged("a value's cell is damaged", cell)
        _, length, _, _, _, flags, _ = _VALUE.unpack_from(data)
        raw = data[_VALUE.size : _VALUE.size + length]
        return raw.decode("latin-1") if flags & NAME_IS_LATIN1_VALUE else utf16(raw)

    def _u32(self, cell: int, offset: int) -> int:
        return int.from_bytes(self._node(cell)[offset : offset + 4], "little")

    def _u16(self, cell: int, offset: int) -> int:
        return int.from_bytes(self._node(cell)[offset : offset + 2], "little")

    def _put_u32(self, cell: int, offset: int, value: int) -> None:
        self.cells.write(cell, offset, struct.pack("<I", value))

    def _touch(self, cell: int) -> None:
        self.cells.write(cell, _WRITTEN, struct.pack("<Q", self.written))

    def _damaged(self, what: str, cell: int) -> CorruptImageError:
        return CorruptImageError(f"{what}: the hive is only read", path=self.path, offset=BINS_START + cell)


def _by_name(cells: list[int], name_of: Callable[[int], str]) -> _Listed:
    named: dict[str, int] = {}
    for cell in cells:
        named.setdefault(capitals(name_of(cell)), cell)
    return _Listed(cells, named)


def _split(path: str) -> list[str]:
    return [name for name in path.split("\\") if name]


def _encoded(name: str) -> tuple[bytes, bool]:
    """A name's bytes, and whether they are one byte a letter."""
    try:
        return name.encode("latin-1"), True
    except UnicodeEncodeError:
        return name.encode("utf-16-le", "surrogatepass"), False


@lru_cache(1 << 16)  # a list is made anew for each subkey that goes
def _hash(name: str) -> int:
    value = 0
    for (unit,) in struct.iter_unpack(">H", _units(name)):
        value = (value * 37 + unit) & 0xFFFFFFFF
    return value


def _units(name: str) -> bytes:
    """What Windows sorts and hashes keys by: UTF-16 units of the capitals, here as bytes that sort as they do."""
    return capitals(name).encode("utf-16-be", "surrogatepass")


def _hint(name: str) -> bytes:
    """The first four letters of a name, as an ``lf`` list repeats them; zeros where they aren't ASCII."""
    head = name[:4]
    return head.encode("ascii").ljust(4, b"\0") if head.isascii() else bytes(4)
