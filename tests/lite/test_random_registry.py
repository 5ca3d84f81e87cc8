"""Random edits of hives that Byre builds and hives that Windows wrote: hivex reads what a dictionary would hold."""

from __future__ import annotations

import lzma
import os
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders.hive import Node, build_hive
from builders.hive_invariants import Cells, Tree, assert_whole, by_byre, by_hivex
from builders.random_trees import VARIANTS, folded, options
from byre.lite.hive_editor import DeleteKey, DeleteValue, Edit, MakeKey, SetValue, edited
from byre.windows.registry import open_hive

NOW = 134_000_000_000_000_000
SIZES = (0, 1, 4, 5, 60, 700, 4096, 16_344, 16_345, 40_000)
NAMES = (
    *VARIANTS,
    "",
    "Run",
    "日本",
    "emoji 😀",
    "x" * 255,
    "{4D36E96A-E325-11CE-BFC1-08002BE10318}",
    "/slash/",
    "@",
)


@dataclass(frozen=True)
class Wish:
    """One edit, with what it picks by remainder."""

    kind: str
    key: int
    value: int
    name: str
    size: int


def wishes(kinds: tuple[str, ...], most: int = 40) -> st.SearchStrategy[list[Wish]]:
    letters = st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_characters="\\")
    name = st.one_of(st.sampled_from(NAMES), st.sampled_from(NAMES), st.text(letters, max_size=30))
    number = st.integers(0, 2**16)
    return st.lists(st.builds(Wish, st.sampled_from(kinds), number, number, name, number), min_size=5, max_size=most)


@dataclass
class Model:
    """The tree as it should be, and the edits that make it so."""

    tree: Tree
    edits: list[Edit] = field(default_factory=list)

    def take(self, wish: Wish) -> None:
        keys = sorted(self.tree)
        path = keys[wish.key % len(keys)]
        values = self.tree[path]
        match wish.kind:
            case "make" if wish.name:
                below = self._spelt(f"{path}\\{wish.name}".lstrip("\\"))
                if below.count("\\") < 8:
                    there = below in self.tree and below.isascii() and wish.value % 2
                    self.tree.setdefault(below, {})
                    self.edits.append(MakeKey(below.swapcase() if there else below))
            case "set":
                data = bytes([wish.value % 256]) * SIZES[wish.size % len(SIZES)]
                there = next((name for name in values if folded(name) == folded(wish.name)), wish.name)
                values[there] = (wish.size % 12, data)
                self.edits.append(SetValue(path, wish.name, wish.size % 12, data))
            case "drop value" if values:
                name = sorted(values)[wish.value % len(values)]
                del values[name]
                self.edits.append(DeleteValue(path, name))
            case "drop key" if path:
                for each in [each for each in keys if each == path or each.startswith(path + "\\")]:
                    del self.tree[each]
                self.edits.append(DeleteKey(path))

    def _spelt(self, path: str) -> str:
        return next((each for each in self.tree if folded(each) == folded(path)), path)


def _edit(image: bytes, edits: list[Edit]) -> bytes:
    return edited(open_hive(image, path="HIVE"), image[:4096], edits, written=NOW)


def _built(minor: int) -> bytes:
    root = Node(values={"first": 1})
    for number in range(40):
        node = root.at(f"Control\\Class\\{number:04}")
        node.values = {"text": "x" * number, "blob": bytes(number * (700 if minor >= 4 else 400)), "": number}
        node.class_name = "class" if number % 3 else None
    return build_hive(root, minor=minor)


@pytest.mark.oracle
@options(30)
@given(
    st.sampled_from([3, 5]), st.lists(wishes(("make", "make", "set", "set", "drop value", "drop key")), max_size=3)
)
def test_a_built_hive_holds_what_a_dictionary_would(
    tmp_path_factory: pytest.TempPathFactory, minor: int, rounds: list[list[Wish]]
) -> None:
    image = _built(minor)
    model = Model(by_byre(image))
    for wanted in rounds:
        model.edits = []
        for wish in wanted:
            model.take(wish)
        image = _edit(image, model.edits)
        assert by_byre(image) == model.tree
        assert_whole(image)
    assert by_hivex(image, tmp_path_factory.mktemp("hive")) == model.tree


@options(30)
@given(st.sampled_from([3, 5]), wishes(("drop value", "drop key")))
def test_deleting_never_changes_the_size(minor: int, wanted: list[Wish]) -> None:
    image = _built(minor)
    model = Model(by_byre(image))
    for wish in wanted:
        model.take(wish)
    result = _edit(image, model.edits)
    assert len(result) == len(image)
    assert by_byre(result) == model.tree
    assert_whole(result)


@pytest.mark.parametrize("size", SIZES)
def test_a_value_of_the_same_length_keeps_the_size(size: int) -> None:
    """Even in a hive without room."""
    image = _edit(_built(5), [SetValue("Control", "big", 3, bytes(size))])
    while True:  # fill it up
        more = _edit(image, [SetValue("Control", f"filler {len(image)} {os.urandom(4).hex()}", 3, bytes(40))])
        if len(more) > len(image):
            break
        image = more
    assert len(_edit(image, [SetValue("Control", "big", 3, b"\1" * size)])) == len(image)


def test_keys_whose_capitals_are_of_other_length_are_two() -> None:
    image = _edit(_built(5), [SetValue("straße", "v", 4, b"1234"), SetValue("STRASSE", "v", 4, b"5678")])
    tree = by_byre(image)
    assert tree["straße"] == {"v": (4, b"1234")} and tree["STRASSE"] == {"v": (4, b"5678")}
    assert "straße" in by_byre(_edit(image, [DeleteKey("strasse")]))
    assert_whole(image)


FIELD = ("NTUSER_XP.DAT", "SAM", "BCD")


@dataclass(frozen=True)
class FieldHive:
    name: str
    data: bytes = field(repr=False)


@pytest.fixture(scope="module", params=FIELD)
def field_hive(request: pytest.FixtureRequest) -> FieldHive:
    return _field(request.param)


def _field(name: str) -> FieldHive:
    named = os.environ.get("BYRE_FIELD_DATA")
    places = [Path(named)] if named else [up / "shared" / "data" for up in Path(__file__).parents[2:5]]
    for folder in places:
        file = folder / f"{name}.xz"
        if file.is_file():
            return FieldHive(name, lzma.decompress(file.read_bytes()))
    pytest.skip("no field data: set BYRE_FIELD_DATA")


@pytest.mark.field
@options(6)
@given(wishes(("make", "set", "set", "drop value", "drop key")))
def test_a_hive_of_windows_holds_what_a_dictionary_would(
    tmp_path_factory: pytest.TempPathFactory, field_hive: FieldHive, wanted: list[Wish]
) -> None:
    model = Model(by_byre(_edit(field_hive.data, [])))
    for wish in wanted:
        model.take(wish)
    image = _edit(field_hive.data, model.edits)
    assert by_byre(image) == model.tree
    _still_whole(field_hive.data, image)
    assert by_hivex(image, tmp_path_factory.mktemp("hive")) == model.tree


@pytest.mark.field
@options(6)
@given(wishes(("drop value", "drop key")))
def test_deleting_in_a_hive_of_windows_keeps_its_size(field_hive: FieldHive, wanted: list[Wish]) -> None:
    model = Model(by_byre(_edit(field_hive.data, [])))
    for wish in wanted:
        model.take(wish)
    image = _edit(field_hive.data, model.edits)
    assert len(image) == len(field_hive.data)
    _still_whole(field_hive.data, image)


@pytest.mark.field
@pytest.mark.slow
@options(1)
@given(wishes(("make", "set", "set", "drop value", "drop key"), most=200))
def test_a_large_hive_of_windows_holds_what_a_dictionary_would(wanted: list[Wish]) -> None:
    hive = _field("SYSTEM")
    model = Model(by_byre(_edit(hive.data, [])))
    for wish in wanted:
        model.take(wish)
    image = _edit(hive.data, model.edits)
    assert by_byre(image) == model.tree
    _still_whole(hive.data, image)


def _still_whole(before: bytes, after: bytes) -> None:
    """No cell is used twice; none is lost that Windows hadn't lost."""
    old, new = Cells(before), Cells(after)
    assert max(new.used.values()) == 1 and set(new.used) <= new.allocated()
    assert new.allocated() - set(new.used) <= old.allocated() - set(old.used)
