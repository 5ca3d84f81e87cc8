"""qcow version 1: read as QEMU reads it, refused where it can't be."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from builders.opened import open_in_memory
from builders.qcow1 import build_qcow1
from builders.qemu import qemu_img, qemu_io
from byre.disks.opening import open_disk
from byre.disks.qcow1 import open_disk as open_qcow1
from byre.errors import ByreError, CorruptImageError, MissingError, UnsupportedError
from byre.extents import Kind
from byre.storage.memory import MemoryStorage
from fuzzing import fuzz

KIB, MIB = 1 << 10, 1 << 20


def contents(size: int) -> dict[int, bytes]:
    rng = random.Random(size)
    return {0: b"first", 5: rng.randbytes(64) * 64, 6: b"a" * 4096, 700: b"far" * 1000, size // 4096 - 1: b"last"}


@pytest.mark.oracle
def test_built_image_with_compressed_clusters_reads_as_qemu_reads_it(tmp_path: Path) -> None:
    image, raw = tmp_path / "a.qcow", tmp_path / "a.raw"
    image.write_bytes(build_qcow1(5 * MIB, contents(5 * MIB), packed=(5, 6, 700)))
    qemu_img("convert", "-f", "qcow", "-O", "raw", image, raw)
    with open_disk(image) as disk:
        assert disk.format == "qcow"
        whole = raw.read_bytes()
        assert disk.read(0, disk.size) == whole
        rng = random.Random(1)
        for _ in range(60):
            offset = rng.randrange(disk.size)
            length = min(disk.size - offset, rng.randrange(1, 20_000))
            assert disk.read(offset, length) == whole[offset : offset + length]
        table = np.concatenate(list(disk.extents()))
        assert int(table["length"].sum()) == disk.size
        assert int((table["kind"] == Kind.COMPRESSED).sum()) == 3


@pytest.mark.oracle
@pytest.mark.parametrize("size", [512, 513 * 512, 70 * MIB, 3 << 30])
def test_image_of_qemu_img_reads_as_its_source(tmp_path: Path, size: int) -> None:
    raw, image = tmp_path / "a.raw", tmp_path / "a.qcow"
    rng = random.Random(size)
    pieces = {rng.randrange(size): rng.randbytes(3000) for _ in range(10)}
    with raw.open("wb") as file:
        for offset, piece in pieces.items():
            file.seek(offset)
            file.write(piece)
        file.truncate(size)
    qemu_img("convert", "-f", "raw", "-O", "qcow", raw, image)
    with open_disk(image) as disk, raw.open("rb") as file:
        assert disk.size == size
        for offset in pieces:
            file.seek(offset)
            wanted = file.read(3000)
            assert disk.read(offset, len(wanted)) == wanted


@pytest.mark.oracle
def test_backing_image_shows_through_when_its_format_is_said(tmp_path: Path) -> None:
    base = tmp_path / "base.raw"
    base.write_bytes(random.Random(1).randbytes(MIB))
    image = tmp_path / "a.qcow"
    qemu_img("create", "-q", "-f", "qcow", "-b", base, "-F", "raw", image, "4M")
    qemu_io(image, ["write -P 7 100k 30k"], "-f", "qcow")
    expect = bytearray(base.read_bytes().ljust(4 * MIB, b"\0"))
    expect[100 * KIB : 130 * KIB] = b"\7" * 30 * KIB
    with open_disk(image, backing_format="raw") as disk:
        assert disk.read(0, disk.size) == expect
        table = np.concatenate(list(disk.extents()))
        assert set(table["depth"].tolist()) == {-1, 0, 1}
    with pytest.raises(UnsupportedError, match="can't state") as caught:
        open_disk(image)
    assert "--backing-format" in str(caught.value.hint)


def test_compressed_cluster_stays_one_row_above_a_backing_image(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes((b"x" * 512 + bytes(512)) * 64)
    image = tmp_path / "a.qcow"
    image.write_bytes(build_qcow1(256 * KIB, {0: b"k", 2: b"m"}, packed=(0, 2), backing=b"base.raw"))
    with open_disk(image, backing_format="raw") as disk:
        table = np.concatenate(list(disk.extents()))
        rows = table[table["kind"] == Kind.COMPRESSED]
        assert rows["length"].tolist() == [4096, 4096]
        assert disk.read(0, 1) == b"k" and disk.read(4096, 1) == b"x"


def test_backing_image_outside_the_folder_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow"
    image.write_bytes(build_qcow1(MIB, {0: b"k"}, backing=b"/etc/passwd"))
    with pytest.raises(ByreError) as caught:
        open_disk(image, backing_format="raw")
    assert caught.value.exit_code == 77
    with open_disk(image, with_backing=False) as disk:
        backing = disk.describe().backing
        assert backing is not None and backing.name == "/etc/passwd" and backing.reason is not None
        with pytest.raises(MissingError):
            disk.read(8192, 1)


def test_encrypted_image_is_unsupported() -> None:
    with pytest.raises(UnsupportedError) as caught:
        open_in_memory(open_qcow1, MemoryStorage(build_qcow1(MIB, {}, crypt=1)))
    assert caught.value.found == "AES"


def test_writing_is_unsupported(tmp_path: Path) -> None:
    image = tmp_path / "a.qcow"
    image.write_bytes(build_qcow1(MIB, {}))
    with pytest.raises(UnsupportedError):
        open_disk(image, writable=True)


def test_cluster_past_the_end_of_the_file_names_its_guest_offset() -> None:
    data = build_qcow1(MIB, {0: b"a", 3: b"b"})
    cut = MemoryStorage(data[: len(data) - 4096])
    with open_in_memory(open_qcow1, cut) as disk, pytest.raises(CorruptImageError, match="0x3000"):
        disk.read(3 * 4096, 1)


def test_absurd_size_is_refused_before_its_table_is_read() -> None:
    data = bytearray(build_qcow1(MIB, {0: b"a"}))
    data[24:32] = (1 << 61).to_bytes(8, "big")
    with pytest.raises(CorruptImageError, match="L1 table"):
        open_in_memory(open_qcow1, MemoryStorage(data))


@pytest.mark.fuzz
def test_fuzzed_images_raise_only_our_errors() -> None:
    data = build_qcow1(3 * MIB, {0: b"a", 5: b"b" * 4096, 600: b"c"}, packed=(5, 600))

    def case(rng: random.Random) -> bool:
        image = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            start, length = rng.choice(((0, 48), (48, 64), (4096, 64), (8192, 4096), (0, len(data))))
            at = start + rng.randrange(length)
            image[at : at + 1] = bytes([rng.choice((0, 0xFF, 0x80, rng.randrange(256)))])
        if rng.random() < 0.1:
            del image[rng.randrange(len(image)) :]
        try:
            with open_in_memory(open_qcow1, MemoryStorage(image)) as disk:
                disk.describe()
                assert sum(int(table["length"].sum()) for table in disk.extents(0, 1 << 30)) <= 1 << 30
                disk.read(0, min(disk.size, 3 * MIB))
                return True
        except ByreError:
            return False

    assert fuzz("qcow1", 300, case)
