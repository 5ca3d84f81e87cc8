"""Damaged hives that are edited: one of Byre's errors, or a hive that differs by the edits and nothing else."""

from __future__ import annotations

import random
import struct

import pytest

from builders.hive import Node, build_hive
from byre.errors import ByreError
from byre.lite.hive_editor import DeleteKey, DeleteValue, Edit, MakeKey, SetValue, edited
from byre.windows.registry import Hive, open_hive
from byre.windows.registry.layout import base_block_checksum
from fuzzing import fuzz

pytestmark = pytest.mark.fuzz

NOW = 134_000_000_000_000_000
EXTREMES = (0, 1, 4, 8, 0x20, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF8)
Tree = dict[str, dict[str, tuple[int, bytes]]]


def _built() -> bytes:
    root = Node()
    for number in range(30):
        node = root.at(f"ControlSet001\\Services\\svc{number:02}")
        node.values = {"Start": number % 5, "ImagePath": f"system32\\drivers\\svc{number}.sys", "blob": bytes(number)}
        node.class_name = "class" if number % 4 == 0 else None
        node.at("Parameters").values = {"text": "x" * number * 10, "": "default"}
    root.at("big").values = {"big": bytes(40_000)}
    return build_hive(root)


IMAGE = _built()
USED = IMAGE.rindex(b"big") + 200


def _edits(rng: random.Random) -> list[Edit]:
    services = "ControlSet001\\Services"
    choices: list[Edit] = [
        SetValue(f"{services}\\svc{rng.randrange(30):02}", "Start", 4, b"\4\0\0\0"),
        SetValue(f"{services}\\svc{rng.randrange(30):02}", "new", 3, bytes(rng.choice([3, 300, 20_000]))),
        SetValue("Software\\New\\Key", "", 1, b"x\0\0\0"),
        DeleteKey(f"{services}\\svc{rng.randrange(30):02}"),
        DeleteValue(f"{services}\\svc{rng.randrange(30):02}\\Parameters", "text"),
        SetValue("big", "big", 3, bytes(30_000)),
        DeleteKey("big"),
        MakeKey(f"{services}\\Größe {rng.randrange(9)}"),
    ]
    return rng.sample(choices, rng.randrange(1, 5))


def _damaged(rng: random.Random) -> bytes:
    data = bytearray(IMAGE)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(4096, USED)
        match rng.randrange(5):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                at -= at % 4
                struct.pack_into("<I", data, at, rng.choice(EXTREMES))
            case 2:
                other = rng.randrange(4096, USED) & ~3
                at -= at % 4
                data[at : at + 4] = data[other : other + 4]
            case 3:
                size = rng.choice([8, 64])
                data[at : at + size] = bytes(size)
            case 4:
                struct.pack_into("<I", data, rng.choice([36, 40, 4, 8, 20, 24]), rng.choice(EXTREMES))
                struct.pack_into("<I", data, 508, base_block_checksum(bytes(data)))
    return bytes(data)


def _tree(hive: Hive) -> Tree:
    return {path: {value.name: (value.type, value.data) for value in key.values()} for path, key in hive.walk()}


def _one_case(rng: random.Random) -> bool:
    image, edits = _damaged(rng), _edits(rng)
    try:
        hive = open_hive(image, path="HIVE")
        before = _tree(hive)
        if hive.problems:
            with pytest.raises(ByreError):
                edited(hive, image[:4096], edits, written=NOW)
            return False
        result = edited(hive, image[:4096], edits, written=NOW)
    except ByreError as error:
        assert error.what
        return False
    after = open_hive(result, path="HIVE")
    found = _tree(after)
    assert not after.problems, after.problems
    touched = [edit.key.lower() for edit in edits]
    for path in before.keys() | found.keys():
        if before.get(path) != found.get(path):
            lower = path.lower()
            assert any(lower == key or lower.startswith(key + "\\") or key.startswith(lower) for key in touched), path
    return True


def test_fuzz_damaged_hives_are_refused_or_edited_and_no_more() -> None:
    assert fuzz("edited hive", 800, _one_case)
