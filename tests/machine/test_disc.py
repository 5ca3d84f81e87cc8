"""A shared folder becomes a disc that others read: our own reader, xorriso and 7-Zip."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from byre.disks.opening import open_disk
from byre.errors import MissingError, UnsupportedError, UsageError
from byre.filesystems.opening import open_filesystem
from byre.machine import disc as module
from byre.machine.disc import write_disc
from oracles import run_tool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "share"
    (root / "Deep folder" / "deeper" / "deepest").mkdir(parents=True)
    (root / "readme.txt").write_bytes(b"hello\r\n")
    (root / "Grüße – a name longer than eight.and.three.txt").write_bytes(b"x" * 5000)
    (root / "empty").write_bytes(b"")
    (root / "Deep folder" / "deeper" / "deepest" / "data.bin").write_bytes(random.Random(1).randbytes(70_000))
    for number in range(120):
        (root / "Deep folder" / f"a rather long file name, number {number}.txt").write_text(str(number))
    return root


def test_our_own_reader_finds_every_file_with_its_bytes(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "share.iso"
    done = write_disc(folder, image)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert (done.files, done.skipped) == (len(files), 0)
    with open_disk(image, format="raw") as disk:
        read = open_filesystem(disk)
        for path in files:
            entry = read.lookup("/" + str(path.relative_to(folder)))
            assert read.read(entry) == path.read_bytes()


@pytest.mark.oracle
def test_7zip_extracts_what_was_shared(folder: Path, tmp_path: Path) -> None:
    image, out = tmp_path / "share.iso", tmp_path / "out"
    write_disc(folder, image)
    run_tool("7z", "x", "-y", f"-o{out}", image)
    for path in folder.rglob("*"):
        if path.is_file():
            assert (out / path.relative_to(folder)).read_bytes() == path.read_bytes()


@pytest.mark.oracle
def test_xorriso_reads_the_short_names(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "share.iso"
    write_disc(folder, image)
    listed = run_tool("xorriso", "-read_fs", "norock", "-indev", image, "-find", "/", "-type", "f")
    names = {line.strip("'").rpartition("/")[2].lower() for line in listed.splitlines() if line.startswith("'")}
    assert {"readme.txt", "data.bin"} <= names
    assert len(names) == 124, "every short name is its own"


def test_links_and_pipes_stay_out(tmp_path: Path) -> None:
    root = tmp_path / "share"
    root.mkdir()
    (root / "out").symlink_to("/etc/passwd")
    (root / "up").symlink_to("..")
    os.mkfifo(root / "pipe")
    done = write_disc(root, tmp_path / "share.iso")
    assert (done.files, done.skipped) == (0, 3)
    assert b"root:" not in (tmp_path / "share.iso").read_bytes()


def test_what_cannot_be_shared_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "share.iso"
    with pytest.raises(MissingError):
        write_disc(tmp_path / "none", image)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError):
        write_disc(tmp_path / "file", image)
    root = tmp_path / "share"
    root.mkdir()
    (root / "big").write_bytes(b"12345")
    monkeypatch.setattr(module, "MAX_FILE", 4)
    with pytest.raises(UnsupportedError) as caught:
        write_disc(root, image)
    assert caught.value.path == str(root / "big")
    assert not image.exists()
