"""Healthy systems that Byre's builders didn't make: the audit stays silent at medium and above.

Wine's program files, as Debian builds them, stand for a system folder; real hives for a registry.
"""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from builders import xp
from builders.audited import Plant, clean_files, facts_of, healthy_disk
from builders.hive import Node
from builders.memory_files import MemoryFiles
from builders.pe import PeSpec, build_pe
from byre.audit.facts import Facts
from byre.audit.gathering import gather_system
from byre.audit.judging import Report, judge
from byre.audit.rule import rank
from byre.windows.guest import read_guest
from byre.windows.registry import open_hive

X64 = 0x8664
PROGRAMS = (".dll", ".exe", ".drv", ".cpl", ".ocx", ".acm", ".ax", ".scr")
KERNEL_SIDE = frozenset({"hal.dll", "ntoskrnl.exe"})
"""Left to the specimen: winebuild writes its mark into finished files, so that their checksums are wrong for a loader
that looks at them. The audit says so, and rightly."""
SERVICES = r"ControlSet001\Services"


def wine_folder() -> Path:
    found = sorted(Path("/usr/lib").glob("*/wine/x86_64-windows"))
    if not found or len(list(found[0].glob("*.dll"))) < 300:
        pytest.skip("Wine's program files are missing: install libwine")
    return found[0]


def field_data() -> Path:
    """``../shared/data`` seen from the tree, or from the one that it is a worktree beside."""
    named = os.environ.get("BYRE_FIELD_DATA")
    places = [Path(named)] if named else [up / "shared" / "data" for up in Path(__file__).parents[2:5]]
    for folder in places:
        if folder.is_dir():
            return folder
    pytest.skip("no field data: set BYRE_FIELD_DATA")


def alarms(report: Report, *questions: str) -> list[tuple[str, str, str]]:
    return [
        (found.rule.id, found.finding.where, found.finding.evidence)
        for found in report.findings
        if rank(found.severity) >= rank("medium") and (not questions or found.rule.question in questions)
    ]


def specimen_of_64_bits(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    monkeypatch.setattr(xp, "build_pe", lambda spec: build_pe(replace(spec, machine=X64)))
    return dict(xp.clean_files())


def with_wine(files: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Wine's files, each in the place of the specimen's of that name, else in system32."""
    there = {path.lower(): path for path in files}
    for path in sorted(wine_folder().iterdir()):
        if path.suffix not in PROGRAMS or path.name in KERNEL_SIDE:
            continue
        data = path.read_bytes()
        places = [there.get(f"{folder}/{path.name}".lower()) for folder in (xp.SYSTEM32, xp.ROOT)]
        for place in {each for each in places if each} or {f"{xp.SYSTEM32}/{path.name}"}:
            yield place, data


@pytest.mark.field
@pytest.mark.slow
def test_wines_programs_are_found_whole_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every one of its programs is a service that starts by itself: their libraries are followed down to exports."""
    files = specimen_of_64_bits(monkeypatch)
    files.update(with_wine(files))
    started = [path for path in files if path.lower().endswith(".exe") and path.startswith(xp.SYSTEM32)]
    assert len(started) > 60

    def services(root: Node) -> None:
        for number, path in enumerate(started):
            image = path.replace("/", "\\")
            values = {
                "Type": 16,
                "Start": 2,
                "ErrorControl": 1,
                "ImagePath": f"C:{image}",
                "ObjectName": "LocalSystem",
            }
            root.at(rf"{SERVICES}\wine{number}").values.update(values)

    report = judge(facts_of(Plant(write=files, system=services)))
    assert alarms(report, "sound", "complete") == []
    del files[f"{xp.SYSTEM32}/ws2_32.dll"]
    report = judge(facts_of(Plant(write=files, remove=(f"{xp.SYSTEM32}/ws2_32.dll",), system=services)))
    assert {row[0] for row in alarms(report, "complete")} & {"BOOT-025", "SVC-004"}


@pytest.mark.field
def test_the_hive_of_a_real_windows_7_raises_no_alarm() -> None:
    """All its drivers and services with files of our own in their places: what is said of them is the hive's."""
    hive = lzma.decompress((field_data() / "SYSTEM.xz").read_bytes())
    files = {**clean_files(), f"{xp.SYSTEM32}/config/SYSTEM": hive}
    guest = read_guest(MemoryFiles(files), xp.ROOT)
    assert len(guest.services.value or ()) > 300
    for service in guest.services.value or ():
        for path in (service.file, service.service_dll):
            if path is not None and path.lower() not in {each.lower() for each in files}:
                files[path] = build_pe(PeSpec(name=path.rpartition("/")[2], machine=X64, imports={}))
    report = judge(_facts(files))
    assert [row for row in alarms(report) if row[0] in ("SOUND-008", "SVC-001", "SVC-002", "BOOT-014")] == []
    assert [row for row in alarms(report, "portable") if row[0] != "PORT-001"] == []


@pytest.mark.field
def test_the_damaged_hive_of_a_real_xp_is_told_as_damaged() -> None:
    hive = lzma.decompress((field_data() / "corrupted_system_hive.xz").read_bytes())
    report = judge(_facts({**clean_files(), f"{xp.SYSTEM32}/config/SYSTEM": hive}))
    assert "SOUND-008" in {row[0] for row in alarms(report, "sound")}


@pytest.mark.field
@pytest.mark.parametrize("name", ["SYSTEM", "SAM", "NTUSER_XP.DAT"])
def test_real_hives_are_whole(name: str) -> None:
    hive = open_hive(lzma.decompress((field_data() / f"{name}.xz").read_bytes()), path=name)
    for _, key in hive.walk():
        key.values()
    assert list(hive.problems) == []


def _facts(files: Mapping[str, bytes]) -> Facts:
    memory = MemoryFiles(files, frozenset())
    return gather_system(healthy_disk(memory), memory, xp.ROOT, volume=1, loader=memory, file_system="ntfs")
