"""Slimming where Setup's own list and all the optional parts are there: what goes by plan is no finding."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import byre as package
from builders import whole_windows
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def windows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    image = Path(shutil.copyfile(SPECIMEN, folder / "s.qcow2"))
    byre("snapshot", "revert", image, "clean")
    stage = whole_windows.stage(folder / "stage")
    byre("put", image, stage, r"C:\WINDOWS", "--in-place", "--keep-as", "a")
    byre("reg", image, "import", whole_windows.registry(folder / "r.reg"), "--in-place", "--keep-as", "b")
    return image


def _names(said: dict[str, list[dict[str, str]]]) -> set[str]:
    return {row["id"] for row in said["parts"]}


def test_lean_takes_what_is_not_in_use_with_proof(windows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    said = byre_json("slim", windows, "--profile", "lean", "-o", out)
    wanted = {
        "code-pages",
        "keyboard-layouts",
        "driver-cache",
        "fonts-optional",
        "help-files",
        "mouse-pointers",
        "sounds",
    }
    assert wanted <= _names(said)
    assert {row["question"]: row["after"] for row in said["proof"]["audit"]}["complete"] != "fail"
    left = {path.rpartition("/")[2] for row in said["left"] for path in row["paths"]}
    assert {"kbdgr.dll", "kbdus.dll", "Bliss.bmp", "impact.ttf", "c_850.nls"} <= left
    page = byre_json("reg", out, r"HKLM\SYSTEM\CurrentControlSet\Control\Nls\CodePage")["values"]
    texts = {row["name"]: row["data"] for row in page}
    assert (texts["874"], texts["850"]) == ("", "c_850.nls")
    fonts = byre_json("reg", out, r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Fonts")["values"]
    assert [row["name"] for row in fonts] == ["Impact (TrueType)"]
    again = byre_json("slim", out, "--profile", "lean", "-n")
    assert _names(again) == set() and not again["edits"]


def test_lite_takes_components_and_their_second_copies(windows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    said = byre_json("slim", windows, "--profile", "lite", "-o", out)
    assert "games" in _names(said) and "/WINDOWS/system32/dllcache/sol.exe" not in _names(said)
    byre("ls", out, r"C:\WINDOWS\system32\dllcache\sol.exe", status=66)
    protection = [row for row in said["edits"] if row["kind"] == "protection"]
    assert len(protection) == 1 and protection[0]["data"] == "00000000"
    verdicts = {row["question"]: (row["before"], row["after"]) for row in said["proof"]["audit"]}
    assert verdicts["complete"] == ("notes", "notes")
