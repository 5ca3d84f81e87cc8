"""A hive in memory: keys, values, and what can be saved of a damaged one."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from byre.errors import CorruptImageError
from byre.filesystems.capitals import capitals
from byre.windows.registry.layout import (
    BIG_DATA_SEGMENT,
    BINS_START,
    KEY_IS_SYMLINK,
    MAX_DEPTH,
    NAME_IS_LATIN1_KEY,
    NAME_IS_LATIN1_VALUE,
    NO_CELL,
    RESIDENT,
    BaseBlock,
    ValueType,
    filetime_to_rfc3339,
    parse_base_block,
)
from byre.windows.registry.logs import Replay, replay

MAX_HIVE = 1 << 30
"""Larger files are refused: XP's hives stay under 200 MB, the largest seen on later systems are 400 MB."""
MAX_PROBLEMS = 1000
FEW, FEW_BYTES = 16, 1 << 16
"""Subkeys or values, and bytes of data, that a key has whatever the others have: most have no more."""
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_VALUE_CELL = struct.Struct("<i2sHIIIH")
"""A vk cell with its size in front: signature, name length, data size, data cell, type, flags."""
_KEY_CELL = struct.Struct("<i2sHQ4xII4xI4xIIII20xHH")
"""An nk cell with its size in front, of ``layout.KEY_NODE`` only what a Key holds, in a Key's order."""
_WORDS = tuple(struct.Struct(f"<{count}I") for count in range(129))
"""For lists of a few cells: making a format string each time took as long as reading it."""
_CHILD_LISTS = {b"lf": 8, b"lh": 8, b"li": 4}


@dataclass(frozen=True, slots=True)
class HiveProblem:
    """Damage met while reading; ``cell`` counts from the hive bins data, bytes."""

    cell: int
    what: str


class Value(NamedTuple):
    """One value. ``data`` is raw bytes, cut to what could be read; ``complete`` says whether that is all.

    A named tuple like ``Key``: a hive holds a hundred thousand of them, and a frozen dataclass takes four times
    as long to make.
    """

    name: str
    """Empty for the key's default value."""
    type: int
    data: bytes
    complete: bool = True

    @property
    def type_name(self) -> str:
        return f"REG_{ValueType(self.type).name}" if self.type in ValueType._value2member_map_ else f"{self.type:#x}"

    @property
    def decoded(self) -> str | int | list[str] | bytes:
        """Strings to their first NUL, numbers, lists of strings; bytes for all else and for what doesn't fit."""
        if self.type in (ValueType.SZ, ValueType.EXPAND_SZ, ValueType.LINK):
            return utf16(self.data).split("\0", 1)[0]
        if self.type == ValueType.MULTI_SZ:
            return utf16(self.data).rstrip("\0").split("\0") if len(self.data) > 2 else []
        if self.type == ValueType.DWORD and len(self.data) >= 4:
            return int.from_bytes(self.data[:4], "little")
        if self.type == ValueType.DWORD_BIG_ENDIAN and len(self.data) >= 4:
            return int.from_bytes(self.data[:4], "big")
        if self.type == ValueType.QWORD and len(self.data) >= 8:
            return int.from_bytes(self.data[:8], "little")
        return self.data

    @property
    def text(self) -> str | None:
        """The value as a string where it is one; None otherwise."""
        decoded = self.decoded
        return decoded if isinstance(decoded, str) else None

    @property
    def number(self) -> int | None:
        """The value as an integer where it is one; None otherwise."""
        decoded = self.decoded
        return decoded if isinstance(decoded, int) else None

    @property
    def strings(self) -> list[str]:
        """A REG_MULTI_SZ's strings, or a string alone in a list; empty for all else."""
        decoded = self.decoded
        return decoded if isinstance(decoded, list) else [decoded] if isinstance(decoded, str) else []


class Key(NamedTuple):
    """One key node. ``recovered``: no list of subkeys leads to it, a scan of the cells found it."""

    hive: Hive
    cell: int
    name: str
    flags: int
    last_written_filetime: int
    parent_cell: int
    subkey_count: int
    subkey_list: int
    value_count: int
    value_list: int
    security_cell: int
    class_cell: int
    class_length: int
    recovered: bool = False

    @property
    def last_written(self) -> str | None:
        """RFC 3339 in UTC."""
        return filetime_to_rfc3339(self.last_written_filetime)

    @property
    def is_symlink(self) -> bool:
        return bool(self.flags & KEY_IS_SYMLINK)

    @property
    def class_name(self) -> str | None:
        """The class name, None where it has none or it can't be read."""
        if self.class_cell == NO_CELL or not self.class_length:
            return None
        data = self.hive.cell(self.class_cell)
        return None if data is None else utf16(data[: self.class_length])

    @property
    def security_descriptor(self) -> bytes | None:
        """The self-relative security descriptor, None where it can't be read."""
        data = self.hive.cell(self.security_cell)
        if data is None or len(data) < 20 or data[:2] != b"sk":
            return None
        size = _U32.unpack_from(data, 16)[0]
        return data[20 : 20 + size]

    def subkeys(self) -> tuple[Key, ...]:
        """The subkeys in the order of the list; a broken list is made up from cells that name this parent."""
        return self.hive.subkeys_of(self)

    def subkey(self, name: str) -> Key | None:
        """The subkey of this name, case-insensitive."""
        wanted = capitals(name)
        return next((key for key in self.subkeys() if capitals(key.name) == wanted), None)

    def at(self, path: str) -> Key | None:
        """The key below this one at ``A\\B\\C``; an empty path is this key."""
        found: Key | None = self
        for part in path.replace("/", "\\").split("\\"):
            if part and found is not None:
                found = found.subkey(part)
        return found

    def values(self) -> tuple[Value, ...]:
        """The values in their order; unreadable ones are left out and reported as the hive's problems."""
        return self.hive.values_of(self)

    def value(self, name: str = "") -> Value | None:
        """The value of this name (the default value without one), case-insensitive."""
        wanted = capitals(name)
        return next((value for value in self.values() if capitals(value.name) == wanted), None)


class _Share:
    """What all keys of a hive may have together of something that the hive holds only so much of. Lists may overlap
    and name the same cells again and again: a hive of a megabyte would else have more values than memory holds."""

    def __init__(self, limit: int, few: int) -> None:
        self._left, self._few = limit, few
        self._taken: dict[int, int] = {}

    def room(self, key: int) -> int:
        """The most that the key in this cell may have; when it is asked again as much as it had."""
        return max(self._few, self._taken.get(key, self._left))

    def take(self, key: int, amount: int) -> None:
        if amount > self._few and key not in self._taken:
            self._taken[key] = amount
            self._left -= amount


class Hive:
    """A hive's bytes and the reading of them. Mutable: it gathers the problems that reading meets."""

    def __init__(self, data: bytes | bytearray, *, path: str, base: BaseBlock, replayed: Replay | None) -> None:
        self.path = path
        self.base = base
        self.replayed = replayed
        self.problems: list[HiveProblem] = []
        self._bins = bytes(memoryview(data)[BINS_START:])
        self._subkeys = _Share(len(self._bins) // _KEY_CELL.size, FEW)
        self._values = _Share(len(self._bins) // _VALUE_CELL.size, FEW)
        self._data = _Share(len(self._bins), FEW_BYTES)

    @property
    def bins(self) -> bytes:
        """The hive bins data as read, logs replayed: file offset 4096 and on."""
        return self._bins

    @property
    def root(self) -> Key:
        """The root key; CorruptImageError where there is none, not even by scanning."""
        key = self.key_at(self.base.root_cell)
        if key is not None:
            return key
        self.report(self.base.root_cell, "the root key can't be read")
        for cell in self._scanned_keys["cell"][(self._scanned_keys["flags"] & 4) != 0].tolist():
            found = self.key_at(cell)
            if found is not None:
                return found
        raise CorruptImageError("the hive has no root key", path=self.path, offset=BINS_START + self.base.root_cell)

    def key(self, path: str) -> Key | None:
        """The key at ``A\\B\\C`` below the root, case-insensitive; None where it isn't there."""
        return self.root.at(path)

    def walk(self, start: Key | None = None) -> Iterator[tuple[str, Key]]:
        """Every key below ``start`` with its path, parents first; loops and depths over 512 are reported."""
        top = self.root if start is None else start
        seen = {top.cell}
        stack: list[tuple[str, Key, int]] = [("", top, 0)]
        while stack:
            path, key, depth = stack.pop()
            yield path, key
            if depth >= MAX_DEPTH:
                self.report(key.cell, f"keys nest deeper than {MAX_DEPTH} levels")
                continue
            prefix = f"{path}\\" if path else ""
            for child in reversed(self.subkeys_of(key) if key.subkey_count else ()):
                cell = child.cell
                if cell in seen:
                    self.report(cell, f"key {child.name!r} hangs in two places or in a loop")
                    continue
                seen.add(cell)
                stack.append((prefix + child.name, child, depth + 1))

    def orphans(self) -> tuple[Key, ...]:
        """Keys in allocated cells that no walk from the root reaches: what damage has cut off."""
        reached = {key.cell for _, key in self.walk()}
        found = []
        for cell in self._scanned_keys["cell"].tolist():
            if cell not in reached:
                key = self.key_at(cell, recovered=True)
                if key is not None:
                    found.append(key)
        return tuple(found)

    def report(self, cell: int, what: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(HiveProblem(cell, what))

    def cell(self, offset: int) -> bytes | None:
        """The data of an allocated cell without its size field; None where the offset or the size is wrong."""
        bins = self._bins
        if offset + 4 > len(bins) or offset & 7:
            return None
        size = _I32.unpack_from(bins, offset)[0]
        if size > -8 or offset - size > len(bins):
            return None
        return bins[offset + 4 : offset - size]

    def key_at(self, cell: int, *, recovered: bool = False) -> Key | None:
        """The key node in a cell; None where there is no sound one."""
        bins = self._bins
        start = cell + _KEY_CELL.size
        if start > len(bins) or cell & 7:
            return None
        fields = _KEY_CELL.unpack_from(bins, cell)
        cell_size, magic, flags = fields[:3]
        name_length, class_length = fields[-2:]
        stop = cell - cell_size
        if magic != b"nk" or stop < start or stop > len(bins):
            return None
        if start + name_length <= stop:
            stop = start + name_length
        else:
            self.report(cell, "a key's name is cut off")
        raw = bins[start:stop]
        name = raw.decode("latin-1") if flags & NAME_IS_LATIN1_KEY else utf16(raw)
        return tuple.__new__(Key, (self, cell, name, *fields[2:-2], class_length, recovered))

    def subkeys_of(self, key: Key) -> tuple[Key, ...]:
        if not key.subkey_count:
            return ()
        cells: list[int] = []
        whole = self._read_list(key.subkey_list, cells, min(key.subkey_count, self._subkeys.room(key.cell)))
        self._subkeys.take(key.cell, len(cells))
        found = [child for child in map(self.key_at, cells) if child is not None]
        if whole and len(found) == key.subkey_count:
            return tuple(found)
        have = {child.cell for child in found}
        for cell in self._children_by_scan(key.cell):
            if cell not in have:
                child = self.key_at(cell, recovered=True)
                if child is not None:
                    found.append(child)
        self.report(
            key.cell, f"key {key.name!r} says {key.subkey_count} subkeys, {len(found)} found, {len(have)} by its list"
        )
        return tuple(found)

    def values_of(self, key: Key) -> tuple[Value, ...]:
        if not key.value_count:
            return ()
        listed = self.cell(key.value_list)
        if listed is None:
            self.report(key.cell, f"the value list of key {key.name!r} can't be read")
            return ()
        count = min(key.value_count, len(listed) // 4)
        if count < key.value_count:
            self.report(key.cell, f"key {key.name!r} says {key.value_count} values, its list holds {count}")
        if count > FEW:
            count = self._granted(key, count)
        # The busiest loop of all reading of hives: tuples are made without Value's constructor, and data in a cell
        # of their own are cut out here.
        bins, end = self._bins, len(self._bins)
        new, unpack, size_at = tuple.__new__, _VALUE_CELL.unpack_from, _I32.unpack_from
        found: list[Value] = []
        used, room = 0, self._data.room(key.cell)
        for cell in _words(listed, 0, count):
            if used > room:
                self.report(key.cell, f"the values of key {key.name!r} have more data than the hive holds")
                break
            if cell + 24 > end or cell & 7:
                self._report_value(cell, key)
                continue
            cell_size, magic, name_length, size, data_cell, kind, flags = unpack(bins, cell)
            start, stop = cell + 24, cell - cell_size
            if magic != b"vk" or stop < start or stop > end:
                self._report_value(cell, key)
                continue
            if start + name_length < stop:
                stop = start + name_length
            raw = bins[start:stop]
            name = raw.decode("latin-1") if flags & NAME_IS_LATIN1_VALUE else utf16(raw)
            if size & RESIDENT:
                size &= 0x7FFFFFFF
                data = bins[cell + 12 : cell + 12 + (size if size < 4 else 4)]
                found.append(new(Value, (name, kind, data, True)))
                continue
            if size <= BIG_DATA_SEGMENT and not data_cell & 7 and data_cell + 4 <= end:
                held = -size_at(bins, data_cell)[0]
                if size + 4 <= held <= end - data_cell:
                    data = bins[data_cell + 4 : data_cell + 4 + size]
                    used += size
                    found.append(new(Value, (name, kind, data, True)))
                    continue
            data = self._value_data(data_cell, size) if size else b""
            used += len(data)
            if len(data) < size:
                self.report(cell, f"the data of value {name!r} is cut off: {len(data)} of {size} bytes")
            found.append(Value(name, kind, data, len(data) == size))
        self._data.take(key.cell, min(used, room))
        return tuple(found)

    def _granted(self, key: Key, count: int) -> int:
        """How many of so many values are read."""
        granted = min(count, self._values.room(key.cell))
        self._values.take(key.cell, granted)
        if granted < count:
            self.report(key.cell, f"key {key.name!r} says {count} values, for which the hive is too small")
        return granted

    def _report_value(self, cell: int, key: Key) -> None:
        self.report(cell, f"a value of key {key.name!r} can't be read")

    def _value_data(self, cell: int, size: int) -> bytes:
        data = self.cell(cell)
        if data is None:
            return b""
        if size <= BIG_DATA_SEGMENT or data[:2] != b"db" or (self.base.minor < 4 and len(data) >= size):
            return data[:size]
        count, list_cell = struct.unpack_from("<HI", data, 2) if len(data) >= 8 else (0, NO_CELL)
        listed = self.cell(list_cell)
        if listed is None or size > len(self._bins):
            return b""
        content = bytearray()
        for index in range(min(count, len(listed) // 4)):
            segment = self.cell(_U32.unpack_from(listed, index * 4)[0])
            if segment is None or len(content) >= size:
                break
            content += segment[: min(BIG_DATA_SEGMENT, size - len(content))]
        return bytes(content)

    def _read_list(self, cell: int, out: list[int], wanted: int, depth: int = 0) -> bool:
        """Append the key cells of a subkey list; False where some of it can't be read."""
        data = self.cell(cell)
        if data is None or len(data) < 4 or depth > 2:
            return False
        kind, count = data[:2], int.from_bytes(data[2:4], "little")
        if kind == b"ri":
            count_read = min(count, (len(data) - 4) // 4)
            whole = count_read == count
            for below in struct.unpack_from(f"<{count_read}I", data, 4):
                if len(out) >= wanted:
                    break
                whole &= self._read_list(below, out, wanted, depth + 1)
            return whole
        width = _CHILD_LISTS.get(kind)
        if width is None:
            return False
        count_read = min(count, (len(data) - 4) // width, wanted - len(out))
        step = width // 4
        out.extend(_words(data, 4, count_read * step)[::step])
        return count_read == count

    @cached_property
    def _scanned_keys(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """Every place that looks like an allocated key node: its cell, its flags, its parent's cell."""
        bins = np.frombuffer(self._bins, dtype=np.uint8)
        slots = bins[: len(bins) // 8 * 8].reshape(-1, 8)
        if len(slots) < 11:
            return np.zeros(0, dtype=[("cell", "i8"), ("flags", "u2"), ("parent", "i8")])
        hits = np.flatnonzero((slots[:, 4] == 0x6E) & (slots[:, 5] == 0x6B) & (slots[:, 3] >= 0x80))
        hits = hits[hits < len(slots) - 10]
        table = np.zeros(len(hits), dtype=[("cell", "i8"), ("flags", "u2"), ("parent", "i8")])
        words = slots.reshape(-1).view("<u4")
        table["cell"] = hits * 8
        table["flags"] = words[hits * 2 + 1] >> 16
        table["parent"] = words[hits * 2 + 5]
        return table

    @cached_property
    def _scan_by_parent(self) -> dict[int, list[int]]:
        by_parent: dict[int, list[int]] = {}
        for cell, parent in zip(
            self._scanned_keys["cell"].tolist(), self._scanned_keys["parent"].tolist(), strict=True
        ):
            by_parent.setdefault(parent, []).append(cell)
        return by_parent

    def _children_by_scan(self, cell: int) -> list[int]:
        return self._scan_by_parent.get(cell, [])


def open_hive(data: bytes, *, path: str, logs: Sequence[tuple[str, bytes]] = ()) -> Hive:
    """A hive from its bytes, with its transaction logs (name, bytes) replayed in memory where it is dirty.

    ``path`` is what errors and problems call it. Raises CorruptImageError where it is no hive at all; lesser
    damage is gathered in ``Hive.problems``.
    """
    if len(data) > MAX_HIVE:
        raise CorruptImageError("the hive is too large", path=path, found=len(data), expected=f"at most {MAX_HIVE}")
    base = parse_base_block(data, path=path)
    done: Replay | None = None
    content: bytes | bytearray = data
    if not base.clean and logs:
        changed = bytearray(data)
        done = replay(changed, logs, path=path)
        content = changed
        base = parse_base_block(changed, path=path)
    hive = Hive(content, path=path, base=base, replayed=done)
    if not base.checksum_valid:
        hive.report(0, "the checksum of the base block is wrong")
    if not base.clean and base.checksum_valid:
        hive.report(0, "the hive is dirty: a write was under way and no log completes it")
    if base.bins_size + BINS_START > len(content):
        hive.report(0, f"the hive is cut off: {len(content)} of {base.bins_size + BINS_START} bytes")
    return hive


def _words(data: bytes, start: int, count: int) -> tuple[int, ...]:
    """``count`` 32-bit numbers from ``start``, which must be there."""
    layout = _WORDS[count] if count < len(_WORDS) else struct.Struct(f"<{count}I")
    return layout.unpack_from(data, start)


def utf16(data: bytes) -> str:
    """UTF-16LE text; an odd byte at the end is dropped, lone surrogates are replaced."""
    return data[: len(data) & ~1].decode("utf-16-le", "replace")
