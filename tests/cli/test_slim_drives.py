"""slim over several drives of one disk, judged by ntfsfix, fsck.fat, The Sleuth Kit and mtools; then the same with
things spoilt on the second drive, which the proof has to notice."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

import byre.lite.applying as applying
import byre.lite.slimming.guest as slimming_guest
from builders import xp
from builders.drives import Volume, drives_disk
from builders.qemu import assert_sound
from byre.cli.main import main
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk
from byre.errors import StorageError
from byre.extents import Kind
from byre.filesystems.opening import OpenVolume, open_volumes
from byre.filesystems.unneeded import hash_files
from byre.lite.changes import Applied, Change, Content, MakeFolder, Put, Remove
from oracles import run_tool
from programs import byre, byre_json

pytestmark = pytest.mark.oracle
WASTE = {
    "/pagefile.sys": b"page" * 40_000,
    "/RECYCLER/S-1-5-21-1/Dc1.txt": b"x" * 9000,
    "/RECYCLER/S-1-5-21-1/INFO2": b"i" * 800,
    "/System Volume Information/_restore{87}/RP1/rp.log": b"r" * 5000,
}
KEPT = {
    "/System Volume Information/tracking.log": b"t" * 3000,
    "/work/thesis.doc": b"thesis" * 1000,
    "/work/small.txt": b"small",
    "/Temp/draft.tmp": b"d" * 3000,
    "/swap.sys": b"s" * 5000,
}
GONE = {
    "D:/pagefile.sys",
    "D:/RECYCLER/S-1-5-21-1",
    "D:/System Volume Information/_restore{87}/RP1",
    "/WINDOWS/Temp/setup.log",
    "/WINDOWS/Prefetch/NOTEPAD.EXE-336351A9.pf",
}
PAGING = (r"C:\pagefile.sys 2 2", r"D:\pagefile.sys 2 2", r"E:\pagefile.sys 2 2")
APPLY = applying.apply_changes
KINDS = {"ntfs": 16, "fat16": 16, "fat32": 40}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The system on C:, an NTFS volume, and D: of each kind."""
    folder = tmp_path_factory.mktemp("drives")
    return {
        kind: drives_disk(
            folder / f"{kind}.qcow2", [Volume("C"), Volume("D", kind, {**WASTE, **KEPT}, mib)], paging=PAGING
        )
        for kind, mib in KINDS.items()
    }


def _names(image: Path, number: int, folder: Path) -> set[str]:
    """The files of a volume (from 0) that The Sleuth Kit finds, after the file system's own tool found no fault."""
    raw, volume = folder / "judged.raw", folder / "judged.volume"
    run_tool("qemu-img", "convert", "-O", "raw", image, raw)
    with open_disk(raw) as disk:
        found = open_volumes(disk)[number]
        volume.write_bytes(disk.read(found.partition.start, found.partition.length))
    run_tool(*(("ntfsfix", "-n") if found.type == "ntfs" else ("fsck.fat", "-n")), volume)
    rows = run_tool("fls", "-r", "-p", "-u", "-F", volume).splitlines()
    raw.unlink()
    return {"/" + row.split("\t", 1)[1] for row in rows if "\t" in row and not row.split("\t", 1)[1].startswith("$")}


@pytest.mark.parametrize("kind", KINDS)
def test_waste_on_another_drive_goes_and_nothing_else(kind: str, images: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    said = byre_json("slim", images[kind], "-o", out)
    assert set(said["removed"]) == GONE
    assert [(row["drive"], row["partition"], row["system"], row["files"]) for row in said["drives"]] == [
        ("C:", 1, True, 2),
        ("D:", 2, False, 4),
    ]
    assert said["files"] == sum(row["files"] for row in said["drives"])
    assert said["allocated"] == sum(row["allocated"] for row in said["drives"])
    assert [(row["drive"], row["gone"]) for row in said["proof"]["volumes"]] == [("C:", 2), ("D:", 4)]
    assert [row["drive"] for row in said["proof"]["readers"]] == ["C:", "D:"]
    assert all(row["reader"] for row in said["proof"]["readers"])
    assert said["notes"] == [
        r"the page file E:\pagefile.sys lies on a drive that isn't known in this image, and stays"
    ]
    assert _names(out, 1, tmp_path) >= KEPT.keys()
    assert not _names(out, 1, tmp_path) & WASTE.keys()
    with open_disk(images[kind]) as disk:
        before = {key: digest for key, digest in hash_files(disk).items() if key[1] in KEPT}
    with open_disk(out) as disk:
        after = hash_files(disk)
    assert len(before) == len(KEPT) and all(after[key] == digest for key, digest in before.items())
    assert after[2, "/work/thesis.doc", ""] == hashlib.sha256(KEPT["/work/thesis.doc"]).hexdigest()
    assert_sound(out)


def test_what_needs_no_reading_is_counted_as_what_is_read(images: dict[str, Path], tmp_path: Path) -> None:
    counts = []
    for more in ((), ("--verify",)):
        proof = byre_json("slim", images["ntfs"], "-o", tmp_path / f"{len(counts)}.qcow2", *more)["proof"]
        counts.append([row["compared"] for row in proof["volumes"]])
    assert counts[0] == counts[1]


def test_in_place_one_snapshot_keeps_both_drives(images: dict[str, Path], tmp_path: Path) -> None:
    image = Path(shutil.copyfile(images["ntfs"], tmp_path / "s.qcow2"))
    said = byre_json("slim", image, "--in-place", "--keep-as", "before")
    assert set(said["removed"]) == GONE
    assert byre_json("stat", image, r"D:\pagefile.sys", status=66)["error"]
    byre("stat", f"{image}@before", r"D:\pagefile.sys")
    byre("stat", f"{image}@before", r"C:\WINDOWS\Temp\setup.log")
    assert len(byre_json("info", image)["snapshots"]) == 1
    assert_sound(image)


def test_the_result_names_the_drives(images: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = byre("slim", images["ntfs"], "-o", tmp_path / "out.qcow2", "--report", page)
    assert "by drive: C: 8 KiB, 2 files; D: " in done.stdout
    assert "on D: libntfs-3g finds the same" in done.stdout and "on D: 5 streams of kept files" in done.stdout
    assert "of that on D:" in page.read_text() and "read alike on D: by" in page.read_text()
    tree = byre("slim", images["ntfs"], "-n").stdout
    assert "D:/RECYCLER/S-1-5-21-1/  " in tree and "D:/pagefile.sys" in tree


def test_a_logical_volume_is_a_drive_like_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows' Setup partitions a disk; the table of the extended partition is part of what mustn't change."""
    volumes = [Volume("C"), Volume("D", "ntfs", {**WASTE, **KEPT}, logical=True)]
    image = drives_disk(tmp_path / "s.qcow2", volumes, paging=PAGING)
    said = byre_json("slim", image, "-o", tmp_path / "lean.qcow2")
    assert set(said["removed"]) == GONE
    with open_disk(tmp_path / "lean.qcow2") as disk:
        second = open_volumes(disk)[1]
        assert second.partition.role == "logical" and second.filesystem is not None
        assert {each.path for each in second.filesystem.walk()} >= KEPT.keys()
        table = second.partition.start - 63 * 512
    _spoilt_by(
        monkeypatch, lambda work: work.write(table + 446 + 12, b"\1"), partition=said["drives"][1]["partition"]
    )
    status, told = _slim(image, tmp_path, capsys)
    assert status == 65, told


def test_a_page_file_that_the_registry_does_not_name_stays(tmp_path: Path) -> None:
    files = {"/pagefile.sys": b"old", "/swap/pagefile.sys": b"named", "/hiberfil.sys": bytes(4096)}
    named = (r"d:\swap\PAGEFILE.SYS 2 2", r"D:\empty 2 2", r"D:\*.sys 2 2", r"D:\..\x", r"D:\not there.sys")
    image = drives_disk(tmp_path / "s.qcow2", [Volume("C"), Volume("D", "fat16", files)], paging=named)
    removed = byre_json("slim", image, "-n")["removed"]
    assert [path for path in removed if path.startswith("D:")] == ["D:/swap/pagefile.sys"]


def test_a_volume_that_the_guest_has_no_letter_for_is_left_alone(tmp_path: Path) -> None:
    volumes = [Volume("C"), Volume(None, "fat16", WASTE)]
    image = drives_disk(tmp_path / "s.qcow2", volumes, paging=PAGING)
    said = byre_json("slim", image, "-o", tmp_path / "out.qcow2")
    assert not any(path.startswith("D:") for path in said["removed"]) and len(said["drives"]) == 1
    assert "partition 2 has no drive letter in MountedDevices: nothing of it goes" in said["notes"]
    assert [row["gone"] for row in said["proof"]["volumes"]] == [2, 0]
    assert WASTE.keys() <= _names(tmp_path / "out.qcow2", 1, tmp_path)


def test_the_letters_of_another_disk_say_nothing_of_this_one(tmp_path: Path) -> None:
    """MountedDevices names another disk signature: a clone, or the guest's second disk."""
    volumes = [Volume("C"), Volume("D", "fat16", WASTE)]
    image = drives_disk(tmp_path / "s.qcow2", volumes, paging=PAGING, signature=0x1234)
    said = byre_json("slim", image, "-n")
    assert not any(path.startswith("D:") for path in said["removed"])
    assert any(note.startswith(r"the page file D:\pagefile.sys lies on a drive") for note in said["notes"])
    clone = "partition 2 has no drive letter in MountedDevices, which knows 0xb47e0001 and not 0x00001234"
    assert f"{clone}: nothing of it goes" in said["notes"]
    wrong = byre_json("slim", image, "-n", "--drop", r"D:\pagefile.sys", status=64)
    assert "no drive D:" in wrong["what"] and wrong["expected"] == "C:"


def test_a_drop_names_its_drive(images: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    arguments = ("slim", images["ntfs"], "--profile", "none", "-o", out)
    said = byre_json(*arguments, "--drop", r"D:\work\**", "--keep", r"d:\WORK\small.txt")
    assert said["removed"] == ["D:/work/thesis.doc"]
    assert "/work/small.txt" in _names(out, 1, tmp_path)
    for nothing in (r"C:\work\**", "/work"):
        assert "nothing of the guest" in byre_json(*arguments, "--drop", nothing, "--force", status=64)["what"]


NEEDS: dict[str, Callable[[xp.Node, xp.Node], object]] = {
    "autostart": lambda system, software: software.at(r"Microsoft\Windows\CurrentVersion\Run").values.update(
        {"Probe": r"D:\Apps\probe.exe /q"}
    ),
    "service": lambda system, software: system.at(r"ControlSet001\Services\Probe").values.update(
        {"Type": 0x10, "Start": 2, "ErrorControl": 1, "ImagePath": r"D:\Apps\probe.exe"}
    ),
    "service dll": lambda system, software: (
        system.at(r"ControlSet001\Services\Probe").values.update({"Type": 0x20, "Start": 3, "ErrorControl": 1}),
        system.at(r"ControlSet001\Services\Probe\Parameters").values.update({"ServiceDll": r"D:\Apps\probe.exe"}),
    ),
    "file type": lambda system, software: software.at(r"Classes\Probe1\shell\open\command").values.update(
        {"": r'"D:\Apps\probe.exe" "%1"'}
    ),
}


@pytest.mark.parametrize("what", NEEDS)
def test_what_needs_a_file_on_another_drive_stops_its_drop(what: str, tmp_path: Path) -> None:
    volumes = [Volume("C"), Volume("D", "fat16", {"/Apps/probe.exe": b"MZ"})]
    image = drives_disk(tmp_path / "s.qcow2", volumes, more=NEEDS[what])
    said = byre_json("slim", image, "--profile", "none", "--drop", r"D:\Apps", "-n", status=1)
    assert {row["path"] for row in said["reasons"]} == {"D:/Apps/probe.exe"}


def test_places_that_the_registry_has_on_another_drive_are_there(tmp_path: Path) -> None:
    """Profiles on D:: their waste goes. What their users have in use can't be told from hives that lie there."""

    def moved(system: xp.Node, software: xp.Node) -> None:
        profiles = software.at(r"Microsoft\Windows NT\CurrentVersion\ProfileList")
        profiles.values["ProfilesDirectory"] = r"D:\Users"
        profiles.at("S-1-5-21-1-1004").values["ProfileImagePath"] = r"D:\Users\guest"

    files = {
        "/Users/guest/NTUSER.DAT": xp.clean_files()[f"{xp.PROFILE}/operator/NTUSER.DAT"],
        "/Users/guest/Local Settings/Temp/x.tmp": b"x",
    }
    image = drives_disk(tmp_path / "s.qcow2", [Volume("C"), Volume("D", "fat16", files)], more=moved)
    said = byre_json("slim", image, "-n")
    assert [path for path in said["removed"] if path.startswith("D:")] == ["D:/Users/guest/Local Settings/Temp/x.tmp"]
    assert any(r"the hive of D:\Users\guest isn't where" in note for note in said["notes"])
    refused = byre_json("slim", image, "-n", "--drop", r"D:\Users\guest\NTUSER.DAT", status=1)
    assert refused["reasons"][0]["chain"][0] == "a user's registry"


def test_a_program_on_another_drive_keeps_what_it_imports(tmp_path: Path) -> None:
    """From the system's drive, and from beside it."""
    files = xp.clean_files()
    apps = {
        "/Apps/tool.exe": files["/Program Files/Instrument/instrument.exe"],
        "/Apps/comdlg32.dll": files["/WINDOWS/system32/comdlg32.dll"],
    }
    volumes = [Volume("C"), Volume("D", "fat16", {"/Apps/tool.exe": apps["/Apps/tool.exe"]})]
    image = drives_disk(tmp_path / "s.qcow2", volumes)
    none = ("--profile", "none", "-n", "--drop", "/Program Files/Instrument")
    said = byre_json("slim", image, *none, "--drop", r"C:\WINDOWS\system32\comdlg32.dll", status=1)
    assert any(row["chain"][0] == "the program D:/Apps/tool.exe" for row in said["reasons"])


APART = [
    Volume("C", "fat16", {"/hiberfil.sys": bytes(20_000), "/RECYCLED/Dc1.txt": b"x", "/AUTOEXEC.BAT": b"rem\r\n"}),
    Volume("D", "ntfs", {"/pagefile.sys": b"p" * 70_000}),
]


@pytest.mark.parametrize("named", [r"D:\WINDOWS\system32\config\SAM", r"C:\WINDOWS\system32\config\SAM", r"C:\NTLDR"])
def test_a_registry_that_calls_what_matters_a_page_file_gains_nothing(named: str, tmp_path: Path) -> None:
    volumes = [Volume("C"), Volume("D", "fat16", {"/WINDOWS/system32/config/SAM": b"regf of a second system"})]
    image = drives_disk(tmp_path / "s.qcow2", volumes, paging=[f"{named} 2 2"])
    byre("slim", image, "-o", tmp_path / "out.qcow2", status=69 if named.startswith("D") else 1)
    assert not (tmp_path / "out.qcow2").exists()


def test_a_drive_with_too_many_names_is_left_alone(
    images: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slimming_guest, "MAX_NAMES", 170)
    assert main(["slim", str(images["ntfs"]), "-n", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [row["drive"] for row in said["drives"]] == ["C:"] and "/WINDOWS/Temp/setup.log" in said["removed"]
    assert any(note.startswith("D: holds more names than are looked at") for note in said["notes"])


def test_what_fails_on_the_second_drive_leaves_the_image_as_it_was(
    images: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = Path(shutil.copyfile(images["ntfs"], tmp_path / "s.qcow2"))
    before = image.read_bytes()

    def apply(work: ScratchDisk, volume: OpenVolume, changes: Sequence[Change], **options: object) -> Applied:
        if volume.partition.index == 2:
            raise StorageError("no room")
        return APPLY(work, volume, changes, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(applying, "apply_changes", apply)
    assert main(["slim", str(image), "--in-place", "--json"]) == StorageError.exit_code
    assert "no room" in capsys.readouterr().out
    assert image.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["s.qcow2"]


def test_a_loader_on_another_drive_than_windows(tmp_path: Path) -> None:
    """NTLDR, boot.ini and the hibernation file on C:, a FAT volume; Windows on D:."""
    image = drives_disk(tmp_path / "s.qcow2", APART, system="D", paging=[r"D:\pagefile.sys 2 2"])
    out = tmp_path / "out.qcow2"
    said = byre_json("slim", image, "-o", out, "--profile", "lite")
    assert {"C:/hiberfil.sys", "C:/RECYCLED/Dc1.txt", "/pagefile.sys"} <= set(said["removed"])
    assert [(row["drive"], row["system"]) for row in said["drives"]] == [("D:", True), ("C:", False)]
    assert _names(out, 0, tmp_path) == {"/NTLDR", "/NTDETECT.COM", "/boot.ini", "/AUTOEXEC.BAT"}
    assert "/WINDOWS/system32/ntdll.dll" in _names(out, 1, tmp_path)
    for dropped, what in ((r"C:\NTLDR", "the boot loader"), (r"D:\WINDOWS\system32\hal.dll", "the HAL")):
        refused = byre_json("slim", image, "--profile", "none", "--drop", dropped, "-n", status=1)
        assert any(what in row["chain"][0] for row in refused["reasons"])


def test_what_is_in_use_is_told_on_a_system_drive_of_another_letter(tmp_path: Path) -> None:
    """The hives say D:\\ where the specimen's say C:\\."""
    image = drives_disk(tmp_path / "s.qcow2", APART, system="D", paging=[r"D:\pagefile.sys 2 2"])
    run = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run"
    byre("reg", image, "set", run, "planted", r"D:\WINDOWS\system32\spoolsv.exe", "--in-place")
    said = byre_json("slim", image, "--profile", "lite", "-n", status=1)
    assert [row["path"] for row in said["reasons"]] == ["/WINDOWS/system32/spoolsv.exe"]


def _second(work: ScratchDisk) -> OpenVolume:
    return open_volumes(work)[1]


def _flip(path: str) -> Callable[[ScratchDisk], None]:
    """A byte of a file's content on D:."""

    def spoil(work: ScratchDisk) -> None:
        files = _second(work).filesystem
        assert files is not None
        row = files.extents(files.lookup(path))[0]
        assert row["kind"] == Kind.DATA
        place = int(row["disk"])
        work.write(place, bytes([work.read(place, 1)[0] ^ 1]))

    return spoil


def _more(*changes: Change) -> Callable[[ScratchDisk], None]:
    return lambda work: APPLY(work, _second(work), changes) and None


SPOILT: dict[str, Callable[[ScratchDisk], object]] = {
    "a byte of a kept file": _flip("/work/thesis.doc"),
    "a byte of a small file": _flip("/work/small.txt"),
    "a kept file that went": _more(Remove("/work/thesis.doc")),
    "restore points' neighbour": _more(Remove("/System Volume Information/tracking.log")),
    "an extra file": _more(Put("/extra.txt", Content.of(b"extra"))),
    "an extra folder": _more(MakeFolder("/extra")),
    "a kept file written over": _more(Put("/swap.sys", Content.of(b"S" * 5000))),
    "the boot sector": lambda work: work.write(_second(work).partition.start + 0x1F0, b"\x90\x91"),
    "a byte between the drives": lambda work: work.write(_second(work).partition.start - 512, b"\1"),
}


def _slim(image: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, object]]:
    out = folder / "out.qcow2"
    status = main(["slim", str(image), "-o", str(out), "--json"])
    assert out.exists() == (status == 0)
    said = json.loads(capsys.readouterr().out)
    assert isinstance(said, dict)
    return status, said


def _spoilt_by(
    monkeypatch: pytest.MonkeyPatch, spoil: Callable[[ScratchDisk], object], *, partition: int = 2
) -> None:
    """Once both drives have been changed."""

    def apply(work: ScratchDisk, volume: OpenVolume, changes: Sequence[Change], **options: object) -> Applied:
        applied = APPLY(work, volume, changes, **options)  # type: ignore[arg-type]
        if volume.partition.index == partition:
            spoil(work)
        return applied

    monkeypatch.setattr(applying, "apply_changes", apply)


@pytest.mark.parametrize("kind", ["ntfs", "fat16"])
@pytest.mark.parametrize("what", SPOILT)
def test_what_is_spoilt_on_the_second_drive_is_caught(
    what: str,
    kind: str,
    images: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _spoilt_by(monkeypatch, SPOILT[what])
    status, said = _slim(images[kind], tmp_path, capsys)
    assert status == 65 and "the proof failed" in str(said["what"]), said


@pytest.mark.parametrize("lazy", ["C:", "D:"])
def test_a_change_that_was_not_made_on_a_drive_is_caught(
    lazy: str,
    images: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def apply(work: ScratchDisk, volume: OpenVolume, changes: Sequence[Change], **options: object) -> Applied:
        mine = volume.partition.index == (1 if lazy == "C:" else 2)
        return APPLY(work, volume, changes[1:] if mine else changes, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(applying, "apply_changes", apply)
    status, said = _slim(images["ntfs"], tmp_path, capsys)
    assert status == 65 and "is still there" in str(said["what"])


def test_a_byte_of_a_partition_that_byre_cannot_read_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = drives_disk(tmp_path / "s.qcow2", [Volume("C"), Volume("D", "fat16", WASTE), Volume(None, None, mib=1)])

    def spoil(work: ScratchDisk) -> None:
        work.write(open_volumes(work)[2].partition.start + 70_000, b"\0")

    _spoilt_by(monkeypatch, lambda work: None)
    assert _slim(image, tmp_path, capsys)[0] == 0
    (tmp_path / "out.qcow2").unlink()
    _spoilt_by(monkeypatch, spoil)
    status, said = _slim(image, tmp_path, capsys)
    assert status == 65 and "partition 3 isn't what it was" in str(said["what"])


@pytest.mark.parametrize("where", ["C:", "D:"])
def test_a_hibernated_session_on_any_drive_forbids_all(where: str, tmp_path: Path) -> None:
    """The one that sleeps has every volume open."""
    asleep = {"/hiberfil.sys": b"hibr" + bytes(8188)}
    volumes = [
        Volume("C", "fat16", asleep if where == "C:" else {}),
        Volume("D", "ntfs", {"/a.txt": b"a", **(asleep if where == "D:" else {})}),
        Volume("E", "fat16", {"/a.txt": b"a"}),
    ]
    image = drives_disk(tmp_path / "s.qcow2", volumes, system="D", paging=[])
    (tmp_path / "new.txt").write_text("new")
    number = 1 if where == "C:" else 2
    wanted = f"partition {number} holds a hibernated session: no volume of the disk is changed"
    key = (r"HKLM\SOFTWARE\Probe", "x", "1")
    for arguments in (
        ("slim", image, "--profile", "none", "--drop", r"E:\a.txt"),
        ("rm", image, r"E:\a.txt"),
        ("put", image, tmp_path / "new.txt", r"E:\new.txt"),
        ("reg", image, "set", *key),
    ):
        said = byre_json(*arguments, "-o", tmp_path / "out.qcow2", status=69)
        assert said["what"] == wanted and "mend IMAGE hibernation" in said["hint"]
        assert not (tmp_path / "out.qcow2").exists()
    shown = byre("slim", image, "-n")
    assert f"this would be refused now: {wanted}" in shown.stdout + shown.stderr
