"""VMDK against qemu-img, libvmdk and 7-Zip, in both directions."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

from builders.writing import FolderTarget, copy_blocks, copy_into
from byre.disks.disk import Disk
from byre.disks.opening import open_disk
from byre.disks.vmdk import create
from byre.extents import Kind

pytestmark = pytest.mark.oracle

WRITTEN = ("monolithicSparse", "streamOptimized", "monolithicFlat", "twoGbMaxExtentSparse")
SIZES = (512, 65536 - 512, 65536, 65536 + 512, (33 << 20) + 512 * 3, 64 << 20)


def run(*words: object) -> str:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True).stdout


def raw_image(path: Path, size: int, kind: str, seed: int = 1) -> Path:
    rng = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(size)
        if kind == "full":
            file.write((rng.randbytes(4099) * (size // 4099 + 1))[:size])
        elif kind == "sparse":
            for _ in range(12):
                start = rng.randrange(size)
                file.seek(start)
                file.write((rng.randbytes(1000) * 200)[: min(size - start, rng.randrange(1, 200_000))])
    return path


def write(source: Path, path: Path, **options: object) -> None:
    target = FolderTarget(path)
    with open_disk(source, format="raw") as disk:
        copy_into(disk, create(target, disk.size, options))
    target.close()


def digest(disk: Disk) -> str:
    total = hashlib.sha256()
    for offset in range(0, disk.size, 1 << 22):
        total.update(disk.read(offset, min(1 << 22, disk.size - offset)))
    return total.hexdigest()


@pytest.mark.parametrize("subformat", WRITTEN)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", ["empty", "sparse", "full"])
def test_qemu_reads_what_is_written(tmp_path: Path, subformat: str, size: int, kind: str) -> None:
    source = raw_image(tmp_path / "source.raw", size, kind)
    write(source, tmp_path / "out.vmdk", subformat=subformat)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "vmdk", source, tmp_path / "out.vmdk")
    with open_disk(tmp_path / "out.vmdk") as disk:
        report = disk.check()  # type: ignore[attr-defined]
        assert (report.exit_status, report.problems) == (0, ())
        assert hashlib.sha256(source.read_bytes()).hexdigest() == digest(disk)


@pytest.mark.parametrize("subformat", [*WRITTEN, "twoGbMaxExtentFlat"])
@pytest.mark.parametrize(("size", "kind"), [(512, "full"), ((33 << 20) + 512 * 3, "sparse"), (8 << 20, "full")])
def test_what_qemu_writes_is_read(tmp_path: Path, subformat: str, size: int, kind: str) -> None:
    source = raw_image(tmp_path / "source.raw", size, kind, seed=2)
    made = tmp_path / "made.vmdk"
    run("qemu-img", "convert", "-O", "vmdk", "-o", f"subformat={subformat}", source, made)
    with open_disk(made) as disk:
        assert disk.format == "vmdk"
        assert disk.size == size
        assert digest(disk) == hashlib.sha256(source.read_bytes()).hexdigest()
        assert disk.check().corruptions == 0  # type: ignore[attr-defined]
        rng = random.Random(3)
        data = source.read_bytes()
        for _ in range(40):
            start = rng.randrange(size)
            length = rng.randrange(1, min(200_000, size - start) + 1)
            assert disk.read(start, length) == data[start : start + length]


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized", "twoGbMaxExtentSparse"])
def test_disk_beyond_two_tebibytes_keeps_its_far_end(tmp_path: Path, subformat: str) -> None:
    size = (1 << 40) + (1 << 30) if subformat.startswith("two") else (2 << 40) + (3 << 30) + 512
    source = tmp_path / "source.raw"
    with source.open("wb") as file:
        file.truncate(size)
        for start in (0, 5 << 30, size - 1000):
            file.seek(start)
            file.write(b"far out " * 100)
    target = FolderTarget(tmp_path / "out.vmdk")
    writer = create(target, size, {"subformat": subformat})
    block = writer.block_size
    numbers = {start // block for start in (0, 5 << 30, size - 1000, size - 1)}
    with open_disk(source, format="raw") as raw:
        copy_blocks(raw, writer, sorted(numbers))
    writer.finish()
    target.close()
    with open_disk(tmp_path / "out.vmdk") as disk:
        assert disk.size == size
        assert disk.read(size - 1000, 800) == b"far out " * 100
        assert disk.read(5 << 30, 800) == b"far out " * 100
        assert disk.read(6 << 30, 800) == bytes(800)
    shown = run("qemu-io", "-r", "-f", "vmdk", "-c", f"read -v {size // 512 * 512 - 1024} 512", tmp_path / "out.vmdk")
    assert "far.out" in shown


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
def test_libvmdk_and_seven_zip_read_what_is_written(tmp_path: Path, subformat: str) -> None:
    source = raw_image(tmp_path / "source.raw", 20 << 20, "sparse", seed=4)
    out = tmp_path / "out.vmdk"
    write(source, out, subformat=subformat)
    told = run("vmdkinfo", out)
    assert "20971520 bytes" in told
    (tmp_path / "extracted").mkdir()
    run("7z", "e", "-tvmdk", f"-o{tmp_path / 'extracted'}", out)
    (extracted,) = (tmp_path / "extracted").iterdir()
    assert extracted.read_bytes() == source.read_bytes()


def test_qemu_reads_a_written_delta_over_its_parent(tmp_path: Path) -> None:
    base = raw_image(tmp_path / "base.raw", 4 << 20, "full", seed=5)
    write(base, tmp_path / "base.vmdk")
    target = FolderTarget(tmp_path / "child.vmdk")
    writer = create(target, 4 << 20, {"backing_file": "base.vmdk"})
    place = writer.place(np.array([3]), np.array([65536]), np.array([False]))
    writer.files[0].write(int(place.host[0]), b"child" + bytes(65531))
    writer.place_zero(np.array([5, 6]))
    writer.finish()
    target.close()
    expected = bytearray(base.read_bytes())
    expected[3 * 65536 : 4 * 65536] = b"child" + bytes(65531)
    expected[5 * 65536 : 7 * 65536] = bytes(2 * 65536)
    (tmp_path / "expected.raw").write_bytes(expected)
    compared = run(
        "qemu-img", "compare", "-f", "raw", "-F", "vmdk", tmp_path / "expected.raw", tmp_path / "child.vmdk"
    )
    assert "identical" in compared
    with open_disk(tmp_path / "child.vmdk") as disk:
        assert disk.read(0, disk.size) == expected
        table = np.concatenate(list(disk.extents()))
        assert set(table["depth"].tolist()) == {0, 1}
        zero = table[table["kind"] == Kind.ZERO]
        assert [(int(row["start"]), int(row["length"])) for row in zero] == [(5 * 65536, 2 * 65536)]


def test_qemu_delta_is_read_across_its_parent(tmp_path: Path) -> None:
    base = raw_image(tmp_path / "base.raw", 4 << 20, "full", seed=6)
    run("qemu-img", "convert", "-O", "vmdk", base, tmp_path / "base.vmdk")
    run("qemu-img", "create", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", tmp_path / "child.vmdk")
    run("qemu-io", "-f", "vmdk", "-c", "write -P 0x41 100000 70000", tmp_path / "child.vmdk")
    run("qemu-img", "convert", "-O", "raw", tmp_path / "child.vmdk", tmp_path / "flat.raw")
    with open_disk(tmp_path / "child.vmdk") as disk:
        assert disk.read(0, disk.size) == (tmp_path / "flat.raw").read_bytes()
        assert [Path(file.name).name for file in disk.files] == ["child.vmdk", "base.vmdk"]


@pytest.mark.parametrize("made_by", ["byre", "qemu"])
def test_random_writes_are_what_qemu_reads(tmp_path: Path, made_by: str) -> None:
    rng = random.Random(7)
    size = (5 << 20) + 512
    source = raw_image(tmp_path / "source.raw", size, "sparse", seed=8)
    image = tmp_path / "disk.vmdk"
    if made_by == "byre":
        write(source, image)
    else:
        run("qemu-img", "convert", "-O", "vmdk", source, image)
    expected = bytearray(source.read_bytes())
    with open_disk(image, writable=True) as disk:
        for turn in range(60):
            start = rng.randrange(size)
            length = rng.randrange(1, min(150_000, size - start) + 1)
            if turn % 5 == 4:
                disk.write_zeroes(start, length)  # type: ignore[attr-defined]
                expected[start : start + length] = bytes(length)
            else:
                data = rng.randbytes(length)
                disk.write(start, data)  # type: ignore[attr-defined]
                expected[start : start + length] = data
            assert disk.read(start, length) == expected[start : start + length]
        disk.flush()  # type: ignore[attr-defined]
        assert disk.check().exit_status == 0  # type: ignore[attr-defined]
    source.write_bytes(expected)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "vmdk", source, image)


@pytest.mark.parametrize("made_by", ["byre", "qemu"])
@pytest.mark.parametrize("new", [(6 << 20) + 1024, 100 << 20, 3 << 30])
def test_grown_image_reads_as_zeros_behind_its_old_end(tmp_path: Path, made_by: str, new: int) -> None:
    size = (5 << 20) + 512
    source = raw_image(tmp_path / "source.raw", size, "full", seed=9)
    image = tmp_path / "disk.vmdk"
    if made_by == "byre":
        write(source, image)
    else:
        run("qemu-img", "convert", "-O", "vmdk", source, image)
    with open_disk(image, writable=True) as disk:
        disk.resize(new)  # type: ignore[attr-defined]
        assert disk.size == new
        disk.write(new - 512, b"end" * 100)  # type: ignore[attr-defined]
    with source.open("r+b") as file:
        file.truncate(new)
        file.seek(new - 512)
        file.write(b"end" * 100)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "vmdk", source, image)
    with open_disk(image) as disk:
        assert disk.check().problems == ()  # type: ignore[attr-defined]


@pytest.mark.parametrize("made_by", ["byre", "qemu"])
def test_compact_gives_back_zeroed_grains_and_keeps_every_byte(tmp_path: Path, made_by: str) -> None:
    size = (12 << 20) + 512 * 5
    source = raw_image(tmp_path / "source.raw", size, "full", seed=10)
    image = tmp_path / "disk.vmdk"
    if made_by == "byre":
        write(source, image)
    else:
        run("qemu-img", "convert", "-O", "vmdk", source, image)
    expected = bytearray(source.read_bytes())
    with open_disk(image, writable=True) as disk:
        for start in range(65536, 10 << 20, 3 << 17):
            disk.write(start, bytes(200_000))  # type: ignore[attr-defined]
            expected[start : start + 200_000] = bytes(200_000)
        before = image.stat().st_size
        gained = disk.compact()  # type: ignore[attr-defined]
        assert gained > 1 << 20
        assert image.stat().st_size == before - gained
        assert disk.read(0, size) == expected
        assert disk.compact() == 0  # type: ignore[attr-defined]
        disk.write(65536, b"after")  # type: ignore[attr-defined]
        expected[65536:65541] = b"after"
        disk.flush()  # type: ignore[attr-defined]
        assert disk.check().problems == ()  # type: ignore[attr-defined]
    source.write_bytes(expected)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "vmdk", source, image)
