"""Hives edited by Byre: hivex reads what a dictionary would hold, the cells still tile every bin."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from builders.hive import Node, build_hive, build_repeating
from builders.hive_invariants import HIVEX, Tree
from byre.errors import CorruptImageError, MissingError, UsageError
from byre.lite.hive_cells import Cells
from byre.lite.hive_editor import DeleteKey, DeleteValue, Edit, MakeKey, SetValue, edited
from byre.windows.registry import Hive, open_hive
from byre.windows.registry.layout import ValueType
from oracles import require_tool

NOW = 134_000_000_000_000_000
SZ = ValueType.SZ
LONGER = "longer than it was before".encode("utf-16-le") + b"\0\0"


def _edit(image: bytes, edits: list[Edit]) -> bytes:
    return edited(open_hive(image, path="HIVE"), image[:4096], edits, written=NOW)


def _tree(image: bytes) -> Tree:
    hive: Hive = open_hive(image, path="HIVE")
    assert hive.base.clean
    found = {path: {value.name: (value.type, value.data) for value in key.values()} for path, key in hive.walk()}
    assert not hive.problems
    Cells(hive.bins, path="HIVE")  # raises where the cells don't tile the bins
    return found


def _by_hivex(image: bytes, folder: Path) -> Tree:
    python = require_tool("python3:hivex")
    file = folder / "hive"
    file.write_bytes(image)
    done = subprocess.run([python, "-c", HIVEX, file], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)
    return {
        path: {name: (kind, bytes.fromhex(data)) for name, (kind, data) in row.items()} for path, row in rows.items()
    }


@pytest.fixture
def image() -> bytes:
    root = Node()
    for number in range(30):
        node = root.at(f"ControlSet001\\Services\\svc{number:02}")
        node.values = {"Start": number % 5, "ImagePath": f"system32\\drivers\\svc{number}.sys", "blob": bytes(number)}
        node.at("Parameters").values = {"text": "x" * number * 10}
    root.at("Größe\\日本").values = {"": "default"}
    return build_hive(root)


@pytest.mark.oracle
def test_values_and_keys_set_and_deleted(image: bytes, tmp_path: Path) -> None:
    services = "ControlSet001\\Services"
    wanted = _tree(image)
    result = _edit(
        image,
        [
            SetValue(f"{services}\\SVC01", "start", ValueType.DWORD, b"\4\0\0\0"),
            SetValue(f"{services}\\svc02", "ImagePath", SZ, LONGER),
            SetValue("Software\\New\\Deep", "naïve 日本", ValueType.BINARY, bytes(5000)),
            SetValue("Größe", "", SZ, b"d\0\0\0"),
            DeleteValue(f"{services}\\svc03", "blob"),
            DeleteKey(f"{services}\\svc04"),
            MakeKey("Größe\\leer"),
        ],
    )
    wanted[f"{services}\\svc01"]["Start"] = (4, b"\4\0\0\0")
    wanted[f"{services}\\svc02"]["ImagePath"] = (1, LONGER)
    wanted["Software"] = wanted["Software\\New"] = {}
    wanted["Software\\New\\Deep"] = {"naïve 日本": (3, bytes(5000))}
    wanted["Größe"] = {"": (1, b"d\0\0\0")}
    wanted["Größe\\leer"] = {}
    del wanted[f"{services}\\svc03"]["blob"]
    del wanted[f"{services}\\svc04"], wanted[f"{services}\\svc04\\Parameters"]
    assert _tree(result) == wanted
    assert _by_hivex(result, tmp_path) == wanted


@pytest.mark.oracle
@pytest.mark.parametrize("minor", [3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_random_edits_hold_what_a_dictionary_would(minor: int, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    image = build_hive(Node(values={"first": 1}), minor=minor)
    model: Tree = _tree(image)
    for _ in range(12):
        edits = [_random_edit(model, rng) for _ in range(25)]
        image = _edit(image, edits)
        assert _tree(image) == model
    assert _by_hivex(image, tmp_path) == model


def _random_edit(model: Tree, rng: random.Random) -> Edit:
    """A random edit that can be done, made in the model too."""
    path = rng.choice(sorted(model))
    what = rng.random()
    if what < 0.2 and path:
        for below in [each for each in model if each == path or each.startswith(path + "\\")]:
            del model[below]
        return DeleteKey(path)
    if what < 0.35 and model[path]:
        name = rng.choice(sorted(model[path]))
        del model[path][name]
        return DeleteValue(path, name)
    if what < 0.65 and path.count("\\") < 6:
        path = f"{path}\\key{rng.randrange(600)}".lstrip("\\")
        model.setdefault(path, {})
        return MakeKey(path)
    name = f"value{rng.randrange(8)}"
    data = rng.randbytes(rng.choice([0, 3, 4, 5, 100, 5000, 20_000]))
    model[path][name] = (3, data)
    return SetValue(path, name, 3, data)


def test_many_subkeys_make_a_list_of_lists() -> None:
    names = [f"key{number:04}" for number in range(1200)]
    image = _edit(build_hive(Node()), [MakeKey(f"top\\{name}") for name in names])
    assert [path for path in _tree(image) if path.startswith("top\\")] == [f"top\\{name}" for name in names]
    image = _edit(image, [DeleteKey(f"top\\{name}") for name in names[5:]])
    assert len(_tree(image)) == 2 + 5


def test_a_change_that_fits_keeps_the_size(image: bytes) -> None:
    result = _edit(image, [SetValue("ControlSet001\\Services\\svc01", "Start", ValueType.DWORD, b"\4\0\0\0")])
    assert len(result) == len(image)
    changed = [at for at in range(4096, len(image)) if image[at] != result[at]]
    assert len(changed) < 20


def test_what_is_not_there_is_refused(image: bytes) -> None:
    for edit in (DeleteKey("none"), DeleteValue("ControlSet001", "none"), DeleteValue("none\\at all", "x")):
        with pytest.raises(MissingError):
            _edit(image, [edit])
    for bad in (DeleteKey(""), MakeKey("x" * 300), SetValue("a", "b" * 20_000, 1, b"")):
        with pytest.raises(UsageError):
            _edit(image, [bad])


@pytest.mark.fuzz
def test_damaged_hives_are_refused_or_stay_readable(image: bytes) -> None:
    rng = random.Random(3)
    refused = 0
    edits: list[Edit] = [
        SetValue("ControlSet001\\Services\\svc01", "new", 1, bytes(300)),
        DeleteKey("ControlSet001\\Services\\svc04"),
    ]
    for _ in range(600):
        broken = bytearray(image)
        for _ in range(rng.choice([1, 2, 8])):
            broken[4096 + rng.randrange(len(image) - 4096)] = rng.randrange(256)
        try:
            result = _edit(bytes(broken), edits)
        except (CorruptImageError, MissingError, UsageError):
            refused += 1
            continue
        open_hive(result, path="HIVE").key("ControlSet001")
    assert refused > 50


def test_a_list_that_is_named_again_and_again_is_refused_and_not_read() -> None:
    """4000 times 4000 subkeys: the editor asks no reader, which has seen none of it."""
    image = build_repeating(4000)
    with pytest.raises(CorruptImageError) as caught:
        _edit(image, [MakeKey(r"Keys\new")])
    assert "list of subkeys" in caught.value.what
