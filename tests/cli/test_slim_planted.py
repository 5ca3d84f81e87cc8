"""Dependences of every kind planted in the specimen, through the verb; and a plan with every kind of edit, proved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import byre as package
from builders import xp
from builders.hive import build_hive
from builders.pe import PeSpec, build_pe
from builders.slim_guests import build_job, build_shortcut
from oracles import run_tool
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
pytestmark = pytest.mark.oracle
CLSID = "{11111111-2222-3333-4444-555555555555}"
HOME = r"C:\Program Files\Player"
OWN = """
[[component]]
id = "player"
title = "the planted player"
systems = ["winxp"]
profile = "lite"
consequence = "nothing plays"
source = "us"
files = ["{programs}/Player", "{programs}/Player/**"]
marks = ["player.exe"]
"""
GOES_ALONG = """
services = ["Planted"]
types = ["Song"]
runs = ["Planted"]
keys = ['SOFTWARE\\Classes\\Song\\shellex', 'NTUSER\\Software\\Player']
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The specimen with a program that everything depends on."""
    folder = tmp_path_factory.mktemp("planted")
    image = Path(shutil.copyfile(SPECIMEN, folder / "s.qcow2"))
    byre("snapshot", "revert", image, "clean")
    library = build_pe(PeSpec(name="library.dll", exports={"Play": None}))
    player = build_pe(PeSpec(name="player.exe", dll=False, imports={"KERNEL32.dll": ["ExitProcess"]}))
    link = build_shortcut(local=rf"{HOME}\player.exe")
    files = {
        rf"{HOME}\player.exe": player,
        rf"{HOME}\library.dll": library,
        r"C:\Program Files\Other\other.exe": build_pe(
            PeSpec(
                name="other.exe", dll=False, imports={"front.dll": ["Play"]}, delay_imports={"library.dll": ["Play"]}
            )
        ),
        r"C:\Program Files\Other\front.dll": build_pe(PeSpec(name="front.dll", exports={"Play": "LIBRARY.Play"})),
        r"C:\Program Files\Other\library.dll": library,
        r"C:\WINDOWS\Tasks\Play.job": build_job(rf"{HOME}\player.exe"),
        r"C:\Documents and Settings\operator\Start Menu\Programs\Startup\Play.lnk": link,
        r"C:\Documents and Settings\operator\Desktop\Play.lnk": link,
    }
    for number, (path, data) in enumerate(files.items()):
        source = folder / f"{number}.bin"
        source.write_bytes(data)
        byre("put", image, source, path, "--parents", "--in-place", "--keep-as", f"k{number}")
    registry = folder / "plant.reg"
    registry.write_text(
        "Windows Registry Editor Version 5.00\r\n\r\n"
        r"[HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services\Planted]"
        + "\r\n"
        '"Type"=dword:00000010\r\n"Start"=dword:00000003\r\n"ErrorControl"=dword:00000001\r\n'
        rf'"ImagePath"="{HOME}\player.exe"'.replace("\\", "\\\\")
        + "\r\n\r\n"
        rf"[HKEY_LOCAL_MACHINE\SOFTWARE\Classes\CLSID\{CLSID}\InprocServer32]"
        + "\r\n"
        rf'@="{HOME}\library.dll"'.replace("\\", "\\\\")
        + "\r\n\r\n"
        r"[HKEY_LOCAL_MACHINE\SOFTWARE\Classes\Song\shellex\ContextMenuHandlers\Player]" + "\r\n"
        f'@="{CLSID}"\r\n\r\n'
        r"[HKEY_LOCAL_MACHINE\SOFTWARE\Classes\Song\shell\open\command]"
        + "\r\n"
        rf'@="{HOME}\player.exe /x"'.replace("\\", "\\\\")
        + "\r\n\r\n"
        r"[HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Run]"
        + "\r\n"
        rf'"Planted"="{HOME}\player.exe"'.replace("\\", "\\\\")
        + "\r\n\r\n"
        r"[HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon]" + "\r\n"
        '"SFCScan"=dword:00000001\r\n\r\n'
        r"[HKEY_USERS\operator\Software\Player]" + '\r\n"Volume"=dword:00000007\r\n',
        encoding="utf-8",
    )
    byre("reg", image, "import", registry, "--in-place", "--keep-as", "registry")
    return image


def _recipe(folder: Path, more: str = "") -> Path:
    (folder / "own.toml").write_text(OWN + more)
    recipe = folder / "recipe.toml"
    recipe.write_text('profile = "none"\ndrop = ["player"]\ncomponents = ["own.toml"]\n')
    return recipe


def test_each_planted_need_is_told_with_its_chain(planted: Path, tmp_path: Path) -> None:
    said = byre_json("slim", planted, "--recipe", _recipe(tmp_path), "-n", status=1)
    assert said["refused"]
    first = [row["chain"][0] for row in said["reasons"]]
    for wanted in (
        "the service Planted",
        "files of type Song (open)",
        "files of type Song (shell extension",
        "run-key",
        "task ",
        "startup-folder",
    ):
        assert any(each.startswith(wanted) for each in first), wanted
    assert said["parts"][0]["needed_by"]["along"] == {"class": 1}
    text = byre("slim", planted, "--recipe", _recipe(tmp_path), "-n", status=1).stdout
    assert "needed: player: the service Planted -> /Program Files/Player/player.exe" in text
    assert "refused: nothing was written." in text


def test_the_list_counts_what_depends_on_it_here(planted: Path, tmp_path: Path) -> None:
    listed = byre_json("slim", "--list", planted, "--recipe", _recipe(tmp_path))["components"]
    (part,) = [each for each in listed if each["id"] == "player"]
    assert part["needed_by"]["stop"] == {
        "service": 1,
        "shell extension": 1,
        "file type": 1,
        "autostart": 2,
        "task": 1,
    }
    assert part["shortcuts"] == ["/Documents and Settings/operator/Desktop/Play.lnk"]
    text = byre("slim", "--list", planted, "--recipe", _recipe(tmp_path)).stdout
    assert "service Planted, " in text and "2 autostarts" in text


def test_what_is_its_own_goes_along_and_is_proved(planted: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "out.qcow2", tmp_path / "page.html"
    drops = (r"C:\WINDOWS\Tasks\Play.job", r"C:\Documents and Settings\operator\Start Menu\Programs\Startup\Play.lnk")
    arguments = ("slim", planted, "--recipe", _recipe(tmp_path, GOES_ALONG), *(f"--drop={each}" for each in drops))
    tree = byre(*arguments, "-n").stdout
    for line in (
        "service Planted: disabled (Start=4)",
        f"class {CLSID}: unregistered",
        "/Program Files/Player/",
        "shortcuts: /Documents and Settings/operator/Desktop/Play.lnk",
        r"HKU\operator\Software\Player: goes",
        "Windows File Protection doesn't scan at the start: SFCScan=0 instead of 1",
        "lost: nothing plays",
    ):
        assert line in tree, line
    said = byre_json(*arguments, "-o", out, "--report", page)
    assert said["proof"]["written"] == 3  # SYSTEM, SOFTWARE and the user's hive
    for gone in (
        rf"HKLM\SOFTWARE\Classes\CLSID\{CLSID}",
        r"HKLM\SOFTWARE\Classes\Song\shell\open",
        r"HKLM\SOFTWARE\Classes\Song\shellex",
        r"HKU\operator\Software\Player",
    ):
        byre("reg", planted, gone)
        byre("reg", out, gone, status=66)
    winlogon = byre_json("reg", out, r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon")["values"]
    assert next(int(row["data"]) for row in winlogon if row["name"] == "SFCScan") == 0
    run = byre_json("reg", out, r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run")["values"]
    assert "Planted" not in [row["name"] for row in run]
    byre("ls", out, HOME, status=66)
    byre("check", out, "--files")
    html = page.read_text()
    assert "SFCScan=0" in html and "What each profile would have given" in html and "Before and after" in html
    byre("cp", out, r"C:\WINDOWS\system32\config\SOFTWARE", tmp_path / "hives")
    hive = tmp_path / "hives" / "SOFTWARE"
    assert "Explorer.exe" in run_tool("hivexget", hive, r"\Microsoft\Windows NT\CurrentVersion\Winlogon")


def test_a_forwarded_export_stops_the_plan_and_a_delayed_import_does_not(planted: Path) -> None:
    drop = r"C:\Program Files\Other\library.dll"
    said = byre_json("slim", planted, "--profile", "none", "--drop", drop, "-n", status=1)
    (reason,) = said["reasons"]
    assert reason["chain"][0] == "the program /Program Files/Other/other.exe"
    assert reason["chain"][-1] == "/Program Files/Other/library.dll"
    assert json.dumps(said["parts"][0]["needed_by"]["later"]) in ("{}", '{"program": 1}')


def test_a_hostile_users_hive_is_left_alone(planted: Path, tmp_path: Path) -> None:
    image = Path(shutil.copyfile(planted, tmp_path / "s.qcow2"))
    damaged = bytearray(build_hive(xp.user_hive(), name="ntuser.dat"))
    damaged[4096 + 32 : 4096 + 120] = b"\xff" * 88
    source = tmp_path / "hive"
    source.write_bytes(damaged)
    byre("put", image, source, r"C:\Documents and Settings\operator\NTUSER.DAT", "--in-place", "--keep-as", "x")
    drops = (r"C:\WINDOWS\Tasks\Play.job", r"C:\Documents and Settings\operator\Start Menu\Programs\Startup\Play.lnk")
    said = byre_json(
        "slim", image, "--recipe", _recipe(tmp_path, GOES_ALONG), *(f"--drop={each}" for each in drops), "-n"
    )
    assert any("operator/NTUSER.DAT is left alone" in note for note in said["notes"])
