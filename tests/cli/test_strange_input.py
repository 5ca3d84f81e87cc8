"""What a stranger hands to the verbs: odd names, things that are no files, volumes of which a part can't be read."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import byre as package
from byre.cli.audit_files import publish
from byre.cli.main import main
from byre.cli.terminal import TerminalPrinter
from byre.disks.opening import open_disk
from byre.errors import ExistsError, StorageError, UnsupportedError
from byre.filesystems import open_volumes
from byre.machine.qemu.command import _as_json
from oracles import run_tool
from programs import byre

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"


def failure(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, Any]:
    """The error object of a run; its exit status is what the object says."""
    status = main([*map(str, words), "--json"])
    told = capsys.readouterr().out
    # A list of JSON lines has begun before it fails: its last line is the error.
    error: dict[str, Any] = json.loads(told if told.startswith("{\n") else told.splitlines()[-1])
    assert (error["schema"], error["exit_status"]) == ("byre/error/1", status)
    return error


@pytest.mark.parametrize("words", [["check"], ["check", "--files"], ["info"], ["known", "import"]])
def test_a_name_that_is_not_utf8_is_a_name_like_others(words: list[str], tmp_path: Path) -> None:
    image = os.fsencode(tmp_path) + b"/n\xff\xfe.qcow2"
    shutil.copy(SPECIMEN, os.fsdecode(image))
    if words[0] == "known":
        Path(os.fsdecode(image)).write_text("d41d8cd98f00b204e9800998ecf8427e\n")
        words = [*words, "--db", str(tmp_path / "known.sqlite")]
    done = byre(*words, os.fsdecode(image), "--json")
    assert json.loads(done.stdout)["schema"].startswith(f"byre/{words[0]}")


@pytest.mark.parametrize(
    "name", ["nbd://host/export", 'json:{"driver":"qcow2"}', "ssh://me:secret@host/x", "rbd:a/b"]
)
@pytest.mark.parametrize("verb", ["info", "check", "ls"])
def test_names_of_qemus_protocols_are_refused_by_name(
    verb: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = failure(capsys, verb, name)
    assert (error["error"], error["what"].split()[0]) == ("unsupported", name.partition(":")[0] + ":")
    assert "secret" not in json.dumps(error)


def test_a_file_that_is_called_like_a_protocol_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("nbd:disk").write_bytes(bytes(512))
    assert main(["info", "nbd:disk", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["virtual_size"] == 512


def test_an_empty_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "info", "")["what"] == "the name of the image is empty"


def test_a_folder_is_called_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "info", tmp_path)["what"] == "is a folder, not an image"
    assert "no UTM bundle" in failure(capsys, "import", tmp_path)["what"]


def test_a_list_of_hashes_is_read_from_plain_files_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for source in (pipe, Path("/dev/zero"), tmp_path):
        error = failure(capsys, "known", "import", source, "--db", tmp_path / "known.sqlite")
        assert (error["error"], error["what"]) == ("io", "isn't a plain file")


def test_a_server_that_refuses_says_so_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    error = failure(capsys, "info", "http://127.0.0.1:1/x.qcow2?token=secret")
    assert error["what"] == "the server can't be read from: Connection refused"
    assert "secret" not in json.dumps(error)


def test_an_l1_table_at_offset_zero_has_no_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "x.qcow2"
    data = bytearray(SPECIMEN.read_bytes())
    data[40:48] = bytes(8)
    image.write_bytes(data)
    assert failure(capsys, "read", image, "0", "512")["what"] == "the L1 table has entries but no place"


def test_a_map_that_breaks_off_is_whole_json_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "x.qcow2"
    data = bytearray(SPECIMEN.read_bytes())
    l1 = int.from_bytes(data[40:48], "big")
    l2 = int.from_bytes(data[l1 : l1 + 8], "big") & 0x00FFFFFFFFFFFE00
    data[l2 + 8 * 100 : l2 + 8 * 101] = (0x8000000000008200).to_bytes(8, "big")
    image.write_bytes(data)
    assert main(["map", str(image), "--json"]) == 65
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["error"]["error"], told["error"]["exit_status"]) == ("byre/map/1", "corrupt", 65)


@pytest.fixture
def beheaded(tmp_path: Path) -> Path:
    """The specimen with the first 64 records of its MFT overwritten with noise that is no record: the root too."""
    image = tmp_path / "beheaded.raw"
    assert main(["convert", str(SPECIMEN), str(image)]) == 0
    with open_disk(str(SPECIMEN)) as disk:
        (volume,) = open_volumes(disk)
        mft: Any = volume.filesystem
        place = mft.mft.place(5)
    with image.open("r+b") as file:
        file.seek(place)
        file.write(bytes(1024))
        file.seek(place + (24 - 5) * 1024)
        file.write(b"\xee" * 1024 * 2000)
    return image


@pytest.mark.parametrize("words", [["ls"], ["stat", "/"], ["tree"], ["find"], ["hash"], ["du"], ["cat", "/boot.ini"]])
def test_a_root_that_cannot_be_read_is_no_empty_folder(
    words: list[str], beheaded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    error = failure(capsys, words[0], beheaded, *words[1:])
    assert (error["error"], error["what"]) == ("corrupt", "the root folder can't be read: its MFT record is damaged")


def test_inspect_says_where_it_could_not_look(beheaded: Path) -> None:
    told = byre("inspect", beheaded, status=1).stdout
    assert "no installed Windows or ReactOS found; partition 1 is damaged" in told


@pytest.fixture
def torn(tmp_path: Path) -> Path:
    """The specimen with one torn record in its MFT: the name of a file is lost, and nobody knows which."""
    image = tmp_path / "torn.raw"
    assert main(["convert", str(SPECIMEN), str(image)]) == 0
    with open_disk(str(SPECIMEN)) as disk:
        (volume,) = open_volumes(disk)
        files: Any = volume.filesystem
        place = files.mft.place(files.lookup("/WINDOWS/system32/hal.dll").id & 0xFFFFFFFFFFFF)
    with image.open("r+b") as file:
        file.seek(place)
        file.write(b"BAAD")
    return image


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["tree", "/WINDOWS", "--depth", "1"], 1),
        (["ls", "/WINDOWS"], 1),
        (["ls", "/WINDOWS/*.exe"], 1),
        (["du"], 1),
        (["inspect"], 1),
        (["hash", "/WINDOWS/*.exe"], 1),
        (["hash", "/WINDOWS/inf"], 1),
        (["cp", "/WINDOWS/inf", "OUT"], 1),
        (["find", "*.exe"], 2),
        (["find", "*.nothing"], 2),
        (["ls", "/boot.ini"], 0),
        (["hash", "/boot.ini"], 0),
        (["cp", "/boot.ini", "OUT"], 0),
    ],
)
def test_what_may_lack_names_is_not_called_whole(
    words: list[str], status: int, torn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    verb, *rest = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    assert main([verb, str(torn), *rest]) == status
    told = capsys.readouterr()
    if status:
        assert "BAAD" in (told.out if verb == "inspect" else told.err)


@pytest.mark.parametrize("words", [["ls", "/WINDOWS"], ["du"], ["inspect"]])
def test_an_object_says_whether_it_is_complete(
    words: list[str], torn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    for image, complete in ((torn, False), (SPECIMEN, True)):
        assert main([words[0], str(image), *words[1:], "--json"]) == int(not complete)
        assert json.loads(capsys.readouterr().out)["complete"] is complete


def test_a_name_that_is_not_there_may_be_hidden_by_damage(torn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    for path in ("/WINDOWS/system32/hal.dll", "/WINDOWS/system32/hal.*"):
        error = failure(capsys, "ls", torn, path)
        assert (error["error"], error["hint"]) == (
            "missing",
            "A part of the volume can't be read: it may be there all the same.",
        )
    assert failure(capsys, "ls", SPECIMEN, "/nowhere")["hint"] is None


def test_a_diff_with_a_volume_that_lacks_names_is_neither_same_nor_different(
    torn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    capsys.readouterr()
    assert main(["diff", str(SPECIMEN), str(torn), "--json", "--html", str(page)]) == 2
    told = json.loads(capsys.readouterr().out)
    assert not told["complete"]
    assert "torn.raw, partition 1: not all files can be listed" in told["problems"][0]["message"]
    assert "Not all could be compared" in page.read_text()
    # Where both take the same bytes from the same place, nothing can differ that isn't listed.
    assert main(["diff", str(torn), str(torn)]) == 0


@pytest.mark.oracle
def test_brackets_in_a_name_are_letters(tmp_path: Path) -> None:
    """Windows' web cache calls its files "logo[1].gif"."""
    image = tmp_path / "fat.img"
    image.write_bytes(bytes(1 << 20))
    run_tool("mkfs.fat", image)
    for name in ("logo[1].gif", "logo1.gif"):
        (tmp_path / name).write_bytes(name.encode())
        run_tool("mcopy", "-i", image, tmp_path / name, f"::/{name}")
    for arguments in (["ls", "-1"], ["find"]):
        verb, *options = arguments
        pattern = "/logo[1].gif" if verb == "ls" else "*[1]*"
        assert byre(verb, image, pattern, *options).stdout.split("/")[-1] == "logo[1].gif\n"
    assert byre("cp", image, "/logo[1].gif", tmp_path / "out").returncode == 0
    assert (tmp_path / "out" / "logo[1].gif").read_bytes() == b"logo[1].gif"


def test_an_error_in_a_list_of_json_lines_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["find", str(SPECIMEN), "--in", "/nowhere", "--json"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert status == 66
    assert [line["schema"] for line in lines] == ["byre/find/1", "byre/error/1"]


@pytest.mark.parametrize("verb", ["create", "rebase"])
def test_a_backing_image_elsewhere_is_said_to_need_leave(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.raw").write_bytes(bytes(1 << 20))
    (tmp_path / "sub").mkdir()
    image = tmp_path / "sub" / "x.qcow2"
    if verb == "rebase":
        assert main(["create", str(image), "1M"]) == 0
    assert main([verb, str(image), "-b", "../base.raw", "-F", "raw"]) == 0
    assert f"lies outside the image's folder: to read it takes --allow-path {tmp_path}" in capsys.readouterr().err
    assert main(["read", str(image), "0", "512", "--allow-path", str(tmp_path)]) == 0


@pytest.mark.parametrize("words", [["read", str(SPECIMEN), "0", "512"], ["cat", str(SPECIMEN), "/boot.ini"]])
def test_bytes_for_a_stdout_that_is_closed_are_an_error_and_no_bug(words: list[str]) -> None:
    command = shlex.join([sys.executable, "-m", "byre", *words])
    done = subprocess.run(["sh", "-c", f"{command} >&-"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (74, "byre: there is no stdout to write to: it is closed.\n")


def test_a_huge_file_is_not_put_into_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.setattr("byre.cli.cat.MAX_JSON", 100)
    error = failure(capsys, "cat", SPECIMEN, "/boot.ini")
    assert (error["error"], error["found"]) == ("usage", 217)


def test_a_list_of_hashes_that_has_no_room_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("d41d8cd98f00b204e9800998ecf8427e\n")
    words = [sys.executable, "-m", "byre", "known", "import", tmp_path / "list.txt", "--db", tmp_path / "k.db"]
    limit = f"ulimit -f 1; trap '' XFSZ; exec {shlex.join(map(str, words))}"
    done = subprocess.run(["sh", "-c", limit], capture_output=True, text=True, check=False)
    assert done.returncode == 74, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


def test_a_report_is_written_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*names: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    publish(tmp_path / "r.html", "text")
    assert (tmp_path / "r.html").read_text() == "text"
    with pytest.raises(ExistsError):
        publish(tmp_path / "r.html", "other")
    assert [path.name for path in tmp_path.iterdir()] == ["r.html"]
    with pytest.raises(StorageError) as caught:
        publish(tmp_path / "gone" / "r.html", "text")
    assert caught.value.path == str(tmp_path / "gone" / "r.html")


def test_put_takes_files_and_folders_only_and_tells_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("hello")
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    error = failure(capsys, "put", SPECIMEN, folder / "pipe", "/x", "--dry-run")
    assert (error["error"], error["what"]) == ("io", "is neither a file nor a folder")
    assert main(["put", str(SPECIMEN), str(folder), "/x", "--dry-run"]) == 0
    told = capsys.readouterr()
    assert "passwd" not in told.out and "/x/file" in told.out
    assert f"{folder / 'link'} is a link: left out" in told.err
    assert f"{folder / 'pipe'} is neither a file nor a folder: left out" in told.err


def test_json_on_a_terminal_has_nothing_that_a_terminal_obeys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\x1b[31m\x7f\x9b31m\u202egpj.exe"
    image = tmp_path / f"{name}.raw"
    image.write_bytes(bytes(512))
    assert main(["info", str(image), "--json"]) == 0
    told = capsys.readouterr().out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", told)
    assert json.loads(told)["image"] == str(image)


def test_a_terminal_without_a_width_still_shows_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    shown = io.StringIO()
    TerminalPrinter(shown).print("hello")
    assert shown.getvalue() == "hello\n"


def test_an_import_that_fails_leaves_no_empty_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no digest here")
    assert failure(capsys, "known", "import", tmp_path / "text", "--db", tmp_path / "k.db")["error"] == "corrupt"
    assert [path.name for path in tmp_path.iterdir()] == ["text"]


@pytest.mark.parametrize("name", ["a@b", "two\nlines", "\x1b[31mred", "-x", "\udcff\udcfe", "\N{FOX FACE}"])
def test_a_snapshot_of_any_name_is_found_by_it(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "x.qcow2"
    shutil.copy(SPECIMEN, image)
    assert main(["snapshot", "create", str(image), "--", name]) == 0
    assert main(["read", f"{image}@{name}", "0", "512", "--json"]) == 0
    assert main(["snapshot", "rename", str(image), "--", name, "plain"]) == 0
    assert main(["snapshot", "delete", str(image), "plain"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_negative_depth_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "tree", SPECIMEN, "--depth", "-1")["error"] == "usage"


def test_qemu_is_given_no_name_that_it_cannot_read() -> None:
    with pytest.raises(UnsupportedError) as caught:
        _as_json({"filename": "/x/n\udcff.qcow2"})
    assert caught.value.what == "QEMU takes only file names in UTF-8"
