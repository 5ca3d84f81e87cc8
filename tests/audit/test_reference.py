"""A system held against its media, a folder and another image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from builders import xp
from builders.audited import Plant, clean_files, facts_of
from builders.cabinets import build_cabinet
from builders.pe import PeSpec, build_pe
from builders.provenance_defects import flipped, program
from byre.audit.facts import Comparison, Facts, Odd
from byre.audit.judging import judge
from byre.audit.reference import MediaSource, compare, open_reference
from byre.errors import UnsupportedError
from byre.windows.fact import known, unknown
from oracles import run_tool
from programs import byre, byre_json

SPECIMEN = Path(__file__).parents[2] / "src" / "byre" / "samples" / "specimen.qcow2"
SIF = (
    b"[SourceDisksFiles]\r\nuser32.dll = 1,,,,,,,2,0,0\r\n"
    b"halaacpi.dll = 1,,,,,,,2,0,3\r\nwinhlp32.exe = 1,,,,,,,1,0,0\r\n"
)


def quiet(stage: str) -> None:
    return None


@cache
def facts() -> Facts:
    return facts_of(Plant(census=True))


def source_of(files: Mapping[str, bytes]) -> MediaSource:
    def reader(data: bytes) -> Callable[[], bytes]:
        return lambda: data

    return MediaSource("media", {name: reader(data) for name, data in files.items()})


def compared(files: Mapping[str, bytes], about: Facts | None = None) -> Comparison:
    found = compare(about or facts(), source_of(files), progress=quiet).value
    assert found is not None
    return found


def own(name: str) -> bytes:
    return clean_files()[f"{xp.SYSTEM32}/{name}"]


def test_files_are_found_plain_compressed_and_in_cabinets() -> None:
    found = compared(
        {
            "ntdll.dll": own("ntdll.dll"),
            "kernel32.dl_": build_cabinet({"kernel32.dll": own("kernel32.dll")}, "lzx"),
            "driver.cab": build_cabinet({"gdi32.dll": own("gdi32.dll"), "user32.dll": own("user32.dll")}, "mszip"),
        }
    )
    assert (found.same, found.altered, found.newer, found.older, found.unread) == (4, (), (), (), ())


def test_the_hal_is_compared_with_the_one_that_it_was() -> None:
    """Setup renames it: the media's own hal.dll is another file."""
    other = build_pe(PeSpec(name="hal.dll", strings={"OriginalFilename": "hal.dll"}))
    assert compared({"hal.dll": other, "halaacpi.dll": own("hal.dll")}).same == 1


def test_altered_newer_and_older_files_are_told_apart() -> None:
    old, new = (5, 1, 2600, 2180), (5, 1, 2600, 5755)
    found = compared(
        {
            "user32.dll": flipped(own("user32.dll")),
            "gdi32.dll": program("gdi32.dll", version=old),
            "ole32.dll": program("ole32.dll", version=new),
            "shell32.dl_": b"MSCF but no cabinet",
        }
    )
    assert [row.path.rpartition("/")[2] for row in found.altered] == ["user32.dll"]
    assert [row.path.rpartition("/")[2] for row in found.newer] == ["gdi32.dll"]
    assert [row.path.rpartition("/")[2] for row in found.older] == ["ole32.dll"]
    assert [row.path.rpartition("/")[2] for row in found.unread] == ["shell32.dll"]


def test_what_a_catalog_lists_is_not_expanded() -> None:
    told = facts()
    assert told.programs.value is not None
    listed = tuple(replace(each, known="nt5.cat") for each in told.programs.value)
    about = replace(told, programs=known(listed))
    found = compared({"user32.dl_": b"never looked at", "ntdll.dll": own("ntdll.dll")}, about)
    assert (found.listed, found.same, found.unread) == (1, 1, ())


def test_what_the_media_always_copies_is_missed() -> None:
    assert compared({"txtsetup.sif": SIF}).missing == ("winhlp32.exe",)


def judged(found: Comparison | None, reason: str = "") -> dict[str, str]:
    about = replace(facts(), reference=known(found) if found is not None else unknown(reason))
    report = judge(about)
    return {each.rule.id: each.severity for each in report.findings if each.rule.id.startswith("REF")}


def test_each_difference_has_its_rule() -> None:
    odd = (Odd("/WINDOWS/system32/a.dll", "x"),)
    found = Comparison("cd.iso", "media", 10, 0, ("b.dll",), odd, odd, odd)
    assert judged(found) == {"REF-001": "low", "REF-002": "high", "REF-003": "low", "REF-004": "low"}
    assert judged(Comparison("cd.iso", "media", 10)) == {}


def test_media_of_another_language_say_nothing_of_one_file() -> None:
    odd = tuple(Odd(f"/WINDOWS/system32/{n}.dll", "x") for n in range(40))
    assert judged(Comparison("cd.iso", "media", 10, altered=odd)) == {}
    report = judge(replace(facts(), reference=known(Comparison("cd.iso", "media", 10, altered=odd))))
    said = [row.reason for each in report.answers for row in each.unread if row.rule == "REF-002"]
    assert said == ["cd.iso seems to be of another language or edition: 40 of 50 files of the same version differ"]


def test_a_reference_that_cannot_be_read_is_unknown() -> None:
    assert judged(None, "bad sector") == {}


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """A folder as the media have it: one altered file, the others as they should be."""
    folder = tmp_path / "cd" / "I386"
    folder.mkdir(parents=True)
    (folder / "TXTSETUP.SIF").write_bytes(SIF)
    for name in ("ntdll.dll", "kernel32.dll", "gdi32.dll"):
        (folder / f"{name[:-1].upper()}_").write_bytes(build_cabinet({name: own(name)}, "lzx"))
    (folder / "USER32.DLL").write_bytes(flipped(own("user32.dll")))
    return tmp_path / "cd"


def findings(*arguments: str | Path, status: int) -> dict[str, str]:
    payload = byre_json("audit", f"{SPECIMEN}@clean", *arguments, "--no-cache", status=status)
    rows = payload["findings"]
    assert isinstance(rows, list)
    return {row["rule"]: row["where"] for row in rows if row["rule"].startswith("REF")}


def test_a_folder_as_reference(media: Path) -> None:
    found = findings("--reference", media, status=2)
    assert found["REF-002"] == "/WINDOWS/system32/user32.dll"
    assert set(found) == {"REF-001", "REF-002"}
    assert findings("--reference", media / "I386", status=2).keys() == found.keys()


@pytest.mark.oracle
def test_an_iso_as_reference(media: Path, tmp_path: Path) -> None:
    run_tool("genisoimage", "-quiet", "-o", tmp_path / "cd.iso", media)
    found = findings("--reference", tmp_path / "cd.iso", status=2)
    assert found["REF-002"] == "/WINDOWS/system32/user32.dll"
    assert set(found) == {"REF-001", "REF-002"}


def test_another_image_as_reference() -> None:
    assert findings("--reference", f"{SPECIMEN}@clean", status=0) == {}


def test_a_reference_that_is_none_is_refused(tmp_path: Path) -> None:
    byre("audit", SPECIMEN, "--reference", tmp_path / "none.iso", status=66)
    (tmp_path / "x.img").write_bytes(bytes(1 << 20))
    with pytest.raises(UnsupportedError), open_reference(str(tmp_path / "x.img")):
        pass
    (tmp_path / "empty").mkdir()
    with open_reference(str(tmp_path / "empty")) as source:
        assert list(source.expected()) == []


def test_links_in_a_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "ntdll.dll").symlink_to("/dev/zero")
    with open_reference(str(tmp_path)) as source:
        assert source.find("system32/ntdll.dll", ["ntdll.dll"]) is None


def test_a_windows_folder_of_the_host_is_a_tree(tmp_path: Path) -> None:
    drivers = tmp_path / "WINDOWS" / "system32" / "drivers"
    drivers.mkdir(parents=True)
    (drivers / "disk.sys").write_bytes(clean_files()[f"{xp.DRIVERS}/disk.sys"])
    with open_reference(str(tmp_path)) as source:
        found = compare(facts(), source, progress=quiet).value
    assert found is not None
    assert (found.kind, found.same, found.missing) == ("folder", 1, ())
