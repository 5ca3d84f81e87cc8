"""Reading and writing VHD: footers, sizes, bitmaps, chains, hostile files, second readers."""

from __future__ import annotations

import json
import random
import struct
import subprocess
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from builders.qemu import qemu_img
from builders.vhd import BLOCK, dynamic, footer, summed
from builders.written import write_image
from byre.disks.disk import CheckedDisk, ResizableDisk, WritableDisk
from byre.disks.opening import open_disk
from byre.disks.vhd.geometry import MAX_SIZE, geometry_for
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
from oracles import require_tool

S = 512
FULL = BLOCK // S


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def whole(value: bytes) -> dict[int, bytes]:
    """A block with every sector here."""
    return dict.fromkeys(range(FULL), value * S)


def content(path: Path, **options: Any) -> bytes:
    with open_disk(path, **options) as disk:
        assert disk.format == "vhd"
        return disk.read(0, disk.size)


def codes(path: Path) -> list[str]:
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        return [problem.code for problem in disk.check().problems]


# Which file is a VHD, and how large


@pytest.mark.parametrize("name", ["disk.vhd", "disk.img"])
def test_a_fixed_vhd_is_known_by_its_footer_and_not_taken_for_raw(tmp_path: Path, name: str) -> None:
    data = random.Random(1).randbytes(8192)
    path = put(tmp_path / name, data + footer(8192, 2))
    assert content(path) == data
    with open_disk(path) as disk:
        assert disk.describe().subformat == "fixed"


def test_the_name_vpc_means_the_same(tmp_path: Path) -> None:
    path = put(tmp_path / "i", bytes(512) + footer(512, 2))
    with open_disk(path, format="vpc") as disk:
        assert disk.format == "vhd"


def test_the_511_byte_footer_of_old_tools(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(4096)
    path = put(tmp_path / "i.vhd", data + footer(4096, 2)[:511])
    assert content(path) == data
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, ResizableDisk)
        disk.resize(8192)
    assert content(path) == data + bytes(4096)
    blocks = dynamic([whole(b"a"), None])
    assert content(put(tmp_path / "d.vhd", blocks[:-1])) == b"a" * BLOCK + bytes(BLOCK)


def test_a_guest_that_writes_another_formats_mark_into_a_fixed_vhd_is_not_followed(tmp_path: Path) -> None:
    path = put(tmp_path / "i.vhd", b"QFI\xfb\0\0\0\3".ljust(4096, b"\0") + footer(4096, 2))
    with pytest.raises(UsageError) as caught:
        open_disk(path)
    assert "-f" in (caught.value.hint or "")
    assert content(path, format="vhd")[:4] == b"QFI\xfb"


@pytest.mark.parametrize(
    ("creator", "rule", "size"),
    [
        (b"vpc ", "geometry", 100 * 4 * 17 * S),
        (b"qemu", "geometry", 100 * 4 * 17 * S),
        (b"qem2", "current-size", 4 << 20),
        (b"win ", "current-size", 4 << 20),
        (b"d2v ", "current-size", 4 << 20),
        (b"tap\0", "current-size", 4 << 20),
        (b"CTXS", "current-size", 4 << 20),
        (b"wa\0\0", "current-size", 4 << 20),
        (b"vbox", "current-size", 4 << 20),
    ],
)
def test_the_creator_says_which_size_is_meant(tmp_path: Path, creator: bytes, rule: str, size: int) -> None:
    data = bytes(4 << 20) + footer(4 << 20, 2, creator=creator, geometry=(100, 4, 17))
    with open_disk(put(tmp_path / "i.vhd", data)) as disk:
        assert disk.size == size
        assert disk.describe().details["size_rule"] == rule


def test_the_largest_geometry_says_nothing_about_the_size(tmp_path: Path) -> None:
    data = bytes(4096) + footer(4096, 2, creator=b"vpc ", geometry=(65535, 16, 255))
    assert len(content(put(tmp_path / "i.vhd", data))) == 4096


# Footers and headers that are damaged


def test_the_copy_in_front_stands_in_for_a_broken_footer(tmp_path: Path) -> None:
    data = dynamic([whole(b"a"), None])
    path = put(tmp_path / "i.vhd", data[:-512])
    assert content(path) == b"a" * BLOCK + bytes(BLOCK)
    with open_disk(path) as disk:
        assert disk.describe().details["footer"] == "copy"
    assert codes(path) == ["vhd.footer-broken"]
    with open_disk(path, writable=True) as disk:
        assert isinstance(disk, WritableDisk)
        disk.write(BLOCK, b"b")
    assert codes(path) == []
    assert content(path) == b"a" * BLOCK + b"b" + bytes(BLOCK - 1)


def test_a_broken_copy_in_front_is_said(tmp_path: Path) -> None:
    data = bytearray(dynamic([whole(b"a")]))
    data[100] ^= 1
    path = put(tmp_path / "i.vhd", bytes(data))
    assert content(path) == b"a" * BLOCK
    assert codes(path) == ["vhd.footer-copy-broken"]


def test_footers_that_differ_are_noted(tmp_path: Path) -> None:
    data = dynamic([whole(b"a")])
    assert codes(put(tmp_path / "i.vhd", footer(BLOCK, 3, timestamp=5) + data[512:])) == ["vhd.footers-differ"]


def test_a_wrong_checksum_of_the_dynamic_header_is_said(tmp_path: Path) -> None:
    data = bytearray(dynamic([whole(b"a")]))
    data[512 + 900] ^= 1
    path = put(tmp_path / "i.vhd", bytes(data))
    assert content(path) == b"a" * BLOCK
    assert codes(path) == ["vhd.header-checksum"]
    with pytest.raises(CorruptImageError):
        open_disk(path, writable=True)


def test_a_fixed_footer_with_a_wrong_checksum_is_corrupt(tmp_path: Path) -> None:
    end = bytearray(footer(4096, 2))
    end[200] = 1
    path = put(tmp_path / "i.vhd", bytes(4096) + end)
    with pytest.raises(CorruptImageError) as caught:
        open_disk(path)
    assert caught.value.offset == 4096 + 64
    with open_disk(path, format="raw") as disk:
        assert disk.size == 4096 + 512


# Bitmaps and chains


def test_sectors_that_the_bitmap_leaves_out_read_as_zeros(tmp_path: Path) -> None:
    data = bytearray(dynamic([{1: b"a" * S, 7: b"b" * S}]))
    data[-512 - BLOCK : -512 - BLOCK + S] = b"x" * S  # sector 0 holds what was never said to be there
    assert content(put(tmp_path / "i.vhd", bytes(data))) == bytes(S) + b"a" * S + bytes(5 * S) + b"b" * S


def chain(folder: Path, names: tuple[tuple[bytes, bytes], ...] = (), *, sub: str = ".") -> Path:
    base = dynamic([whole(b"a"), whole(b"b"), None, whole(b"d")], own=UUID(int=1))
    (folder / sub).mkdir(exist_ok=True)
    put(folder / sub / "base.vhd", base)
    over = dynamic(
        [None, {0: b"M" * S, 3: b"M" * S}, {7: b"M" * S}, whole(b"M")],
        own=UUID(int=2),
        parent=UUID(int=1),
        parent_name="base.vhd",
        names=names,
    )
    return put(folder / "child.vhd", over)


CHAIN = b"a" * BLOCK + b"M" * S + b"b" * 2 * S + b"M" * S + b"b" * 4 * S + bytes(7 * S) + b"M" * S + b"M" * BLOCK


def name(text: str, platform: bytes = b"W2ru") -> tuple[bytes, bytes]:
    return platform, text.encode("utf-16-le")


@pytest.mark.parametrize(
    "names",
    [
        (),
        (name(".\\base.vhd"),),
        (name("base.vhd"),),
        (name("C:\\VMs\\base.vhd", b"W2ku"),),
        ((b"W2ru", ".\\base.vhd".encode("utf-16-be")),),
        ((b"MacX", b"file:///Users/me/base.vhd"),),
        ((b"W2ru", b"\xff\xdf" * 20),),
    ],
)
def test_a_differencing_image_reads_through_to_its_parent_by_sector(
    tmp_path: Path, names: tuple[tuple[bytes, bytes], ...]
) -> None:
    assert content(chain(tmp_path, names)) == CHAIN


def test_extents_of_a_chain_say_which_file_and_depth(tmp_path: Path) -> None:
    with open_disk(chain(tmp_path)) as disk:
        rows = [row for table in disk.extents() for row in table.tolist()]
        joined = bytearray()
        for _, length, kind, host, _, file, depth in rows:
            assert (depth >= 0) == (kind != Kind.UNALLOCATED)
            joined += disk.files[file].read(host, length) if kind == Kind.DATA else bytes(length)
    assert joined == CHAIN
    assert {row[6] for row in rows} == {-1, 0, 1}


def test_a_renamed_parent_is_found_by_uuid(tmp_path: Path) -> None:
    child = chain(tmp_path, (name(".\\base.vhd"),))
    (tmp_path / "base.vhd").rename(tmp_path / "other.vhd")
    put(tmp_path / "base.vhd", dynamic([None] * 4, own=UUID(int=99)))
    assert content(child) == CHAIN


def test_a_fixed_parent(tmp_path: Path) -> None:
    child = chain(tmp_path)
    flat = content(tmp_path / "base.vhd")
    put(tmp_path / "base.vhd", flat + footer(len(flat), 2, own=UUID(int=1)))
    assert content(child) == CHAIN


def test_a_parent_with_another_uuid_is_missing_not_zeros(tmp_path: Path) -> None:
    child = chain(tmp_path)
    put(tmp_path / "base.vhd", dynamic([None] * 4, own=UUID(int=99)))
    with pytest.raises(MissingError) as caught:
        open_disk(child)
    assert "base.vhd" in caught.value.what
    assert str(UUID(int=1)) in caught.value.what
    assert "another image" in str(caught.value.found)
    with open_disk(child, with_backing=False) as disk:
        assert disk.read(3 * BLOCK, BLOCK) == b"M" * BLOCK
        with pytest.raises(MissingError):
            disk.read(0, S)


def test_a_parent_outside_the_folder_needs_leave(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    child = chain(inner, (name("..\\base.vhd"),))
    (inner / "base.vhd").rename(tmp_path / "base.vhd")
    with pytest.raises(RefusedReferenceError) as caught:
        open_disk(child)
    assert caught.value.found == tmp_path / "base.vhd"
    assert content(child, allow_paths=[tmp_path]) == CHAIN
    assert content(child, parents=[tmp_path]) == CHAIN
    assert content(child, parents=[tmp_path / "base.vhd"]) == CHAIN


def test_parent_loops_are_corrupt(tmp_path: Path) -> None:
    put(tmp_path / "1.vhd", dynamic([None], own=UUID(int=1), parent=UUID(int=2)))
    put(tmp_path / "2.vhd", dynamic([None], own=UUID(int=2), parent=UUID(int=1)))
    put(tmp_path / "3.vhd", dynamic([None], own=UUID(int=3), parent=UUID(int=3)))
    for file in ("1.vhd", "3.vhd"):
        with pytest.raises(CorruptImageError):
            open_disk(tmp_path / file)


def test_a_parent_that_changed_since_is_noted(tmp_path: Path) -> None:
    put(tmp_path / "base.vhd", dynamic([whole(b"a")], own=UUID(int=1), timestamp=1000))
    fits = dynamic([None], own=UUID(int=2), parent=UUID(int=1), parent_timestamp=1000)
    other = dynamic([None], own=UUID(int=2), parent=UUID(int=1), parent_timestamp=77)
    assert codes(put(tmp_path / "fits.vhd", fits)) == []
    assert codes(put(tmp_path / "other.vhd", other)) == ["vhd.parent-timestamp"]


@pytest.mark.oracle
@pytest.mark.parametrize("written", [False, True])
def test_libvhdi_and_7zip_read_the_same_chain(tmp_path: Path, written: bool) -> None:
    """QEMU opens a differencing VHD as if it had no parent, so it can't be the second reader.

    libvhdi takes eight sectors as here when one of them is, and only blocks of 2 MiB: it gets the case where that
    makes no difference; 7-Zip gets both.
    """
    rng = random.Random(3)
    if written:
        base = bytearray(rng.randbytes(6 << 20))
        write_image(tmp_path / "base.vhd", "vhd", bytes(base))
        child = write_image(
            tmp_path / "child.vhd",
            "vhd",
            {2 << 20: rng.randbytes(2 << 20)},
            6 << 20,
            backing_file="base.vhd",
        )
        with open_disk(child, writable=True) as disk:
            assert isinstance(disk, WritableDisk)
            disk.write(5 << 20, b"here" * 1000)
    else:
        child = chain(tmp_path, (name(".\\base.vhd"),))
    expected = content(child)
    # What 7-Zip extracts of a VHD is one stream: the flat disk.
    done = subprocess.run([require_tool("7z"), "x", "-so", "-tvhd", child], capture_output=True, check=True)
    assert done.stdout == expected
    try:
        import pyvhdi  # type: ignore[import-not-found]
    except ImportError:
        return  # it comes from PyPI as source, and not everywhere builds
    if written:
        parent, top = pyvhdi.file(), pyvhdi.file()
        parent.open(str(tmp_path / "base.vhd"))
        top.open(str(child))
        top.set_parent(parent)
        assert top.read_buffer(len(expected)) == expected


@pytest.mark.oracle
def test_vhdiinfo_takes_what_is_written(tmp_path: Path) -> None:
    require_tool("vhdiinfo")
    base = write_image(tmp_path / "base.vhd", "vhd", b"x" * (3 << 20), uuid=UUID(int=5))
    child = write_image(tmp_path / "child.vhd", "vhd", {}, 3 << 20, backing_file="base.vhd")
    for path, kind in ((base, "Dynamic"), (child, "Differential")):
        done = subprocess.run(["vhdiinfo", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert kind in done.stdout
        assert "3.0 MiB (3145728 bytes)" in done.stdout
    assert str(UUID(int=5)) in subprocess.run(["vhdiinfo", child], capture_output=True, text=True).stdout


# Written


@pytest.mark.oracle
@pytest.mark.parametrize("size", [512, 1 << 20, (2 << 20) + 512, (9 << 20) - 1536])
@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_qemu_and_byre_read_each_others_images(tmp_path: Path, size: int, subformat: str) -> None:
    rng = random.Random(size)
    data = bytearray(size)
    begin = rng.randrange(size)
    data[begin : begin + 100_000] = rng.randbytes(len(data[begin : begin + 100_000]))
    raw = put(tmp_path / "raw", bytes(data))
    ours = write_image(tmp_path / "ours.vhd", "vhd", bytes(data), subformat=subformat)
    qemu_img("compare", "-f", "vpc", "-F", "raw", ours, raw)
    assert json.loads(qemu_img("info", "-f", "vpc", "--output=json", ours))["virtual-size"] == size
    assert codes(ours) == []
    for force in ("on", "off"):
        theirs = tmp_path / f"theirs-{force}.vhd"
        options = f"subformat={subformat},force_size={force}"
        qemu_img("convert", "-f", "raw", "-O", "vpc", "-o", options, raw, theirs)
        said = json.loads(qemu_img("info", "-f", "vpc", "--output=json", theirs))["virtual-size"]
        assert content(theirs) == data + bytes(said - size)


@pytest.mark.oracle
@pytest.mark.parametrize("size", [1 << 20, 100_000_256, 10 << 30, 127 << 30, 1 << 40, MAX_SIZE])
def test_the_geometry_rule_rounds_as_qemu_does(tmp_path: Path, size: int) -> None:
    size -= size % 512
    theirs = tmp_path / "t.vhd"
    qemu_img("create", "-f", "vpc", theirs, str(size))
    ours = write_image(tmp_path / "o.vhd", "vhd", {}, size, size_rule="geometry")
    with open_disk(ours) as mine, open_disk(theirs) as other:
        assert mine.size == other.size
        assert mine.describe().details["geometry"] == other.describe().details["geometry"]


def test_the_exact_rule_states_the_size_and_a_geometry_that_fits_into_it(tmp_path: Path) -> None:
    with open_disk(write_image(tmp_path / "i.vhd", "vhd", {}, 10 << 30)) as disk:
        details = disk.describe().details
        assert (disk.size, details["creator"], details["size_rule"]) == (10 << 30, "win", "current-size")
        assert isinstance(details["geometry_size"], int)
        assert 0 < details["geometry_size"] <= 10 << 30
    assert geometry_for(1 << 40).total == 65535 * 16 * 255


@pytest.mark.parametrize("subformat", ["dynamic", "fixed"])
def test_a_new_image_is_the_same_bytes_for_the_same_uuid(tmp_path: Path, subformat: str) -> None:
    data = random.Random(5).randbytes(100_352)
    one = write_image(tmp_path / "1.vhd", "vhd", data, subformat=subformat, uuid=UUID(int=7))
    two = write_image(tmp_path / "2.vhd", "vhd", data, subformat=subformat, uuid=str(UUID(int=7)))
    assert one.read_bytes() == two.read_bytes()


def test_a_fixed_image_without_holes_takes_all_its_room(tmp_path: Path) -> None:
    path = write_image(tmp_path / "i.vhd", "vhd", {1 << 20: b"x" * 512}, 4 << 20, subformat="fixed", sparse=False)
    assert path.stat().st_blocks * 512 >= 4 << 20
    holes = write_image(tmp_path / "h.vhd", "vhd", {1 << 20: b"x" * 512}, 4 << 20, subformat="fixed")
    assert holes.stat().st_blocks * 512 < 1 << 20
    assert content(path) == content(holes)


def test_a_differencing_image_hides_its_parent_where_zeros_were_placed(tmp_path: Path) -> None:
    write_image(tmp_path / "base.vhd", "vhd", b"a" * 4 * BLOCK)
    over = {BLOCK: b"b" * BLOCK, 2 * BLOCK: bytes(BLOCK)}
    options = {"backing_file": "base.vhd", "block_size": BLOCK}
    top = write_image(tmp_path / "top.vhd", "vhd", over, 4 * BLOCK, **options)
    assert content(top) == b"a" * BLOCK + b"b" * BLOCK + bytes(BLOCK) + b"a" * BLOCK
    with open_disk(top) as disk:
        backing = disk.describe().backing
        assert backing is not None
        assert (backing.name, backing.resolved) == ("base.vhd", str(tmp_path / "base.vhd"))


@pytest.mark.parametrize("size", [0, MAX_SIZE + 512])
def test_sizes_beyond_the_format_are_refused(tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError):
        write_image(tmp_path / "i.vhd", "vhd", {}, size)
    path = write_image(tmp_path / "ok.vhd", "vhd", {}, 4096)
    with open_disk(path, writable=True) as disk, pytest.raises(UsageError):
        disk.resize(size)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "blue"},
        {"subformat": "static"},
        {"subformat": "differencing"},
        {"block_size": 3000},
        {"uuid": "x"},
        {"keep_uuid": "on"},
        {"backing_file": "nowhere.vhd"},
        {"size_rule": "about"},
        {"timestamp": -1},
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        write_image(tmp_path / "i.vhd", "vhd", b"x" * 512, **options)


# Hostile files


def patched(at: int, layout: str, *values: Any, data: bytes | None = None) -> bytes:
    """An image with fields of its dynamic header changed and the checksum right again."""
    image = bytearray(dynamic([whole(b"a"), whole(b"b")]) if data is None else data)
    struct.pack_into(layout, image, at, *values)
    image[512:1536] = summed(image[512:1536], 36)
    return bytes(image)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (patched(512 + 28, ">I", 1), CorruptImageError),
        (patched(512 + 32, ">I", 0), CorruptImageError),
        (patched(512 + 32, ">I", 3000), CorruptImageError),
        (patched(512 + 32, ">I", 1 << 31), CorruptImageError),
        (patched(512 + 16, ">Q", (1 << 64) - 1), CorruptImageError),
        (patched(512 + 16, ">Q", 1 << 40), CorruptImageError),
        (patched(512 + 24, ">I", 0x20000), UnsupportedError),
        (patched(512, ">8s", b"nonsense"), CorruptImageError),
        (bytes(4096) + footer(8192, 2), CorruptImageError),
        (bytes(4096) + footer((1 << 64) - 512, 2), CorruptImageError),
        (bytes(4096) + footer(4096, 3, data_offset=(1 << 64) - 1), CorruptImageError),
        (bytes(4096) + footer(4096, 3, data_offset=4096), CorruptImageError),
        (bytes(4096) + footer(4096, 5), UnsupportedError),
        (bytes(4096) + footer(4096, 99), CorruptImageError),
        (footer(4096, 2) + bytes(4096), CorruptImageError),
        (footer(4096, 3), CorruptImageError),
    ],
)
def test_images_that_cannot_be(tmp_path: Path, data: bytes, error: type[ByreError]) -> None:
    with pytest.raises(error):
        open_disk(put(tmp_path / "i.vhd", data))


def test_a_table_of_four_thousand_million_entries_is_never_allocated(tmp_path: Path) -> None:
    size = (1 << 32) * 512
    end = footer(size, 3)
    front = patched(512 + 28, ">II", 0xFFFFFFFF, 512)[512:1536]
    with pytest.raises(CorruptImageError):
        open_disk(put(tmp_path / "i.vhd", end + front + bytes(4096) + end))
    end = footer(((1 << 32) - 1) * 512, 3)
    with pytest.raises(UnsupportedError):
        open_disk(put(tmp_path / "i.vhd", end + front + bytes(4096) + end))


def test_overlapping_blocks_are_found_and_not_written_to(tmp_path: Path) -> None:
    image = bytearray(dynamic([whole(b"a"), whole(b"b"), None]))
    image[1536 + 4 : 1536 + 8] = image[1536 : 1536 + 4]
    path = put(tmp_path / "i.vhd", bytes(image))
    assert codes(path) == ["vhd.block-overlap"]
    with pytest.raises(CorruptImageError):
        open_disk(path, writable=True)
    struct.pack_into(">I", image, 1536 + 4, 1)  # over the dynamic header
    assert codes(put(path, bytes(image))) == ["vhd.block-overlap"]
    struct.pack_into(">I", image, 1536 + 4, 1 << 30)
    put(path, bytes(image))
    assert codes(path) == ["vhd.block-past-end"]
    with open_disk(path) as disk:
        assert disk.read(0, BLOCK) == b"a" * BLOCK
        with pytest.raises(CorruptImageError):
            disk.read(BLOCK, S)


def test_room_that_nothing_uses_is_a_leak(tmp_path: Path) -> None:
    data = dynamic([whole(b"a"), whole(b"b")])
    image = bytearray(data)
    struct.pack_into(">I", image, 1536 + 4, 0xFFFFFFFF)
    path = put(tmp_path / "i.vhd", bytes(image))
    with open_disk(path, writable=True) as disk:
        report = disk.check()  # type: ignore[attr-defined]
        assert (report.corruptions, report.leaks, report.exit_status) == (0, 1, 3)
        assert disk.compact() >= BLOCK  # type: ignore[attr-defined]
    assert codes(path) == []


@pytest.mark.fuzz
def test_mutated_images_raise_nothing_but_byre_errors(tmp_path: Path) -> None:
    chain(tmp_path)
    seeds = [
        dynamic([whole(b"a"), {3: b"b" * S}, None]),
        (tmp_path / "child.vhd").read_bytes(),
        dynamic([None, {1: b"c" * S}], parent=UUID(int=1), own=UUID(int=7), names=(name(".\\base.vhd"),)),
        bytes(2048) + footer(2048, 2),
    ]
    path = tmp_path / "fuzz.vhd"

    def case(rng: random.Random) -> None:
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 5)):
            top = min(len(data) - 8, 2600)
            at = rng.choice((rng.randrange(top), len(data) - rng.randrange(1, 512), rng.randrange(min(top, 700))))
            value = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
            count = min(rng.choice((1, 4, 8)), len(data) - at)
            data[at : at + count] = bytes([value]) * count
        if rng.random() < 0.8 and len(data) > 3000:  # else nearly every case stops at a checksum
            data[512:1536] = summed(data[512:1536], 36)
            data[:512] = summed(data[:512], 64)
        if rng.random() < 0.8:
            data[-512:] = summed(data[-512:], 64)
        path.write_bytes(data[: rng.choice((len(data), len(data), rng.randrange(len(data))))])
        try:
            with open_disk(path, format="vhd", writable=rng.random() < 0.3) as disk:
                disk.describe()
                disk.check()  # type: ignore[attr-defined]
                disk.read(0, min(disk.size, 1 << 16))
                disk.read(max(0, disk.size - 4096), min(4096, disk.size))
                sum(len(table) for table in disk.extents(0, 1 << 30))
        except ByreError:
            pass

    fuzz("vhd", 300, case)
