"""Differencing chains: sector bitmaps, parents found and refused."""

from __future__ import annotations

import random
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from builders.vhdx import MIB, UNDEFINED, ZERO, Vhdx, child_of
from byre.disks.opening import open_disk
from byre.errors import CorruptImageError, MissingError, RefusedReferenceError, UnsupportedError, UsageError
from byre.extents import Kind

CHILD_GUID = UUID("aaaaaaaa-0000-0000-0000-000000000001")


def parent(size: int = 8 * MIB) -> Vhdx:
    made = Vhdx(size)
    for block in (0, 1, 2, 3):
        made.block(block, bytes([0x10 + block]) * MIB)
    return made


def put(path: Path, made: Vhdx) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.build())
    return path


def chain(folder: Path) -> tuple[Path, bytes]:
    """Parent, child, grandchild with every kind of block; the top's path and what it must read as."""
    put(folder / "base.vhdx", parent())
    expect = bytearray(8 * MIB)
    for block in (0, 1, 2, 3):
        expect[block * MIB : (block + 1) * MIB] = bytes([0x10 + block]) * MIB
    child = Vhdx(8 * MIB, parent=child_of("base.vhdx"), data_guid=CHILD_GUID)
    child.partial(1, {0: b"p" * 512, 7: b"q" * 512, 2047: b"r" * 512})
    child.state(2, ZERO)
    child.block(5, b"c" * MIB)
    put(folder / "child.vhdx", child)
    for sector, letter in ((0, b"p"), (7, b"q"), (2047, b"r")):
        expect[MIB + sector * 512 : MIB + (sector + 1) * 512] = letter * 512
    expect[2 * MIB : 3 * MIB] = bytes(MIB)
    expect[5 * MIB : 6 * MIB] = b"c" * MIB
    top = Vhdx(8 * MIB, parent=child_of("child.vhdx", linkage=CHILD_GUID), data_guid=UUID(int=77))
    rng = random.Random(3)
    sectors = {number: rng.randbytes(512) for number in rng.sample(range(2048), 300)}
    top.partial(1, sectors)
    top.state(3, UNDEFINED)
    top.partial(7, {5: b"7" * 512})
    put(folder / "top.avhdx", top)
    for sector, data in sectors.items():
        expect[MIB + sector * 512 : MIB + (sector + 1) * 512] = data
    expect[3 * MIB : 4 * MIB] = bytes(MIB)
    expect[7 * MIB + 5 * 512 : 7 * MIB + 6 * 512] = b"7" * 512
    return folder / "top.avhdx", bytes(expect)


def test_chain_with_partial_blocks_reads_through_to_the_base(tmp_path: Path) -> None:
    path, expect = chain(tmp_path)
    with open_disk(path) as disk:
        assert disk.describe().subformat == "differencing"
        assert disk.read(0, disk.size) == expect
        rng = random.Random(5)
        for _ in range(60):
            offset = rng.randrange(disk.size)
            length = min(disk.size - offset, rng.randrange(1, 5000))
            assert disk.read(offset, length) == expect[offset : offset + length]


def test_extents_of_a_chain_say_where_every_byte_lies(tmp_path: Path) -> None:
    path, expect = chain(tmp_path)
    with open_disk(path) as disk:
        rebuilt = bytearray(disk.size)
        depths = set()
        for table in disk.extents():
            for row in table:
                depths.add(int(row["depth"]))
                if row["kind"] == Kind.DATA:
                    start, length = int(row["start"]), int(row["length"])
                    rebuilt[start : start + length] = disk.files[row["file"]].read(int(row["host"]), length)
        assert bytes(rebuilt) == expect
        assert depths == {-1, 0, 1, 2}


def test_libvhdi_reads_the_same_chain(tmp_path: Path) -> None:
    pyvhdi = pytest.importorskip("pyvhdi", reason="pip install libvhdi-python")
    path, expect = chain(tmp_path)
    files = []
    for name in ("base.vhdx", "child.vhdx", path.name):
        files.append(pyvhdi.file())
        files[-1].open(str(tmp_path / name))
        if len(files) > 1:
            files[-1].set_parent(files[-2])
    theirs = files[-1].read_buffer_at_offset(8 * MIB, 0)
    # libvhdi 20260901 takes ZERO and UNDEFINED for absent and shows the parent there, against section 2.5.1.1.
    assert theirs[: 2 * MIB] == expect[: 2 * MIB]
    assert theirs[4 * MIB :] == expect[4 * MIB :]


def test_bitmap_bits_of_a_whole_block_are_not_looked_at(tmp_path: Path) -> None:
    put(tmp_path / "base.vhdx", parent())
    child = Vhdx(8 * MIB, parent=child_of("base.vhdx"))
    child.partial(0, {3: b"x" * 512})
    child.block(1, b"w" * MIB)
    with open_disk(put(tmp_path / "child.vhdx", child)) as disk:
        assert disk.read(MIB, MIB) == b"w" * MIB


def test_child_larger_than_its_parent_ends_in_zeros(tmp_path: Path) -> None:
    put(tmp_path / "base.vhdx", parent(4 * MIB))
    child = Vhdx(8 * MIB, parent=child_of("base.vhdx"))
    with open_disk(put(tmp_path / "child.vhdx", child)) as disk:
        assert disk.read(3 * MIB, 5 * MIB) == b"\x13" * MIB + bytes(4 * MIB)
        assert int(np.concatenate(list(disk.extents()))["length"].sum()) == 8 * MIB


def test_missing_parent_is_an_error_that_names_it(tmp_path: Path) -> None:
    child = put(tmp_path / "child.vhdx", Vhdx(8 * MIB, parent=child_of("base.vhdx")))
    with pytest.raises(MissingError, match=r"base\.vhdx") as caught:
        open_disk(child)
    assert "--parent" in str(caught.value.hint)


def test_info_works_without_the_parent_and_reading_does_not(tmp_path: Path) -> None:
    made = Vhdx(8 * MIB, parent=child_of("base.vhdx"))
    made.block(0, b"own")
    with open_disk(put(tmp_path / "child.vhdx", made), with_backing=False) as disk:
        backing = disk.describe().backing
        assert backing is not None and backing.name == ".\\base.vhdx"
        assert backing.resolved is None and backing.reason is not None
        assert disk.read(0, 3) == b"own"
        with pytest.raises(MissingError):
            disk.read(MIB, 1)


def test_parent_that_was_written_to_since_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "base.vhdx", parent())
    child = put(tmp_path / "child.vhdx", Vhdx(8 * MIB, parent=child_of("base.vhdx"), data_guid=CHILD_GUID))
    with open_disk(tmp_path / "base.vhdx", writable=True) as disk:
        disk.write(0, b"changed")  # type: ignore[attr-defined]
    with pytest.raises(CorruptImageError, match="written to since") as caught:
        open_disk(child)
    assert "11111111-2222-3333-4444-555555555555" in str(caught.value.expected)


def test_second_linkage_is_as_good_as_the_first(tmp_path: Path) -> None:
    put(tmp_path / "base.vhdx", parent())
    both = child_of("base.vhdx", linkage=UUID(int=1), parent_linkage2="{11111111-2222-3333-4444-555555555555}")
    with open_disk(put(tmp_path / "child.vhdx", Vhdx(8 * MIB, parent=both))) as disk:
        assert disk.read(0, 1) == b"\x10"


def test_parent_outside_the_folder_needs_leave(tmp_path: Path) -> None:
    put(tmp_path / "base.vhdx", parent())
    locator = {**child_of("base.vhdx"), "relative_path": "..\\base.vhdx"}
    child = put(tmp_path / "sub" / "child.vhdx", Vhdx(8 * MIB, parent=locator, data_guid=CHILD_GUID))
    with pytest.raises(RefusedReferenceError) as caught:
        open_disk(child)
    assert "--allow-path" in str(caught.value.hint)
    with open_disk(child, allow_paths=[tmp_path]) as disk:
        assert disk.read(0, 1) == b"\x10"


@pytest.mark.parametrize("by_folder", [True, False])
def test_parent_is_found_where_the_user_says(tmp_path: Path, by_folder: bool) -> None:
    base = put(tmp_path / "elsewhere" / "base.vhdx", parent())
    child = put(tmp_path / "sub" / "child.vhdx", Vhdx(8 * MIB, parent=child_of("base.vhdx"), data_guid=CHILD_GUID))
    with open_disk(child, parents=[base.parent if by_folder else base]) as disk:
        assert disk.read(MIB, 1) == b"\x11"


@pytest.mark.parametrize("folder", [".", "store"])
def test_renamed_parent_is_known_by_its_guid(tmp_path: Path, folder: str) -> None:
    put(tmp_path / folder / "golden image.vhdx", parent())
    (tmp_path / folder / "broken.vhdx").write_bytes(b"vhdxfile")
    child = put(tmp_path / "child.vhdx", Vhdx(8 * MIB, parent=child_of("base.vhdx"), data_guid=CHILD_GUID))
    with open_disk(child, parents=[tmp_path / folder]) as disk:
        assert disk.read(MIB, 1) == b"\x11"


def test_windows_path_is_looked_for_beside_the_image(tmp_path: Path) -> None:
    put(tmp_path / "base.vhdx", parent())
    locator = {
        "parent_linkage": "{11111111-2222-3333-4444-555555555555}",
        "absolute_win32_path": "\\\\?\\D:\\Machines\\xp\\base.vhdx",
    }
    child = put(tmp_path / "child.vhdx", Vhdx(8 * MIB, parent=locator, data_guid=CHILD_GUID))
    with open_disk(child) as disk:
        assert disk.read(2 * MIB, 1) == b"\x12"


@pytest.mark.parametrize("name", ["/etc/passwd", "..\\..\\..\\..\\..\\..\\etc\\passwd", "\\etc\\passwd"])
def test_locator_that_points_at_the_host_opens_nothing(tmp_path: Path, name: str) -> None:
    locator = {"parent_linkage": "{11111111-2222-3333-4444-555555555555}", "relative_path": name}
    child = put(tmp_path / "child.vhdx", Vhdx(8 * MIB, parent=locator, data_guid=CHILD_GUID))
    with pytest.raises(RefusedReferenceError):
        open_disk(child)


def test_image_that_is_its_own_parent_is_corrupt(tmp_path: Path) -> None:
    locator = child_of("child.vhdx", linkage=CHILD_GUID)
    child = put(tmp_path / "child.vhdx", Vhdx(8 * MIB, parent=locator, data_guid=CHILD_GUID))
    with pytest.raises(CorruptImageError, match="loops"):
        open_disk(child)


def test_parent_of_another_format_is_never_probed(tmp_path: Path) -> None:
    (tmp_path / "base.vhdx").write_bytes(b"QFI\xfb\0\0\0\3" + bytes(2 * MIB))
    child = put(tmp_path / "child.vhdx", Vhdx(8 * MIB, parent=child_of("base.vhdx"), data_guid=CHILD_GUID))
    with pytest.raises(CorruptImageError, match="signature"):
        open_disk(child)


def test_locator_of_an_unknown_type_is_unsupported(tmp_path: Path) -> None:
    from builders.vhdx import locator, metadata

    made = Vhdx(8 * MIB, parent=child_of("base.vhdx"))
    items = made.items()
    items[-1] = (items[-1][0], locator(child_of("x"), kind=UUID(int=8)), 4)
    image = bytearray(made.build())
    image[2 * MIB : 2 * MIB + len(metadata(items))] = metadata(items)
    (tmp_path / "child.vhdx").write_bytes(image)
    with pytest.raises(UnsupportedError):
        open_disk(tmp_path / "child.vhdx")


def test_partial_block_without_its_bitmap_is_corrupt(tmp_path: Path) -> None:
    put(tmp_path / "base.vhdx", parent())
    child = Vhdx(8 * MIB, parent=child_of("base.vhdx"), data_guid=CHILD_GUID)
    child.partial(0, {3: b"x" * 512})
    child.bat[child.ratio] = 0
    child.bitmaps = {0: child.bitmaps[0]}
    with open_disk(put(tmp_path / "child.vhdx", child)) as disk:
        with pytest.raises(CorruptImageError):
            disk.read(0, 1)
        codes = [problem.code for problem in disk.check().problems]  # type: ignore[attr-defined]
        assert "vhdx.bitmap-missing" in codes


def test_differencing_image_is_written_and_read_back(tmp_path: Path) -> None:
    from builders.written import write_image

    write_image(tmp_path / "base.vhdx", "vhdx", {0: b"base" * 1000, 9 * MIB: b"far"}, 20 * MIB)
    options = {"subformat": "differencing", "backing_file": "base.vhdx", "block_size": "1M"}
    write_image(tmp_path / "child.vhdx", "vhdx", {MIB: b"mine", 9 * MIB: bytes(MIB)}, 20 * MIB, **options)
    with open_disk(tmp_path / "child.vhdx") as disk, open_disk(tmp_path / "base.vhdx") as base:
        assert disk.read(0, 4) == b"base"
        assert disk.read(MIB, 4) == b"mine"
        assert disk.read(9 * MIB, 3) == bytes(3)
        assert disk.describe().details["disk_guid"] == base.describe().details["disk_guid"]
        assert disk.check().exit_status == 0  # type: ignore[attr-defined]
    with pytest.raises(UsageError):
        write_image(tmp_path / "x.vhdx", "vhdx", {}, MIB, subformat="differencing")
