"""Reading every kind of image that qemu-img makes, and refusing what can't be read."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import byre
from builders.qcow2_images import RECIPES, Made, Recipe, make
from builders.qemu import create_encrypted, qemu_img, qemu_io
from byre.convert.convert import convert_image
from byre.disks.disk import SnapshotDisk
from byre.disks.qcow2.image import Qcow2Disk
from byre.errors import (
    CorruptImageError,
    MissingError,
    RefusedReferenceError,
    UnsupportedError,
    UsageError,
)
from byre.extents import Kind
from oracles import require_tool, run_tool

pytestmark = pytest.mark.oracle

MIB = 1 << 20


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Made]:
    made: dict[str, Made] = {}

    def get(recipe: Recipe) -> Made:
        if recipe.name not in made:
            made[recipe.name] = make(recipe, tmp_path_factory.mktemp(recipe.name), seed=2)
        return made[recipe.name]

    return get


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_reads_what_was_written_at_any_offset(recipe: Recipe, images: Callable[[Recipe], Made]) -> None:
    made = images(recipe)
    rng = random.Random(recipe.name)
    with byre.open_disk(made.path) as disk:
        assert disk.size == recipe.size
        assert disk.read(0, disk.size) == made.content
        for _ in range(100):
            start = rng.randrange(disk.size)
            length = min(rng.choice((1, 100, 512, 5000, 70_000)), disk.size - start)
            assert disk.read(start, length) == made.content[start : start + length]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_extents_say_where_the_bytes_are(recipe: Recipe, images: Callable[[Recipe], Made]) -> None:
    made = images(recipe)
    with byre.open_disk(made.path) as disk:
        position = 0
        for table in disk.extents():
            for start, length, kind, host, stored, file, depth in table.tolist():
                assert start == position
                assert length > 0
                position += length
                wanted = made.content[start : start + length]
                if kind == Kind.DATA:
                    assert stored == length
                    assert 0 <= depth <= 1
                    assert disk.files[file].read(host, length) == wanted
                elif kind == Kind.COMPRESSED:
                    assert disk.read(start, length) == wanted
                else:
                    assert wanted == bytes(length)
        assert position == disk.size


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_extents_of_a_part_are_the_same_as_of_the_whole(recipe: Recipe, images: Callable[[Recipe], Made]) -> None:
    made = images(recipe)
    with byre.open_disk(made.path) as disk:
        whole = {}
        for table in disk.extents():
            for start, length, kind, host, *_ in table.tolist():
                for at in range(start, start + length, 512):
                    whole[at] = (kind, host + at - start if kind == Kind.DATA else host)
        rng = random.Random(3)
        for _ in range(20):
            begin = rng.randrange(disk.size // 512) * 512
            end = min(disk.size, begin + rng.randrange(1, 2000) * 512)
            position = begin
            for table in disk.extents(begin, end):
                for start, length, kind, host, *_ in table.tolist():
                    assert start == position
                    position += length
                    for at in range(start, start + length, 512):
                        assert whole[at] == (kind, host + at - start if kind == Kind.DATA else host)
            assert position == end


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe.snapshot], ids=lambda recipe: recipe.name)
def test_a_snapshot_is_the_disk_as_it_was(recipe: Recipe, images: Callable[[Recipe], Made]) -> None:
    made = images(recipe)
    assert made.snapshot is not None
    with byre.open_disk(f"{made.path}@old") as disk:
        assert disk.read(0, disk.size) == made.snapshot
    with byre.open_disk(made.path) as disk:
        assert isinstance(disk, SnapshotDisk)
        (info,) = disk.snapshots()
        assert (info.name, info.virtual_size, info.vm_state_size) == ("old", recipe.size, 0)


def test_a_snapshot_keeps_its_own_size(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", image, "2M")
    qemu_io(image, ["write -P 1 1M 1M"], "-f", "qcow2")
    qemu_img("snapshot", "-c", "small", image)
    qemu_img("resize", image, "7M")
    qemu_io(image, ["write -P 2 0 7M"], "-f", "qcow2")
    with byre.open_disk(f"{image}@small") as disk:
        assert disk.size == 2 * MIB
        assert disk.read(0, disk.size) == bytes(MIB) + b"\1" * MIB
        with pytest.raises(UsageError):
            disk.read(2 * MIB, 1)


def test_several_threads_read_at_once(images: Callable[[Recipe], Made]) -> None:
    made = images(next(recipe for recipe in RECIPES if recipe.name == "zlib"))
    with byre.open_disk(made.path) as disk, ThreadPoolExecutor(4) as pool:

        def check(seed: int) -> bool:
            rng = random.Random(seed)
            for _ in range(50):
                start = rng.randrange(disk.size)
                length = min(3000, disk.size - start)
                if disk.read(start, length) != made.content[start : start + length]:
                    return False
            return True

        assert all(pool.map(check, range(8)))


def test_machine_state_is_read_from_past_the_end_of_the_disk(tmp_path: Path) -> None:
    require_tool("qemu-system-x86_64")
    image = tmp_path / "vm.qcow2"
    qemu_img("create", "-f", "qcow2", image, "5M")
    run_tool(
        "sh",
        "-c",
        f"printf 'savevm saved\\nquit\\n' | qemu-system-x86_64 -M pc -m 16 -S -nodefaults -display none "
        f"-drive file={image},format=qcow2,if=ide -monitor stdio",
    )
    with byre.open_disk(image) as disk:
        assert isinstance(disk, Qcow2Disk)
        (info,) = disk.snapshots()
        assert info.vm_state_size > 1000
        head = disk.read_vm_state(info.id, 0, 8)
        assert head[:4] == b"QEVM"
        assert len(disk.read_vm_state(info.id, 0, info.vm_state_size)) == info.vm_state_size
        with pytest.raises(UsageError):
            disk.read_vm_state(info.id, 1, info.vm_state_size)


def test_a_backing_format_that_is_not_stated_is_not_guessed(tmp_path: Path) -> None:
    below, image = tmp_path / "below.img", tmp_path / "a.qcow2"
    below.write_bytes(b"\1" * MIB)
    qemu_img("create", "-f", "qcow2", image, "1M")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", below.name, "-F", "raw", image)
    _drop_extension(image, 0xE2792ACA)
    with pytest.raises(UnsupportedError) as caught:
        byre.open_disk(image)
    assert "--backing-format" in (caught.value.hint or "")
    with byre.open_disk(image, backing_format="raw") as disk:
        assert disk.read(0, MIB) == b"\1" * MIB


def test_a_raw_backing_image_with_a_qcow2_header_in_it_stays_raw(tmp_path: Path) -> None:
    inner, image = tmp_path / "inner.img", tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", inner, "64M")
    qemu_img("create", "-f", "qcow2", "-b", inner.name, "-F", "raw", image, "1M")
    with byre.open_disk(image) as disk:
        assert disk.read(0, 4) == b"QFI\xfb"


def test_without_its_backing_image_an_image_is_described_but_not_read(tmp_path: Path) -> None:
    below, image = tmp_path / "below.qcow2", tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", below, "1M")
    qemu_img("create", "-f", "qcow2", "-b", below.name, "-F", "qcow2", image)
    qemu_io(image, ["write -P 5 0 64k"], "-f", "qcow2")
    below.unlink()
    with pytest.raises(MissingError):
        byre.open_disk(image)
    with byre.open_disk(image, with_backing=False) as disk:
        backing = disk.describe().backing
        assert backing is not None
        assert (backing.name, backing.format, backing.resolved) == ("below.qcow2", "qcow2", None)
        assert backing.reason is not None
        assert disk.read(0, 65536) == b"\5" * 65536
        with pytest.raises(MissingError):
            disk.read(65536, 1)
        with pytest.raises(MissingError):
            list(disk.extents())


def test_without_its_data_file_an_image_is_described_but_not_read(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'd.raw'}", image, "1M")
    qemu_io(image, ["write -P 5 0 64k"], "-f", "qcow2")
    (tmp_path / "d.raw").unlink()
    with pytest.raises(MissingError):
        byre.open_disk(image)
    with byre.open_disk(image, with_backing=False) as disk:
        assert disk.describe().data_file == str(tmp_path / "d.raw")
        with pytest.raises(MissingError):
            disk.read(0, 1)


def test_a_data_file_outside_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    image, data = tmp_path / "images" / "a.qcow2", tmp_path / "secret.raw"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={data}", image, "1M")
    with pytest.raises(RefusedReferenceError) as caught:
        byre.open_disk(image)
    assert "--allow-path" in (caught.value.hint or "")
    with byre.open_disk(image, allow_paths=[tmp_path]) as disk:
        assert disk.read(0, 512) == bytes(512)


def test_a_chain_that_loops_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.qcow2", tmp_path / "two.qcow2"
    qemu_img("create", "-f", "qcow2", one, "1M")
    qemu_img("create", "-f", "qcow2", "-b", one.name, "-F", "qcow2", two)
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", two.name, "-F", "qcow2", one)
    for image in (one, two):
        with pytest.raises(CorruptImageError, match="loops"):
            byre.open_disk(image)


def test_an_encrypted_image_is_named_and_not_read_as_noise(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    create_encrypted(image, "luks", size="1M")
    with byre.open_disk(image) as disk:
        assert disk.describe().encryption == "LUKS"
        with pytest.raises(UnsupportedError, match="encrypted with LUKS: reading it is not supported yet"):
            disk.read(0, 512)
        with pytest.raises(UnsupportedError):
            list(disk.extents())
    with pytest.raises(UnsupportedError):
        byre.open_disk(image, writable=True)


def test_legacy_aes_is_named(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    _patch(image, 32, struct.pack(">I", 1))
    with byre.open_disk(image) as disk:
        assert disk.describe().encryption == "AES"
        with pytest.raises(UnsupportedError, match="encrypted with AES"):
            disk.read(0, 512)


def test_the_rest_of_a_short_last_cluster_reads_as_zeros(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    qemu_io(image, ["write -P 9 0 128k"], "-f", "qcow2")
    with image.open("r+b") as file:
        file.truncate(image.stat().st_size - 60_000)
    expected = tmp_path / "expected.raw"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", image, expected)
    with byre.open_disk(image) as disk:
        assert disk.read(0, MIB) == expected.read_bytes()
        kinds = [row["kind"] for table in disk.extents() for row in table]
        assert kinds == [Kind.DATA, Kind.ZERO, Kind.UNALLOCATED]


def test_whole_clusters_past_the_end_of_the_file_are_corrupt_not_zeros(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    qemu_io(image, ["write -P 9 0 256k"], "-f", "qcow2")
    size = image.stat().st_size - 100_000
    with image.open("r+b") as file:
        file.truncate(size)
    with byre.open_disk(image) as disk:
        assert disk.read(0, 128 << 10) == b"\x09" * (128 << 10)
        for start, length in ((0, MIB), (192 << 10, 64 << 10), (250 << 10, 512)):
            with pytest.raises(CorruptImageError) as caught:
                disk.read(start, length)
            assert (caught.value.path, caught.value.found) == (str(image), f"a file of {size} bytes")
        with pytest.raises(CorruptImageError):
            convert_image(disk, tmp_path / "new.raw", "raw")
    assert not (tmp_path / "new.raw").exists()


def test_a_file_that_ends_within_its_header_says_so(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    image.write_bytes(b"QFI\xfb" + bytes(46))
    with pytest.raises(CorruptImageError) as caught:
        byre.open_disk(image)
    assert (caught.value.found, caught.value.expected) == ("50 bytes", "at least 72")


def test_an_l2_table_past_the_end_of_the_file_is_corrupt(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    _patch(image, 0x30000, struct.pack(">Q", (1 << 63) | (1 << 40)))
    with byre.open_disk(image) as disk, pytest.raises(CorruptImageError) as caught:
        disk.read(0, 512)
    assert caught.value.found == f"{1 << 40:#x}"
    assert caught.value.path == str(image)


@pytest.mark.parametrize(
    ("options", "entry", "what"),
    [
        ("compat=1.1", struct.pack(">Q", (1 << 63) | 0x50200), "not a cluster's"),
        ("compat=0.10", struct.pack(">Q", 1), "zero flag"),
        ("extended_l2=on", struct.pack(">QQ", 0, 1), "subcluster"),
        ("extended_l2=on", struct.pack(">QQ", (1 << 63) | 0x50000, 1 | 1 << 32), "subcluster"),
    ],
)
def test_an_l2_entry_that_can_not_be_is_corrupt(tmp_path: Path, options: str, entry: bytes, what: str) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", options, image, "1M")
    qemu_io(image, ["write -P 9 0 64k"], "-f", "qcow2")
    l2 = int.from_bytes(image.read_bytes()[0x30000:0x30008], "big") & 0x00FFFFFFFFFFFE00
    _patch(image, l2, entry)
    with byre.open_disk(image) as disk:
        with pytest.raises(CorruptImageError, match=what):
            disk.read(0, 512)
        with pytest.raises(CorruptImageError, match=what):
            list(disk.extents())


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_a_damaged_compressed_cluster_is_corrupt(tmp_path: Path, compression: str) -> None:
    source, image = tmp_path / "a.raw", tmp_path / "a.qcow2"
    source.write_bytes(random.Random(1).randbytes(1000) * 600)
    options = f"compression_type={compression}"
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", "-o", options, source, image)
    with byre.open_disk(image) as disk:
        row = next(disk.extents())[0]
        assert row["kind"] == Kind.COMPRESSED
    _patch(image, int(row["host"]), b"\xff" * 64)
    with byre.open_disk(image) as disk, pytest.raises(CorruptImageError) as caught:
        disk.read(0, 512)
    assert caught.value.offset == int(row["host"])


def test_an_empty_64_tib_image_is_mapped_at_once(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", image, "64T")
    with byre.open_disk(image) as disk:
        (table,) = disk.extents()
        assert table[["start", "length", "kind"]].tolist() == [(0, 64 << 40, Kind.UNALLOCATED)]


def test_bitmaps_are_described(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    qemu_img("bitmap", "--add", "-g", "128k", image, "on")
    qemu_img("bitmap", "--add", "--disable", image, "off")
    with byre.open_disk(image) as disk:
        found = {bitmap.name: bitmap for bitmap in disk.describe().bitmaps}
    assert (found["on"].granularity, found["on"].enabled, found["on"].consistent) == (131072, True, True)
    assert (found["off"].enabled, found["off"].consistent) == (False, True)


def _patch(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _drop_extension(image: Path, kind: int) -> None:
    """Give a header extension a type that nobody knows."""
    data = image.read_bytes()[:65536]
    at = data.index(struct.pack(">I", kind), 100)
    _patch(image, at, struct.pack(">I", 0x12345678))
