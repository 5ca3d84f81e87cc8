"""What every disk format promises behind the ``Disk`` protocol, whatever its file looks like.

A row of ``KINDS`` for each kind of image that can be written; a kind that is only read joins through an image
made by qemu-img.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from builders.mixture import mixture
from builders.qemu import qemu_img
from byre.convert.convert import convert_image
from byre.disks.disk import CheckedDisk, CompactableDisk, Disk, ResizableDisk, WritableDisk
from byre.disks.formats import FORMATS
from byre.disks.opening import open_disk
from byre.errors import ByreError, UnsupportedError, UsageError
from byre.extents import Kind

SIZE = (5 << 20) + 7 * 512


@dataclass(frozen=True, slots=True)
class Make:
    """One kind of image. ``qemu``: qemu-img's name for a format that Byre doesn't write."""

    format: str
    options: dict[str, object] = field(default_factory=dict)
    qemu: str | None = None

    def __str__(self) -> str:
        return "-".join([self.format, *(str(value) for value in self.options.values())])


KINDS = [
    Make("raw"),
    Make("qcow2"),
    Make("qcow2", {"cluster_size": 512}),
    Make("qcow2", {"cluster_size": 2 << 20}),
    Make("qcow2", {"extended_l2": True}),
    Make("qcow2", {"version": 2}),
    Make("qcow2", {"compress": True, "compression": "zlib"}),
    Make("qcow2", {"compress": True, "compression": "zstd"}),
    Make("vdi"),
    Make("vdi", {"subformat": "fixed"}),
    Make("vdi", {"block_size": 4096}),
    Make("vhd"),
    Make("vhd", {"subformat": "fixed"}),
    Make("vhd", {"block_size": 4096}),
    Make("vhdx"),
    Make("vhdx", {"subformat": "fixed"}),
    Make("vhdx", {"block_size": 1 << 20, "sector_size": 4096}),
    Make("vmdk"),
    Make("vmdk", {"subformat": "monolithicFlat"}),
    Make("vmdk", {"subformat": "twoGbMaxExtentSparse"}),
    Make("vmdk", {"subformat": "streamOptimized"}),
    Make("vmdk", {"grain_size": 4096}),
    Make("qcow", qemu="qcow"),
]
CONTENT = mixture(SIZE, 21)


def make(folder: Path, kind: Make) -> Path:
    """An image of this kind that holds CONTENT."""
    raw, path = folder / "content.raw", folder / f"disk.{kind.format}"
    raw.write_bytes(CONTENT)
    if kind.qemu is not None:
        qemu_img("convert", "-f", "raw", "-O", kind.qemu, raw, path)
        return path
    if path == folder / "disk.raw":
        raw.rename(folder / "source.img")
        raw = folder / "source.img"
    with open_disk(raw, format="raw") as source:
        convert_image(source, path, kind.format, kind.options)
    return path


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


@pytest.fixture(scope="module")
def image(kind: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("contract"), kind)


@pytest.fixture
def disk(image: Path, kind: Make) -> Iterator[Disk]:
    with open_disk(image, format=None if kind.format != "raw" else "raw") as opened:
        yield opened


@pytest.fixture
def writable(kind: Make, tmp_path: Path) -> Iterator[WritableDisk]:
    """A fresh copy open for writing; skipped where the kind isn't written to in place."""
    path = make(tmp_path, kind)
    try:
        opened = open_disk(path, writable=True)
    except UnsupportedError as error:
        pytest.skip(str(error))
    with opened:
        if not isinstance(opened, WritableDisk):
            pytest.skip(f"{kind} is only read")
        yield opened


def padded(disk: Disk) -> bytes:
    """What the disk must hold: some formats round the size up, and what is added is zeros."""
    assert SIZE <= disk.size < SIZE + 4096
    return CONTENT + bytes(disk.size - SIZE)


def changed(disk: WritableDisk, kind: Make) -> WritableDisk:
    """Skips where an image of this kind refuses a first write with UnsupportedError."""
    try:
        disk.write(0, CONTENT[:512])
    except UnsupportedError as error:
        pytest.skip(str(error))
    return disk


def test_every_format_that_is_read_is_in_this_suite() -> None:
    assert {entry.name for entry in FORMATS if entry.module} == {kind.format for kind in KINDS}
    assert {entry.name for entry in FORMATS if entry.writes} == {kind.format for kind in KINDS if kind.qemu is None}


def test_the_content_comes_back(disk: Disk) -> None:
    assert disk.read(0, disk.size) == padded(disk)


def test_the_disk_says_what_it_is(disk: Disk, kind: Make) -> None:
    description = disk.describe()
    assert (description.format, description.virtual_size) == (kind.format, disk.size)
    assert disk.sector_size == description.sector_size and disk.size % disk.sector_size == 0
    assert disk.block_size > 0 and not disk.writable and disk.files


def test_reads_at_odd_offsets_give_the_same_bytes(disk: Disk) -> None:
    rng, whole = random.Random(1), padded(disk)
    for _ in range(200):
        offset = rng.randrange(disk.size)
        length = min(rng.choice([0, 1, 3, 511, 513, 4097, 70_001, 1_100_000]), disk.size - offset)
        assert disk.read(offset, length) == whole[offset : offset + length]


@pytest.mark.parametrize("reach", ["after", "across", "before", "far"])
def test_a_read_that_leaves_the_disk_is_a_usage_error(disk: Disk, reach: str) -> None:
    offset, length = {
        "after": (disk.size, 1),
        "across": (disk.size - 1, 2),
        "before": (-1, 1),
        "far": (1 << 62, 512),
    }[reach]
    with pytest.raises(UsageError):
        disk.read_into(offset, bytearray(length))


def test_extents_cover_the_disk_once_and_in_order(disk: Disk) -> None:
    position = 0
    for table in disk.extents():
        assert len(table) and (table["length"] > 0).all()
        assert int(table["start"][0]) == position
        assert (table["start"][1:] == table["start"][:-1] + table["length"][:-1]).all()
        position = int(table["start"][-1] + table["length"][-1])
        assert np.isin(table["kind"], [int(kind) for kind in Kind]).all()
        stored = table[(table["kind"] == Kind.DATA) | (table["kind"] == Kind.COMPRESSED)]
        assert ((stored["file"] >= 0) & (stored["file"] < len(disk.files)) & (stored["host"] >= 0)).all()
        assert (table["host"][table["kind"] == Kind.UNALLOCATED] == -1).all()
    assert position == disk.size


def test_extents_of_a_range_cover_just_that_range(disk: Disk) -> None:
    rng = random.Random(2)
    for _ in range(40):
        start, stop = sorted(rng.sample(range(disk.size), 2))
        tables = list(disk.extents(start, stop))
        assert int(tables[0]["start"][0]) == start
        assert int(tables[-1]["start"][-1] + tables[-1]["length"][-1]) == stop
        assert sum(int(table["length"].sum()) for table in tables) == stop - start


def test_extents_tell_the_truth(disk: Disk) -> None:
    """Data lies where its row says, and what isn't stored reads as zeros."""
    whole = padded(disk)
    for table in disk.extents():
        for start, length, kind, host, _, file, _ in table.tolist():
            expected = whole[start : start + length]
            if kind == Kind.DATA:
                storage = disk.files[file]
                inside = max(0, min(length, storage.size - host))
                assert storage.read(host, inside) == expected[:inside] and not any(expected[inside:])
            elif kind != Kind.COMPRESSED:
                assert not any(expected)


def test_concurrent_reads_do_not_disturb_each_other(disk: Disk) -> None:
    whole = padded(disk)

    def look(seed: int) -> bool:
        rng = random.Random(seed)
        for _ in range(60):
            offset = rng.randrange(disk.size)
            length = min(rng.randrange(200_000), disk.size - offset)
            if disk.read(offset, length) != whole[offset : offset + length]:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(look, range(16)))


def test_an_image_opened_for_reading_is_not_written_to(image: Path, disk: Disk) -> None:
    before = image.read_bytes()
    if isinstance(disk, WritableDisk):
        with pytest.raises(ByreError):
            disk.write(0, b"x" * 512)
    assert image.read_bytes() == before


def test_a_fresh_image_is_sound(disk: Disk) -> None:
    if isinstance(disk, CheckedDisk):
        report = disk.check()
        assert report.exit_status == 0, report.problems


def test_writes_zeros_and_discards_are_kept(writable: WritableDisk, kind: Make) -> None:
    disk = changed(writable, kind)
    rng, model = random.Random(3), bytearray(padded(disk))
    for _ in range(60):
        offset = rng.randrange(disk.size)
        length = min(rng.choice([1, 511, 512, 4096, 65_536, 300_001]), disk.size - offset)
        match rng.randrange(3):
            case 0:
                data = rng.randbytes(length)
                disk.write(offset, data)
                model[offset : offset + length] = data
            case 1:
                disk.write_zeroes(offset, length)
                model[offset : offset + length] = bytes(length)
            case _:
                disk.discard(offset, length)
                now = disk.read(offset, length)
                was = model[offset : offset + length]
                assert all(new in (0, old) for new, old in zip(now, was, strict=True))
                model[offset : offset + length] = now
        assert disk.read(offset, length) == model[offset : offset + length]
    disk.flush()
    path = disk.files[0].path
    assert path is not None
    disk.close()
    with open_disk(path, format=kind.format) as again:
        assert again.read(0, again.size) == model
        if isinstance(again, CheckedDisk):
            assert again.check().corruptions == 0


@pytest.mark.parametrize("verb", ["write", "write_zeroes", "discard"])
def test_a_change_that_leaves_the_disk_is_a_usage_error(writable: WritableDisk, kind: Make, verb: str) -> None:
    disk = changed(writable, kind)
    before = disk.read(0, disk.size)
    for offset in (disk.size - 1, disk.size, -1, 1 << 60):
        with pytest.raises(UsageError):
            getattr(disk, verb)(offset, b"xx" if verb == "write" else 2)
    assert disk.read(0, disk.size) == before


def test_a_resized_disk_keeps_its_bytes_and_reads_zeros_behind(writable: WritableDisk, kind: Make) -> None:
    if not isinstance(writable, ResizableDisk):
        pytest.skip(f"{kind} is resized elsewhere or not at all")
    before = writable.read(0, writable.size)
    size = writable.size + (9 << 20)
    try:
        writable.resize(size)
    except UnsupportedError as error:
        pytest.skip(str(error))
    writable.flush()
    path = writable.files[0].path
    assert path is not None
    writable.close()
    with open_disk(path, format=kind.format) as again:
        assert again.size == size
        assert again.read(0, len(before)) == before and not any(again.read(len(before), size - len(before)))


def test_a_compacted_disk_is_no_longer_and_reads_the_same(writable: WritableDisk, kind: Make) -> None:
    if not isinstance(writable, CompactableDisk):
        pytest.skip(f"{kind} is compacted elsewhere or not at all")
    disk = changed(writable, kind)
    disk.write_zeroes(1 << 20, 3 << 20)
    before = disk.read(0, disk.size)
    path = disk.files[0].path
    assert path is not None
    length = path.stat().st_size
    try:
        saved = disk.compact()  # type: ignore[attr-defined]
    except UnsupportedError as error:
        pytest.skip(str(error))
    disk.close()
    assert saved >= 0 and path.stat().st_size <= length
    with open_disk(path, format=kind.format) as again:
        assert again.read(0, again.size) == before
        if isinstance(again, CheckedDisk):
            assert again.check().exit_status == 0


def test_a_conversion_that_fails_leaves_nothing(kind: Make, tmp_path: Path) -> None:
    if kind.qemu is not None:
        pytest.skip("not written")
    (tmp_path / "content.img").write_bytes(CONTENT)
    calls = iter(range(1000))
    with open_disk(tmp_path / "content.img", format="raw") as source, pytest.raises(ByreError):
        convert_image(
            source,
            tmp_path / f"out.{kind.format}",
            kind.format,
            kind.options,
            threads=1,
            cancelled=lambda: next(calls) > 0,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["content.img"]


def test_an_unknown_option_is_a_usage_error_and_leaves_nothing(kind: Make, tmp_path: Path) -> None:
    if kind.qemu is not None:
        pytest.skip("not written")
    (tmp_path / "content.img").write_bytes(CONTENT)
    with open_disk(tmp_path / "content.img", format="raw") as source, pytest.raises(UsageError):
        convert_image(source, tmp_path / f"out.{kind.format}", kind.format, {"no_such_option": 1})
    assert [path.name for path in tmp_path.iterdir()] == ["content.img"]
