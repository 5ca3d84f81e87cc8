"""Kinds of VMDK that no tool here writes, built byte by byte; what must be refused; chains; checks."""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from builders.vmdk import (
    HEADER,
    SECTOR,
    cowd_extent,
    descriptor,
    se_sparse_extent,
    sparse_header,
    stream,
    write_split,
)
from builders.writing import FolderTarget, copy_into
from byre.disks.disk import CheckedDisk
from byre.disks.opening import open_disk
from byre.disks.raw import RawDisk
from byre.disks.vmdk import create
from byre.disks.vmdk.descriptor import looks_like_descriptor, parse_descriptor, serialise_descriptor
from byre.errors import (
    ByreError,
    CorruptImageError,
    MissingError,
    RefusedReferenceError,
    UnsupportedError,
    UsageError,
)
from byre.extents import Kind
from byre.storage.memory import MemoryStorage
from fuzzing import fuzz


def monolithic(path: Path, content: bytes, **options: object) -> Path:
    target = FolderTarget(path)
    copy_into(RawDisk(MemoryStorage(content)), create(target, len(content), options))
    target.close()
    return path


def qemu_raw(path: Path) -> bytes:
    out = path.with_suffix(".qemu-raw")
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, out], check=True)
    return out.read_bytes()


@pytest.mark.oracle
def test_vmfs_sparse_is_read_as_qemu_reads_it(tmp_path: Path) -> None:
    grains = {0: b"first", 7: b"seven", 4095: b"last of table", 4096: b"next table", 9999: b"end"}
    text = descriptor("vmfsSparse", ['RW 10000 VMFSSPARSE "x-delta.vmdk"'])
    path = write_split(tmp_path, "x.vmdk", text, **{"x-delta": cowd_extent(grains, capacity=10000)})
    with open_disk(path) as disk:
        assert disk.size == 10000 * SECTOR
        data = disk.read(0, disk.size)
        for number, content in grains.items():
            assert data[number * SECTOR :].startswith(content)
    assert data == qemu_raw(path)


@pytest.mark.oracle
def test_se_sparse_is_read_as_qemu_reads_it(tmp_path: Path) -> None:
    grains: dict[int, bytes | str] = {number: bytes([number % 251 + 1]) * 4096 for number in range(0, 9000, 2)}
    grains |= {1: "zero", 3: "unmapped"}
    text = descriptor("seSparse", ['RW 80000 SESPARSE "x-sesparse.vmdk"'])
    path = write_split(tmp_path, "x.vmdk", text, **{"x-sesparse": se_sparse_extent(grains, capacity=80000)})
    with open_disk(path) as disk:
        data = disk.read(0, disk.size)
        assert data[2 * 4096 : 3 * 4096] == bytes([3]) * 4096
        table = next(iter(disk.extents()))
        assert table["kind"][:4].tolist() == [Kind.DATA, Kind.ZERO, Kind.DATA, Kind.ZERO]
    assert data == qemu_raw(path)


def test_se_sparse_with_an_unreplayed_journal_is_unsupported(tmp_path: Path) -> None:
    text = descriptor("seSparse", ['RW 80000 SESPARSE "d.vmdk"'])
    path = write_split(tmp_path, "x.vmdk", text, d=se_sparse_extent({0: b"x"}, capacity=80000, replay=1))
    with pytest.raises(UnsupportedError, match="journal"):
        open_disk(path)


@pytest.mark.parametrize("markers", [True, False])
@pytest.mark.parametrize("footer", [True, False])
@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("trailing", [0, 65536])
def test_stream_is_read_with_and_without_markers(
    tmp_path: Path, markers: bool, footer: bool, version: int, trailing: int
) -> None:
    rng = random.Random(1)
    grains = {number: rng.randbytes(30000) for number in (0, 1, 5, 600, 1199)}
    path = tmp_path / "stream.vmdk"
    path.write_bytes(
        stream(grains, capacity=1200 * 128, version=version, markers=markers, footer=footer, trailing=trailing)
    )
    with open_disk(path) as disk:
        for number, content in grains.items():
            assert disk.read(number * 65536, 65536) == content.ljust(65536, b"\0")
        assert disk.read(2 * 65536, 65536) == bytes(65536)
        table = np.concatenate(list(disk.extents()))
        packed = table[table["kind"] == Kind.COMPRESSED]
        assert (packed["start"] // 65536).tolist() == list(grains)
        assert isinstance(disk, CheckedDisk)
        report = disk.check()
        assert report.corruptions == 0
        assert ("vmdk.trailing-bytes" in {problem.code for problem in report.problems}) == bool(
            trailing and (footer or markers)
        )


def test_compressed_grains_are_read_by_many_threads_at_once(tmp_path: Path) -> None:
    rng = random.Random(2)
    content = b"".join(rng.randbytes(40000) + bytes(25536) for _ in range(64))
    path = monolithic(tmp_path / "s.vmdk", content, subformat="streamOptimized")
    with open_disk(path) as disk, ThreadPoolExecutor(4) as pool:
        places = [rng.randrange(len(content) - 5000) for _ in range(300)]
        for place, data in zip(places, pool.map(lambda at: disk.read(at, 5000), places), strict=True):
            assert data == content[place : place + 5000]


def test_nothing_follows_the_end_of_stream_marker(tmp_path: Path) -> None:
    path = monolithic(tmp_path / "s.vmdk", b"data" * 100_000, subformat="streamOptimized")
    data = path.read_bytes()
    assert data[-SECTOR:] == bytes(SECTOR)
    assert struct.unpack_from("<QII", data, len(data) - 3 * SECTOR) == (1, 0, 3)
    footer = HEADER.unpack_from(data, len(data) - 2 * SECTOR)
    assert footer[:3] == (b"KDMV", 3, 0x30001)
    assert HEADER.unpack_from(data)[9] == 0xFFFFFFFFFFFFFFFF


def test_redundant_tables_of_a_new_image_agree_and_a_damaged_one_is_found(tmp_path: Path) -> None:
    path = monolithic(tmp_path / "m.vmdk", b"data" * 100_000)
    data = bytearray(path.read_bytes())
    fields = HEADER.unpack_from(data)
    (table,) = struct.unpack_from("<I", data, fields[8] * SECTOR)
    assert fields[8] != fields[9]
    struct.pack_into("<I", data, table * SECTOR + 4, 0)
    path.write_bytes(data)
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        (problem,) = disk.check().problems
        assert (problem.kind, problem.code) == ("corruption", "vmdk.redundant-tables-differ")
        assert problem.repairable
        assert disk.read(0, 400_000) == b"data" * 100_000


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x", "../outside.raw", "/dev/null", "sub/../../outside.raw"])
@pytest.mark.parametrize("kind", ["FLAT", "VMFS", "SPARSE"])
def test_extent_outside_the_folder_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outside.raw").write_bytes(bytes(1 << 20))
    path = inner / "x.vmdk"
    path.write_text(descriptor("monolithicFlat", [f'RW 1 {kind} "{name}"' + (" 0" if kind == "FLAT" else "")]))
    with pytest.raises(RefusedReferenceError) as refused:
        open_disk(path)
    assert refused.value.path == str(path)
    assert refused.value.hint is not None and "--allow-path" in refused.value.hint


def test_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "x-flat.vmdk").symlink_to("/etc/passwd")
    path = inner / "x.vmdk"
    path.write_text(descriptor("monolithicFlat", ['RW 1 FLAT "x-flat.vmdk" 0']))
    with pytest.raises(RefusedReferenceError):
        open_disk(path)


def test_parent_outside_the_folder_is_refused(tmp_path: Path) -> None:
    text = descriptor("monolithicFlat", ["RW 8 ZERO"], parent_cid=1, hint="/etc/passwd")
    path = tmp_path / "x.vmdk"
    path.write_text(text)
    with pytest.raises(RefusedReferenceError):
        open_disk(path)


def test_flat_extent_with_the_header_of_another_format_stays_raw(tmp_path: Path) -> None:
    flat = (b"QFI\xfb" + bytes(508)).ljust(4096, b"\x11")
    path = write_split(tmp_path, "x.vmdk", descriptor("vmfs", ['RW 8 VMFS "x-flat.vmdk"']), **{"x-flat": flat})
    with open_disk(path) as disk:
        assert disk.read(0, 4096) == flat


def test_flat_extents_lie_side_by_side_with_offsets_and_zeros(tmp_path: Path) -> None:
    lines = ['RW 2 FLAT "a.vmdk" 1', "RW 3 ZERO", 'RDONLY 1 FLAT "b.vmdk" 0', 'RW 1 FLAT "a.vmdk" 0']
    a, b = b"A" * 512 + b"B" * 512 + b"C" * 512, b"D" * 512
    path = write_split(tmp_path, "x.vmdk", descriptor("custom", lines), a=a, b=b)
    expected = a[512:] + bytes(1536) + b + a[:512]
    with open_disk(path) as disk:
        assert disk.read(0, disk.size) == expected
        assert [Path(file.name).name for file in disk.files] == ["x.vmdk", "a.vmdk", "b.vmdk"]
        for row in np.concatenate(list(disk.extents())):
            if row["kind"] == Kind.DATA:
                host = disk.files[int(row["file"])].read(int(row["host"]), int(row["length"]))
                assert host == expected[int(row["start"]) :][: int(row["length"])]


def test_short_flat_extent_is_corrupt(tmp_path: Path) -> None:
    text = descriptor("monolithicFlat", ['RW 9 FLAT "f.vmdk" 0'])
    path = write_split(tmp_path, "x.vmdk", text, f=bytes(4096))
    with pytest.raises(CorruptImageError) as error:
        open_disk(path)
    assert (error.value.found, error.value.expected) == ("4096 bytes", "4608 bytes")


def test_extent_opened_without_its_descriptor_says_so(tmp_path: Path) -> None:
    monolithic(tmp_path / "x.vmdk", b"data" * 1000, subformat="twoGbMaxExtentSparse")
    with pytest.raises(UnsupportedError, match="descriptor"):
        open_disk(tmp_path / "x-s001.vmdk")


def delta(folder: Path, parent: Path, *, hint: str, cid: int | None = None, number: int = 7) -> Path:
    with open_disk(parent, with_backing=False) as above:
        size = above.size
        parent_cid = above.cid if cid is None else cid  # type: ignore[attr-defined]
    text = descriptor(
        "vmfsSparse",
        [f'RW {size // SECTOR} VMFSSPARSE "d{number}.vmdk"'],
        cid=number,
        parent_cid=parent_cid,
        hint=hint,
    )
    content = cowd_extent({number: bytes([number]) * 512}, capacity=size // SECTOR)
    return write_split(folder, f"child{number}.vmdk", text, **{f"d{number}": content})


def test_delta_chain_is_read_through_three_images(tmp_path: Path) -> None:
    content = b"base" * 50_000
    base = monolithic(tmp_path / "base.vmdk", content, subformat="twoGbMaxExtentSparse")
    middle = delta(tmp_path, base, hint="base.vmdk", number=7)
    top = delta(tmp_path, middle, hint="child7.vmdk", number=9)
    expected = bytearray(content.ljust(-(-len(content) // 512) * 512, b"\0"))
    expected[7 * 512 : 8 * 512] = b"\7" * 512
    expected[9 * 512 : 10 * 512] = b"\x09" * 512
    with open_disk(top) as disk:
        assert disk.read(0, disk.size) == expected
        names = [Path(file.name).name for file in disk.files]
        assert names == ["child9.vmdk", "d9.vmdk", "child7.vmdk", "d7.vmdk", "base.vmdk", "base-s001.vmdk"]
        for row in np.concatenate(list(disk.extents())):
            if row["kind"] == Kind.DATA:
                file = disk.files[int(row["file"])]
                assert Path(file.name).name == {0: "d9.vmdk", 1: "d7.vmdk", 2: "base-s001.vmdk"}[int(row["depth"])]
                host = file.read(int(row["host"]), int(row["length"]))
                assert host == expected[int(row["start"]) :][: int(row["length"])]


def test_parent_with_another_cid_is_an_error_with_both_values(tmp_path: Path) -> None:
    base = monolithic(tmp_path / "base.vmdk", b"base" * 1000, cid="0000beef")
    with pytest.raises(CorruptImageError) as error:
        open_disk(delta(tmp_path, base, hint="base.vmdk", cid=0xDEAD))
    assert (error.value.found, error.value.expected) == ("CID 0000beef", "CID 0000dead")


def test_a_descriptor_file_of_absurd_length_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "big.vmdk").write_bytes(b"# Disk DescriptorFile\n" + b"#" * (30 << 20))
    with pytest.raises(CorruptImageError, match="absurd length") as error:
        open_disk(tmp_path / "big.vmdk")
    assert error.value.found == f"{(30 << 20) + 22} bytes"


def test_missing_parent_is_named(tmp_path: Path) -> None:
    base = monolithic(tmp_path / "base.vmdk", b"base" * 1000)
    child = delta(tmp_path, base, hint="base.vmdk")
    base.unlink()
    with pytest.raises(MissingError, match=r"base\.vmdk") as error:
        open_disk(child)
    assert error.value.hint == "Say where it is: --parent FILE or --parent FOLDER."
    with open_disk(child, with_backing=False) as disk:
        backing = disk.describe().backing
        assert backing is not None
        assert (backing.name, backing.resolved) == ("base.vmdk", None)
        with pytest.raises(MissingError):
            disk.read(0, 512)


@pytest.mark.parametrize("hint", ["C:\\\\VMs\\\\xp\\\\base.vmdk", "/vmfs/volumes/1/xp/base.vmdk"])
def test_parent_named_by_another_machines_path_is_found_beside_the_image(tmp_path: Path, hint: str) -> None:
    base = monolithic(tmp_path / "base.vmdk", b"base" * 1000)
    with open_disk(delta(tmp_path, base, hint=hint)) as disk:
        assert disk.read(0, 8) == b"basebase"


def test_parent_in_another_folder_is_found_when_it_is_given(tmp_path: Path) -> None:
    other = tmp_path / "other"
    here = tmp_path / "here"
    other.mkdir()
    here.mkdir()
    base = monolithic(other / "base.vmdk", b"base" * 1000)
    child = delta(here, base, hint="base.vmdk")
    for given in (base, other):
        with open_disk(child, parents=[given]) as disk:
            assert disk.read(0, 8) == b"basebase"


def test_chain_that_loops_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "x.vmdk"
    path.write_text(descriptor("custom", ["RW 8 ZERO"], cid=5, parent_cid=5, hint="x.vmdk"))
    with pytest.raises(CorruptImageError, match="loop"):
        open_disk(path)


def test_first_write_changes_the_cid_and_orphans_children(tmp_path: Path) -> None:
    base = monolithic(tmp_path / "base.vmdk", b"base" * 1000)
    child = delta(tmp_path, base, hint="base.vmdk")
    with open_disk(base, writable=True) as disk:
        disk.write(0, b"new")  # type: ignore[attr-defined]
    with pytest.raises(CorruptImageError, match="content identifiers"):
        open_disk(child)


@pytest.mark.parametrize("parent_too", [False, True])
def test_zeroes_and_discards_in_a_child_never_show_the_parent(tmp_path: Path, parent_too: bool) -> None:
    content = b"base" * 100_000
    monolithic(tmp_path / "base.vmdk", content)
    target = FolderTarget(tmp_path / "child.vmdk")
    create(target, len(content) // 512 * 512 + 512, {"backing_file": "base.vmdk"}).finish()
    target.close()
    expected = bytearray(content.ljust(len(content) // 512 * 512 + 512, b"\0"))
    with open_disk(tmp_path / "child.vmdk", writable=True) as disk:
        disk.write_zeroes(1000, 200_000)  # type: ignore[attr-defined]
        expected[1000:201_000] = bytes(200_000)
        disk.write(70_000, b"here")  # type: ignore[attr-defined]
        expected[70_000:70_004] = b"here"
        disk.discard(65_536, 65_536)  # type: ignore[attr-defined]
        got = disk.read(0, disk.size)
        assert got[65_536:131_072] in (bytes(65_536), bytes(expected[65_536:131_072]))
        assert got[:65_536] == expected[:65_536]
        assert got[131_072:] == expected[131_072:]
    with open_disk(tmp_path / "child.vmdk") as disk:
        assert disk.read(0, disk.size) == got


def test_stream_is_not_written_to(tmp_path: Path) -> None:
    path = monolithic(tmp_path / "s.vmdk", b"data" * 1000, subformat="streamOptimized")
    with open_disk(path, writable=True) as disk, pytest.raises(UnsupportedError, match="stream"):
        disk.write(0, b"x")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options",
    [{"subformat": "seSparse"}, {"grain_size": 1000}, {"grain_size": "2M"}, {"nonsense": 1}, {"cid": "ffffffff"}],
)
def test_impossible_options_are_usage_errors(tmp_path: Path, options: dict[str, object]) -> None:
    target = FolderTarget(tmp_path / "x.vmdk")
    with pytest.raises(UsageError):
        create(target, 1 << 20, options)
    target.close()


def test_truncated_stream_is_corrupt(tmp_path: Path) -> None:
    path = monolithic(tmp_path / "s.vmdk", bytes(range(256)) * 4096, subformat="streamOptimized")
    path.write_bytes(path.read_bytes()[:-2048])
    with pytest.raises(CorruptImageError, match="footer"):
        open_disk(path)


def test_grain_that_inflates_beyond_a_grain_is_corrupt(tmp_path: Path) -> None:
    data = bytearray(stream({0: random.Random(3).randbytes(65536)}, capacity=128))
    bomb = zlib.compress(bytes(1 << 20))
    at = 128 * SECTOR
    struct.pack_into("<QI", data, at, 0, len(bomb))
    data[at + 12 : at + 12 + len(bomb)] = bomb
    path = tmp_path / "b.vmdk"
    path.write_bytes(data)
    with open_disk(path) as disk, pytest.raises(CorruptImageError):
        disk.read(0, 512)


def test_text_mode_transfer_is_found(tmp_path: Path) -> None:
    path = monolithic(tmp_path / "m.vmdk", b"data" * 1000)
    data = bytearray(path.read_bytes())
    data[73:77] = b"\n \n\n"
    path.write_bytes(data)
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        assert [problem.code for problem in disk.check().problems] == ["vmdk.newline-test"]


def test_overlapping_and_outlying_grains_are_found(tmp_path: Path) -> None:
    path = monolithic(tmp_path / "m.vmdk", b"data" * 100_000)
    data = bytearray(path.read_bytes())
    fields = HEADER.unpack_from(data)
    for directory in fields[8:10]:
        (table,) = struct.unpack_from("<I", data, directory * SECTOR)
        (first,) = struct.unpack_from("<I", data, table * SECTOR)
        struct.pack_into("<I", data, table * SECTOR + 4, first)
        struct.pack_into("<I", data, table * SECTOR + 8, 0xFFFFFFF0)
    path.write_bytes(data)
    with open_disk(path) as disk:
        assert isinstance(disk, CheckedDisk)
        codes = {problem.code for problem in disk.check().problems}
        assert codes == {"vmdk.overlap", "vmdk.grain-outside-file", "vmdk.leaked-grains"}
        with pytest.raises(CorruptImageError) as error:
            disk.read(2 * 65536, 512)
        assert error.value.offset == 0xFFFFFFF0 * SECTOR


HOSTILE_HEADERS = {
    "huge capacity": {"capacity": 1 << 60},
    "huge directory": {"capacity": 1 << 45},
    "grain of nothing": {"grain": 0},
    "odd grain": {"grain": 3},
    "huge grain": {"grain": 1 << 40},
    "no entries": {"gtes": 0},
    "many entries": {"gtes": 1 << 31},
    "directory far away": {"gd": 1 << 62},
    "descriptor far away": {"descriptor": (1 << 62, 20)},
    "huge descriptor": {"descriptor": (1, 1 << 40)},
    "version 9": {"version": 9},
    "compression 7": {"compression": 7},
}


@pytest.mark.parametrize("case", HOSTILE_HEADERS)
def test_hostile_header_is_refused(tmp_path: Path, case: str) -> None:
    fields: dict[str, object] = {"capacity": 2048, "descriptor": (1, 20), "gd": 21, **HOSTILE_HEADERS[case]}
    text = descriptor("monolithicSparse", ['RW 2048 SPARSE "x.vmdk"']).encode().ljust(20 * SECTOR, b"\0")
    path = tmp_path / "x.vmdk"
    path.write_bytes(sparse_header(**fields) + text + bytes(1 << 17))  # type: ignore[arg-type]
    with pytest.raises((CorruptImageError, UnsupportedError)):
        open_disk(path)


HOSTILE_DESCRIPTORS = [
    descriptor("custom", []),
    descriptor("custom", ["RW 99999999999999999999 ZERO"]),
    descriptor("custom", ["RW 70368744177664 ZERO"] * 4000),
    descriptor("custom", ["RW 1 ZERO"] * 5000),
    descriptor("custom", ["RW 0 ZERO"]),
    descriptor("custom", ["RW -1 ZERO"]),
    descriptor("custom", ['RW 1 FLAT ""']),
    descriptor("custom", ["RW 1 FLAT"]),
    descriptor("custom", ['RW 1 BANANA "x"']),
    descriptor("custom", ['RW 1 VMFSRDM "x"']),
    descriptor("custom", ['NOACCESS 1 FLAT "x.vmdk" 0']),
    descriptor("custom", ["RW 1 ZERO"]).replace("CID=1234abcd", "CID=xyz"),
    descriptor("custom", ["RW 1 ZERO"]).replace("version=1", "version=999"),
    descriptor("custom", ["RW 1 ZERO"]).replace('createType="custom"', ""),
    descriptor("custom", ["RW 1 ZERO"], parent_cid=3),
    "# Disk DescriptorFile\n" * 30_000,
    "# Disk DescriptorFile",
]


@pytest.mark.parametrize("number", range(len(HOSTILE_DESCRIPTORS)))
def test_hostile_descriptor_is_refused(tmp_path: Path, number: int) -> None:
    path = tmp_path / "x.vmdk"
    path.write_text(HOSTILE_DESCRIPTORS[number])
    with pytest.raises((CorruptImageError, UnsupportedError)):
        open_disk(path)


def test_descriptor_survives_being_written_and_read() -> None:
    text = descriptor(
        "twoGbMaxExtentSparse",
        ['RW 10 SPARSE "Windows XP Ä-s001.vmdk"', 'RW 3 FLAT "b.vmdk" 7', "RW 1 ZERO"],
        parent_cid=0xABC,
        hint="below.vmdk",
        extra=['ddb.uuid = "60 00 C2 9a"'],
    )
    first = parse_descriptor(text.encode(), path="x")
    again = parse_descriptor(serialise_descriptor(first), path="x")
    assert (again.extents, again.cid, again.parent_cid, again.parent_hint, dict(again.ddb)) == (
        first.extents,
        0x1234ABCD,
        0xABC,
        "below.vmdk",
        {"ddb.adapterType": "ide", "ddb.uuid": "60 00 C2 9a"},
    )
    assert serialise_descriptor(again).startswith(b"# Disk DescriptorFile\n")


def test_descriptor_in_a_code_page_names_its_extent_rightly(tmp_path: Path) -> None:
    text = descriptor("vmfs", ['RW 1 VMFS "Büro-flat.vmdk"']).replace(
        "version=1", 'version=1\nencoding="windows-1252"'
    )
    (tmp_path / "Büro-flat.vmdk").write_bytes(b"x" * 512)
    path = tmp_path / "x.vmdk"
    path.write_bytes(text.encode("cp1252"))
    with open_disk(path) as disk:
        assert disk.read(0, 512) == b"x" * 512


@pytest.mark.parametrize(
    "head",
    [
        b"# Disk DescriptorFile\n",
        b"\xef\xbb\xbf# Disk DescriptorFile\r\n",
        b"\n# disk descriptorfile\n",
        b"#Disk DescriptorFile",
    ],
)
def test_descriptor_is_recognised_in_its_variants(tmp_path: Path, head: bytes) -> None:
    assert looks_like_descriptor(head)
    text = descriptor("custom", ["RW 4 ZERO"]).split("\n", 1)[1].encode()
    path = tmp_path / "x.img"
    path.write_bytes(head.rstrip(b"\r\n") + b"\r\n" + text.replace(b"\n", b"\r\n"))
    with open_disk(path) as disk:
        assert (disk.format, disk.size) == ("vmdk", 2048)


def _fuzz_seeds() -> dict[str, bytes]:
    rng = random.Random(11)
    content = b"".join(rng.randbytes(3000) + bytes(90_000) for _ in range(12))
    storage = {}

    class Memory:
        def __init__(self) -> None:
            self.name = "seed.vmdk"
            self.storage = MemoryStorage()

        def extra(self, name: str) -> MemoryStorage:
            raise AssertionError(name)

    for subformat in ("monolithicSparse", "streamOptimized"):
        target = Memory()
        copy_into(RawDisk(MemoryStorage(content)), create(target, len(content), {"subformat": subformat}))
        storage[subformat] = bytes(target.storage.data)
    storage["cowd"] = cowd_extent({1: b"x", 5000: b"y"}, capacity=8192)
    storage["sesparse"] = se_sparse_extent({0: b"x", 1: "zero", 4096: b"y"}, capacity=80000)
    storage["bare"] = stream({0: b"x" * 9000, 3: b"y"}, capacity=1024, markers=False)
    return storage


def _mutate(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        # Headers and tables lie in front and at the end; that is where damage tells.
        at = rng.choice(
            (
                rng.randrange(min(len(out), 2048)),
                rng.randrange(len(out)),
                len(out) - 1 - rng.randrange(min(len(out), 4096)),
            )
        )
        width = rng.choice((1, 2, 4, 8))
        value = rng.choice((0, 1, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63, rng.getrandbits(64)))
        piece = (value & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        out[at : at + width] = piece[: len(out) - at]
    if rng.random() < 0.15:
        del out[rng.randrange(len(out)) :]
    return bytes(out)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["monolithicSparse", "streamOptimized", "cowd", "sesparse", "bare"])
def test_damaged_images_raise_nothing_but_our_errors(tmp_path: Path, kind: str) -> None:
    seed = _fuzz_seeds()[kind]
    lines = {
        "cowd": ("vmfsSparse", 'RW 8192 VMFSSPARSE "e.vmdk"'),
        "sesparse": ("seSparse", 'RW 80000 SESPARSE "e.vmdk"'),
    }

    def case(rng: random.Random) -> None:
        path = tmp_path / "x.vmdk"
        if kind in lines:
            create_type, line = lines[kind]
            write_split(tmp_path, "x.vmdk", descriptor(create_type, [line]), e=_mutate(seed, rng))
        else:
            path.write_bytes(_mutate(seed, rng))
        try:
            disk = open_disk(path, format="vmdk")
        except ByreError:
            return
        with disk:
            for action in (
                lambda disk: [len(table) for _, table in zip(range(50), disk.extents(), strict=False)],
                lambda disk: disk.read(0, min(disk.size, 1 << 20)),
                lambda disk: disk.read(max(0, disk.size - 70_000), min(disk.size, 70_000)),
                lambda disk: disk.check(),
                lambda disk: disk.describe(),
            ):
                with contextlib.suppress(ByreError):
                    action(disk)

    fuzz(f"vmdk {kind}", 80, case)


@pytest.mark.fuzz
def test_damaged_descriptors_raise_nothing_but_our_errors(tmp_path: Path) -> None:
    (tmp_path / "a.vmdk").write_bytes(bytes(1 << 16))
    seed = descriptor("custom", ['RW 100 FLAT "a.vmdk" 7', "RW 4 ZERO"], parent_cid=4, hint="p.vmdk").encode()

    def case(rng: random.Random) -> None:
        path = tmp_path / "x.vmdk"
        path.write_bytes(b"# Disk DescriptorFile\n" + _mutate(seed, rng))
        with contextlib.suppress(ByreError), open_disk(path, format="vmdk") as disk:
            disk.read(0, min(disk.size, 4096))

    fuzz("vmdk descriptor", 150, case)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["monolithicSparse"])
def test_writing_to_damaged_images_raises_nothing_but_our_errors(tmp_path: Path, kind: str) -> None:
    seed = _fuzz_seeds()[kind]

    def case(rng: random.Random) -> None:
        path = tmp_path / "x.vmdk"
        path.write_bytes(_mutate(seed, rng))
        try:
            with open_disk(path, format="vmdk", writable=True) as disk:
                if disk.size > 1 << 31:
                    return
                turn = rng.randrange(3)
                if turn == 0:
                    disk.compact()  # type: ignore[attr-defined]
                elif turn == 1:
                    disk.resize(disk.size + (1 << 20))  # type: ignore[attr-defined]
                disk.write(min(disk.size - 512, 200_000), b"x" * 512)  # type: ignore[attr-defined]
        except ByreError:
            pass

    fuzz(f"vmdk write {kind}", 80, case)


def test_packing_an_image_that_was_cut_short_is_refused_and_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "cut.vmdk"
    path.write_bytes(_fuzz_seeds()["monolithicSparse"][: -(1 << 17)])
    before = path.read_bytes()
    with open_disk(path, format="vmdk", writable=True) as disk, pytest.raises(CorruptImageError) as caught:
        disk.compact()  # type: ignore[attr-defined]
    assert caught.value.offset is not None and caught.value.offset >= len(before)
    assert path.read_bytes() == before
