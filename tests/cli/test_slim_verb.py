"""slim as a user tries it; results judged by ntfsfix, The Sleuth Kit, qemu-img and our own check."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import byre as package
from builders.qemu import assert_sound
from byre.disks.disk import Disk
from byre.disks.left_out import LeftOutDisk
from byre.disks.opening import open_disk
from byre.disks.scratch import ScratchDisk, open_scratch
from byre.disks.writer import Int64Array
from byre.errors import CorruptImageError
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.opening import open_volumes
from byre.lite.applying import apply_changes
from byre.lite.changes import Applied, MakeFolder, Remove
from byre.lite.proof import Compared, Planned, apart_of, prove_files
from byre.windows.inspection import Inspection
from oracles import run_tool
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
CLEAN = f"{SPECIMEN}@clean"
pytestmark = pytest.mark.oracle


def _judge(image: Path, folder: Path) -> set[str]:
    """The names that The Sleuth Kit finds, after ntfsfix and our check have agreed."""
    raw = folder / "judged.raw"
    run_tool("qemu-img", "convert", "-O", "raw", image, raw)
    volume = folder / "judged.ntfs"
    with raw.open("rb") as source, volume.open("wb") as target:
        with open_disk(image) as disk:
            partition = open_volumes(disk)[0].partition
        source.seek(partition.start)
        target.write(source.read(partition.stop - partition.start))
    run_tool("ntfsfix", "-n", volume)
    rows = run_tool("fls", "-r", "-p", "-u", volume).splitlines()
    byre("check", image, "--files")
    raw.unlink()
    return {"/" + row.split("\t", 1)[1] for row in rows if "\t" in row}


def test_safe_takes_what_windows_makes_anew(tmp_path: Path) -> None:
    before = SPECIMEN.read_bytes()
    out = tmp_path / "out.qcow2"
    page = tmp_path / "report.html"
    said = byre_json("slim", CLEAN, "-o", out, "--compress", "--report", page)
    assert SPECIMEN.read_bytes() == before
    gone = {"/pagefile.sys", "/WINDOWS/Temp/setup.log", "/WINDOWS/Prefetch/NOTEPAD.EXE-336351A9.pf"}
    assert set(said["removed"]) == gone
    assert said["proof"]["gone"] == 3 and said["proof"]["compared"] > 100
    assert said["after"] == min(out.stat().st_size, out.stat().st_blocks * 512) < said["before"]
    names = _judge(out, tmp_path)
    assert not names & gone
    assert {"/WINDOWS/Temp", "/WINDOWS/system32/ntdll.dll"} <= names
    assert_sound(out)
    assert "page-file" in page.read_text() and "<script" not in page.read_text()


def test_lite_disables_the_services_of_what_went(tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    said = byre_json("slim", CLEAN, "--profile", "lite", "-o", out)
    assert said["services"] == ["Spooler", "sr", "wscsvc", "wuauserv"]
    assert said["proof"]["written"] == 1
    names = _judge(out, tmp_path)
    assert "/WINDOWS/system32/spoolsv.exe" not in names
    hive = byre_json("reg", out, r"HKLM\SYSTEM\CurrentControlSet\Services\Spooler")["values"]
    assert next(int(row["data"]) for row in hive if row["name"] == "Start") == 4
    assert byre_json("audit", out, "--only", "complete", status=None)["predictions"][0]["starts"] is not False


def test_in_place_keeps_what_was_and_says_how_space_comes_back(tmp_path: Path) -> None:
    """The command that it prints is pasted into a shell: names with blanks, quotes and a variable."""
    image = Path(shutil.copyfile(SPECIMEN, tmp_path / 'it\'s "old" $HOME.qcow2'))
    kept = 'as it\'s "been"'
    done = byre("slim", image, "--in-place", "--keep-as", kept)
    command = done.stdout.splitlines()[-1].strip()
    assert "/pagefile.sys" not in _judge(image, tmp_path)
    assert byre("stat", f"{image}@{kept}", "/pagefile.sys").returncode == 0
    assert_sound(image)
    before = image.stat().st_size
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    pasted = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert pasted.returncode == 0, pasted.stderr
    assert [row["name"] for row in byre_json("info", image)["snapshots"]] == ["clean", "infected"]
    assert image.stat().st_size < before
    assert "/pagefile.sys" not in _judge(image, tmp_path)
    assert_sound(image)


def test_what_slimming_in_place_gives_up_comes_back_with_the_snapshot(tmp_path: Path) -> None:
    image = tmp_path / "s.qcow2"
    (tmp_path / "waste.tmp").write_bytes(random.Random(3).randbytes(3 << 20))
    byre("put", CLEAN, tmp_path / "waste.tmp", r"C:\WINDOWS\Temp", "-o", image)
    taken = image.stat().st_size
    said = byre_json("slim", image, "--in-place", "--keep-as=-odd")
    assert said["give_back"].startswith("byre snapshot delete -- ")
    for words in said["give_back"].split(" && "):
        byre(*shlex.split(words)[1:])
    assert image.stat().st_size <= taken - (3 << 20) + (1 << 17)
    assert_sound(image)


def test_a_result_larger_than_its_compressed_image_says_why(tmp_path: Path) -> None:
    packed = tmp_path / "packed.qcow2"
    byre("convert", CLEAN, packed, "--compress", "zlib")
    told = byre("slim", packed, "-o", tmp_path / "plain.qcow2").stdout
    assert "--compress makes it smaller" in told
    assert "--compress makes" not in byre("slim", packed, "-o", tmp_path / "small.qcow2", "--compress").stdout
    assert (tmp_path / "small.qcow2").stat().st_size <= packed.stat().st_size


def test_compression_that_the_format_lacks_is_refused_before_any_work(tmp_path: Path) -> None:
    byre("slim", CLEAN, "-o", tmp_path / "out.vdi", "--compress", status=64)


def test_the_list_refuses_what_it_would_pass_over() -> None:
    for words in (
        ["--profile", "lite"],
        ["--drop", "games"],
        ["--keep", "games"],
        ["--report", "x.html"],
        ["--compress"],
    ):
        assert byre_json("slim", "--list", CLEAN, *words, status=64)["found"] == words[0]
    assert byre_json("slim", "--list", CLEAN, "-o", "x.qcow2", status=64)["found"] == "-o"


def test_another_drives_paths_and_slips_are_told() -> None:
    said = byre_json("slim", CLEAN, "-n", "--keep", r"D:\WINDOWS\Temp", status=64)
    assert said["expected"] == "C:"
    said = byre_json("slim", CLEAN, "-n", "--keep", r"C:\WINDOWS\Tmp\**")
    assert said["notes"] == ["nothing in this image is named /WINDOWS/Tmp/**"]


def test_a_suffix_that_no_format_has_is_refused_before_any_work(tmp_path: Path) -> None:
    said = byre_json("slim", CLEAN, "-o", tmp_path / "out.ova", status=64)
    assert said["path"].endswith("out.ova") and ".qcow2" in said["expected"]


def test_a_plan_without_anything_says_so() -> None:
    shown = byre("slim", CLEAN, "--profile", "none", "-n").stdout
    assert "nothing to remove" in shown and " 0 files" not in shown
    one = byre("slim", CLEAN, "--profile", "none", "--drop", r"C:\WINDOWS\Temp", "-n").stdout
    assert "would remove 1 file, 8 KiB" in one


def test_sizes_of_a_chain_are_what_its_files_take(tmp_path: Path) -> None:
    base, image = tmp_path / "base.raw", tmp_path / "image.qcow2"
    byre("convert", CLEAN, base)
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", image)
    said = byre_json("slim", image, "-o", tmp_path / "out.vdi")
    taken = sum(min(each.stat().st_size, each.stat().st_blocks * 512) for each in (base, image))
    assert said["before"] == taken < base.stat().st_size
    assert said["after"] == (tmp_path / "out.vdi").stat().st_blocks * 512


@pytest.mark.parametrize("name", ["a\nb.qcow2", "quo'te \x1b[31m.qcow2", "-dash.qcow2", "bytes\udcff.qcow2"])
def test_the_command_that_gives_space_back_can_be_pasted(name: str, tmp_path: Path) -> None:
    shutil.copyfile(SPECIMEN, tmp_path / name)
    byre("snapshot", "revert", tmp_path / name, "clean")
    words = ("--profile", "none", "--drop", r"C:\WINDOWS\Temp", "--in-place", "--keep-as", "was\tthis")
    shown = byre("slim", *words, "--", name, folder=tmp_path).stdout
    command = shown.splitlines()[-1].replace("byre ", f"{shlex.quote(sys.executable)} -m byre ")
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True, capture_output=True)
    listed = byre_json("snapshot", "list", tmp_path / name)["snapshots"]
    assert {each["name"] for each in listed} == {"clean", "infected"}


def test_a_planted_dependence_stops_the_plan(tmp_path: Path) -> None:
    """instrument.exe imports comdlg32.dll, which nothing of the start imports."""
    out = tmp_path / "out.qcow2"
    arguments = ("slim", CLEAN, "--profile", "none", "--drop", r"C:\WINDOWS\system32\shlwapi.dll", "-o", out)
    said = byre_json(*arguments, status=1)
    assert said["refused"] and not out.exists()
    chains = [row["chain"] for row in said["reasons"]]
    wanted = "the program /Program Files/Instrument/instrument.exe"
    chain = next(chain for chain in chains if chain[0] == wanted)
    assert chain[-1] == "/WINDOWS/system32/shlwapi.dll" and len(chain) == 3


def test_a_planted_use_in_the_registry_stops_the_plan(tmp_path: Path) -> None:
    image = Path(shutil.copyfile(SPECIMEN, tmp_path / "s.qcow2"))
    byre("snapshot", "revert", image, "clean")
    run = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run"
    byre("reg", image, "set", run, "planted", r"C:\WINDOWS\system32\spoolsv.exe", "--in-place")
    said = byre_json("slim", image, "--profile", "lite", "--dry-run", status=1)
    assert [row["component"] for row in said["reasons"]] == ["printing"]
    assert "planted" in said["reasons"][0]["chain"][0]
    kept = byre_json("slim", image, "--profile", "lite", "--keep-needed", "--dry-run")
    assert [row["component"] for row in kept["kept"]] == ["printing"]
    assert "printing" not in [row["id"] for row in kept["parts"]]


@pytest.mark.parametrize(
    ("path", "what"), [("NTLDR", "loader"), (r"WINDOWS\system32\config\SYSTEM", "registry"), (r"WINDOWS", "kernel")]
)
def test_the_boot_path_is_never_dropped(path: str, what: str) -> None:
    said = byre_json("slim", CLEAN, "--profile", "none", "--drop", f"C:\\{path}", "-n", status=1)
    assert any(what in row["chain"][0] for row in said["reasons"])


def test_a_recipe_says_it_all(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(
        '[[component]]\nid = "instrument"\ntitle = "instrument"\nsystems = ["winxp"]\nprofile = "lite"\n'
        'consequence = "no instrument"\nsource = "us"\n'
        'files = ["{programs}/Instrument/**"]\nmarks = ["instrument.exe"]\n'
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('profile = "none"\ndrop = ["instrument"]\ncomponents = ["own.toml"]\n')
    out = tmp_path / "out.qcow2"
    said = byre_json("slim", CLEAN, "--recipe", recipe, "-o", out)
    assert [row["id"] for row in said["parts"]] == ["instrument"]
    uninstall = r"HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall\Instrument Control"
    assert byre("reg", SPECIMEN, uninstall).returncode == 0
    assert byre("reg", out, uninstall, status=66).returncode == 66
    own = (tmp_path / "own.toml").read_text()
    for bad, said in ((own + own, "two components are called"), (own + 'needs = ["no-such"]\n', "which isn't there")):
        (tmp_path / "own.toml").write_text(bad)
        assert said in byre_json("slim", CLEAN, "--recipe", recipe, "-n", status=64)["what"]
    recipe.write_text('profil = "none"\n')
    assert byre_json("slim", CLEAN, "--recipe", recipe, "-n", status=64)["found"] == "'no such field'"


@contextmanager
def scratch(folder: Path) -> Iterator[tuple[Disk, ScratchDisk]]:
    with open_disk(CLEAN) as disk:
        work = open_scratch(disk, folder)
        try:
            yield disk, work
        finally:
            work.close()


def proved(before: Disk, after: Disk, gone: tuple[str, ...] = (), *, apart: Int64Array | None = None) -> Compared:
    planned = Planned(1, [Remove(path) for path in gone], Applied(gone, (), 0))
    return prove_files(Inspection(before, name="x"), Inspection(after, name="x"), [planned], apart=apart)[1]


@pytest.mark.parametrize("thorough", [True, False], ids=["all is read", "only what may differ"])
def test_a_result_that_differs_from_its_plan_is_not_proved(thorough: bool, tmp_path: Path) -> None:
    with scratch(tmp_path) as (disk, work):
        files = open_volumes(disk)[0].filesystem
        assert isinstance(files, NtfsFileSystem)
        known = proved(disk, work, apart=None if thorough else apart_of(work, None))
        assert known.compared > 100
        assert known.read == known.compared if thorough else known.read <= known.compared
        place = int(files.extents(files.lookup("/WINDOWS/system32/ntdll.dll"))["disk"][0])
        work.write(place + 100, b"changed")
        with pytest.raises(CorruptImageError, match="ntdll"):
            proved(disk, work, apart=None if thorough else apart_of(work, None))
        with pytest.raises(CorruptImageError, match="still there"):
            proved(disk, disk, ("/pagefile.sys",), apart=None if thorough else apart_of(work, None))


def test_a_kept_file_whose_resident_bytes_change_is_found(tmp_path: Path) -> None:
    with scratch(tmp_path) as (disk, work):
        files = open_volumes(disk)[0].filesystem
        assert isinstance(files, NtfsFileSystem)
        entry = files.lookup("/boot.ini")
        place = int(files.extents(entry)["disk"][0])
        work.write(place, b"{")
        with pytest.raises(CorruptImageError, match=r"boot\.ini"):
            proved(disk, work, apart=apart_of(work, None))


def test_a_kept_file_that_is_left_out_is_found(tmp_path: Path) -> None:
    """Its clusters stand among those that nothing needs."""
    with scratch(tmp_path) as (disk, work):
        files = open_volumes(disk)[0].filesystem
        assert files is not None
        place = int(files.extents(files.lookup("/WINDOWS/system32/ntdll.dll"))["disk"][0])
        ranges = np.array([[place, place + 4096]], dtype=np.int64)
        with pytest.raises(CorruptImageError, match="ntdll"):
            proved(disk, LeftOutDisk(work, ranges), apart=apart_of(work, ranges))


def test_a_file_that_went_without_a_plan_is_found(tmp_path: Path) -> None:
    with scratch(tmp_path) as (disk, work):
        volume = open_volumes(work)[0]
        apply_changes(work, volume, [Remove("/boot.ini"), MakeFolder("/new")])
        with pytest.raises(CorruptImageError, match=r"/new wasn't there before|/boot\.ini is no longer there"):
            proved(disk, work, apart=apart_of(work, None))
        with pytest.raises(CorruptImageError, match="/new wasn't there before"):
            proved(disk, work, ("/boot.ini",), apart=apart_of(work, None))


def test_every_file_is_read_where_that_is_asked(tmp_path: Path) -> None:
    proof = byre_json("slim", CLEAN, "-o", tmp_path / "out.qcow2", "--verify")["proof"]
    assert proof["read"] == proof["compared"] > 100
    assert [(each["partition"], each["reader"], each["note"]) for each in proof["readers"]] == [
        (1, "libntfs-3g", None)
    ]
    assert proof["readers"][0]["names"] > proof["compared"] // 2


def test_a_dirty_volume_is_refused_with_what_to_do(tmp_path: Path) -> None:
    image = Path(shutil.copyfile(SPECIMEN, tmp_path / "it is dirty.qcow2"))
    byre("snapshot", "revert", image, "clean")
    with open_disk(image, writable=True) as disk:
        files = open_volumes(disk)[0].filesystem
        assert isinstance(files, NtfsFileSystem)
        place = files.mft.place(3)
        record = bytearray(disk.read(place, 1024))
        value = next(each.value for each in files.attributes(3) if each.type == 0x70)
        record[record.index(value) + 10] |= 1
        disk.write(place, bytes(record))  # type: ignore[attr-defined]
    before = image.read_bytes()
    for words in (("-o", tmp_path / "out.qcow2"), ("--in-place",)):
        said = byre_json("slim", image, *words, status=69)
        assert "marked dirty" in said["what"]
        assert f"Run byre run --keep '{image}': it starts on the controller that the guest knows" in said["hint"]
    assert image.read_bytes() == before and not (tmp_path / "out.qcow2").exists()
    assert "note: this would be refused now: the volume is marked dirty" in byre("slim", image, "--dry-run").stdout
    assert "would be refused now" in byre("slim", image, "--list").stderr
    assert "would be refused now" in byre_json("slim", image, "--dry-run")["notes"][0]


def test_a_report_is_never_named_as_the_result(tmp_path: Path) -> None:
    image = Path(shutil.copyfile(SPECIMEN, tmp_path / "s.qcow2"))
    (tmp_path / "link").symlink_to(tmp_path)
    out = tmp_path / "out.qcow2"
    byre("slim", image, "-o", out, "--report", tmp_path / "link" / "out.qcow2", status=64)
    assert not out.exists()


def test_a_report_is_never_written_over_another_file(tmp_path: Path) -> None:
    image = tmp_path / "precious.qcow2"
    image.write_bytes(b"precious")
    done = byre("slim", CLEAN, "--dry-run", "--report", image, status=73)
    assert "there already" in done.stderr and image.read_bytes() == b"precious"


def test_a_page_says_what_was_done_and_what_is_lost(tmp_path: Path) -> None:
    pages = [tmp_path / f"{name}.html" for name in ("plan", "refused", "done")]
    byre("slim", CLEAN, "-n", "--report", pages[0])
    byre("slim", CLEAN, "--drop", r"C:\WINDOWS\system32\comdlg32.dll", "-n", "--report", pages[1], status=1)
    byre("slim", CLEAN, "-o", tmp_path / "out.qcow2", "--report", pages[2])
    plan, refused, done = (page.read_text() for page in pages)
    assert "A plan, not carried out" in plan and "Before and after" not in plan
    assert "Windows makes the file anew at its next start" in plan
    assert "Not slimmed" in refused and refused.index("What needs it") < refused.index("What goes")
    assert "Slimmed" in done and "Before and after" in done and "on the host" in done


def test_the_source_and_a_folder_are_no_target_and_that_is_known_before_any_work(tmp_path: Path) -> None:
    image = Path(shutil.copyfile(SPECIMEN, tmp_path / "s.qcow2"))
    (tmp_path / "other.qcow2").symlink_to(image)
    for source, out in ((image, image), (f"{image}@clean", tmp_path / "other.qcow2")):
        said = byre_json("slim", source, "-o", out, "--force", "--recipe", "never.toml", status=64)
        assert said["what"] == "the target is the source itself"
    assert byre_json("slim", image, "-o", tmp_path, "--force", status=73)["what"] == "the target is a folder"
    assert image.read_bytes() == SPECIMEN.read_bytes()
