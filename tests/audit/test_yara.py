"""YARA rules over the census: Byre's own, a user's folder, and rules that would never end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from builders.memory_files import MemoryFiles
from byre.audit import yara as module
from byre.audit.census import take_census
from byre.audit.facts import Scan
from byre.audit.judging import judge
from byre.audit.yara import YaraScanner, open_yara
from byre.errors import MissingError, UsageError

TEST_FILE = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}" + b"$EICAR-" + b"STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
DOWNLOADER = (
    b'Set x = CreateObject("MSXML2.XMLHTTP")\r\nSet s = CreateObject("ADODB.Stream")\r\n'
    b's.SaveToFile "a.exe"\r\nCreateObject("WScript.Shell").Run "a.exe"\r\n'
)
SAMPLES = {
    "antivirus_test_file": ("/a.com", TEST_FILE),
    "password_dumper": ("/a.bat", b"x.exe privilege::debug sekurlsa::logonpasswords exit"),
    "script_that_downloads_and_runs": ("/a.vbs", DOWNLOADER),
    "hidden_powershell": ("/a.cmd", b"powershell -w hidden -enc " + b"QQBB" * 30),
    "script_that_adds_an_administrator": ("/a.bat", b"net user x y /add\r\nnet localgroup administrators x /add\r\n"),
    "settings_that_switch_protection_off": ("/a.reg", b'REGEDIT4\r\n[x]\r\n"SFCDisable"=dword:ffffff9d\r\n'),
}


def scan(files: dict[str, bytes], scanner: YaraScanner | Scan) -> Scan:
    assert isinstance(scanner, YaraScanner)
    return take_census(MemoryFiles(files), scanners=[scanner])[1].scans[0]


@pytest.mark.parametrize("rule", SAMPLES)
def test_each_of_our_rules_finds_its_sample(rule: str) -> None:
    path, data = SAMPLES[rule]
    found = scan({path: data}, open_yara(None))
    assert [(hit.path, hit.name) for hit in found.hits] == [(path, rule)]
    assert found.hits[0].about


def test_our_rules_find_nothing_on_the_specimen() -> None:
    assert scan(dict(xp.clean_files()), open_yara(None)).hits == ()


def test_a_users_rules_see_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.yar").write_text('rule lab { strings: $a = "needle" condition: $a }')
    found = scan({"/x.dat": b"a needle", "/y.dat": b"hay"}, open_yara(tmp_path))
    assert [(hit.path, hit.name, hit.severity) for hit in found.hits] == [("/x.dat", "lab", None)]
    assert str(tmp_path) in found.about


def test_a_rule_that_cannot_be_compiled_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.yar").write_text("rule good { condition: false }")
    (tmp_path / "wrong.yar").write_text("rule wrong {\n condition: nowhere }")
    with pytest.raises(UsageError, match="unknown identifier") as caught:
        open_yara(tmp_path)
    assert str(caught.value.path).endswith("wrong.yar")
    assert caught.value.found == "line 2, column 13"


def test_a_folder_without_rules_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingError):
        open_yara(tmp_path)
    with pytest.raises(MissingError):
        open_yara(tmp_path / "none")


def test_a_rule_that_does_not_end_costs_its_time_and_the_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 1)
    each = "for all {0} in (0..filesize) : ({1})"
    loops = each.format("i", each.format("j", "uint8(j % 99) + i >= 0"))
    slow = f"rule slow {{ condition: {loops} }}"
    (tmp_path / "slow.yar").write_text(slow)
    found = scan({"/x.dat": bytes(400_000)}, open_yara(tmp_path, builtin=False))
    assert [(each.path, "longer than 1" in each.reason) for each in found.skipped] == [("/x.dat", True)]


def test_without_yara_x_clean_says_that_it_was_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yara_x", None)
    report = judge(facts_of(Plant()))
    clean = next(each for each in report.answers if each.question == "clean")
    assert clean.verdict == "pass"
    looked = {each.name: (each.state, each.problem or "") for each in report.profile.looked}
    assert "yara-x isn't installed" in looked["YARA rules"][1]
    assert looked["ClamAV"][0] == "not checked"


def test_a_match_is_a_finding_of_its_own_severity() -> None:
    report = judge(facts_of(Plant(write={"/a.vbs": DOWNLOADER})))
    assert [(each.rule.id, each.severity) for each in report.findings if each.rule.id == "CLEAN-031"] == [
        ("CLEAN-031", "high")
    ]
