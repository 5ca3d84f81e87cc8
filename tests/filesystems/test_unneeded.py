from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

import byre
from builders.memory_disks import memory_disk
from builders.ntfs_volumes import mkntfs, mounted, need
from builders.opened import kept_open
from byre.disks.left_out import LeftOutDisk
from byre.errors import UnsupportedError
from byre.extents import Kind
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.records import VOLUME_INFORMATION
from byre.filesystems.opening import open_filesystem
from byre.filesystems.unneeded import find_unneeded, hash_files
from oracles import run_tool
from programs import byre as run_byre
from programs import byre_json

SECRET = b"deleted but not gone "


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, a deleted one, a page file and an unused hibernation file."""
    need("mkntfs", "ntfs-3g")
    image = mkntfs(tmp_path_factory.mktemp("unneeded") / "volume.img", 40 << 20)
    source = random.Random(6)
    with mounted(image) as root:
        for number in range(60):
            (root / f"file {number}").write_bytes(source.randbytes(source.choice((100, 5000, 70_001))))
        (root / "gone").write_bytes(SECRET * 200_000)
        (root / "pagefile.sys").write_bytes(b"page file " * 300_000)
        (root / "hiberfil.sys").write_bytes(bytes(4096) + b"old session " * 200_000)
        Path(f"{root}/file 3:stream").write_bytes(source.randbytes(30_000))
    with mounted(image) as root:
        (root / "gone").unlink()
    return image


def patched(volume: Path, target: Path, offset: int, data: bytes) -> Path:
    shutil.copyfile(volume, target)
    with target.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return target


def opened(path: Path) -> NtfsFileSystem:
    files = open_filesystem(kept_open(byre.open_disk(path)))
    assert isinstance(files, NtfsFileSystem)
    return files


@pytest.mark.oracle
def test_convert_leaves_out_what_nothing_needs_and_proves_the_rest(volume: Path, tmp_path: Path) -> None:
    lean = tmp_path / "lean.raw"
    told = byre_json("convert", volume, lean, "--drop-free", "--verify")
    assert told["drop_free"]["verified_files"] > 60
    assert [row["path"] for row in told["drop_free"]["emptied_files"]] == ["/pagefile.sys", "/hiberfil.sys"]
    data = lean.read_bytes()
    assert SECRET in volume.read_bytes() and SECRET not in data
    assert b"page file " not in data and b"old session " not in data
    emptied = ((0, "/pagefile.sys"), (0, "/hiberfil.sys"))
    with byre.open_disk(volume) as old, byre.open_disk(lean) as new:
        assert hash_files(old, emptied) == hash_files(new, emptied)
    with mounted(lean) as root:
        assert (root / "pagefile.sys").read_bytes() == bytes(3_000_000)
    run_tool("ntfsfix", "-n", lean)


@pytest.mark.oracle
@pytest.mark.parametrize("format", ["qcow2", "vdi", "vpc", "vhdx"])
def test_compact_gives_the_free_space_back_in_place(volume: Path, tmp_path: Path, format: str) -> None:
    image = tmp_path / "image"
    run_byre("convert", "-O", format, volume, image)
    before = image.stat().st_size
    with byre.open_disk(image) as disk:
        files = hash_files(disk, ((0, "/pagefile.sys"), (0, "/hiberfil.sys")))
    told = byre_json("compact", image, "--drop-free", "--verify")
    assert told["drop_free"]["free"] > 10 << 20
    assert image.stat().st_size <= before - (4 << 20)
    with byre.open_disk(image) as disk:
        assert hash_files(disk, ((0, "/pagefile.sys"), (0, "/hiberfil.sys"))) == files
    if format == "qcow2":
        run_tool("qemu-img", "check", image)


@pytest.mark.oracle
def test_each_snapshot_is_judged_by_its_own_bitmap(volume: Path, tmp_path: Path) -> None:
    """A file that only a snapshot still has stays there, though today's disk calls its clusters free."""
    image, lean, later = tmp_path / "image.qcow2", tmp_path / "lean.qcow2", tmp_path / "later.img"
    run_byre("convert", volume, image)
    run_byre("snapshot", "create", image, "before")
    shutil.copyfile(volume, later)
    with mounted(later) as root:
        for number in range(60):
            (root / f"file {number}").unlink()
    with byre.open_disk(later) as new, byre.open_disk(image, writable=True) as disk:
        for start in range(0, disk.size, 1 << 16):
            length = min(1 << 16, disk.size - start)
            data = new.read(start, length)
            if data != disk.read(start, length):
                disk.write(start, data)
    refused = byre_json("compact", image, "--drop-free", status=69)
    assert "-o OUT" in refused["hint"]
    told = byre_json("compact", image, "--drop-free", "-o", lean, "--verify")
    assert told["drop_free"]["states"] == 2 and lean.stat().st_size <= image.stat().st_size - (4 << 20)
    run_tool("qemu-img", "check", lean)
    emptied = ((0, "/pagefile.sys"), (0, "/hiberfil.sys"))
    with byre.open_disk(volume) as old, byre.open_disk(f"{lean}@before") as kept:
        assert hash_files(kept, emptied) == hash_files(old, emptied)


def test_a_dirty_volume_is_refused(volume: Path, tmp_path: Path) -> None:
    files = opened(volume)
    where = next(each.where for each in files.attributes(3) if each.type == VOLUME_INFORMATION)
    image = patched(volume, tmp_path / "dirty.img", files.mft.place(3) + where + 10, b"\1")
    told = byre_json("convert", image, tmp_path / "out.raw", "--drop-free", status=69)
    assert "marked dirty" in told["what"] and not (tmp_path / "out.raw").exists()


def test_a_hibernated_guest_is_refused(volume: Path, tmp_path: Path) -> None:
    files = opened(volume)
    place = int(files.extents(files.lookup("/hiberfil.sys"))["disk"][0])
    image = patched(volume, tmp_path / "asleep.img", place, b"hibr")
    with byre.open_disk(image) as disk, pytest.raises(UnsupportedError, match="hibernated"):
        find_unneeded(disk)


def test_a_bitmap_that_calls_a_files_clusters_free_is_refused(volume: Path, tmp_path: Path) -> None:
    files = opened(volume)
    bitmap = int(files.extents(next(e for e in files.walk(system=True) if e.path == "/$Bitmap"))["disk"][0])
    cluster = int(files.extents(files.lookup("/pagefile.sys"))["disk"][0]) // files.boot.cluster_size
    image = patched(volume, tmp_path / "wrong.img", bitmap + cluster // 8, b"\0")
    with byre.open_disk(image) as disk, pytest.raises(UnsupportedError, match="broken"):
        find_unneeded(disk)


def test_a_disk_without_a_file_system_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="no file system"):
        find_unneeded(memory_disk(bytes(1 << 20)))


def test_verify_alone_is_a_usage_error(volume: Path, tmp_path: Path) -> None:
    run_byre("convert", volume, tmp_path / "x.raw", "--verify", status=64)
    run_byre("compact", volume, "--verify", status=64)


def test_a_left_out_range_reads_as_zeros_and_says_so() -> None:
    data = bytes(range(1, 251)) * 400
    data = data[: len(data) // 512 * 512]
    ranges = np.array([(512, 1024), (5000, 9000), (50_000, 90_000_000)], dtype=np.int64)
    disk = LeftOutDisk(memory_disk(data), ranges)
    expected = bytearray(data)
    for start, stop in ranges.tolist():
        expected[start:stop] = bytes(min(stop, len(data)) - start)
    assert disk.read(0, disk.size) == expected
    assert disk.read(700, 5000) == expected[700:5700]
    (table,) = list(disk.extents())
    assert int(table["length"].sum()) == disk.size
    rebuilt = bytearray(disk.size)
    for row in table:
        if row["kind"] == Kind.DATA:
            start, length, host = int(row["start"]), int(row["length"]), int(row["host"])
            rebuilt[start : start + length] = data[host : host + length]
    assert rebuilt == expected
