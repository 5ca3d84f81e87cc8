from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

import byre as package
from builders.ntfs_volumes import mkntfs, mounted, need
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
CLEAN, INFECTED = f"{SPECIMEN}@clean", f"{SPECIMEN}@infected"


def test_two_snapshots_are_told_as_what_an_owner_asks() -> None:
    done = byre("diff", CLEAN, INFECTED, status=1).stdout
    for wanted in ("WinUpdate32", "netmgr32", "support$", "/WINDOWS/system32/svch0st.exe", "fDenyTSConnections"):
        assert wanted in done, wanted
    assert "config/SYSTEM" not in done and "folded away" in done
    assert len(done.splitlines()) < 70


def test_json_has_every_row_and_what_was_folded() -> None:
    told = byre_json("diff", CLEAN, INFECTED, status=1)
    assert told["schema"] == "byre/diff/1" and told["same"] is False
    (volume,) = told["volumes"]
    kinds = {row["path"]: row["kind"] for row in volume["files"]}
    assert kinds == {
        "/Documents and Settings/operator/Desktop/invoice.pdf.exe": "added",
        "/Documents and Settings/operator/Desktop/readme.txt": "removed",
        "/WINDOWS/Temp/netmgr32.exe": "added",
        "/WINDOWS/Temp/upd.exe": "added",
        "/WINDOWS/system32/drivers/etc/hosts": "changed",
        "/WINDOWS/system32/svch0st.exe": "added",
    }
    (system,) = told["systems"]
    facts = {(row["section"], row["kind"], row["name"]) for row in system["facts"]}
    assert ("services", "added", "netmgr32") in facts and ("users", "added", "support$") in facts
    assert ("services", "changed", "wscsvc") in facts
    keys = [row["key"] for row in system["registry"]]
    assert r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run" in keys
    assert told["folded"]["registry hive: told by its keys"] == 3


def test_all_tells_what_is_folded_away() -> None:
    told = byre_json("diff", CLEAN, INFECTED, "--all", status=1)
    rows = {row["path"]: row["noise"] for row in told["volumes"][0]["files"]}
    assert rows["/WINDOWS/system32/config/SAM"] == "registry hive: told by its keys"
    assert rows["/$MFT"] == "file system" and told["folded"] == {}


def test_the_same_state_ends_with_0() -> None:
    assert byre_json("diff", CLEAN, SPECIMEN)["same"] is True
    assert byre("diff", INFECTED, INFECTED).stdout.endswith("the same\n")


def test_account_data_are_never_shown(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    text = byre("diff", CLEAN, INFECTED, "--all", "--html", page, status=1).stdout + page.read_text()
    told = byre_json("diff", CLEAN, INFECTED, status=1)
    values = [
        value for row in told["systems"][0]["registry"] for value in row["values"] if value["name"] in ("F", "V")
    ]
    assert values and all(value["after"] == "(hidden)" for value in values)
    assert not re.search(r"\b(F|V) +[0-9a-f]{2} [0-9a-f]{2}", text)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.oracle
def test_a_page_with_markup_for_names_stays_a_page(tmp_path: Path) -> None:
    need("mkntfs", "ntfs-3g")
    before, after = mkntfs(tmp_path / "a.img", 8 << 20), tmp_path / "b.img"
    shutil.copyfile(before, after)
    with mounted(after, "streams_interface=windows") as root:
        (root / "<img src=x onerror=alert(1)>.txt").write_bytes(b"x")
        (root / "<script>alert(2)").write_bytes(b"x")
        (root / 'a" onmouseover="x').write_bytes(b"x")
        (root / "\x1b[31mred\u202e").write_bytes(b"x")
    page = tmp_path / "page.html"
    done = byre("diff", before, after, "--html", page, status=1)
    assert "\x1b" not in done.stdout and "\u202e" not in done.stdout
    text = page.read_text()
    parser = Tags()
    parser.feed(text)
    assert {"script", "img", "link", "iframe"}.isdisjoint(parser.tags)
    assert not {name for name in parser.attributes if name.startswith("on")} | parser.attributes & {"src", "style"}
    assert "default-src 'none'" in text and "://" not in text
    assert "&lt;script&gt;alert(2)" in text and "\x1b" not in text


def test_a_page_never_replaces_a_file_unasked(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    byre("diff", CLEAN, INFECTED, "--html", page, status=73)
    assert page.read_text() == "mine"
    byre("diff", CLEAN, INFECTED, "--html", page, "--force", status=1)
    assert page.read_text().startswith("<!DOCTYPE html>")
