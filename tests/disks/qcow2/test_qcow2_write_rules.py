"""What opening for writing refuses, and what the first write does to features that Byre doesn't keep up."""

from __future__ import annotations

import json
import random
import struct
import subprocess
from pathlib import Path

import pytest

import byre
from builders.opened import open_in_memory
from builders.qemu import assert_sound, qemu_img, qemu_io
from byre.disks.disk import WritableDisk
from byre.disks.qcow2 import open_disk
from byre.disks.qcow2.header import read_header
from byre.errors import CorruptImageError, MissingError, StorageError, UnsupportedError, UsageError
from byre.extents import Kind
from byre.storage.local import open_file
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states

pytestmark = pytest.mark.oracle

KIB, MIB = 1 << 10, 1 << 20


def _create(folder: Path, *options: str, size: str = "4M") -> Path:
    image = folder / "a.qcow2"
    qemu_img("create", "-f", "qcow2", *options, image, size)
    return image


def _writable(image: Path) -> WritableDisk:
    disk = byre.open_disk(image, writable=True)
    assert isinstance(disk, WritableDisk)
    return disk


def _patch(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_an_image_marked_corrupt_is_only_read(tmp_path: Path) -> None:
    image = _create(tmp_path)
    _patch(image, 72, struct.pack(">Q", 2))
    with byre.open_disk(image) as disk:
        assert disk.read(0, 512) == bytes(512)
        assert disk.describe().details["corrupt"] is True
    with pytest.raises(CorruptImageError, match="marked corrupt"):
        byre.open_disk(image, writable=True)


def test_an_image_that_was_not_closed_cleanly_is_mended_when_it_is_opened_for_writing(tmp_path: Path) -> None:
    image = _abandoned(tmp_path)
    with byre.open_disk(image) as disk:
        assert disk.describe().details["dirty"] is True
        assert disk.read(0, 3) == b"\1\1\1"
    with _writable(image) as disk:
        assert disk.describe().details["dirty"] is False
        disk.write(2 * MIB, b"new")
    with byre.open_disk(image) as disk:
        assert (disk.read(MIB - 1, 2), disk.read(2 * MIB, 3)) == (b"\1\0", b"new")
    assert_sound(image)


def test_a_cut_while_a_dirty_image_is_mended_loses_nothing(tmp_path: Path) -> None:
    base = _abandoned(tmp_path).read_bytes()
    storage = RecordingStorage(base)
    open_in_memory(open_disk, storage, writable=True)
    assert storage.log
    for state in crash_states(storage.log, base, random.Random(3), 40):
        with open_in_memory(open_disk, MemoryStorage(state), writable=True) as disk:
            assert disk.read(0, MIB) == b"\1" * MIB
            disk.write(2 * MIB, b"new")
        with open_in_memory(open_disk, MemoryStorage(state)) as disk:
            assert disk.read(0, MIB) == b"\1" * MIB


def test_a_dirty_image_with_two_owners_of_a_cluster_is_refused_and_left_alone(tmp_path: Path) -> None:
    image = _abandoned(tmp_path)
    _patch(image, 48, struct.pack(">Q", 0x30000))  # the refcount table lies where the L1 table does
    before = image.read_bytes()
    with pytest.raises(UnsupportedError) as caught:
        byre.open_disk(image, writable=True)
    assert "byre check" in (caught.value.hint or "")
    assert image.read_bytes() == before


def _abandoned(folder: Path) -> Path:
    """An image with lazy refcounts whose writer died: dirty, and its refcounts were never written."""
    image = _create(folder, "-o", "lazy_refcounts=on")
    program = ["qemu-io", "-f", "qcow2", "-c", "write -P 1 0 1M", "-c", "flush", "-c", "abort", str(image)]
    assert subprocess.run(program, capture_output=True, check=False).returncode < 0
    assert image.read_bytes()[79] & 1
    return image


def test_a_disk_opened_for_reading_has_no_write(tmp_path: Path) -> None:
    with byre.open_disk(_create(tmp_path)) as disk:
        assert not disk.writable
        assert not isinstance(disk, WritableDisk)


def test_unknown_autoclear_bits_are_cleared_by_the_first_write_and_not_before(tmp_path: Path) -> None:
    image = _create(tmp_path)
    _patch(image, 88, struct.pack(">Q", 1 << 40))
    with _writable(image) as disk:
        disk.read(0, 512)
    assert image.read_bytes()[88:96] == struct.pack(">Q", 1 << 40)
    with _writable(image) as disk:
        disk.write(0, b"x")
    assert image.read_bytes()[88:96] == bytes(8)


def test_writing_marks_enabled_bitmaps_inconsistent_and_leaves_disabled_ones(tmp_path: Path) -> None:
    image = _create(tmp_path)
    qemu_img("bitmap", "--add", image, "on")
    qemu_img("bitmap", "--add", "--disable", image, "off")
    with _writable(image) as disk:
        disk.write(0, b"x")
    with byre.open_disk(image) as disk:
        consistent = {bitmap.name: bitmap.consistent for bitmap in disk.describe().bitmaps}
    assert consistent == {"on": False, "off": True}
    told = json.loads(qemu_img("info", "--output=json", image))["format-specific"]["data"]["bitmaps"]
    assert {entry["name"]: "in-use" in entry["flags"] for entry in told} == {"on": True, "off": False}
    assert_sound(image)
    qemu_img("bitmap", "--remove", image, "on")
    assert_sound(image)


def test_a_copied_flag_on_a_shared_cluster_is_refused_before_a_snapshot_is_hurt(tmp_path: Path) -> None:
    image = _create(tmp_path)
    qemu_io(image, ["write -P 1 0 64k"], "-f", "qcow2")
    qemu_img("snapshot", "-c", "one", image)
    with open_file(image) as storage:
        l1 = read_header(storage).l1_table_offset
    first = image.read_bytes()[l1 : l1 + 1]
    _patch(image, l1, bytes([first[0] | 0x80]))
    with _writable(image) as disk, pytest.raises(CorruptImageError) as caught:
        disk.write(100, b"x")
    assert caught.value.found == "refcount 2"
    with byre.open_disk(f"{image}@one") as disk:
        assert disk.read(0, 64 * KIB) == b"\1" * (64 * KIB)


def test_a_metadata_cluster_counted_as_free_is_not_handed_out(tmp_path: Path) -> None:
    image = _create(tmp_path)
    qemu_io(image, ["write -P 1 0 64k"], "-f", "qcow2")
    _patch(image, 0x20000 + 3 * 2, bytes(2))  # the L1 table's own refcount
    with _writable(image) as disk, pytest.raises(CorruptImageError, match="counted as free"):
        disk.write(MIB, b"x" * MIB)


def test_a_discard_in_front_of_a_backing_image_reads_as_zeros(tmp_path: Path) -> None:
    below = tmp_path / "below.raw"
    below.write_bytes(b"\7" * (4 * MIB))
    image = _create(tmp_path, "-b", below.name, "-F", "raw")
    with _writable(image) as disk:
        disk.write(0, b"\1" * (256 * KIB))
        disk.discard(0, MIB)
        assert disk.read(0, 2 * MIB) == bytes(MIB) + b"\7" * MIB
        rows = [row for table in disk.extents() for row in table[["length", "kind"]].tolist()]
        assert rows == [(MIB, Kind.ZERO), (3 * MIB, Kind.DATA)]
    assert_sound(image)


def test_a_discard_in_version_2_leaves_what_hides_a_backing_image(tmp_path: Path) -> None:
    below = tmp_path / "below.raw"
    below.write_bytes(b"\7" * (4 * MIB))
    image = _create(tmp_path, "-o", "compat=0.10", "-b", below.name, "-F", "raw")
    with _writable(image) as disk:
        disk.write(0, b"\1" * (256 * KIB))
        disk.discard(0, MIB)
        assert disk.read(0, MIB) == b"\1" * (256 * KIB) + b"\7" * (768 * KIB)
        disk.write_zeroes(0, MIB)
        assert disk.read(0, 2 * MIB) == bytes(MIB) + b"\7" * MIB
    assert_sound(image)


def test_a_write_beside_a_missing_backing_image_covers_whole_clusters_only(tmp_path: Path) -> None:
    below = tmp_path / "below.raw"
    below.write_bytes(b"\7" * (4 * MIB))
    image = _create(tmp_path, "-b", below.name, "-F", "raw")
    with byre.open_disk(image, writable=True, with_backing=False) as disk:
        assert isinstance(disk, WritableDisk)
        disk.write(64 * KIB, b"\1" * (64 * KIB))
        with pytest.raises(MissingError):
            disk.write(1, b"x")
    with byre.open_disk(image) as disk:
        assert disk.read(0, 3) == b"\7\7\7"
        assert disk.read(64 * KIB, 64 * KIB) == b"\1" * (64 * KIB)
    assert_sound(image)


def test_a_full_disk_leaves_the_old_content_and_a_sound_image(tmp_path: Path) -> None:
    from byre.disks.context import OpenContext, OpenOptions
    from byre.disks.qcow2 import open_disk
    from byre.disks.qcow2.writing import WritableQcow2Disk
    from crash.recording import RecordingStorage

    image = _create(tmp_path)
    qemu_io(image, ["write -P 1 0 1M"], "-f", "qcow2")
    base = image.read_bytes()

    def refuse(*_: object) -> None:
        raise AssertionError

    context = OpenContext(OpenOptions(writable=True), tmp_path, refuse, refuse)  # type: ignore[arg-type]
    for fail_after in range(12):
        storage = RecordingStorage(base, fail_after=fail_after)
        disk = open_disk(storage, context)
        assert isinstance(disk, WritableQcow2Disk)
        with pytest.raises(StorageError):
            for start in range(MIB, 4 * MIB, 200_000):
                disk.write(start, b"\2" * min(200_000, 4 * MIB - start))
                disk.write_zeroes(0, 100_000)
                disk.flush()
        with pytest.raises(StorageError):
            disk.flush()
            disk.write(0, b"x")
        image.write_bytes(storage.data)
        assert_sound(image, leaks=True)


def test_the_library_example_of_the_issue_works(tmp_path: Path) -> None:
    image = _create(tmp_path)
    with byre.open_disk(image, writable=True) as disk:
        assert isinstance(disk, WritableDisk)
        disk.write(510, b"\x55\xaa")
    qemu_img("snapshot", "-c", "clean", image)
    with byre.open_disk(f"{image}@clean") as disk:
        assert disk.read(0, 512)[-2:] == b"\x55\xaa"


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (4 * MIB, 1), (4 * MIB - 1, 2)])
def test_a_range_that_leaves_the_disk_is_refused(tmp_path: Path, offset: int, length: int) -> None:
    with _writable(_create(tmp_path)) as disk:
        for call in (
            lambda: disk.read(offset, length),
            lambda: disk.write(offset, bytes(length)),
            lambda: disk.write_zeroes(offset, length),
            lambda: disk.discard(offset, length),
        ):
            with pytest.raises(UsageError):
                call()
