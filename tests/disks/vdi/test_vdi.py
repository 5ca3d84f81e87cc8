"""Reading and writing VDI: header variants, chains by UUID, hostile files, QEMU as the second reader."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from builders.qemu import qemu_img
from builders.vdi import BLOCK, FREE, ZERO, old_vdi, vdi
from builders.written import write_image
from byre.disks.disk import CheckedDisk, ResizableDisk
from byre.disks.opening import open_disk
from byre.errors import (
    ByreError,
    CorruptImageError,
    MissingError,
    RefusedReferenceError,
    UnsupportedError,
    UsageError,
)
from byre.extents import Kind
from fuzzing import fuzz

A, B, C, D = (bytes([value]) * BLOCK for value in b"abcd")


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def content(path: Path, **options: Any) -> bytes:
    with open_disk(path, **options) as disk:
        assert disk.format == "vdi"
        return disk.read(0, disk.size)


def test_blocks_are_read_through_the_map_in_any_order(tmp_path: Path) -> None:
    path = put(tmp_path / "i.vdi", vdi([A, FREE, B, ZERO, C], order=[2, 0, 1]))
    assert content(path) == A + bytes(BLOCK) + B + bytes(BLOCK) + C


def test_extents_tell_data_discarded_and_free_blocks_apart(tmp_path: Path) -> None:
    path = put(tmp_path / "i.vdi", vdi([A, FREE, ZERO, B]))
    with open_disk(path) as disk:
        rows = [row for table in disk.extents() for row in table.tolist()]
    assert [(row[2], row[3], row[6]) for row in rows] == [
        (Kind.DATA, 4096, 0),
        (Kind.UNALLOCATED, -1, -1),
        (Kind.ZERO, -1, 0),
        (Kind.DATA, 8192, 0),
    ]


@pytest.mark.parametrize("header_size", [384, 400, 512])
def test_header_variants_of_1_1(tmp_path: Path, header_size: int) -> None:
    assert content(put(tmp_path / "i.vdi", vdi([A, B], header_size=header_size))) == A + B


def test_the_header_from_before_1_0_is_read_but_not_written(tmp_path: Path) -> None:
    path = put(tmp_path / "i.vdi", old_vdi([A, FREE, B]))
    assert content(path) == A + bytes(BLOCK) + B
    with pytest.raises(UnsupportedError):
        open_disk(path, writable=True)


@pytest.mark.parametrize("extra", [512, 4096])
def test_private_data_before_each_block_is_skipped(tmp_path: Path, extra: int) -> None:
    assert content(put(tmp_path / "i.vdi", vdi([A, B, FREE], extra=extra))) == A + B + bytes(BLOCK)


@pytest.mark.parametrize("block_size", [512, 8192, 1 << 16])
def test_other_block_sizes(tmp_path: Path, block_size: int) -> None:
    data = random.Random(1).randbytes(3 * block_size)
    blocks = [data[at : at + block_size] for at in range(0, len(data), block_size)]
    assert content(put(tmp_path / "i.vdi", vdi([*blocks], block_size=block_size))) == data


def test_a_size_that_is_no_whole_sectors_is_rounded_up(tmp_path: Path) -> None:
    path = put(tmp_path / "i.vdi", vdi([A, B], size=BLOCK + 700))
    assert content(path) == A + B[:1024]


def test_a_last_block_that_is_stored_short_is_read(tmp_path: Path) -> None:
    path = put(tmp_path / "i.vdi", vdi([A, B], size=BLOCK + 1024)[: 4096 + BLOCK + 1024])
    assert content(path) == A + B[:1024]
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        assert disk.check().corruptions == 0


# Chains


def chain(folder: Path, *, sub: str = "") -> Path:
    """base (uuid 1) <- middle (2) <- top (3), the top one returned; the base may lie in a folder of its own."""
    (folder / sub).mkdir(exist_ok=True)
    put(folder / sub / "base.vdi", vdi([A, A, A, A, FREE]))
    middle = vdi([FREE, B, ZERO, FREE, FREE], image_type=4, own=UUID(int=2), parent=UUID(int=1))
    put(folder / "{middle}.vdi", middle)
    top = vdi([FREE, FREE, FREE, C, FREE], image_type=4, own=UUID(int=3), parent=UUID(int=2))
    return put(folder / "top.vdi", top)


def test_a_chain_is_found_by_uuid_beside_the_image(tmp_path: Path) -> None:
    top = chain(tmp_path)
    (tmp_path / "notes.txt").write_text("not an image")
    assert content(top) == A + B + bytes(BLOCK) + C + bytes(BLOCK)
    with open_disk(top) as disk:
        rows = [row for table in disk.extents() for row in table.tolist()]
        assert [(row[2], row[6], Path(disk.files[row[5]].name).name if row[5] >= 0 else "") for row in rows] == [
            (Kind.DATA, 2, "base.vdi"),
            (Kind.DATA, 1, "{middle}.vdi"),
            (Kind.ZERO, 1, ""),
            (Kind.DATA, 0, "top.vdi"),
            (Kind.UNALLOCATED, -1, ""),
        ]


@pytest.mark.parametrize("given", ["base", "base/base.vdi"])
def test_a_parent_elsewhere_is_found_where_the_user_says(tmp_path: Path, given: str) -> None:
    top = chain(tmp_path, sub="base")
    with pytest.raises(MissingError) as caught:
        open_disk(top)
    assert str(UUID(int=1)) in caught.value.what
    assert caught.value.path == str(tmp_path / "{middle}.vdi")
    assert content(top, parents=[tmp_path / given]) == A + B + bytes(BLOCK) + C + bytes(BLOCK)


def test_the_base_above_a_snapshots_folder_is_only_hinted_at(tmp_path: Path) -> None:
    (tmp_path / "Snapshots").mkdir()
    base = put(tmp_path / "xp.vdi", vdi([A]))
    top = put(tmp_path / "Snapshots" / "s.vdi", vdi([FREE], image_type=4, own=UUID(int=2), parent=UUID(int=1)))
    with pytest.raises(MissingError) as caught:
        open_disk(top)
    assert f"--parent {base}" in (caught.value.hint or "")
    assert content(top, parents=[tmp_path]) == A


def test_a_symbolic_link_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    put(tmp_path / "base.vdi", vdi([A]))
    (tmp_path / "inner" / "link.vdi").symlink_to(tmp_path / "base.vdi")
    data = vdi([FREE], image_type=4, own=UUID(int=2), parent=UUID(int=1))
    top = put(tmp_path / "inner" / "t.vdi", data)
    with pytest.raises(RefusedReferenceError):
        open_disk(top)
    assert content(top, allow_paths=[tmp_path]) == A


def test_without_the_chain_only_reads_that_need_it_fail(tmp_path: Path) -> None:
    top = put(tmp_path / "t.vdi", vdi([B, FREE], image_type=4, own=UUID(int=2), parent=UUID(int=1)))
    with open_disk(top, with_backing=False) as disk:
        assert disk.read(0, BLOCK) == B
        assert disk.describe().backing is not None
        with pytest.raises(MissingError):
            disk.read(BLOCK - 1, 2)
        with pytest.raises(MissingError):
            list(disk.extents())


def test_of_two_with_one_uuid_the_unmodified_parent_counts(tmp_path: Path) -> None:
    put(tmp_path / "a.vdi", vdi([C], modified=UUID(int=8)))
    put(tmp_path / "b.vdi", vdi([A], modified=UUID(int=9)))
    data = vdi([FREE], image_type=4, own=UUID(int=2), parent=UUID(int=1), parent_modified=UUID(int=9))
    top = put(tmp_path / "t.vdi", data)
    assert content(top) == A
    (tmp_path / "b.vdi").unlink()
    with open_disk(top) as disk:
        assert isinstance(disk, CheckedDisk)
        assert disk.describe().details["parent_modified"] is True
        assert [problem.code for problem in disk.check().problems] == ["vdi.parent-modified"]


def test_writing_to_a_base_gives_it_a_new_modification_uuid(tmp_path: Path) -> None:
    base = write_image(tmp_path / "base.vdi", "vdi", A)
    top = write_image(tmp_path / "top.vdi", "vdi", {}, BLOCK, backing_file="base.vdi")
    with open_disk(top) as disk:
        assert disk.describe().details["parent_modified"] is False
    with open_disk(base, writable=True) as disk:
        disk.write(0, b"x")  # type: ignore[attr-defined]
    with open_disk(top) as disk:
        assert disk.describe().details["parent_modified"] is True


def test_parent_loops_are_corrupt(tmp_path: Path) -> None:
    one = put(tmp_path / "1.vdi", vdi([FREE], image_type=4, own=UUID(int=1), parent=UUID(int=2)))
    put(tmp_path / "2.vdi", vdi([FREE], image_type=4, own=UUID(int=2), parent=UUID(int=1)))
    with pytest.raises(CorruptImageError):
        open_disk(one)
    own = put(tmp_path / "3.vdi", vdi([FREE], image_type=4, own=UUID(int=3), parent=UUID(int=3)))
    with pytest.raises(CorruptImageError):
        open_disk(own)


def test_a_longer_parent_does_not_show_past_the_end_of_a_grown_child(tmp_path: Path) -> None:
    put(tmp_path / "base.vdi", vdi([A, A, A]))
    data = vdi([FREE, FREE], size=BLOCK + 512, image_type=4, own=UUID(int=2), parent=UUID(int=1))
    top = put(tmp_path / "t.vdi", data)
    with open_disk(top, writable=True) as disk:
        assert isinstance(disk, ResizableDisk)
        disk.resize(3 * BLOCK)
    assert content(top) == A + A[:512] + bytes(2 * BLOCK - 512)


# Written


def test_a_new_image_is_the_same_bytes_for_the_same_uuid(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(3 << 20)
    one = write_image(tmp_path / "1.vdi", "vdi", data, uuid=str(UUID(int=7)))
    two = write_image(tmp_path / "2.vdi", "vdi", data, uuid=UUID(int=7))
    assert one.read_bytes() == two.read_bytes()
    three = write_image(tmp_path / "3.vdi", "vdi", data)
    with open_disk(one) as first, open_disk(three) as third:
        assert first.describe().details["uuid"] == str(UUID(int=7))
        assert third.describe().details["uuid"] != str(UUID(int=7))


def test_a_differencing_image_hides_its_parent_where_zeros_were_placed(tmp_path: Path) -> None:
    write_image(tmp_path / "base.vdi", "vdi", A * 4, block_size=BLOCK)
    top = write_image(
        tmp_path / "top.vdi",
        "vdi",
        {BLOCK: B, 2 * BLOCK: bytes(BLOCK)},
        4 * BLOCK,
        backing_file="base.vdi",
        block_size=BLOCK,
    )
    assert content(top) == A + B + bytes(BLOCK) + A


def test_a_fixed_image_without_holes_takes_all_its_room(tmp_path: Path) -> None:
    path = write_image(tmp_path / "i.vdi", "vdi", {1 << 20: A}, 4 << 20, subformat="fixed", sparse="off")
    assert path.stat().st_blocks * 512 >= 4 << 20
    assert content(path) == bytes(1 << 20) + A + bytes((3 << 20) - BLOCK)


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "blue"},
        {"subformat": "sparse"},
        {"subformat": "differencing"},
        {"block_size": 3000},
        {"uuid": "x"},
        {"keep_uuid": True},
        {"backing_file": "nowhere.vdi"},
        {"sparse": "perhaps"},
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        write_image(tmp_path / "i.vdi", "vdi", A, **options)


@pytest.mark.oracle
@pytest.mark.parametrize("size", [512, 1 << 20, (1 << 20) + 512, (7 << 20) - 1536])
@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_qemu_and_byre_read_each_others_images(tmp_path: Path, size: int, subformat: str) -> None:
    rng = random.Random(size)
    data = bytearray(size)
    begin = rng.randrange(size)
    data[begin : begin + 100_000] = rng.randbytes(len(data[begin : begin + 100_000]))
    raw = put(tmp_path / "raw", bytes(data))
    ours = write_image(tmp_path / "ours.vdi", "vdi", bytes(data), subformat=subformat)
    qemu_img("compare", "-f", "vdi", "-F", "raw", ours, raw)
    assert json.loads(qemu_img("info", "--output=json", ours))["virtual-size"] == size
    qemu_img("check", "-f", "vdi", ours)
    theirs = tmp_path / "theirs.vdi"
    static = "on" if subformat == "fixed" else "off"
    qemu_img("convert", "-f", "raw", "-O", "vdi", "-o", f"static={static}", raw, theirs)
    assert content(theirs) == data


@pytest.mark.oracle
def test_a_sparse_disk_of_three_tebibytes(tmp_path: Path) -> None:
    size = 3 << 40
    theirs = tmp_path / "t.vdi"
    qemu_img("create", "-f", "vdi", theirs, str(size))
    with open_disk(theirs, writable=True) as disk:
        disk.write(size - 512, b"e" * 512)  # type: ignore[attr-defined]
        rows = [row for table in disk.extents() for row in table.tolist()]
    assert len(rows) == 2
    ours = write_image(tmp_path / "o.vdi", "vdi", {size - 512: b"e" * 512}, size)
    qemu_img("compare", "-f", "vdi", "-F", "vdi", theirs, ours)


# Checking, hostile files


def codes(path: Path) -> list[str]:
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        return [problem.code for problem in disk.check().problems]


def test_check_names_what_is_wrong(tmp_path: Path) -> None:
    whole = vdi([A, B, C])
    assert codes(put(tmp_path / "ok.vdi", whole)) == []
    assert codes(put(tmp_path / "short.vdi", whole[:-BLOCK])) == ["vdi.block-past-end"]
    assert codes(put(tmp_path / "leak.vdi", whole + D)) == ["vdi.block-unused"]
    assert codes(put(tmp_path / "low.vdi", vdi([A, B], allocated=1))) == ["vdi.allocated-count-too-low"]
    shared = bytearray(whole)
    struct.pack_into("<I", shared, 512 + 4, 0)
    path = put(tmp_path / "shared.vdi", bytes(shared))
    assert codes(path) == ["vdi.block-shared", "vdi.block-unused"]
    with pytest.raises(CorruptImageError):
        open_disk(path, writable=True)


def test_check_tells_each_kind_of_damage_once_with_its_count(tmp_path: Path) -> None:
    path = put(tmp_path / "short.vdi", vdi([A, B, C])[: -2 * BLOCK])
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        report = disk.check()
    (problem,) = report.problems
    assert (problem.message, problem.count) == ("a block lies past the end of the file; the first is number 1", 2)
    assert (problem.offset, report.corruptions) == (4096 + BLOCK, 2)


def test_a_block_past_the_end_is_an_error_when_it_is_read(tmp_path: Path) -> None:
    path = put(tmp_path / "i.vdi", vdi([A, B])[:-100])
    with open_disk(path) as disk:
        assert disk.read(0, BLOCK) == A
        with pytest.raises(CorruptImageError) as caught:
            disk.read(BLOCK, BLOCK)
        assert caught.value.offset == 4096 + BLOCK


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"count": 0xFFFFFFFF, "offset_data": 4096}, ByreError),
        ({"count": 1 << 25, "disk_size": 1 << 30}, CorruptImageError),
        ({"count": 1}, CorruptImageError),
        ({"disk_size": (1 << 64) - 1}, CorruptImageError),
        ({"offset_blocks": 100}, CorruptImageError),
        ({"offset_blocks": 0xFFFFFFF0}, CorruptImageError),
        ({"version": 0x00020000}, UnsupportedError),
        ({"block_size": 0}, CorruptImageError),
        ({"block_size": 3000}, CorruptImageError),
        ({"image_type": 3}, UnsupportedError),
        ({"image_type": 4}, CorruptImageError),
        ({"image_type": 9}, CorruptImageError),
        ({"header_size": 100}, CorruptImageError),
    ],
)
def test_headers_that_cannot_be(tmp_path: Path, changes: dict[str, int], error: type[ByreError]) -> None:
    path = put(tmp_path / "i.vdi", vdi([A, B], size=2 * BLOCK, **changes))  # type: ignore[arg-type]
    with pytest.raises(error):
        open_disk(path)


def test_a_map_that_the_file_does_not_hold_is_never_allocated(tmp_path: Path) -> None:
    data = bytearray(vdi([A]))
    struct.pack_into("<II", data, 340, 512, 0xFFFFF000)
    struct.pack_into("<I", data, 384, 1 << 26)
    with pytest.raises(CorruptImageError) as caught:
        open_disk(put(tmp_path / "i.vdi", bytes(data)))
    assert caught.value.expected == f"{4 << 26} bytes"


@pytest.mark.fuzz
def test_mutated_images_raise_nothing_but_byre_errors(tmp_path: Path) -> None:
    put(tmp_path / "base.vdi", vdi([A, B, C, D]))
    parents = {"parent": UUID(int=1), "own": UUID(int=2), "image_type": 4}
    seeds = [vdi([A, FREE, B, ZERO]), vdi([A, FREE, FREE, B], **parents), old_vdi([A, B])]  # type: ignore[arg-type]
    path = tmp_path / "fuzz.vdi"

    def case(rng: random.Random) -> None:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 6)):
            at = rng.choice((rng.randrange(64, 540), rng.randrange(340, 400)))
            value = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
            data[at : at + rng.choice((1, 4))] = bytes([value]) * rng.choice((1, 4))
        path.write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        try:
            with open_disk(path, format="vdi", writable=rng.random() < 0.3) as disk:
                disk.describe()
                disk.check()  # type: ignore[attr-defined]
                disk.read(0, min(disk.size, 1 << 16))
                disk.read(max(0, disk.size - 4096), min(4096, disk.size))
                sum(len(table) for table in disk.extents(0, 1 << 30))
        except ByreError:
            pass

    fuzz("vdi", 300, case)
