"""Hives built from dictionaries read back; hivex and libregf agree; damage costs no more than what it hit."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from builders.hive import Node, build_hive, build_repeating, expand_sz
from byre.errors import ByreError, CorruptImageError
from byre.windows.registry import open_hive
from byre.windows.registry.layout import filetime_to_rfc3339
from fuzzing import fuzz


def sample() -> Node:
    root = Node()
    select = root.at("Select")
    select.values = {"Current": 1, "Default": 2, "LastKnownGood": 1}
    service = root.at(r"ControlSet001\Services\atapi")
    service.values = {
        "Start": 0,
        "ImagePath": expand_sz(r"system32\DRIVERS\atapi.sys"),
        "Group": "SCSI miniport",
        "Depends": ["one", "two"],
        "Blob": bytes(range(200)),
    }
    root.at("Ünï\u0416").values = {"": "default", "\u0416": "wide"}
    root.at("Big").values = {"data": bytes(i * 7 & 255 for i in range(100_000))}
    many = root.at("Many")
    for index in range(1200):
        many.keys[f"key{index:04d}"] = Node(values={"n": index})
    root.at("Class").class_name = "4d36e97b"
    return root


@pytest.fixture(scope="module")
def image() -> bytes:
    return build_hive(sample())


def test_values_come_back_with_their_types(image: bytes) -> None:
    hive = open_hive(image, path="SYSTEM")
    key = hive.key(r"controlset001\SERVICES\atapi")
    assert key is not None
    assert [value.decoded for value in key.values()] == [
        0,
        r"system32\DRIVERS\atapi.sys",
        "SCSI miniport",
        ["one", "two"],
        bytes(range(200)),
    ]
    assert [value.type_name for value in key.values()][:2] == ["REG_DWORD", "REG_EXPAND_SZ"]
    assert hive.problems == []


def test_names_that_are_not_latin_come_back(image: bytes) -> None:
    key = open_hive(image, path="x").key("ünï\u0416")
    assert key is not None
    assert [(value.name, value.text) for value in key.values()] == [("", "default"), ("\u0416", "wide")]


def test_data_over_one_segment_is_joined(image: bytes) -> None:
    key = open_hive(image, path="x").key("Big")
    value = key.value("DATA") if key else None
    assert value is not None and value.complete
    assert value.data == bytes(i * 7 & 255 for i in range(100_000))


def test_an_index_of_lists_gives_every_subkey(image: bytes) -> None:
    key = open_hive(image, path="x").key("Many")
    assert key is not None
    assert [child.name for child in key.subkeys()] == [f"key{index:04d}" for index in range(1200)]


def test_class_name_time_and_walk(image: bytes) -> None:
    hive = open_hive(image, path="x")
    key = hive.key("Class")
    assert key is not None and key.class_name == "4d36e97b" and key.last_written == "2007-07-27T08:53:20Z"
    paths = [path for path, _ in hive.walk()]
    assert r"ControlSet001\Services\atapi" in paths and len(paths) == len(set(paths)) == 1209


def test_what_is_no_hive_is_said() -> None:
    with pytest.raises(CorruptImageError) as caught:
        open_hive(b"MZ" + bytes(5000), path="ntldr")
    assert caught.value.path == "ntldr" and caught.value.expected == b"regf"


def test_a_wrong_checksum_is_a_problem_not_an_error(image: bytes) -> None:
    hive = open_hive(image[:508] + b"\1\2\3\4" + image[512:], path="x")
    assert hive.problems[0].what == "the checksum of the base block is wrong"
    assert hive.key("Select") is not None


def test_a_broken_subkey_list_is_made_up_from_the_cells(image: bytes) -> None:
    hive = open_hive(image, path="x")
    key = hive.key("Many")
    assert key is not None
    where = 4096 + key.subkey_list + 4
    broken = open_hive(image[:where] + b"zz" + image[where + 2 :], path="x")
    again = broken.key("Many")
    assert again is not None
    found = again.subkeys()
    assert len(found) == 1200 and all(child.recovered for child in found)
    assert any("1200 found, 0 by its list" in problem.what for problem in broken.problems)


def test_a_loop_of_keys_ends() -> None:
    image = bytearray(build_hive(Node(keys={"a": Node(keys={"b": Node(keys={"c": Node()})})})))
    hive = open_hive(bytes(image), path="x")
    inner, outer = hive.key(r"a\b"), hive.key("a")
    assert inner is not None and outer is not None
    leaf = 4096 + inner.subkey_list + 8
    image[leaf : leaf + 4] = outer.cell.to_bytes(4, "little")
    looped = open_hive(bytes(image), path="x")
    assert len(list(looped.walk())) == 3
    assert any("loop" in problem.what for problem in looped.problems)


def test_what_is_named_again_and_again_takes_no_more_than_the_hive_holds() -> None:
    image = build_repeating(4000)
    hive = open_hive(image, path="SYSTEM")
    values, keys = hive.root.subkey("Values"), hive.root.subkey("Keys")
    assert values is not None and keys is not None
    for _ in range(2):
        assert sum(len(value.data) for value in values.values()) < 2 * len(image)
        assert len(keys.subkeys()) < len(image) // 80 + 16
    assert {"more data than the hive holds" in each.what for each in hive.problems} == {True, False}
    assert any("says 16000000 subkeys" in each.what for each in hive.problems)


def test_years_that_do_not_exist_are_none() -> None:
    assert filetime_to_rfc3339((1 << 64) - 1) is None and filetime_to_rfc3339(0) is None


@pytest.mark.fuzz
def test_no_mutation_gets_anything_but_our_errors_out(image: bytes) -> None:
    small = build_hive(Node(keys={name: Node(values={"v": "text" * 9, "n": 5}) for name in "abcdef"}))

    def case(rng: random.Random) -> None:
        data = bytearray(small)
        for _ in range(rng.randint(1, 12)):
            at = rng.randrange(4096, len(data)) if rng.random() < 0.8 else rng.randrange(512)
            data[at] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))
        if rng.random() < 0.2:
            del data[rng.randrange(100, len(data)) :]
        try:
            hive = open_hive(bytes(data), path="fuzz", logs=[("log", bytes(data[::-1]))])
            for _, key in hive.walk():
                for value in key.values():
                    _ = value.decoded, value.type_name
                _ = key.class_name, key.security_descriptor, key.last_written
            hive.orphans()
        except ByreError:
            pass

    fuzz("hive", 400, case)


@pytest.mark.oracle
def test_hivex_reads_the_same_tree(image: bytes, tmp_path: Path) -> None:
    tool = shutil.which("hivexml")
    if tool is None:
        pytest.skip("hivexml (Debian: libhivex-bin) is not installed")
    path = tmp_path / "SYSTEM"
    path.write_bytes(image)
    xml = subprocess.run([tool, path], capture_output=True, check=True, text=True).stdout
    hive = open_hive(image, path="x")
    assert xml.count("<node ") == sum(1 for _ in hive.walk())
    assert xml.count("<value ") == sum(len(key.values()) for _, key in hive.walk())
    assert "system32\\DRIVERS\\atapi.sys" in xml
