"""put, rm and reg set, delete, import, as a user tries them; judged by what the other verbs then see."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import tempfile
from pathlib import Path

import pytest

import byre as package
from builders.qemu import assert_sound
from builders.small_guests import fat_guest
from byre.cli.changing import _unused, scratch_folder
from byre.cli.put import _content
from byre.disks.opening import open_disk
from byre.errors import StorageError
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


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (r"C:\CON", 64),
        (r"C:\WINDOWS\aux.txt", 64),
        (r"C:\com1.tar.gz", 64),
        ("C:\\LPT\u00b2", 64),
        (r"C:\NUL .x", 64),
        (r"C:\stream:name", 64),
        (r"C:\question?", 64),
        (r"C:\dot.", 64),
        ("C:\\" + "y" * 256, 64),
        (r"C:\$Extend\x", 64),
        (r"C:\$MFT", 64),
        (r"C:\boot.ini\x", 64),
        (r"C:\Nowhere\x", 66),
    ],
)
def test_what_can_t_be_put_is_refused_with_and_without_dry_run(
    path: str, status: int, image: Path, tmp_path: Path
) -> None:
    out, source = tmp_path / "out.qcow2", tmp_path / "file"
    source.write_bytes(b"x")
    byre("put", image, source, path, "-o", out, status=status)
    assert not out.exists()
    byre("put", image, source, path, "--dry-run", status=status)


def test_names_that_only_look_like_devices_are_taken(image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in ("console", "com10", "xcon", "nul-x", "lpt0.txt", "auxiliary.c"):
        (folder / name).write_bytes(b"x")
    said = byre("put", image, folder, r"C:\Tools", "-o", tmp_path / "out.qcow2").stdout
    assert said.startswith("made 1 folder; wrote 6 files: ")
    said = byre("rm", tmp_path / "out.qcow2", r"C:\Tools", "-r", "--in-place").stdout
    assert said.startswith("removed 7 files and folders, ")


def test_a_dry_run_says_that_there_is_no_room(image: Path, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(300 << 20)
    for words in (("--dry-run",), ("-o", tmp_path / "out.qcow2")):
        said = byre("put", image, large, r"C:\large", *words, status=69).stderr
        assert "has no room" in said and "bytes free" in said
    small, fat = tmp_path / "small", fat_guest(tmp_path / "fat.img", {"/WINDOWS/x": b"x"}, bits=16, size=16 << 20)
    small.write_bytes(b"x")
    assert "no room" in byre("put", fat, large, r"C:\large", "--partition", "1", "--dry-run", status=69).stderr
    byre("put", fat, small, r"C:\aux", "--partition", "1", "--dry-run", status=64)
    byre("put", fat, small, r"C:\nowhere\x", "--partition", "1", "--dry-run", status=66)
    byre("put", fat, small, r"C:\x", "--partition", "1", "--dry-run")


def test_rm_of_what_must_stay_is_refused_by_a_dry_run_too(image: Path) -> None:
    byre("rm", image, "C:\\", "-r", "--dry-run", status=64)
    byre("rm", image, r"C:\$Extend", "-r", "--dry-run", status=64)


def test_a_link_is_named_and_a_source_that_changes_ends_the_verb(image: Path, tmp_path: Path) -> None:
    source, link = tmp_path / "file", tmp_path / "link"
    source.write_bytes(b"x" * 4096)
    link.symlink_to(source)
    assert "what it points to" in byre("put", image, link, r"C:\x", "-n", status=64).stderr
    byre("put", image, "", r"C:\x", "-n", status=64)
    content = _content(source)
    assert content.read(0, 4096) == b"x" * 4096
    source.write_bytes(b"y" * 4096)
    os.utime(source, ns=(0, 7))
    with pytest.raises(StorageError):
        content.read(0, 1)
    source.write_bytes(b"y" * 8192)
    with pytest.raises(StorageError):
        content.read(0, 4096)


def test_a_dry_run_of_reg_names_every_edit(image: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.reg"
    top = "HKEY_LOCAL_MACHINE\\SOFTWARE"
    file.write_text(f'REGEDIT4\n[{top}\\New]\n"a"="b"\n"c"=hex(99):00\n"d"=-\n[-{top}\\Old]\n')
    said = byre("reg", image, "import", file, "--dry-run").stdout.splitlines()
    new = "HKEY_LOCAL_MACHINE\\SOFTWARE\\New"
    assert said[:5] == [
        f"would make {new}",
        f"would set {new}: a, SZ, 4 bytes",
        f"would set {new}: c, type 0x99, 1 bytes",
        f"would delete {new}: d, if it is there",
        "would delete HKEY_LOCAL_MACHINE\\SOFTWARE\\Old and all below it, if it is there",
    ]
    assert len(byre_json("reg", image, "import", file, "--dry-run")["edits"]) == 5
    assert "edits" not in byre_json("rm", image, r"C:\pagefile.sys", "--dry-run")


@pytest.mark.parametrize("name", ["-dash", "it's $HOME", "with 'quotes' and \\"])
def test_the_command_that_goes_back_is_one_for_a_shell(name: str, image: Path) -> None:
    before = image_content(image)
    said = byre("rm", image, r"C:\pagefile.sys", "--in-place", f"--keep-as={name}").stderr
    words = shlex.split(said.split("go back with: ")[1])
    assert words[0] == "byre" and image_content(image) != before
    byre(*words[1:])
    assert image_content(image) == before


def test_two_changes_within_a_second_have_snapshots_of_their_own(image: Path) -> None:
    with open_disk(image) as disk:
        taken = disk.describe().snapshots
    assert _unused("other", taken) == "other"
    assert _unused("clean", taken) == "clean (2)"


def image_content(image: Path) -> str:
    with open_disk(image) as disk:
        digest = hashlib.sha256()
        for offset in range(0, disk.size, 1 << 20):
            digest.update(disk.read(offset, min(1 << 20, disk.size - offset)))
        return digest.hexdigest()
