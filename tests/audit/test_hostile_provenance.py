"""A guest that lies about where it comes from: damaged lists, catalogs and stores, values that make no sense."""

from __future__ import annotations

import random
from functools import cache

import pytest

from builders import xp
from builders.audited import Plant, facts_of
from builders.provenance_defects import CATROOT, CURRENT, SUBCOMPONENTS, listed, sized
from byre.audit.finding import Finding
from byre.audit.judging import MAX_TEXT, judge
from byre.reports.audit_json import as_json


@cache
def files() -> dict[str, bytes]:
    return {**sized(), **{path: data for path, data in listed().items() if path.endswith(".cat")}}


@pytest.mark.parametrize("path", [f"{xp.ROOT}/inf/layout.inf", f"{CATROOT}/byre.cat", f"{xp.SYSTEM32}/byre07.dll"])
def test_damaged_bytes_give_a_report(path: str) -> None:
    """Whatever the bytes, the audit ends with a report; nothing of Python's own comes out."""
    chance = random.Random(path)
    for _ in range(8):
        data = bytearray(files()[path])
        for _ in range(chance.randrange(1, 40)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        as_json(judge(facts_of(Plant(write={**files(), path: bytes(data)}))))


@pytest.mark.parametrize(
    ("path", "name", "data"),
    [
        (CURRENT, "InstallDate", 0xFFFFFFFF),
        (CURRENT, "InstallDate", "yesterday"),
        (CURRENT, "CSDVersion", "Service Pack " + "9" * 30_000),
        (CURRENT, "CSDVersion", "Service Pack ३"),
        (CURRENT, "ProductName", "<script>" * 4000),
        (CURRENT, "BuildLab", "\x1b[2J" * 1000),
        (CURRENT, "ProductId", "-OEM-" * 1000),
        (SUBCOMPONENTS, "netmeeting", "no number"),
        (r"Microsoft\SystemCertificates\ROOT\Certificates\AA", "Blob", b"\xff" * 64),
        (r"Classes\CLSID\{1}\InprocServer32", "", "%" * 30_000),
        (r"Classes\CLSID\{1}\InprocServer32", "", "\\\\?\\..\\..\\boot.ini"),
    ],
)
def test_a_value_that_makes_no_sense_is_harmless(path: str, name: str, data: str | int | bytes) -> None:
    plant = Plant(software=lambda root: root.at(path).values.update({name: data}))
    report = judge(facts_of(plant))
    as_json(report)
    for each in report.findings:
        row: Finding = each.finding
        assert max(len(row.where), len(row.evidence), len(row.consequence)) <= MAX_TEXT
    assert all(len(each.sentence) <= MAX_TEXT for each in report.answers)


def test_a_list_of_a_million_files_is_bounded() -> None:
    """A made-up media list: the audit ends, and tells in one line what isn't there."""
    rows = "".join(f"f{n}.dll = 1,,1,,,,,2,0,0\r\n" for n in range(200_000))
    report = judge(facts_of(Plant(write={f"{xp.ROOT}/inf/layout.inf": f"[SourceDisksFiles]\r\n{rows}".encode()})))
    found = [each for each in report.findings if each.rule.id == "COMP-006"]
    assert len(found) == 1
    assert "200000 of 200000 files" in found[0].finding.evidence
