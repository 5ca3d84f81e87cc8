"""BCD, .inf files and security catalogs: built here, read back; damage is Byre's own error."""

from __future__ import annotations

import contextlib
import hashlib
import random

import pytest

from builders.catalogs import catalog_of
from builders.hive import Node, build_hive
from builders.xp import clean_files
from byre.errors import ByreError, CorruptImageError
from byre.windows.bcd import BOOT_MANAGER, OS_LOADER_TYPE, read_bcd
from byre.windows.catalogs import parse_catalog
from byre.windows.inf import parse_inf, read_source_files
from byre.windows.registry import open_hive

SEVEN = "{11111111-2222-3333-4444-555555555555}"


def bcd_tree() -> Node:
    root = Node()
    manager = root.at(rf"Objects\{BOOT_MANAGER}")
    manager.at(r"Elements\23000003").values = {"Element": SEVEN}
    manager.at(r"Elements\24000001").values = {"Element": [SEVEN]}
    manager.at(r"Elements\25000004").values = {"Element": (30).to_bytes(8, "little")}
    loader = root.at(rf"Objects\{SEVEN}")
    loader.at("Description").values = {"Type": OS_LOADER_TYPE}
    loader.at(r"Elements\12000004").values = {"Element": "Windows 7"}
    loader.at(r"Elements\12000002").values = {"Element": r"\Windows\system32\winload.exe"}
    loader.at(r"Elements\22000002").values = {"Element": r"\Windows"}
    return root


def test_the_boot_manager_starts_its_default_entry() -> None:
    bcd = read_bcd(open_hive(build_hive(bcd_tree(), name="BCD"), path="BCD"))
    assert bcd is not None and bcd.timeout == 30 and bcd.order == (SEVEN,)
    assert bcd.chosen is not None
    assert (bcd.chosen.title, bcd.chosen.folder) == ("Windows 7", r"\Windows")


def test_a_hive_without_objects_is_no_boot_configuration() -> None:
    assert read_bcd(open_hive(build_hive(Node()), path="SYSTEM")) is None


def test_inf_sections_strings_quotes_and_comments() -> None:
    inf = parse_inf(
        b'; a driver\r\n[Version]\r\nSignature="$CHICAGO$"\r\nProvider=%who%\r\n'
        b'[Models]\r\n%dev% = Install, "PCI\\VEN_8086;x", second ; comment\r\nplain, line\r\n'
        b'[Strings]\r\nwho = "Byre, Inc"\r\ndev="A device"\r\n'
    )
    assert inf.section("version")[1].fields == ("Byre, Inc",)
    model, plain = inf.section("MODELS")
    assert (model.key, model.fields) == ("A device", ("Install", "PCI\\VEN_8086;x", "second"))
    assert (plain.key, plain.fields) == (None, ("plain", "line"))


def test_the_specimens_layout_lists_its_files_with_their_folder() -> None:
    files = read_source_files(parse_inf(clean_files()["/WINDOWS/inf/layout.inf"]))
    by_name = {file.name.lower(): file for file in files}
    assert "hal.dll" in by_name and by_name["hal.dll"].folder == "2"


def test_utf16_inf_files_are_read() -> None:
    assert parse_inf(b"\xff\xfe" + "[A]\r\nb=c\r\n".encode("utf-16-le")).section("a")[0].fields == ("c",)


def test_a_catalog_lists_raw_and_hexadecimal_digests() -> None:
    raw, spelled = hashlib.sha1(b"a").digest(), hashlib.sha1(b"b").digest()
    data = catalog_of([raw, spelled.hex().upper().encode("utf-16-le")])
    assert parse_catalog(data, path="x.cat").digests == {raw, spelled}


def test_what_is_no_catalog_is_corrupt_and_nothing_else_comes_out() -> None:
    with pytest.raises(CorruptImageError):
        parse_catalog(b"MZ" + bytes(100), path="x.cat")
    whole = catalog_of([hashlib.sha1(bytes([n])).digest() for n in range(5)])
    rng = random.Random(13)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(ByreError):
            parse_catalog(bytes(data), path="fuzz")
