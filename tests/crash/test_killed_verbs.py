"""slim, mend, put, rm and reg killed at many moments, out of room, or failed by the disk: the image shows what it
showed or what was asked for, no half of a result stands under its name, and the next run does the work."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import byre as package
from builders.qemu import assert_sound
from byre.disks.opening import open_disk
from byre.filesystems.opening import open_volumes
from byre.filesystems.unneeded import FileId, hash_files
from byre.windows.registry import open_hive
from crash.cut_verbs import Cutter, cutter, moments
from oracles import run_tool

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
CUTS = int(os.environ.get("BYRE_CRASH_STATES", "16")) // 8
pytestmark = [pytest.mark.oracle, pytest.mark.slow]

Held = dict[FileId, object]
VERBS = {
    "slim": ("slim", "{}", "--profile", "lite"),
    "mend": ("mend", "{}", "portable"),
    "put": ("put", "{}", "{folder}/put.bin", r"C:\WINDOWS\put.bin"),
    "rm": ("rm", "{}", "-r", r"C:\WINDOWS\Prefetch", r"C:\pagefile.sys"),
    "set": ("reg", "{}", "set", r"HKLM\SYSTEM\CurrentControlSet\Services\intelppm", "Start", "4", "--type", "dword"),
    "import": ("reg", "{}", "import", "{folder}/in.reg"),
}


@pytest.fixture(scope="module")
def verbs() -> Iterator[Cutter]:
    with cutter() as found:
        yield found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "put.bin").write_bytes(b"put in" * 50_000)
    (tmp_path / "in.reg").write_text('REGEDIT4\n\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\Cut]\n"a"="b"\n')
    image = tmp_path / "s.qcow2"
    shutil.copyfile(SPECIMEN, image)
    run_tool("qemu-img", "snapshot", "-a", "clean", image)
    return image


def _words(name: str, image: Path) -> list[str]:
    return [word.format(image, folder=image.parent) for word in VERBS[name]]


def _holds(image: Path | str) -> Held:
    """What every file holds; of a hive, which says when it was written, every value."""
    with open_disk(image) as disk:
        held: Held = dict(hash_files(disk))
        for volume in open_volumes(disk):
            assert volume.filesystem is not None and not volume.filesystem.check().corruptions
            for name in ("SYSTEM", "SOFTWARE"):
                entry = volume.filesystem.lookup(f"/WINDOWS/system32/config/{name}")
                hive = open_hive(volume.filesystem.read(entry), path=name)
                held[volume.partition.index, entry.path, ""] = {path: key.values() for path, key in hive.walk()}
    return held


def _leftovers(folder: Path, known: set[str]) -> None:
    """Nothing but files that say what they are."""
    strange = [each.name for each in folder.iterdir() if each.name not in known]
    assert all((name.startswith(".") and ".byre-" in name) or name.startswith(".byre-") for name in strange), strange


@pytest.mark.parametrize("name", VERBS)
def test_a_killed_run_leaves_the_image_alone_and_no_half_of_a_result(
    name: str, verbs: Cutter, image: Path, tmp_path: Path
) -> None:
    base = image.read_bytes()
    out = tmp_path / "out.qcow2"
    whole = verbs.run(*_words(name, image), "-o", out)
    assert whole.status == 0, whole.error
    new = _holds(out)
    out.unlink()
    known = {each.name for each in tmp_path.iterdir()} | {"out.qcow2"}
    for cut in moments(whole.events, CUTS):
        killed = verbs.run(*_words(name, image), "-o", out, cut=cut)
        assert killed.status in (-9, 0)
        assert image.read_bytes() == base
        _leftovers(tmp_path, known)
        if out.exists():
            assert_sound(out)
            assert _holds(out) == new
            out.unlink()
    again = verbs.run(*_words(name, image), "-o", out)
    assert again.status == 0, again.error
    assert _holds(out) == new
    assert_sound(out)


@pytest.mark.parametrize("name", VERBS)
def test_a_run_killed_in_place_leaves_the_old_state_or_the_new(
    name: str, verbs: Cutter, image: Path, tmp_path: Path
) -> None:
    base = image.read_bytes()
    old = _holds(image)
    whole = verbs.run(*_words(name, image), "--in-place", "--keep-as", "old")
    assert whole.status == 0, whole.error
    new = _holds(image)
    assert old != new
    known = {each.name for each in tmp_path.iterdir()}
    seen = set()
    for cut in moments(whole.events, CUTS):
        image.write_bytes(base)
        killed = verbs.run(*_words(name, image), "--in-place", "--keep-as", "old", cut=cut)
        assert killed.status in (-9, 0)
        assert_sound(image, leaks=True)
        now = _holds(image)
        assert now in (old, new), f"cut {cut}"
        seen.add(now == new)
        if now == new:
            assert _holds(f"{image}@old") == old
        _leftovers(tmp_path, known)
    assert seen == {False, True}
    image.write_bytes(base)
    verbs.run(*_words(name, image), "--in-place", "--keep-as", "old", cut=whole.events * 2 // 3)
    again = verbs.run(*_words(name, image), "--in-place", "--keep-as", "second time")
    assert again.status == 0, again.error
    assert _holds(image) == new


SAID = {"ENOSPC": "No space left on device", "EIO": "Input/output error"}


@pytest.mark.parametrize(("name", "fault"), [("slim", "ENOSPC"), ("put", "EIO"), ("set", "ENOSPC")])
def test_a_disk_that_fails_to_write_leaves_the_image_alone(
    name: str, fault: str, verbs: Cutter, image: Path, tmp_path: Path
) -> None:
    base = image.read_bytes()
    out = tmp_path / "out.qcow2"
    known = {each.name for each in tmp_path.iterdir()}
    whole = verbs.run(*_words(name, image), "-o", out)
    for cut in moments(whole.events, CUTS):
        out.unlink(missing_ok=True)
        failed = verbs.run(*_words(name, image), "-o", out, "--json", cut=cut, fault=fault)
        if failed.status == 0:  # it was there by then, under its name
            assert cut > whole.events - 3
            assert_sound(out)
            continue
        assert failed.status == 74 and failed.payload["error"] == "io" and SAID[fault] in failed.payload["message"]
        assert {each.name for each in tmp_path.iterdir()} == known
        assert image.read_bytes() == base


@pytest.mark.parametrize(("name", "fault"), [("rm", "ENOSPC"), ("set", "EIO")])
def test_a_disk_that_fails_in_place_leaves_one_state_and_tells_of_the_snapshot(
    name: str, fault: str, verbs: Cutter, image: Path, tmp_path: Path
) -> None:
    base, old = image.read_bytes(), _holds(image)
    known = {each.name for each in tmp_path.iterdir()}
    whole = verbs.run(*_words(name, image), "--in-place", "--keep-as", "old")
    new = _holds(image)
    for cut in moments(whole.events, CUTS):
        image.write_bytes(base)
        failed = verbs.run(*_words(name, image), "--in-place", "--keep-as", "old", "--json", cut=cut, fault=fault)
        assert_sound(image, leaks=True)
        assert {each.name for each in tmp_path.iterdir()} == known
        now, kept = _holds(image), "old" in verbs.run("snapshot", "list", image).out
        if failed.status == 0:  # all but giving back what the new state doesn't need
            assert now == new and cut == whole.events
            continue
        assert failed.status == 74 and failed.payload["error"] == "io" and SAID[fault] in failed.payload["message"]
        assert now == old or cut == whole.events - 1, f"cut {cut}"  # the last flush: it can't be told what is there
        assert not kept or "'old'" in failed.payload["hint"] or now == old
        if kept:
            assert _holds(f"{image}@old") == old


def test_reads_that_fail_are_errors_and_write_nothing(verbs: Cutter, image: Path, tmp_path: Path) -> None:
    base = image.read_bytes()
    known = {each.name for each in tmp_path.iterdir()}
    whole = verbs.run(*_words("slim", image), "-o", tmp_path / "out.qcow2", fault="read")
    (tmp_path / "out.qcow2").unlink()
    for cut in moments(whole.events, CUTS):
        failed = verbs.run(*_words("slim", image), "-o", tmp_path / "out.qcow2", "--json", cut=cut, fault="read")
        if failed.status == 0:  # it read less often this time: threads share the work
            assert failed.events < cut
            (tmp_path / "out.qcow2").unlink()
            continue
        assert failed.status in (65, 69, 74), failed.error
        assert failed.payload["what"]
        assert {each.name for each in tmp_path.iterdir()} == known
    assert image.read_bytes() == base


@pytest.mark.parametrize("name", ["slim", "put"])
@pytest.mark.parametrize("size", [300_000])
def test_a_limit_on_files_is_an_error(name: str, size: int, verbs: Cutter, image: Path, tmp_path: Path) -> None:
    base = image.read_bytes()
    known = {each.name for each in tmp_path.iterdir()}
    out = tmp_path / "out.qcow2"
    failed = verbs.run(*_words(name, image), "-o", out, "--json", fault=f"FSIZE{size}")
    assert failed.status == 74 and "File too large" in failed.payload["message"]
    assert {each.name for each in tmp_path.iterdir()} == known
    assert image.read_bytes() == base


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1200k", "none", folder]).returncode:
        pytest.skip("a small file system can't be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("name", ["slim", "put", "rm"])
def test_a_full_disk_leaves_the_image_and_nothing_else(
    name: str, verbs: Cutter, image: Path, small_disk: Path
) -> None:
    base, old = image.read_bytes(), _holds(image)
    known = [each.name for each in small_disk.iterdir()]
    failed = verbs.run(*_words(name, image), "-o", small_disk / "out.raw", "--json")
    assert failed.status in (0, 74)
    if failed.status:
        assert "No space left on device" in failed.payload["message"] and failed.payload["hint"]
        assert [each.name for each in small_disk.iterdir()] == known
    assert image.read_bytes() == base
    shutil.rmtree(small_disk / "x", ignore_errors=True)
    for each in small_disk.iterdir():
        each.unlink()
    tight = small_disk / "s.qcow2"
    shutil.copyfile(image, tight)
    words = [word.replace(str(small_disk), str(image.parent)) for word in _words(name, tight)]
    words[1] = str(tight)
    failed = verbs.run(*words, "--in-place", "--keep-as", "old", "--json")
    assert failed.status in (0, 74)
    assert_sound(tight, leaks=True)
    if failed.status:
        assert _holds(tight) == old
        assert [each.name for each in small_disk.iterdir()] == ["s.qcow2"]
