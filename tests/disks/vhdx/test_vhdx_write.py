"""New VHDX files, and changing existing ones: random writes, growing, shrinking, packing, and cuts anywhere."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from builders.opened import open_in_memory
from builders.qemu import qemu_img
from builders.vhdx import FULLY, MIB, Vhdx, header
from builders.written import write_image
from byre.disks.disk import CheckedDisk, WritableDisk
from byre.disks.opening import open_disk
from byre.disks.raw import RawDisk
from byre.disks.vhdx import open_disk as open_vhdx
from byre.disks.vhdx.edit import WritableVhdxDisk
from byre.disks.vhdx.image import VhdxDisk
from byre.disks.vhdx.structures import read_bat, read_structures
from byre.errors import CorruptImageError, UnsupportedError, UsageError
from byre.extents import Kind
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states


def raw_of(image: Path) -> bytes:
    out = image.with_suffix(".raw")
    qemu_img("convert", "-f", "vhdx", "-O", "raw", image, out)
    return out.read_bytes()


# -- new files


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("size", "options"),
    [
        (512, {}),
        (3 * MIB + 512, {"block_size": "1M"}),
        (40 * MIB, {"block_size": 4 * MIB}),
        (20 * MIB + 1536, {"subformat": "fixed"}),
        (64 * MIB, {"block_size": "256M"}),
        (9 * MIB, {"physical_sector_size": 4096}),
    ],
)
def test_qemu_img_reads_what_was_written(tmp_path: Path, size: int, options: dict[str, object]) -> None:
    rng = random.Random(size)
    data = {0: b"start", size - 5: b"ended"}
    for _ in range(5):
        offset = rng.randrange(size)
        data[offset] = rng.randbytes(min(size - offset, 70_000))
    image = tmp_path / "a.vhdx"
    write_image(image, "vhdx", data, size, **options)
    expect = bytearray(size)
    for offset in sorted(data):
        expect[offset : offset + len(data[offset])] = data[offset]
    with open_disk(image) as disk:
        # Where the pieces overlap the writer's own order counts: take what Byre reads, and compare both.
        ours = disk.read(0, disk.size)
        assert disk.size == size
        assert isinstance(disk, CheckedDisk) and disk.check().exit_status == 0
    assert raw_of(image)[:size] == ours
    assert ours[:5] == b"start" or 0 in [offset for offset in data if offset < 5]
    qemu_img("check", "-f", "vhdx", image)


@pytest.mark.oracle
def test_sparse_disk_beyond_two_tebibytes(tmp_path: Path) -> None:
    size = (2 << 40) + MIB
    image = tmp_path / "big.vhdx"
    write_image(image, "vhdx", {0: b"a", (2 << 40) - 1: b"bc"}, size)
    with open_disk(image) as disk:
        assert disk.read((2 << 40) - 1, 3) == b"bc\0"
        assert image.stat().st_size < 32 * MIB
    assert '"virtual-size": 2199024304128' in qemu_img("info", "--output=json", image)
    qemu_img("check", image)


def test_blocks_that_were_never_placed_are_said_to_be_zeros(tmp_path: Path) -> None:
    write_image(tmp_path / "a.vhdx", "vhdx", {}, 4 * MIB, block_size="1M")
    with open_disk(tmp_path / "a.vhdx") as disk:
        (table,) = disk.extents()
        assert [int(kind) for kind in table["kind"]] == [Kind.ZERO]


def test_sectors_of_4096_round_the_size_up(tmp_path: Path) -> None:
    write_image(tmp_path / "a.vhdx", "vhdx", {MIB: b"x"}, 2 * MIB + 512, sector_size=4096)
    with open_disk(tmp_path / "a.vhdx") as disk:
        assert (disk.size, disk.sector_size) == (2 * MIB + 4096, 4096)
        assert disk.read(MIB, 1) == b"x"


def test_guids_are_taken_as_given_and_else_fresh(tmp_path: Path) -> None:
    guid = "7f6e0f70-53fb-4c8e-9d8f-6b1d7f3a2c11"
    write_image(tmp_path / "a.vhdx", "vhdx", {}, MIB, disk_guid=guid, data_guid=guid)
    write_image(tmp_path / "b.vhdx", "vhdx", {}, MIB)
    with open_disk(tmp_path / "a.vhdx") as first, open_disk(tmp_path / "b.vhdx") as second:
        assert first.describe().details["disk_guid"] == guid == first.describe().details["data_guid"]
        assert second.describe().details["disk_guid"] not in (guid, str(UUID(int=0)))


def test_fixed_file_has_its_whole_length(tmp_path: Path) -> None:
    write_image(tmp_path / "a.vhdx", "vhdx", {}, 9 * MIB, subformat="fixed", block_size="2M")
    assert (tmp_path / "a.vhdx").stat().st_size == 4 * MIB + 10 * MIB
    with open_disk(tmp_path / "a.vhdx") as disk:
        assert disk.describe().subformat == "fixed"


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_file_without_holes_where_that_is_asked_for(tmp_path: Path, subformat: str) -> None:
    image = tmp_path / "a.vhdx"
    options = {"subformat": subformat, "sparse": "off", "block_size": "1M"}
    write_image(image, "vhdx", {0: b"x", 5 * MIB: b"end"}, 5 * MIB + 512, **options)
    with open_disk(image) as disk:
        storage = disk.files[0]
        assert list(storage.data_ranges(0, storage.size)) == [(0, storage.size)]
        assert disk.read(5 * MIB, 3) == b"end"


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "red"},
        {"subformat": "liquid"},
        {"block_size": 3 * MIB},
        {"block_size": 512 * MIB},
        {"sector_size": 1024},
        {"sector_size": 4096, "physical_sector_size": 512},
        {"disk_guid": "what"},
        {"backing_file": "a.vhdx", "subformat": "fixed"},
        {"subformat": "differencing"},
    ],
)
def test_impossible_options_are_usage_errors(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        write_image(tmp_path / "a.vhdx", "vhdx", {}, MIB, **options)


# -- writes in place


def model_run(disk: WritableVhdxDisk, model: bytearray, rng: random.Random, steps: int, *, fixed: bool) -> bytearray:
    """Random operations on the disk and on plain bytes."""
    for _ in range(steps):
        size = len(model)
        offset = rng.randrange(size)
        length = min(size - offset, rng.choice((1, 512, 4096, 100_000, MIB, 3 * MIB)))
        match rng.randrange(9):
            case 0 | 1 | 2 | 3:
                data = rng.randbytes(length)
                disk.write(offset, data)
                model[offset : offset + length] = data
            case 4:
                disk.write_zeroes(offset, length)
                model[offset : offset + length] = bytes(length)
            case 5:
                disk.discard(offset, length)
                now = disk.read(offset, length)
                kept = model[offset : offset + length]
                assert all(new in (0, old) for new, old in zip(now, kept, strict=True))
                model[offset : offset + length] = now
            case 6:
                disk.flush()
            case 7:
                new = max(512, size + rng.randrange(-2 * MIB, 3 * MIB) // 512 * 512)
                disk.resize(new)
                del model[new:]
                model.extend(bytes(max(0, new - size)))
            case 8 if not fixed:
                disk.compact()
    return model


@pytest.mark.oracle
@pytest.mark.parametrize("options", ["block_size=1M", "block_size=8M", "subformat=fixed,block_size=2M"])
def test_random_changes_to_qemu_images_read_the_same_everywhere(tmp_path: Path, options: str) -> None:
    rng = random.Random(len(options))
    image = tmp_path / "a.vhdx"
    qemu_img("create", "-q", "-f", "vhdx", "-o", options, image, str(9 * MIB + 512))
    with open_disk(image, writable=True) as disk:
        assert isinstance(disk, WritableVhdxDisk)
        model = model_run(disk, bytearray(disk.size), rng, 50, fixed="fixed" in options)
        assert disk.read(0, disk.size) == model
    with open_disk(image) as disk:
        assert disk.read(0, disk.size) == model
        assert isinstance(disk, CheckedDisk) and disk.check().corruptions == 0
    assert raw_of(image)[: len(model)] == model
    qemu_img("check", "-f", "vhdx", image)


def differencing(size: int = 6 * MIB, *, sector: int = 512) -> Vhdx:
    made = Vhdx(size, parent={"parent_linkage": f"{{{UUID(int=1)}}}", "relative_path": "x"}, sector_size=sector)
    made.physical_size = sector
    made.partial(1, dict.fromkeys(range(3, 40, 5), b"w" * sector))
    made.block(2, b"\x66" * MIB)
    return made


def open_child(storage: MemoryStorage, parent: bytes, *, writable: bool = False) -> VhdxDisk:
    structures = read_structures(storage)
    kind = WritableVhdxDisk if writable else VhdxDisk
    return kind(storage, structures, read_bat(storage, structures), RawDisk(MemoryStorage(parent)))


@pytest.mark.parametrize("sector", [512, 4096])
@pytest.mark.parametrize("seed", range(4))
def test_random_changes_to_a_child_never_lose_the_parent(seed: int, sector: int) -> None:
    rng = random.Random(seed)
    parent = rng.randbytes(4 * MIB + sector)  # shorter than the child
    storage = MemoryStorage(differencing(sector=sector).build())
    with open_child(storage, parent) as before:
        model = bytearray(before.read(0, before.size))
    with open_child(storage, parent, writable=True) as disk:
        assert isinstance(disk, WritableVhdxDisk)
        for round_number in range(4):
            for _ in range(8):
                offset = rng.randrange(len(model))
                length = min(len(model) - offset, rng.choice((1, 700, 5000, 300_000, 2 * MIB)))
                if rng.random() < 0.6:
                    data = rng.randbytes(length)
                    disk.write(offset, data)
                else:
                    data = bytes(length)
                    disk.write_zeroes(offset, length)
                model[offset : offset + length] = data
            assert disk.read(0, disk.size) == model
            disk.compact()
            assert disk.read(0, disk.size) == model
            if round_number == 1:
                new = len(model) - 3 * MIB + sector
                disk.resize(new)
                del model[new:]
                disk.resize(new + 4 * MIB)
                model.extend(bytes(4 * MIB))  # zeros, although the parent has bytes there
                assert disk.read(0, disk.size) == model
        assert disk.check().corruptions == 0
    with open_child(storage, parent) as disk:
        assert disk.read(0, disk.size) == model
        assert disk.check().corruptions == 0


def test_small_write_into_a_child_takes_one_block_and_one_bitmap() -> None:
    storage = MemoryStorage(differencing().build())
    size = storage.size
    with open_child(storage, b"\x55" * 6 * MIB, writable=True) as disk:
        disk.write(5 * MIB + 1, b"!")  # type: ignore[attr-defined]
        assert disk.read(5 * MIB, 3) == b"\x55!\x55"
    assert storage.size == size + MIB  # the chunk's bitmap was there already


def test_first_write_changes_what_children_know_the_disk_by() -> None:
    storage = MemoryStorage(Vhdx(4 * MIB).build())
    with open_in_memory(open_vhdx, storage) as disk:
        before = disk.describe().details
    with open_in_memory(open_vhdx, storage, writable=True) as disk:
        disk.compact()
    with open_in_memory(open_vhdx, storage) as disk:
        packed = disk.describe().details
    with open_in_memory(open_vhdx, storage, writable=True) as disk:
        disk.write(0, b"x")
    with open_in_memory(open_vhdx, storage) as disk:
        after = disk.describe().details
    assert packed["data_guid"] == before["data_guid"] != after["data_guid"]
    assert packed["file_guid"] != before["file_guid"]


def test_opening_for_writing_alone_changes_nothing() -> None:
    data = differencing().build()
    storage = MemoryStorage(data)
    open_child(storage, b"", writable=True).close()
    assert bytes(storage.data) == data


def test_check_tells_each_kind_of_damage_once_with_its_count() -> None:
    made = Vhdx(4 * MIB)
    made.block(0, b"a" * MIB)
    for block in (1, 2):
        made.bat[made.index(block)] = 1 << 40 | FULLY
    with open_in_memory(open_vhdx, MemoryStorage(made.build())) as disk:
        report = disk.check()
    found = {problem.code: problem for problem in report.problems}
    assert len(found) == len(report.problems)
    outside = found["vhdx.block-outside"]
    assert outside.count == 2 and outside.message.startswith("a block lies outside of the file; the first is that of")


def test_overlapping_blocks_are_not_written_to() -> None:
    made = Vhdx(4 * MIB)
    offset = made.block(0, b"a" * MIB)
    made.bat[made.index(1)] = offset | FULLY
    storage = MemoryStorage(made.build())
    before = bytes(storage.data)
    with open_in_memory(open_vhdx, storage, writable=True) as disk:
        report = disk.check()
        assert report.exit_status == 2
        assert [problem.code for problem in report.problems if problem.kind == "corruption"] == ["vhdx.overlap"]
        with pytest.raises(CorruptImageError) as caught:
            disk.write(0, b"x")
        assert caught.value.offset == offset
    assert bytes(storage.data) == before


def test_header_that_cannot_count_on_is_corrupt_and_stays_as_it_is() -> None:
    image = bytearray(Vhdx(4 * MIB).build())
    image[64 << 10 : (64 << 10) + 4096] = header((1 << 64) - 1)
    storage = MemoryStorage(image)
    with open_in_memory(open_vhdx, storage, writable=True) as disk, pytest.raises(CorruptImageError) as caught:
        disk.write(0, b"x")
    assert caught.value.found == (1 << 64) - 1
    assert storage.data == image


def test_compact_gives_back_zeros_and_gaps() -> None:
    made = Vhdx(16 * MIB)
    for block in range(10):
        made.block(block, bytes([block]) * MIB)  # block 0 is zeros
    for block in (2, 3, 7):
        made.state(block, 2)
    storage = MemoryStorage(made.build())
    with open_in_memory(open_vhdx, storage, writable=True) as disk:
        before = disk.read(0, disk.size)
        assert disk.compact() == 4 * MIB
        assert disk.read(0, disk.size) == before
    assert storage.size == (4 + 6) * MIB
    with open_in_memory(open_vhdx, storage) as disk:
        assert disk.read(0, disk.size) == before
        assert disk.check().exit_status == 0


def test_fixed_disks_are_not_compacted(tmp_path: Path) -> None:
    write_image(tmp_path / "a.vhdx", "vhdx", {}, 4 * MIB, subformat="fixed")
    with open_disk(tmp_path / "a.vhdx", writable=True) as disk, pytest.raises(UnsupportedError):
        disk.compact()  # type: ignore[attr-defined]


@pytest.mark.oracle
def test_growing_moves_a_table_that_is_too_short(tmp_path: Path) -> None:
    image = tmp_path / "a.vhdx"
    write_image(image, "vhdx", {0: b"here", 5 * MIB: b"there"}, 8 * MIB, block_size="1M")
    with open_disk(image, writable=True) as disk:
        disk.resize(300 << 30)  # type: ignore[attr-defined]  # 307,200 blocks of 8 bytes: more than 1 MiB
        assert isinstance(disk, WritableDisk)
        disk.write((300 << 30) - 4, b"last")
    with open_disk(image) as disk:
        assert disk.size == 300 << 30
        assert disk.read(0, 4) == b"here" and disk.read((300 << 30) - 4, 4) == b"last"
        assert isinstance(disk, CheckedDisk) and disk.check().corruptions == 0
    qemu_img("check", "-f", "vhdx", image)
    assert '"virtual-size": 322122547200' in qemu_img("info", "--output=json", image)


@pytest.mark.parametrize("size", [0, 513, (64 << 40) + 512])
def test_impossible_sizes_are_usage_errors(size: int) -> None:
    with (
        open_in_memory(open_vhdx, MemoryStorage(Vhdx(4 * MIB).build()), writable=True) as disk,
        pytest.raises(UsageError),
    ):
        disk.resize(size)


# -- cuts


def assert_each_sector_is_from(history: list[bytes], now: bytes) -> None:
    """Every sector is as it was at some time."""
    rows = np.frombuffer(now, dtype=np.uint64).reshape(-1, 64)
    seen = np.zeros(len(rows), dtype=np.bool_)
    for old in history:
        seen |= (np.frombuffer(old, dtype=np.uint64).reshape(-1, 64) == rows).all(axis=1)
    assert seen.all(), f"sector {int(np.flatnonzero(~seen)[0])}"


def test_cut_anywhere_in_writing_leaves_old_or_new_sectors() -> None:
    made = Vhdx(4 * MIB)
    made.block(1, b"\x11" * MIB)
    base = made.build()
    storage = RecordingStorage(base)
    rng = random.Random(11)
    with open_in_memory(open_vhdx, storage, writable=True) as disk:
        model = bytearray(disk.read(0, disk.size))
        history = [bytes(model)]
        for _ in range(14):
            offset = rng.randrange(4 * 2048) * 512
            length = min(len(model) - offset, rng.choice((512, 8192, MIB)))
            if rng.random() < 0.7:
                data = rng.randbytes(length)
                disk.write(offset, data)
            else:
                data = bytes(length)
                disk.write_zeroes(offset, length)
            model[offset : offset + length] = data
            history.append(bytes(model))
            if rng.random() < 0.3:
                disk.flush()
    for state in crash_states(storage.log, base, rng, 30):
        with open_in_memory(open_vhdx, MemoryStorage(state)) as disk:
            assert disk.check().corruptions == 0
            assert_each_sector_is_from(history, disk.read(0, disk.size))


def test_cut_anywhere_in_a_childs_writing_never_shows_the_wrong_bytes() -> None:
    base = differencing().build()
    parent = b"\x55" * 6 * MIB
    storage = RecordingStorage(base)
    rng = random.Random(12)
    with open_child(storage, parent, writable=True) as disk:
        model = bytearray(disk.read(0, disk.size))
        history = [bytes(model)]
        for _ in range(10):
            offset = rng.randrange(6 * 2048) * 512
            data = rng.randbytes(rng.choice((512, 4096)))[: len(model) - offset]
            disk.write(offset, data)  # type: ignore[attr-defined]
            model[offset : offset + len(data)] = data
            history.append(bytes(model))
            if rng.random() < 0.4:
                disk.flush()  # type: ignore[attr-defined]
    for state in crash_states(storage.log, base, rng, 30):
        with open_child(MemoryStorage(state), parent) as disk:
            assert disk.check().corruptions == 0
            assert_each_sector_is_from(history, disk.read(0, disk.size))


def test_cut_anywhere_in_packing_reads_the_same() -> None:
    made = Vhdx(12 * MIB)
    for block in range(9):
        made.block(block, bytes([block]) * MIB)
    made.state(1, 2)
    made.state(4, 0)
    base = made.build()
    storage = RecordingStorage(base)
    with open_in_memory(open_vhdx, storage, writable=True) as disk:
        expect = disk.read(0, disk.size)
        disk.compact()
    for state in crash_states(storage.log, base, random.Random(1), 30):
        with open_in_memory(open_vhdx, MemoryStorage(state)) as disk:
            assert disk.read(0, disk.size) == expect
            assert disk.check().corruptions == 0


@pytest.mark.parametrize("new", [2 * MIB + 512, 7 * MIB, 140_000 * MIB])
def test_cut_anywhere_in_resizing_leaves_one_of_both_sizes(new: int) -> None:
    made = Vhdx(4 * MIB + 512)
    for block in (0, 2, 4):
        made.block(block, bytes([block + 1]) * MIB)  # behind the disk's end there is rubbish
    base = made.build()
    storage = RecordingStorage(base)
    with open_in_memory(open_vhdx, storage, writable=True) as disk:
        old = disk.read(0, disk.size)
        disk.resize(new)
    for state in crash_states(storage.log, base, random.Random(1), 30):
        with open_in_memory(open_vhdx, MemoryStorage(state)) as disk:
            assert disk.size in (new, len(old))
            assert disk.check().corruptions == 0
            length = min(disk.size, 8 * MIB)
            assert disk.read(0, length) == old.ljust(8 * MIB, b"\0")[:length]
