"""What starts by itself disabled and enabled again, through the verb: on NTFS and on FAT, values, keys, files,
services. Afterwards the guest is what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import byre as package
from builders import xp
from builders.hive import build_hive
from builders.planted import planted
from builders.small_guests import fat_guest, volume_of
from byre.disks.opening import open_disk
from byre.filesystems.opening import open_partition
from byre.lite.changes import Content, MakeFolder, Put
from byre.lite.hive_editor import MakeKey, SetValue
from oracles import require_tool, run_tool
from programs import byre, byre_json

pytestmark = pytest.mark.oracle
SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
STARTUP = "/Documents and Settings/All Users/Start Menu/Programs/Startup"
RUN = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run"
USER_RUN = r"HKU\operator\Software\Microsoft\Windows\CurrentVersion\Run"
BHO = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\Browser Helper Objects"
CLSID = "{11111111-2222-3333-4444-555555555555}"
LINK = b"L\0\0\0" + bytes(range(200))
ALL = ("ctfmon", "ctfmon.exe", "updater.lnk", CLSID, "service:wuauserv", "nightly.job", "AppInit_DLLs", "Check now")
TASKS = "/WINDOWS/system32/Tasks"
CACHE = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Schedule\TaskCache"


def _text(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le")


JOB = (bytes([0, 5, 1, 0]) + bytes(16) + bytes([70, 0]) + bytes(48)) + b"".join(
    len(text + "\0").to_bytes(2, "little") + _text(text) for text in ("C:\\nightly.exe", "", "", "SYSTEM", "")
)


def _xml(enabled: str = "true") -> bytes:
    """A task of Vista's kind with two actions: two rows, one file."""
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <Triggers><LogonTrigger/></Triggers><Settings><Enabled>{enabled}</Enabled></Settings>
  <Actions><Exec><Command>C:\\one.exe</Command></Exec><Exec><Command>C:\\two.exe</Command></Exec></Actions>
</Task>""".encode("utf-16")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Much that starts by itself, on NTFS."""
    changes = [
        Put(f"{STARTUP}/updater.lnk", Content.of(LINK)),
        MakeFolder("/WINDOWS/Tasks"),
        Put("/WINDOWS/Tasks/nightly.job", Content.of(JOB)),
        MakeFolder(TASKS),
        MakeFolder(f"{TASKS}/Acme Updates"),
        Put(f"{TASKS}/Acme Updates/Check now", Content.of(_xml())),
        Put(f"{TASKS}/Switched off", Content.of(_xml("false"))),
        Put(f"{TASKS}/Damaged", Content.of(b"<Task")),
        Put(f"{TASKS}/Of Windows 8", Content.of(_xml())),
    ]
    nt = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Windows"
    edits = [
        MakeKey(rf"{BHO}\{CLSID}"),
        SetValue(nt, "AppInit_DLLs", 1, _text("evil.dll")),
        SetValue(rf"{CACHE}\Tree\Of Windows 8", "Id", 1, _text(CLSID)),
        SetValue(rf"{CACHE}\Tasks\{CLSID}", "Actions", 3, b"\3\0"),
        SetValue(rf"{CACHE}\Tree\Acme Updates\Check now", "Id", 1, _text("{0}")),
        SetValue(rf"{CACHE}\Tasks\{{0}}", "Triggers", 3, b"\0"),
    ]
    return planted(tmp_path_factory.mktemp("busy") / "busy.qcow2", changes, edits)


@pytest.fixture(scope="module")
def on_fat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kinds on FAT32."""
    software = xp.software_hive()
    software.at(rf"Microsoft\Windows\CurrentVersion\Explorer\Browser Helper Objects\{CLSID}")
    software.at(r"Microsoft\Windows NT\CurrentVersion\Windows").values["AppInit_DLLs"] = "evil.dll"
    files = {
        **xp.clean_files(),
        f"{STARTUP}/updater.lnk": LINK,
        f"{xp.ROOT}/Tasks/nightly.job": JOB,
        f"{TASKS}/Acme Updates/Check now": _xml(),
        f"{xp.ROOT}/system32/config/SOFTWARE": build_hive(software),
    }
    return fat_guest(tmp_path_factory.mktemp("fat") / "guest.img", files)


def _starts(image: Path) -> set[tuple[str, str]]:
    document = json.loads(byre("inspect", image, "--json").stdout)
    return {(row["kind"], row["name"]) for guest in document["guests"] for row in guest["autostarts"]["value"]}


def _mend(image: Path, *words: str | Path, status: int = 0) -> dict[str, Any]:
    return byre_json("mend", image, "autostart", *words, status=status)


def _plan(document: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = document["mends"][0]
    return row


@pytest.mark.parametrize("kind", ["busy", "on_fat"])
def test_all_that_is_disabled_comes_back_as_it_was(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    image: Path = request.getfixturevalue(kind)
    off, on = tmp_path / "off.img", tmp_path / "on.img"
    before = _starts(image)
    named = [word for each in ALL for word in ("--autostart", each)]
    done = _mend(image, *named, "--autostart", "run-key:CTFMON", "-o", off)
    assert not _plan(done)["refused"]
    gone = before - _starts(off)
    assert gone == {
        ("run-key", "CTFMON"),
        ("run-key", "ctfmon.exe"),
        ("startup-folder", "updater.lnk"),
        ("browser-helper", CLSID),
        ("task", "nightly.job"),
        ("appinit", "AppInit_DLLs"),
        ("task", "Check now"),
    }
    byre("cp", off, f"C:\\Byre-disabled{TASKS}/Acme Updates/Check now", tmp_path)
    assert (tmp_path / "Check now").read_bytes() == _xml()
    byre("cp", off, f"C:\\Byre-disabled{STARTUP}/updater.lnk", tmp_path)
    assert (tmp_path / "updater.lnk").read_bytes() == LINK
    listed = _plan(_mend(off))["notes"]
    assert len(listed) == len(ALL)
    assert any("service:wuauserv" in note for note in listed)
    back = [word for each in ALL for word in ("--enable", each)]
    assert not _plan(_mend(off, *back, "-o", on))["refused"]
    assert _starts(on) == before
    for each in (f"{STARTUP}/updater.lnk", "/WINDOWS/Tasks/nightly.job", f"{TASKS}/Acme Updates/Check now"):
        first, second = (byre_json("stat", where, each) for where in (image, on))
        same = {"image": "", "id": 0, "changed": "", "extents": []}  # resident bytes move within their record
        assert {**first, **same} == {**second, **same}, each
        assert kind == "on_fat" or first["id"] == second["id"]
    assert _plan(_mend(on))["notes"] == ["nothing that Byre disabled is kept here"]
    (volume,) = json.loads(byre("diff", image, on, "--json", status=None).stdout)["volumes"]
    assert {row["path"] for row in volume["files"] if row["kind"] in ("added", "removed")} == set()
    for key in (RUN, USER_RUN, BHO, r"HKLM\SYSTEM\CurrentControlSet\Services\wuauserv"):
        rows = [
            sorted((row["name"], row["type"], row["data"]) for row in byre_json("reg", each, key)["values"])
            for each in (image, on)
        ]
        assert rows[0] == rows[1], key
    volume_file = tmp_path / "volume"
    if kind == "on_fat":
        assert run_tool("fsck.fat", "-n", volume_of(on, volume_file))
        return
    with open_disk(off) as disk:
        part = open_partition(disk, 1)
        volume_file.write_bytes(part.read(0, part.size))
    require_tool("ntfsfix")
    assert "processed successfully" in run_tool("ntfsfix", "-n", volume_file)
    require_tool("fls")
    assert "updater.lnk" in run_tool("fls", "-r", "-p", "-u", volume_file)


def test_what_is_there_again_is_not_written_over(busy: Path, tmp_path: Path) -> None:
    off, again = tmp_path / "off.qcow2", tmp_path / "again.qcow2"
    _mend(busy, "--autostart", "ctfmon", "-o", off)
    byre("reg", off, "set", RUN, "Ctfmon", "other.exe", "-o", again)
    plan = _plan(_mend(again, "--enable", "CTFMON", "--dry-run", status=1))
    assert "again" in plan["refused"][0]["reason"] and not plan["steps"]


def test_a_place_names_one_of_several(busy: Path, tmp_path: Path) -> None:
    steps = _plan(_mend(busy, "--autostart", rf"{USER_RUN}\ctfmon.exe", "--dry-run"))["steps"]
    assert len(steps) == 1 and steps[0].startswith("HKU")


def test_nothing_disabled_is_said_so_and_unknown_names_are_refused(busy: Path) -> None:
    assert "nothing that Byre disabled" in byre("mend", busy, "autostart").stdout
    plan = _plan(_mend(busy, "--enable", "nobody", "--dry-run", status=1))
    assert "lists what was disabled" in plan["refused"][0]["remedy"]


def test_xml_tasks_that_are_off_or_not_only_in_their_file(busy: Path, tmp_path: Path) -> None:
    row = _plan(_mend(busy, "--autostart", "Switched off", "--dry-run"))
    assert row["steps"] == [] and "switched off already" in row["notes"][0]
    (refused,) = _plan(_mend(busy, "--autostart", "Of Windows 8", "--dry-run", status=1))["refused"]
    assert "registry" in refused["reason"] and "schtasks" in refused["remedy"]
    out = tmp_path / "out.qcow2"
    place = f"{TASKS}/Acme Updates/Check now"
    named = [word for each in ("task:Check now", place, "Damaged") for word in ("--autostart", each)]
    done = _plan(_mend(busy, *named, "-o", out))
    assert len(done["steps"]) == 2 and "damaged" in done["notes"][0]
    assert {name for kind, name in _starts(out) if kind == "task"} == {"nightly.job", "Switched off", "Of Windows 8"}


TAMPERED = r"""REGEDIT4

[HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Run]
"up:date"="C:\\x.exe"
@="C:\\default.exe"
"sl\\ash"="C:\\z.exe"
[HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon]
"Shell"="Explorer.exe evil.exe"
"Userinit"="C:\\evil.exe,"
"Taskman"="t.exe"
[HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon\Notify\acme]
"DLLName"="acme.dll"
[HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Image File Execution Options\notepad.exe]
"Debugger"="evil.exe"
[HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Explorer\Browser Helper Objects\{1}]
"NoExplorer"=dword:00000001
[HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\Session Manager]
"BootExecute"=hex(7):61,75,74,6f,63,68,65,63,6b,20,61,75,74,6f,63,68,6b,20,2a,00,65,00,00
"SetupExecute"=hex(7):78,00,00
[HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Control\Print\Monitors\Acme]
"Driver"="acmemon.dll"
"""
WINLOGON = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Winlogon"
NAMED = (
    *("up:date", RUN + "\\", "sl\\ash", "winlogon:Shell", "winlogon:Userinit", "Taskman"),
    *("acme", "notepad.exe", "{1}", "BootExecute", "SetupExecute", "Acme"),
)


def _exported(image: Path, hive: str, folder: Path) -> str:
    folder.mkdir(exist_ok=True)
    byre("cp", image, rf"C:\WINDOWS\system32\config\{hive}", folder)
    require_tool("hivexregedit")
    return str(run_tool("hivexregedit", "--export", folder / hive, "\\"))


def test_what_the_start_goes_through_gets_its_usual_value_and_the_other_is_kept(tmp_path: Path) -> None:
    file, image = tmp_path / "x.reg", tmp_path / "in.qcow2"
    off, on = tmp_path / "off.qcow2", tmp_path / "on.qcow2"
    file.write_text(TAMPERED)
    byre("reg", SPECIMEN, "import", file, "-o", image)
    named = [word for each in NAMED for word in ("--autostart", each)]
    assert _plan(_mend(image, *named, "-o", off))["refused"] == []
    values = {row["name"]: row["data"] for row in byre_json("reg", off, WINLOGON)["values"]}
    assert (values["Shell"], values["Userinit"]) == ("Explorer.exe", "C:\\WINDOWS\\system32\\userinit.exe,")
    for name in ("", "run-key:"):  # no name at all is not that of default values
        _mend(image, "--autostart", name, "-n", status=1)
    (step,) = _plan(_mend(image, "--autostart", "run-key:(default)", "-n"))["steps"]
    assert step.startswith(RUN)
    session = byre_json("reg", off, r"HKLM\SYSTEM\CurrentControlSet\Control\Session Manager")["values"]
    assert [row["data"] for row in session if row["name"] == "BootExecute"] == [["autocheck autochk *"]]
    (refused,) = _plan(_mend(off, "--autostart", "winlogon:Shell", "-n", status=1))["refused"]
    assert refused["reason"] == "it is what belongs there"
    back = [word for each in NAMED for word in ("--enable", each.removeprefix("winlogon:").removesuffix("\\"))]
    assert _plan(_mend(off, *back, "-o", on))["refused"] == []
    for hive in ("SOFTWARE", "SYSTEM"):
        assert _exported(on, hive, tmp_path / "on") == _exported(image, hive, tmp_path / "in"), hive
    # What was set since then is not written over.
    byre("reg", off, "set", WINLOGON, "Shell", "kiosk.exe", "--in-place")
    (refused,) = _plan(_mend(off, "--enable", "Shell", "-n", status=1))["refused"]
    assert "again" in refused["reason"]
