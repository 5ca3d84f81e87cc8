"""Guest paths with a letter, on disks of several volumes: each verb goes to the volume that the guest means."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from builders import xp
from builders.drives import LOADER, Volume, drives_disk, system_files
from byre.disks.opening import open_disk
from byre.windows.inspection import Inspection
from programs import byre, byre_json

pytestmark = pytest.mark.oracle
SECOND = {"/work/notes.txt": b"on the second volume"}
ASLEEP = b"hibr" + bytes(8188)


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drives_disk(tmp_path_factory.mktemp("usual") / "s.qcow2", [Volume("C"), Volume("D", "fat16", SECOND)])


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The loader on C:, Windows on D:."""
    folder = tmp_path_factory.mktemp("apart")
    volumes = [Volume("C", "fat16", SECOND), Volume("D")]
    return drives_disk(folder / "s.qcow2", volumes, system="D", paging=[r"D:\pagefile.sys 2 2"])


def _letters(image: Path) -> dict[str, int]:
    with open_disk(image) as disk:
        return {letter: each.partition.index for letter, each in Inspection(disk, name="x").drives.items()}


@pytest.mark.parametrize(("name", "other_drive"), [("usual", "D:"), ("apart", "C:")])
def test_put_and_rm_go_to_the_drive_that_the_path_names(
    name: str, other_drive: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    image = Path(shutil.copyfile(request.getfixturevalue(name), tmp_path / "s.qcow2"))
    (tmp_path / "new.txt").write_bytes(b"new")
    for letter, other in (("C", "D"), ("D", "C")):
        byre("put", image, tmp_path / "new.txt", rf"{letter}:\new.txt", "--in-place", "--keep-as", f"put {letter}")
        assert byre("cat", image, rf"{letter.lower()}:/NEW.TXT").stdout == "new"
        byre("cat", image, rf"{other}:\new.txt", status=66)
        byre("rm", image, rf"{letter}:\n*.txt", "--in-place", "--keep-as", f"rm {letter}")
        byre("cat", image, rf"{letter}:\new.txt", status=66)
    paths = ("/WINDOWS/win.ini", rf"{other_drive}\work\*")
    told = ["/WINDOWS/win.ini", f"{other_drive}/work/notes.txt"]
    assert byre_json("rm", image, *paths, "-n")["changes"] == [f"remove {path}" for path in told]
    assert byre_json("rm", image, *paths, "--in-place")["removed"] == told
    for path in told:
        byre("cat", image, path, status=66)
    assert byre_json("rm", image, r"E:\x", "-n", status=66)["found"] == "drives: C:, D:"


def test_the_registry_is_that_of_the_system_wherever_it_lies(apart: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    byre("reg", apart, "set", r"HKLM\SOFTWARE\Probe", "x", "1", "-o", out)
    assert byre_json("reg", out, r"HKLM\SOFTWARE\Probe")["values"][0]["data"] == "1"


def test_a_system_that_knows_another_disk_has_its_own_letter_all_the_same(tmp_path: Path) -> None:
    """A clone with another signature: the rest in the order that Windows would give."""
    first = Volume("C", "fat16", SECOND)
    for system, volumes, wanted in (
        ("D", [first, Volume("D")], {"C": 1, "D": 2}),
        ("C", [Volume("D", "fat16", SECOND), Volume("C")], {"C": 2, "D": 1}),
        ("E", [first, Volume("E")], {"C": 1, "E": 2}),
    ):
        assert _letters(drives_disk(tmp_path / "s.qcow2", volumes, system=system, signature=0x99)) == wanted


def test_its_own_drive_that_mounted_devices_lacks_has_its_own_letter(tmp_path: Path) -> None:
    def forget(system: xp.Node, software: xp.Node) -> None:
        del system.at("MountedDevices").values[r"\DosDevices\D:"]

    volumes = [Volume("C", "fat16", SECOND), Volume("D")]
    assert _letters(drives_disk(tmp_path / "s.qcow2", volumes, system="D", more=forget)) == {"C": 1, "D": 2}


def test_the_audit_reads_the_boot_ini_of_the_loaders_volume(apart: Path, tmp_path: Path) -> None:
    image = Path(shutil.copyfile(apart, tmp_path / "s.qcow2"))
    found = byre_json("audit", image, "--only", "complete", status=None)
    assert not [row for row in found["findings"] if row["rule"] in ("BOOT-006", "BOOT-007", "BOOT-008")]
    (tmp_path / "boot.ini").write_bytes(system_files("D", {}, [])["/boot.ini"])  # says partition(1)
    byre("put", image, tmp_path / "boot.ini", r"C:\boot.ini", "--in-place")
    found = byre_json("audit", image, "--only", "complete", status=None)
    assert [row["evidence"] for row in found["findings"] if row["rule"] == "BOOT-008"] == [
        r"multi(0)disk(0)rdisk(0)partition(1)\WINDOWS: the system is on partition(2)"
    ]


def test_of_two_systems_the_one_that_boot_ini_starts_is_meant(tmp_path: Path) -> None:
    """Both in a folder of the same name."""
    start = (63 + (16 << 11)) // 2048 * 2048 + 2048
    second = {
        path: data
        for path, data in system_files("D", {"C": 63 * 512, "D": start * 512}, [r"D:\pagefile.sys 2 2"]).items()
        if path not in LOADER
    }
    first = {"/boot.ini": xp.clean_files()["/boot.ini"].replace(b"partition(1)", b"partition(2)")}
    first["/RECYCLER/S-1-5-21-1/Dc1.txt"] = b"somebody else's"
    image = drives_disk(tmp_path / "s.qcow2", [Volume("C", files=first), Volume("D", files=second)])
    said = byre_json("slim", image, "-n")
    assert not any(path.startswith("C:/RECYCLER") for path in said["removed"])
    assert "C: holds another system (/WINDOWS): recycle bin and restore points there stay" in said["notes"]
    assert [(row["drive"], row["system"]) for row in said["drives"]] == [("D:", True), ("C:", False)]


def test_a_session_on_the_loaders_volume_is_discarded(tmp_path: Path) -> None:
    """Windows puts its hibernation file where the machine starts from."""
    volumes = [Volume("C", "fat16", {"/hiberfil.sys": ASLEEP}), Volume("D")]
    image = drives_disk(tmp_path / "s.qcow2", volumes, system="D", paging=[])
    told = byre_json("mend", image, "hibernation", "-n", status=None)["mends"][0]
    assert [row["what"] for row in told["refused"]] == ["the hibernated session of partition 1"]
    refused = byre_json("slim", image, "-o", tmp_path / "lean.qcow2", status=69)
    assert refused["what"].startswith("partition 1 holds a hibernated session")
    out = tmp_path / "awake.qcow2"
    byre("mend", image, "hibernation", "--discard-session", "-o", out, status=None)
    assert byre_json("slim", out, "-o", tmp_path / "lean.qcow2")["removed"][-1] == "C:/hiberfil.sys"


@pytest.mark.parametrize("verb", ["slim", "mend"])
def test_a_mend_or_slim_leaves_a_sleeping_neighbour_alone(verb: str, tmp_path: Path) -> None:
    volumes = [Volume("C"), Volume(None, "fat16", {"/hiberfil.sys": ASLEEP})]
    image = drives_disk(tmp_path / "s.qcow2", volumes, paging=[])
    before = image.read_bytes()
    byre(verb, image, *(["all"] if verb == "mend" else []), "--in-place", status=69)
    assert image.read_bytes()[:64] == before[:64] and len(image.read_bytes()) == len(before)


@pytest.mark.parametrize("state", ["dirty", "damaged"])
def test_another_drive_that_is_not_sound_is_refused_before_any_work(state: str, usual: Path, tmp_path: Path) -> None:
    raw = tmp_path / "s.raw"
    byre("convert", usual, raw)
    with open_disk(raw) as disk:
        start = next(each.partition.start for each in Inspection(disk, name="x").volumes if each.type == "fat16")
        reserved = struct.unpack("<H", disk.read(start + 14, 2))[0]
    with raw.open("r+b") as file:
        if state == "dirty":
            file.seek(start + reserved * 512 + 2)
            file.write(b"\xff\x7f")
        else:
            file.seek(start + reserved * 512 + 2 * 2)
            file.write(b"\x02\x00" * 200)  # chains that lead back to the second cluster
    out = tmp_path / "out.qcow2"
    said = byre_json("slim", raw, "-o", out, status=69 if state == "dirty" else 65)
    wanted = "the volume is marked dirty" if state == "dirty" else "the file system of partition 2 is damaged"
    assert said["what"].startswith(wanted) and not out.exists()
