"""Volumes with bytes changed at random where it hurts: nothing but Byre's errors may come out, and soon."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest

from builders.fat_volumes import ExfatBuilder, make_fat
from builders.memory_disks import memory_disk
from builders.ntfs_volumes import mkntfs, mounted, set_attributes, text_like
from byre.errors import ByreError, UnsupportedError
from byre.filesystems import Entry, FileSystem, open_volumes, read_partitions
from effort import at_most
from fuzzing import case_count, fuzz
from oracles import run_tool

pytestmark = [pytest.mark.oracle, pytest.mark.slow, pytest.mark.fuzz]

CASES = 300
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFE, 0x10, 0x40)


def exercise(data: bytearray) -> int:
    """Everything that a caller may ask of whatever is in there; how many entries were seen."""
    disk = memory_disk(data)
    seen = 0
    read_partitions(disk)
    for volume in open_volumes(disk):
        if volume.filesystem is None:
            continue
        seen += _exercise_filesystem(volume.filesystem)
    return seen


def _exercise_filesystem(fs: FileSystem) -> int:
    seen = 0
    try:
        for entry in fs.walk(deleted=True, system=True):
            seen += 1
            if seen <= 40:
                _exercise_entry(fs, entry)
            if seen > 20_000:
                break
    except ByreError:
        pass
    for ask in (fs.facts, fs.check, lambda: list(fs.free_extents()), lambda: fs.lookup("/dir/file 3")):
        with contextlib.suppress(ByreError):
            ask()
    assert len(list(fs.problems)) < 10_000
    return seen


def _exercise_entry(fs: FileSystem, entry: Entry) -> None:
    for stream in ("", *(each.name for each in entry.streams[:3])):
        for ask in (
            lambda stream=stream: fs.read(entry, stream, 0, 1 << 16),
            lambda stream=stream: fs.read(entry, stream, max(0, entry.size - 100), 1 << 16),
            lambda stream=stream: fs.extents(entry, stream),
            lambda stream=stream: fs.extents(entry, stream, slack=True),
            lambda stream=stream: next(fs.chunks(entry, stream), b""),
        ):
            with contextlib.suppress(ByreError):
                ask()


def mutate(data: bytearray, source: random.Random, places: list[tuple[int, int]]) -> bytearray:
    """A copy with 1 to 12 changes inside the places ``(offset, length)`` that matter."""
    changed = bytearray(data)
    for _ in range(source.randint(1, 12)):
        start, length = source.choice(places)
        at = start + source.randrange(length)
        width = source.choice((1, 1, 2, 4, 8))
        kind = source.random()
        if kind < 0.4:
            value = bytes(source.choice(INTERESTING) for _ in range(width))
        elif kind < 0.7:
            value = source.randbytes(width)
        elif kind < 0.85:
            other, other_length = source.choice(places)
            begin = other + source.randrange(other_length)
            value = bytes(changed[begin : begin + source.choice((8, 32, 64))])
        else:
            changed[at] ^= 1 << source.randrange(8)
            continue
        changed[at : at + len(value)] = value[: max(0, len(changed) - at)]
    return changed


def damage(label: str, data: bytearray, places: list[tuple[int, int]]) -> None:
    assert exercise(data) > 3
    alive = fuzz(label, CASES, lambda source: exercise(mutate(data, source, places)) > 0)
    assert alive > case_count(CASES) // 4, "the changes leave too little alive to prove anything"


@pytest.fixture(scope="module")
def small_ntfs(tmp_path_factory: pytest.TempPathFactory) -> bytearray:
    image = mkntfs(tmp_path_factory.mktemp("ntfs") / "small.img", 2 << 20)
    source = random.Random(1)
    with mounted(image) as root:
        (root / "dir").mkdir()
        for number in range(12):
            (root / "dir" / f"file {number}").write_bytes(source.randbytes(number * 150))
        (root / "dir" / "file 3:stream").write_bytes(b"stream")
        (root / "packed").mkdir()
        set_attributes(root / "packed", 0x810)
        (root / "packed" / "text").write_bytes(text_like(source, 9_000))
        with (root / "sparse").open("wb") as file:
            for number in range(60):
                file.seek(number * 131_072)
                file.write(b"x")
        for number in range(12):
            (root / f"link {number} {'z' * 90}").hardlink_to(root / "sparse")
        (root / "gone").write_bytes(b"gone" * 1000)
        (root / "gone").unlink()
    return bytearray(image.read_bytes())


def test_damaged_ntfs(small_ntfs: bytearray) -> None:
    """Boot sectors and MFT records. Changes miss the last bytes of a sector, so that most get past the fixups."""
    cluster = 4096
    mft = int.from_bytes(small_ntfs[0x30:0x38], "little") * cluster
    records = [mft + 1024 * number for number in (*range(12), *range(24, 64))]
    places = [(0x0B, 0x50)] + [(start + 0x10, 480) for start in records] * 3 + [(start, 0x30) for start in records]
    damage("ntfs", small_ntfs, places)


def test_damaged_ntfs_runs_and_lists(small_ntfs: bytearray) -> None:
    """The tails of the records: mapping pairs, attribute lists, names."""
    mft = int.from_bytes(small_ntfs[0x30:0x38], "little") * 4096
    records = [mft + 1024 * number for number in (0, 2, 5, 6, *range(24, 64))]
    places = [(start + 0x98, 200) for start in records] + [(mft, 0x400)]
    damage("ntfs runs", small_ntfs, places)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_damaged_fat(tmp_path: Path, bits: int) -> None:
    size = {12: 1_474_560, 16: 5 << 20, 32: 34 << 20}[bits]
    options = () if bits == 12 else ("-s", "1")
    image = tmp_path / "fat.img"
    make_fat(image, bits, size, tmp_path, *options)
    data = bytearray(image.read_bytes())
    reserved = int.from_bytes(data[0x0E:0x10], "little") * 512
    fat_sectors = int.from_bytes(data[0x16:0x18], "little") or int.from_bytes(data[0x24:0x28], "little")
    root = reserved + 2 * fat_sectors * 512
    places = [(0x0B, 0x40), (reserved, 600), (root, 1500), (root, 1500), (reserved, min(600, fat_sectors * 512))]
    if bits == 32:  # mtools refuses a FAT32 any smaller, and copying 34 MB for each case would be most of the time
        del data[2 << 20 :]
    damage(f"fat{bits}", data, places)


def test_damaged_exfat(tmp_path: Path) -> None:
    builder = ExfatBuilder(tmp_path / "exfat.img", 4 << 20)
    for number in range(10):
        builder.add(f"file {number} with a name", bytes(5000 * number), scattered=number % 2 == 1)
    data = bytearray(builder.save().read_bytes())
    root = builder.at(builder.root)
    damage("exfat", data, [(0x40, 0x40), (builder.fat, 400), (root, 1600), (root, 1600), (12 * 512 + 0x40, 0x40)])


def test_an_exfat_volume_of_two_milliards_of_clusters_is_not_counted(tmp_path: Path) -> None:
    builder = ExfatBuilder(tmp_path / "exfat.img", 4 << 20)
    data = bytearray(builder.save().read_bytes())
    for boot in (0, 12 * 512):
        data[boot + 0x5C : boot + 0x60] = (1 << 31).to_bytes(4, "little")
    [volume] = open_volumes(memory_disk(data))
    assert volume.filesystem is not None
    with pytest.raises(UnsupportedError) as caught:
        volume.filesystem.check()
    assert caught.value.found == 1 << 31


@pytest.mark.parametrize("names", ["-J", "-R"])
def test_damaged_iso9660(source_tree: Path, tmp_path: Path, names: str) -> None:
    image = tmp_path / "disc.iso"
    run_tool(
        "xorriso", "-as", "mkisofs", "-quiet", names, "-b", "boot.bin", "-no-emul-boot", "-o", image, source_tree
    )
    data = bytearray(image.read_bytes())
    places = [(0x8000, 2048), (0x8800, 2048), (0x9000, 2048), (18 * 2048, 12 * 2048), (20 * 2048, 6 * 2048)]
    places = [(start, length) for start, length in places if start + length <= len(data)]
    damage(f"iso9660 {names}", data, places)


def test_damaged_partition_tables() -> None:
    def case(source: random.Random) -> None:
        data = bytearray(1 << 20)
        data[0x1BE:0x1FE] = source.randbytes(64)
        data[510:512] = b"\x55\xaa"
        for slot in range(4):
            data[0x1BE + 16 * slot + 4] = source.choice((5, 7, 0x0F, 0xEE, 0x42, 0))
            data[0x1BE + 16 * slot + 8 : 0x1BE + 16 * slot + 16] = source.choice(
                (source.randbytes(8), bytes([source.randrange(200), 0, 0, 0, 200, 0, 0, 0]))
            )
        for sector in range(1, 200):
            at = sector * 512
            data[at + 0x1BE : at + 0x1DE] = bytes(data[0x1BE + 16 : 0x1BE + 48])
            data[at + 0x1CE + 4] = 5
            data[at + 0x1CE + 8 : at + 0x1CE + 12] = bytes([source.randrange(200), 0, 0, 0])
            data[at + 510 : at + 512] = b"\x55\xaa"
        exercise(data)

    fuzz("partition tables", CASES, case)


def _directory_bomb(image: Path, folder: Path) -> bytearray:
    """A FAT whose root holds many directories that all start inside one long chain."""
    make_fat(image, 16, 8 << 20, folder, "-s", "1")
    data = bytearray(image.read_bytes())
    reserved = int.from_bytes(data[0x0E:0x10], "little") * 512
    fat = int.from_bytes(data[0x16:0x18], "little") * 512
    root = reserved + 2 * fat
    start = root + 512 * 32
    for cluster in range(2, 4098):
        data[reserved + 2 * cluster : reserved + 2 * cluster + 2] = (cluster + 1).to_bytes(2, "little")
        for slot in range(16):
            at = start + (cluster - 2) * 512 + slot * 32
            entry = bytearray(32)
            entry[:11] = f"{cluster:05}{slot:02}    ".encode()
            entry[11] = 0x10
            entry[26:28] = (2 + (cluster * 16 + slot) % 4096).to_bytes(2, "little")
            data[at : at + 32] = entry
    data[root : root + 512] = data[start : start + 512]
    return data


def test_directories_that_share_one_chain_are_read_once(tmp_path: Path) -> None:
    data = _directory_bomb(tmp_path / "bomb.img", tmp_path)
    [volume] = open_volumes(memory_disk(data))
    assert volume.filesystem is not None
    with at_most(seconds=20):
        count = sum(1 for _ in volume.filesystem.walk())
    assert count < 100_000
    assert "fat16.directory-twice" in volume.filesystem.problems.codes
