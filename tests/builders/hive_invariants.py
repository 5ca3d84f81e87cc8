"""What holds of every sound hive: each allocated cell is used once, lists are sorted, security cells are counted."""

from __future__ import annotations

import json
import struct
import subprocess
from collections import Counter
from pathlib import Path

from builders.random_trees import folded
from byre.windows.registry import open_hive
from byre.windows.registry.layout import BIG_DATA_SEGMENT, NO_CELL
from oracles import require_tool

Tree = dict[str, dict[str, tuple[int, bytes]]]

HIVEX = """
import hivex, json, sys
hive = hivex.Hivex(sys.argv[1])
found = {}
def walk(node, path):
    listed = hive.node_values(node)
    found[path] = {hive.value_key(v): [hive.value_type(v)[0], hive.value_value(v)[1].hex()] for v in listed}
    for child in hive.node_children(node):
        name = hive.node_name(child)
        walk(child, path + "\\\\" + name if path else name)
walk(hive.root(), "")
json.dump(found, sys.stdout)
"""


def by_hivex(image: bytes, folder: Path) -> Tree:
    """Every key and value as hivex reads them."""
    python = require_tool("python3:hivex")
    file = folder / "hive"
    file.write_bytes(image)
    done = subprocess.run([python, "-c", HIVEX, file], capture_output=True, text=True, check=True)
    file.unlink()
    rows = json.loads(done.stdout)
    return {
        path: {name: (kind, bytes.fromhex(data)) for name, (kind, data) in row.items()} for path, row in rows.items()
    }


def by_byre(image: bytes) -> Tree:
    hive = open_hive(image, path="HIVE")
    assert hive.base.clean
    found = {path: {value.name: (value.type, value.data) for value in key.values()} for path, key in hive.walk()}
    assert not hive.problems
    return found


class Cells:
    """A walk over the raw cells from the root, by the format's description and none of Byre's own code."""

    def __init__(self, image: bytes) -> None:
        self.bins = image[4096 : 4096 + struct.unpack_from("<I", image, 40)[0]]
        self.used: Counter[int] = Counter()
        self.security: Counter[int] = Counter()
        self._key(struct.unpack_from("<I", image, 36)[0])
        for cell in self.security:
            self.used[cell] += 1

    def allocated(self) -> set[int]:
        found = set()
        position = 0
        while position < len(self.bins):
            magic, start, size = struct.unpack_from("<4sII", self.bins, position)
            assert magic == b"hbin" and start == position and size % 4096 == 0 and size
            cell, end = position + 32, position + size
            while cell < end:
                (length,) = struct.unpack_from("<i", self.bins, cell)
                assert length and length % 8 == 0 and cell + abs(length) <= end
                if length < 0:
                    found.add(cell)
                cell += abs(length)
            position = end
        return found

    def data(self, cell: int) -> bytes:
        (length,) = struct.unpack_from("<i", self.bins, cell)
        assert length < 0, f"cell {cell} is free"
        return self.bins[cell + 4 : cell - length]

    def take(self, cell: int) -> bytes:
        self.used[cell] += 1
        return self.data(cell)

    def _key(self, top: int) -> None:
        waiting = [top]
        while waiting:
            node = self.take(waiting.pop())
            assert node[:2] == b"nk"
            subkeys, listed = struct.unpack_from("<I4xI", node, 20)
            values, value_list, security, class_cell = struct.unpack_from("<IIII", node, 36)
            if security != NO_CELL:
                self.security[security] += 1
            if class_cell != NO_CELL and struct.unpack_from("<H", node, 74)[0]:
                self.take(class_cell)
            if values:
                for value in struct.unpack_from(f"<{values}I", self.take(value_list)):
                    self._value(value)
            children = self._list(listed) if subkeys else []
            assert len(children) == subkeys
            names = [folded(self._name(child)).encode("utf-16-be") for child in children]
            assert names == sorted(names) and len(set(names)) == len(names)
            waiting += children

    def _name(self, cell: int) -> str:
        node = self.data(cell)
        raw = node[76 : 76 + struct.unpack_from("<H", node, 72)[0]]
        return raw.decode("latin-1" if struct.unpack_from("<H", node, 2)[0] & 0x20 else "utf-16-le")

    def _list(self, cell: int) -> list[int]:
        data = self.take(cell)
        kind, count = struct.unpack_from("<2sH", data)
        if kind in (b"li", b"ri"):
            cells = list(struct.unpack_from(f"<{count}I", data, 4))
            return cells if kind == b"li" else [child for below in cells for child in self._list(below)]
        assert kind in (b"lf", b"lh")
        rows = list(struct.iter_unpack("<II", data[4 : 4 + 8 * count]))
        if kind == b"lh":
            assert [row[1] for row in rows] == [_hash(self._name(row[0])) for row in rows]
        return [row[0] for row in rows]

    def _value(self, cell: int) -> None:
        magic, _, size, where = struct.unpack_from("<2sHII", self.take(cell))
        assert magic == b"vk"
        if size & 0x80000000 or not size:
            return
        data = self.take(where)
        if size > BIG_DATA_SEGMENT and data[:2] == b"db":
            count, listed = struct.unpack_from("<HI", data, 2)
            for piece in struct.unpack_from(f"<{count}I", self.take(listed)):
                self.take(piece)


def _hash(name: str) -> int:
    value = 0
    units = folded(name).encode("utf-16-le")
    for (unit,) in struct.iter_unpack("<H", units):
        value = (value * 37 + unit) & 0xFFFFFFFF
    return value


def assert_whole(image: bytes, *, counted: bool = False) -> None:
    """Fail unless every allocated cell is used exactly once and the lists are as Windows wants them. ``counted``:
    every security cell says by how many keys it is used."""
    cells = Cells(image)
    twice = [cell for cell, count in cells.used.items() if count > 1]
    assert not twice, twice
    assert cells.allocated() == set(cells.used)
    if counted:
        for cell, count in cells.security.items():
            assert struct.unpack_from("<I", cells.data(cell), 12)[0] == count
