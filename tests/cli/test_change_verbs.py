"""put, rm and reg set, delete, import, as a user tries them; judged by what the other verbs then see."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest

import byre as package
from builders.qemu import assert_sound
from byre.cli.changing import scratch_folder
from oracles import run_tool
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
INTELPPM = r"HKLM\SYSTEM\CurrentControlSet\Services\intelppm"
pytestmark = pytest.mark.oracle


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return Path(shutil.copyfile(SPECIMEN, tmp_path / "s.qcow2"))


def _start(image: Path | str) -> int:
    values = byre_json("reg", image, INTELPPM)["values"]
    return next(int(row["data"]) for row in values if row["name"] == "Start")


def test_put_in_place_keeps_the_state_before(image: Path, tmp_path: Path) -> None:
    source = tmp_path / "hello.txt"
    source.write_bytes(b"hello\n" * 5000)
    said = byre_json("put", image, source, r"C:\WINDOWS", "--in-place", "--keep-as", "untouched")
    assert said["snapshot"] == "untouched" and said["written"] == ["/WINDOWS/hello.txt"]
    assert "seccomp" in said["confined"]
    assert byre("cat", image, r"c:\windows\HELLO.TXT").stdout == "hello\n" * 5000
    assert byre("stat", f"{image}@untouched", r"C:\WINDOWS\hello.txt", status=66).returncode == 66
    assert_sound(image)
    assert [row["name"] for row in byre_json("info", image)["snapshots"]] == ["clean", "infected", "untouched"]
    byre("snapshot", "revert", image, "untouched")
    assert byre("stat", image, r"C:\WINDOWS\hello.txt", status=66).returncode == 66


def test_put_a_folder_into_a_new_image_of_another_format(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tools"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_bytes(b"a")
    (folder / "deep" / "b.bin").write_bytes(bytes(100_000))
    (folder / "link").symlink_to("/etc/passwd")
    before = image.read_bytes()
    out = tmp_path / "out.vdi"
    byre("put", image, folder, r"C:\New\Tools", "--parents", "-o", out)
    assert image.read_bytes() == before
    names = set(byre("find", out, r"C:\New\**").stdout.split())
    assert names >= {"/New/Tools/a.txt", "/New/Tools/deep", "/New/Tools/deep/b.bin"}
    assert not any("link" in name for name in names)
    run_tool("qemu-img", "check", "-f", "vdi", out)


def test_rm_takes_what_matches_and_nothing_else(image: Path, tmp_path: Path) -> None:
    planned = byre_json("rm", image, r"C:\WINDOWS\Prefetch\*", "--dry-run")["changes"]
    out = tmp_path / "out.qcow2"
    said = byre_json("rm", image, r"C:\WINDOWS\Prefetch\*", r"C:\pagefile.sys", "-o", out)
    assert len(said["removed"]) == len(planned) + 1
    (volume,) = byre_json("diff", image, out, "--all", status=1)["volumes"]
    gone = {row["path"] for row in volume["files"] if row["kind"] == "removed"}
    assert gone == set(said["removed"])


def test_a_folder_needs_to_be_meant(image: Path, tmp_path: Path) -> None:
    done = byre("rm", image, r"C:\WINDOWS\Prefetch", "-o", tmp_path / "out.qcow2", status=64)
    assert "-r" in done.stderr and not (tmp_path / "out.qcow2").exists()
    byre("rm", image, r"C:\WINDOWS\Prefetch", "-r", "-o", tmp_path / "out.qcow2")


@pytest.mark.parametrize(
    "words",
    [
        ("rm", r"C:\WINDOWS\system32\config\SAM"),
        ("rm", r"C:\windows\SYSTEM32\winlogon.exe"),
        ("reg", "set", r"HKLM\SAM\SAM\Domains\Account", "V", "01", "--type", "binary"),
        ("reg", "delete", r"HKLM\SECURITY\Policy"),
    ],
)
def test_what_guards_a_logon_is_refused(words: tuple[str, ...], image: Path, tmp_path: Path) -> None:
    done = byre(words[0], image, *words[1:], "-o", tmp_path / "out.qcow2", status=69)
    assert "doesn't change" in done.stderr and not (tmp_path / "out.qcow2").exists()


def test_where_the_result_goes_must_be_said(image: Path, tmp_path: Path) -> None:
    assert "-o OUT" in byre("rm", image, r"C:\pagefile.sys", status=64).stderr
    (tmp_path / "there.qcow2").write_bytes(b"precious")
    byre("rm", image, r"C:\pagefile.sys", "-o", tmp_path / "there.qcow2", status=73)
    assert (tmp_path / "there.qcow2").read_bytes() == b"precious"


def test_a_snapshots_name_that_is_taken_is_refused_before_any_work(image: Path) -> None:
    before = image.read_bytes()
    done = byre("rm", image, r"C:\no such file", "--in-place", "--keep-as", "clean", status=73)
    assert "'clean'" in done.stderr and image.read_bytes() == before


def test_a_dry_run_needs_no_room_beside_the_image(tmp_path: Path) -> None:
    assert scratch_folder(str(tmp_path / "x.qcow2"), None) == str(tmp_path)
    for nowhere in ("https://example.org/images/x.qcow2", tmp_path / "missing" / "x.qcow2"):
        assert scratch_folder(str(nowhere), None) == tempfile.gettempdir()
    assert scratch_folder("https://example.org/x.qcow2", str(tmp_path / "out.qcow2")) == str(tmp_path)


def test_formats_without_snapshots_are_not_changed_in_place(image: Path, tmp_path: Path) -> None:
    raw = tmp_path / "s.raw"
    byre("convert", image, raw)
    before = raw.stat().st_mtime_ns
    assert "-o" in byre("rm", raw, r"C:\pagefile.sys", "--in-place", status=69).stderr
    assert raw.stat().st_mtime_ns == before


def test_reg_set_and_delete_in_place(image: Path) -> None:
    assert _start(image) == 1
    byre("reg", image, "set", INTELPPM, "start", "4", "--type", "dword", "--in-place", "--keep-as", "one")
    byre("reg", image, "set", r"HKLM\SOFTWARE\Acme\New", "@", "text", "--in-place", "--keep-as", "two")
    byre("reg", image, "delete", r"HKLM\SOFTWARE\Acme\New", "@", "--in-place", "--keep-as", "three")
    assert _start(image) == 4 and _start(f"{image}@one") == 1
    assert byre_json("reg", image, r"HKLM\SOFTWARE\Acme\New")["values"] == []
    assert_sound(image)


def test_an_import_does_what_the_export_said(image: Path, tmp_path: Path) -> None:
    exported = tmp_path / "atapi.reg"
    key = r"HKLM\SYSTEM\CurrentControlSet\Services\atapi"
    byre("reg", image, key, "--format", "reg", "-o", exported)
    out = tmp_path / "out.qcow2"
    text = exported.read_bytes().decode("utf-16").replace("\\atapi]", "\\atapi-copy]")
    again = tmp_path / "copy.reg"
    again.write_bytes(text.replace("[HKEY", f"[-{INTELPPM}]\r\n\r\n[HKEY", 1).encode("utf-16"))
    byre("reg", image, "import", again, "-o", out)
    copied = byre_json("reg", out, key + "-copy")["values"]
    assert copied == byre_json("reg", image, key)["values"] and copied
    byre("reg", out, INTELPPM, status=66)


def test_a_bad_line_of_an_import_is_named(image: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.reg"
    bad.write_text('REGEDIT4\n\n[HKEY_LOCAL_MACHINE\\SOFTWARE\\X]\n"a"=nonsense\n')
    done = byre("reg", image, "import", bad, "-o", tmp_path / "out.qcow2", status=64)
    assert "line 4" in done.stderr and not (tmp_path / "out.qcow2").exists()
