"""Writes in place, resizing and compacting, the same for VDI and VHD: against a model, and cut anywhere."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from builders.opened import folder_context
from builders.qemu import qemu_img
from builders.written import write_image
from byre.disks.disk import CheckedDisk, CompactableDisk, ResizableDisk, WritableDisk
from byre.disks.formats import format_named
from byre.disks.opening import open_disk
from byre.errors import UnsupportedError, UsageError
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states

SIZE = 200 * 1024 + 512
BLOCK = 16 * 1024
KINDS = [
    ("vdi", "dynamic"),
    ("vdi", "fixed"),
    ("vdi", "differencing"),
    ("vhd", "dynamic"),
    ("vhd", "fixed"),
    ("vhd", "differencing"),
]
GROWABLE = [kind for kind in KINDS if kind != ("vhd", "differencing")]
COMPACTABLE = [kind for kind in KINDS if kind[1] != "fixed"]


def some_bytes(rng: random.Random, size: int, pieces: int = 5) -> bytearray:
    data = bytearray(size)
    for _ in range(pieces):
        begin = rng.randrange(size)
        count = min(size - begin, rng.randrange(1, 40_000))
        data[begin : begin + count] = rng.randbytes(count)
    return data


def make(folder: Path, format: str, subformat: str, seed: int) -> tuple[Path, bytearray]:
    """An image of that kind in the folder, its parent beside it; and what it reads as."""
    rng = random.Random(seed)
    options: dict[str, Any] = {"subformat": subformat}
    if subformat != "fixed":
        options["block_size"] = BLOCK
    path = folder / f"image.{format}"
    if subformat != "differencing":
        data = some_bytes(rng, SIZE)
        return write_image(path, format, bytes(data), **options), data
    data = some_bytes(rng, SIZE)
    write_image(folder / f"base.{format}", format, bytes(data), subformat="dynamic")
    over = {2 * BLOCK: rng.randbytes(BLOCK), 5 * BLOCK: bytes(BLOCK)}
    for offset, piece in over.items():
        data[offset : offset + len(piece)] = piece
    write_image(path, format, over, SIZE, backing_file=f"base.{format}", **options)
    return path, data


def change(disk: WritableDisk, model: bytearray, rng: random.Random, count: int) -> None:
    for _ in range(count):
        begin = rng.randrange(len(model))
        length = min(len(model) - begin, rng.choice((1, 512, 700, 4096, BLOCK, 3 * BLOCK)))
        if rng.random() < 0.5:
            begin -= begin % 512
        match rng.randrange(5):
            case 0 | 1 | 2:
                data = rng.randbytes(length)
                disk.write(begin, data)
                model[begin : begin + length] = data
            case 3:
                disk.write_zeroes(begin, length)
                model[begin : begin + length] = bytes(length)
            case _:
                disk.discard(begin, length)
                now = disk.read(begin, length)
                for mine, old in zip(now, model[begin : begin + length], strict=True):
                    assert mine in (0, old)
                model[begin : begin + length] = now
        if rng.random() < 0.2:
            disk.flush()


@pytest.mark.parametrize(("format", "subformat"), KINDS)
@pytest.mark.parametrize("seed", [1, 2])
def test_random_writes_read_back_and_leave_a_sound_image(
    tmp_path: Path, format: str, subformat: str, seed: int
) -> None:
    path, model = make(tmp_path, format, subformat, seed)
    rng = random.Random(seed)
    for _ in range(3):
        with open_disk(path, writable=True) as disk:
            assert isinstance(disk, WritableDisk)
            change(disk, model, rng, 25)
            assert disk.read(0, SIZE) == model
        with open_disk(path) as disk:
            assert isinstance(disk, CheckedDisk)
            assert disk.read(0, SIZE) == model
            assert disk.check().problems == ()
            at = rng.randrange(SIZE - 5000)
            assert disk.read(at, 5000) == model[at : at + 5000]


@pytest.mark.parametrize("format", ["vdi", "vhd"])
def test_a_parent_is_not_changed_by_writes_to_its_child(tmp_path: Path, format: str) -> None:
    path, model = make(tmp_path, format, "differencing", 3)
    before = (tmp_path / f"base.{format}").read_bytes()
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, WritableDisk)
        change(disk, model, random.Random(3), 40)
    assert (tmp_path / f"base.{format}").read_bytes() == before


@pytest.mark.oracle
@pytest.mark.parametrize(("format", "subformat"), [kind for kind in KINDS if kind[1] != "differencing"])
def test_qemu_reads_what_was_written_in_place_grown_and_compacted(
    tmp_path: Path, format: str, subformat: str
) -> None:
    rng = random.Random(4)
    data = some_bytes(rng, 5 << 20)
    path = write_image(tmp_path / f"i.{format}", format, bytes(data), subformat=subformat)
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, ResizableDisk)
        change(disk, data, rng, 30)
        disk.resize((9 << 20) + 512)
        data += bytes((4 << 20) + 512)
        change(disk, data, rng, 30)
        disk.write_zeroes(0, 3 << 20)
        data[: 3 << 20] = bytes(3 << 20)
        if isinstance(disk, CompactableDisk) and subformat == "dynamic":
            disk.compact()
    raw = tmp_path / "raw"
    raw.write_bytes(data)
    qemu_img("compare", "-f", "vpc" if format == "vhd" else format, "-F", "raw", path, raw)
    if format == "vdi":
        qemu_img("check", "-f", "vdi", path)


@pytest.mark.parametrize(("format", "subformat"), GROWABLE)
@pytest.mark.parametrize("size", [SIZE + 512, 300_032, 40 << 20])
def test_growing_keeps_the_data_and_adds_zeros(tmp_path: Path, format: str, subformat: str, size: int) -> None:
    path, model = make(tmp_path, format, subformat, 5)
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, ResizableDisk)
        disk.resize(size)
        assert disk.size == size
        disk.write(size - 512, b"e" * 512)
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        assert disk.size == size
        assert disk.read(0, SIZE) == model
        assert disk.read(SIZE, size - SIZE - 512) == bytes(size - SIZE - 512)
        assert disk.read(size - 512, 512) == b"e" * 512
        assert disk.check().corruptions == 0


@pytest.mark.parametrize("format", ["vdi", "vhd"])
def test_a_map_that_has_no_room_to_grow_moves(tmp_path: Path, format: str) -> None:
    data = random.Random(6).randbytes(200_192)
    path = write_image(tmp_path / f"i.{format}", format, data, subformat="dynamic", block_size=4096)
    size = 2 << 30  # half a million entries: 2 MiB of map, more than lies before the first block
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, ResizableDisk)
        disk.resize(size)
        disk.write(size - 4096, b"x" * 4096)
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        assert disk.size == size
        assert disk.read(0, 300_000) == data + bytes(300_000 - len(data))
        assert disk.read(size - 4096, 4096) == b"x" * 4096
        assert disk.check().corruptions == 0


@pytest.mark.parametrize(("format", "subformat"), GROWABLE)
def test_shrinking_cuts_the_end_and_a_later_growth_reads_zeros(tmp_path: Path, format: str, subformat: str) -> None:
    path, model = make(tmp_path, format, subformat, 7)
    small = 100 * 1024 - 512
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, ResizableDisk)
        disk.resize(small)
        assert disk.read(0, small) == model[:small]
        disk.resize(SIZE)
    with open_disk(path) as disk:
        assert disk.read(0, SIZE) == model[:small] + bytes(SIZE - small)


@pytest.mark.parametrize(("format", "subformat"), COMPACTABLE)
def test_compacting_gives_back_zero_blocks_and_keeps_every_byte(tmp_path: Path, format: str, subformat: str) -> None:
    path, model = make(tmp_path, format, subformat, 8)
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, CompactableDisk)
        disk.write(0, b"a" * SIZE)
        disk.write_zeroes(BLOCK, 6 * BLOCK)
        disk.flush()
        model[:] = b"a" * SIZE
        model[BLOCK : 7 * BLOCK] = bytes(6 * BLOCK)
        before = path.stat().st_size
        given = disk.compact()
        assert disk.read(0, SIZE) == model
        assert before - path.stat().st_size == given
        if (format, subformat) != ("vhd", "differencing"):  # which has to store the zeros that hide its parent
            assert given >= 6 * BLOCK
        assert disk.compact() == 0
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        assert disk.read(0, SIZE) == model
        assert disk.check().problems == ()


@pytest.mark.parametrize("format", ["vdi", "vhd"])
def test_a_disk_opened_for_reading_refuses_changes(tmp_path: Path, format: str) -> None:
    path, _ = make(tmp_path, format, "dynamic", 9)
    with open_disk(path) as disk:
        assert isinstance(disk, CompactableDisk)
        assert isinstance(disk, ResizableDisk)
        for attempt in (lambda: disk.write(0, b"x"), lambda: disk.resize(SIZE * 2), disk.compact):
            with pytest.raises(UsageError):
                attempt()


def test_a_fixed_vdi_is_not_compacted(tmp_path: Path) -> None:
    path, _ = make(tmp_path, "vdi", "fixed", 9)
    with open_disk(path, writable=True) as disk, pytest.raises(UnsupportedError):
        disk.compact()  # type: ignore[attr-defined]


def test_a_differencing_vhd_keeps_its_parents_size(tmp_path: Path) -> None:
    path, _ = make(tmp_path, "vhd", "differencing", 9)
    with open_disk(path, writable=True) as disk, pytest.raises(UnsupportedError):
        disk.resize(SIZE * 2)  # type: ignore[attr-defined]


# Cuts


def reopened(state: bytes, format: str, folder: Path, *, writable: bool = False) -> Any:
    return format_named(format).load().open_disk(MemoryStorage(state), folder_context(folder, writable=writable))


@pytest.mark.parametrize(("format", "subformat"), KINDS)
def test_a_cut_while_writing_leaves_old_or_new_sectors(tmp_path: Path, format: str, subformat: str) -> None:
    path, old = make(tmp_path, format, subformat, 10)
    base = path.read_bytes()
    storage = RecordingStorage(base)
    disk = format_named(format).load().open_disk(storage, folder_context(tmp_path, writable=True))
    assert isinstance(disk, WritableDisk)
    rng = random.Random(10)
    seen = [{bytes(old[at : at + 512])} for at in range(0, SIZE, 512)]
    for _ in range(25):
        begin = rng.randrange(0, SIZE - 512, 512)
        length = min(SIZE - begin, rng.choice((512, 1536, BLOCK, 2 * BLOCK)))
        data = bytes(length) if rng.random() < 0.3 else rng.randbytes(length)
        disk.write(begin, data) if any(data) else disk.write_zeroes(begin, length)
        for at in range(0, length, 512):
            seen[(begin + at) // 512].add(data[at : at + 512])
        if rng.random() < 0.15:
            disk.flush()
    disk.close()
    for state in crash_states(storage.log, base, random.Random(10), limit=120):
        after = reopened(state, format, tmp_path)
        content = after.read(0, SIZE)
        for number, allowed in enumerate(seen):
            assert content[number * 512 : number * 512 + 512] in allowed
        assert after.check().corruptions <= (1 if format == "vhd" else 0)  # the footer at the end, of two
        again = reopened(state, format, tmp_path, writable=True)
        again.write(0, b"z" * 512)
        again.close()
        assert again.check().corruptions == 0


@pytest.mark.parametrize(("format", "subformat"), COMPACTABLE)
def test_a_cut_while_compacting_leaves_the_same_disk(tmp_path: Path, format: str, subformat: str) -> None:
    path, _ = make(tmp_path, format, subformat, 11)
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, WritableDisk)
        disk.write(0, random.Random(11).randbytes(SIZE))
        disk.write_zeroes(BLOCK, 5 * BLOCK)
        model = disk.read(0, SIZE)
    base = path.read_bytes()
    storage = RecordingStorage(base)
    compacting = format_named(format).load().open_disk(storage, folder_context(tmp_path, writable=True))
    assert isinstance(compacting, CompactableDisk)
    compacting.compact()
    for state in crash_states(storage.log, base, random.Random(11), limit=100):
        after = reopened(state, format, tmp_path)
        assert after.read(0, SIZE) == model
        assert after.check().corruptions <= (1 if format == "vhd" else 0)


@pytest.mark.parametrize(("format", "subformat"), GROWABLE)
@pytest.mark.parametrize("size", [SIZE + BLOCK, 100 * 1024])
def test_a_cut_while_resizing_leaves_the_old_or_the_new_disk(
    tmp_path: Path, format: str, subformat: str, size: int
) -> None:
    path, model = make(tmp_path, format, subformat, 12)
    base = path.read_bytes()
    storage = RecordingStorage(base)
    disk = format_named(format).load().open_disk(storage, folder_context(tmp_path, writable=True))
    assert isinstance(disk, ResizableDisk)
    disk.resize(size)
    common = min(size, SIZE)
    for state in crash_states(storage.log, base, random.Random(12), limit=100):
        after = reopened(state, format, tmp_path)
        assert after.size in (SIZE, size)
        if (format, subformat) == ("vhd", "fixed") and size < SIZE and after.size == SIZE:
            common = size  # the new footer lies in what was to go
        assert after.read(0, common) == model[:common]
        if after.size > SIZE and (format, subformat) != ("vhd", "fixed"):
            assert after.read(SIZE, size - SIZE) == bytes(size - SIZE)


@pytest.mark.parametrize("format", ["vdi", "vhd"])
def test_a_cut_while_the_map_moves_leaves_the_old_or_the_new_disk(tmp_path: Path, format: str) -> None:
    data = random.Random(13).randbytes(30 * 4096)
    path = write_image(tmp_path / f"i.{format}", format, data, subformat="dynamic", block_size=4096)
    size = 1100 << 20
    base = path.read_bytes()
    storage = RecordingStorage(base)
    disk = format_named(format).load().open_disk(storage, folder_context(tmp_path, writable=True))
    assert isinstance(disk, ResizableDisk)
    disk.resize(size)
    for state in crash_states(storage.log, base, random.Random(13), limit=60):
        after = reopened(state, format, tmp_path)
        assert after.size in (len(data), size)
        assert after.read(0, len(data)) == data
        if after.size == size:
            assert not any(after.read(len(data), 100_000))
