"""A guest that knows Byre: damaged hives and programs, giant values, names that would forge output."""

from __future__ import annotations

import random

import pytest

from builders import xp
from builders.audited import Plant, clean_files, facts_of
from builders.defects import MANAGER, WINLOGON, value
from byre.audit.judging import MAX_TEXT, judge
from byre.reports.audit_json import as_json
from byre.reports.audit_markdown import as_markdown
from effort import at_most

TARGETS = (
    f"{xp.SYSTEM32}/config/SYSTEM",
    f"{xp.SYSTEM32}/config/SOFTWARE",
    f"{xp.SYSTEM32}/ntoskrnl.exe",
    f"{xp.SYSTEM32}/kernel32.dll",
    f"{xp.DRIVERS}/atapi.sys",
    "/boot.ini",
)


@pytest.mark.parametrize("path", TARGETS)
def test_damaged_bytes_give_a_report(path: str) -> None:
    """Whatever the bytes, the audit ends with a report; nothing of Python's own comes out."""
    chance = random.Random(path)
    for _ in range(12):
        data = bytearray(clean_files()[path])
        for _ in range(chance.randrange(1, 40)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        report = judge(facts_of(Plant(write={path: bytes(data)})))
        as_json(report)
        as_markdown([report])


@pytest.mark.parametrize("path", TARGETS[:5])
def test_cut_files_are_never_a_whole_pass(path: str) -> None:
    for share in (0, 3, 50, 90):
        data = clean_files()[path]
        report = judge(facts_of(Plant(write={path: data[: len(data) * share // 100]})))
        assert {each.verdict for each in report.answers[:2]} != {"pass"}, share


def test_a_giant_value_is_cut_in_the_report() -> None:
    report = judge(facts_of(Plant(software=value(WINLOGON, "Shell", "C:\\" + "x" * 30_000 + ".exe"))))
    assert report.grade == "D"
    assert all(len(each.finding.where) <= MAX_TEXT for each in report.findings)


def test_a_value_that_leads_out_of_its_folder_is_not_followed() -> None:
    names = {f"..\\..\\..\\boot{number}.ini": f"..\\..\\..\\boot{number}.ini" for number in range(3)}
    report = judge(facts_of(Plant(system=lambda root: root.at(rf"{MANAGER}\KnownDLLs").values.update(names))))
    known = [each.finding.where for each in report.findings if each.rule.id == "BOOT-018"]
    assert known == [f"/WINDOWS/system32/boot{number}.ini" for number in range(3)]


def test_a_name_that_forges_output_is_escaped_on_the_page() -> None:
    shell = "C:\\<img src=x onerror=alert(1)>\x1b[2J\r\n# passed.exe"
    text = as_markdown([judge(facts_of(Plant(software=value(WINLOGON, "Shell", shell))))])
    assert "<img" not in text
    assert "\x1b" not in text
    assert "\n# passed" not in text


def test_a_giant_autostart_costs_no_time() -> None:
    giant = "x" * 400_000 + ".exe," * 50_000
    plant = Plant(
        software=lambda root: [
            value(WINLOGON, "Userinit", giant)(root),
            value(r"Microsoft\Windows\CurrentVersion\Run", "x", giant)(root),
            value(r"Microsoft\Windows NT\CurrentVersion\Windows", "AppInit_DLLs", giant)(root),
        ]
    )
    with at_most(seconds=20):
        report = judge(facts_of(plant))
    assert "CLEAN-001" in {each.rule.id for each in report.findings}
