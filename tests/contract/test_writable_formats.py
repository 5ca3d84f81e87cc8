"""Every format that Byre writes, one suite: what goes in comes out, for Byre and for qemu-img."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import byre
from builders.mixture import mixture, write_sparse
from byre.convert.compare import compare_disks
from byre.convert.convert import convert_image
from byre.disks.disk import Disk
from byre.disks.formats import FORMATS, format_for_suffix, format_named
from byre.errors import StorageError, UsageError
from byre.extents import Kind

WRITABLE = [entry.name for entry in FORMATS if entry.writes]
SIZE = 8 << 20
QEMU = {"vhd": "vpc"}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sparse(tmp_path_factory.mktemp("source") / "source.raw", mixture(SIZE, seed=8))


def make(raw: Path, folder: Path, name: str) -> Path:
    target = folder / f"disk{format_named(name).suffixes[0]}"
    with byre.open_disk(raw, format="raw") as source:
        convert_image(source, target, name)
    return target


def assert_extents_cover(disk: Disk) -> None:
    position = 0
    for table in disk.extents():
        for start, length, kind, host, stored, file, _ in table.tolist():
            assert start == position and length > 0
            if kind == Kind.DATA:
                assert stored == length and 0 <= file < len(disk.files)
                assert disk.read(start, min(length, 4096)) == disk.files[file].read(host, min(length, 4096))
            elif kind in (Kind.ZERO, Kind.UNALLOCATED):
                assert disk.read(start, min(length, 1 << 16)).count(0) == min(length, 1 << 16)
            position += length
    assert position == disk.size


@pytest.mark.parametrize("name", WRITABLE)
def test_what_was_written_is_read_back(raw: Path, tmp_path: Path, name: str) -> None:
    target = make(raw, tmp_path, name)
    assert format_for_suffix(target.name) == format_named(name)
    with byre.open_disk(raw, format="raw") as source, byre.open_disk(target) as made:
        assert made.format == name
        assert made.size == SIZE
        assert list(compare_disks(source, made)) == []
        assert_extents_cover(made)
        for offset, length in ((0, 512), (SIZE - 512, 512), (65530, 20), (1 << 20, 3 << 20)):
            assert made.read(offset, length) == source.read(offset, length)


@pytest.mark.oracle
@pytest.mark.parametrize("name", WRITABLE)
def test_qemu_img_reads_the_same(raw: Path, tmp_path: Path, name: str) -> None:
    target = make(raw, tmp_path, name)
    words = ["qemu-img", "compare", "-f", "raw", "-F", QEMU.get(name, name), str(raw), str(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", WRITABLE)
def test_a_read_that_leaves_the_disk_is_a_usage_error(raw: Path, tmp_path: Path, name: str) -> None:
    with byre.open_disk(make(raw, tmp_path, name)) as disk:
        for offset, length in ((SIZE, 1), (SIZE - 512, 513), (-1, 1)):
            with pytest.raises(UsageError):
                disk.read(offset, length)


@pytest.mark.parametrize("name", WRITABLE)
def test_every_format_becomes_every_other(raw: Path, tmp_path: Path, name: str) -> None:
    target = make(raw, tmp_path, name)
    for other in WRITABLE:
        again = tmp_path / f"again{format_named(other).suffixes[0]}"
        with byre.open_disk(target) as source:
            convert_image(source, again, other, force=True)
        with byre.open_disk(raw, format="raw") as source, byre.open_disk(again) as made:
            assert list(compare_disks(source, made)) == [], other


@pytest.mark.parametrize("name", WRITABLE)
def test_a_failed_write_leaves_no_file(tmp_path: Path, name: str) -> None:
    short = tmp_path / "short.raw"
    short.write_bytes(mixture(SIZE, seed=9))
    (tmp_path / "out").mkdir()
    with byre.open_disk(short, format="raw") as source:
        with short.open("r+b") as file:
            file.truncate(SIZE // 2)
        with pytest.raises(StorageError):
            convert_image(source, tmp_path / "out" / f"disk{format_named(name).suffixes[0]}", name)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("name", WRITABLE)
def test_an_empty_disk_takes_little_room(tmp_path: Path, name: str) -> None:
    empty = tmp_path / "empty.raw"
    with empty.open("wb") as file:
        file.truncate(1 << 30)
    with byre.open_disk(empty, format="raw") as source:
        done = convert_image(source, tmp_path / f"disk{format_named(name).suffixes[0]}", name)
    assert done.actual_size < 8 << 20
    assert done.copied.read == 0


@pytest.mark.parametrize("name", WRITABLE)
def test_an_unknown_option_is_a_usage_error(raw: Path, tmp_path: Path, name: str) -> None:
    with byre.open_disk(raw, format="raw") as source, pytest.raises(UsageError):
        convert_image(source, tmp_path / "new", name, {"no_such_option": 1})
    assert list(tmp_path.iterdir()) == []
