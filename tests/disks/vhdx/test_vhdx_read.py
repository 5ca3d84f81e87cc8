"""Reading VHDX: what qemu-img writes, and what only a builder can make."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from builders.qemu import qemu_img
from builders.vhdx import (
    DATA_AT,
    DISK_SIZE,
    FULLY,
    MIB,
    NOT_PRESENT,
    UNDEFINED,
    UNMAPPED,
    ZERO,
    Vhdx,
    header,
    metadata,
    region_table,
)
from byre.disks.opening import open_disk
from byre.disks.vhdx.crc32c import crc32c
from byre.errors import CorruptImageError, StorageError, UnsupportedError, UsageError
from byre.extents import Kind


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def patched(data: bytes, *changes: tuple[int, bytes]) -> bytes:
    image = bytearray(data)
    for offset, piece in changes:
        image[offset : offset + len(piece)] = piece
    return bytes(image)


def sample() -> Vhdx:
    made = Vhdx(8 * MIB)
    made.block(0, b"A" * MIB)
    made.block(5, b"B" * MIB)
    return made


@pytest.mark.parametrize("size", [0, 1, 9, 511, 512, 513, 4096, 65536, 99_991])
def test_crc32c_agrees_with_the_textbook_loop(size: int) -> None:
    from builders.vhdx import crc32c as slow

    data = random.Random(size).randbytes(size)
    assert crc32c(data) == slow(data)


def test_crc32c_of_the_check_string() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("size", "options"),
    [
        (512, ""),
        (MIB - 512, "block_size=1M"),
        (70 * MIB + 512, "block_size=1M"),
        (70 * MIB, "subformat=fixed,block_size=2M"),
        (33 * MIB, "block_size=8M,block_state_zero=off"),
        (5 << 30, ""),
        ((2 << 40) + 512 * 7, ""),
    ],
)
def test_read_equals_what_qemu_img_was_given(tmp_path: Path, size: int, options: str) -> None:
    rng = random.Random(size)
    raw = tmp_path / "a.raw"
    pieces = {0: b"first" * 10, max(0, size - 512): rng.randbytes(512)}
    for _ in range(12 if size > MIB else 0):
        pieces[rng.randrange(size - 300_000)] = rng.randbytes(rng.randrange(1, 300_000))
    with raw.open("wb") as file:
        for offset, piece in pieces.items():
            file.seek(offset)
            file.write(piece)
        file.truncate(size)
    image = tmp_path / "a.vhdx"
    qemu_img("convert", "-f", "raw", "-O", "vhdx", *(["-o", options] if options else []), raw, image)
    with open_disk(image) as disk, raw.open("rb") as file:
        assert disk.size == size
        for offset, piece in pieces.items():
            begin = max(0, offset - 1000)
            length = min(len(piece) + 2000, size - begin)
            file.seek(begin)
            assert disk.read(begin, length) == file.read(length)
        table = np.concatenate(list(disk.extents()))
        assert int(table["length"].sum()) == size
        report = disk.check()  # type: ignore[attr-defined]
        # QEMU fills a fixed file's blocks at its end and leaves the room made for them behind.
        assert report.corruptions == 0 and (report.leaks == 0 or "fixed" in options)


def test_newer_valid_header_counts(tmp_path: Path) -> None:
    newer = UUID(int=99)
    data = patched(sample().build(), (64 << 10, header(7, data_guid=newer)))
    with open_disk(put(tmp_path / "a.vhdx", data)) as disk:
        assert disk.describe().details["data_guid"] == str(newer)
        assert disk.describe().details["sequence_number"] == 7


def test_header_with_broken_checksum_gives_way_to_the_older_one(tmp_path: Path) -> None:
    data = patched(sample().build(), ((128 << 10) + 100, b"x"))
    with open_disk(put(tmp_path / "a.vhdx", data)) as disk:
        assert disk.describe().details["sequence_number"] == 1
        assert disk.read(5 * MIB, 3) == b"BBB"
        report = disk.check()  # type: ignore[attr-defined]
        assert [problem.code for problem in report.problems] == ["vhdx.header-invalid"]
        assert report.exit_status == 0


def test_no_valid_header_is_corrupt(tmp_path: Path) -> None:
    data = patched(sample().build(), ((128 << 10) + 100, b"x"), ((64 << 10) + 100, b"x"))
    with pytest.raises(CorruptImageError) as caught:
        open_disk(put(tmp_path / "a.vhdx", data))
    assert caught.value.offset == 64 << 10
    assert str(caught.value.path).endswith("a.vhdx")


def test_two_headers_of_one_sequence_number_are_corrupt(tmp_path: Path) -> None:
    data = patched(sample().build(), (64 << 10, header(2, data_guid=UUID(int=1))))
    with pytest.raises(CorruptImageError, match="both headers"):
        open_disk(put(tmp_path / "a.vhdx", data))


def test_second_region_table_serves_when_the_first_is_broken(tmp_path: Path) -> None:
    data = patched(sample().build(), ((192 << 10) + 9, b"\x55"))
    with open_disk(put(tmp_path / "a.vhdx", data)) as disk:
        assert disk.read(0, 2) == b"AA"


def test_states_without_data_read_as_zeros_and_say_so(tmp_path: Path) -> None:
    made = sample()
    for block, state in ((1, NOT_PRESENT), (2, UNDEFINED), (3, ZERO), (4, UNMAPPED)):
        made.state(block, state | (DATA_AT if state else 0))  # a stale offset must not matter
    with open_disk(put(tmp_path / "a.vhdx", made.build())) as disk:
        assert disk.read(0, 8 * MIB) == b"A" * MIB + bytes(4 * MIB) + b"B" * MIB + bytes(2 * MIB)
        table = np.concatenate(list(disk.extents()))
        kinds = [(int(row["start"]) // MIB, Kind(row["kind"]).name) for row in table]
    assert kinds == [(0, "DATA"), (1, "UNALLOCATED"), (2, "ZERO"), (5, "DATA"), (6, "UNALLOCATED")]


def test_sectors_of_4096_bytes_are_told(tmp_path: Path) -> None:
    made = Vhdx(8 * MIB, sector_size=4096, physical_size=4096)
    made.block(7, b"Z" * MIB)
    with open_disk(put(tmp_path / "a.vhdx", made.build())) as disk:
        assert disk.sector_size == 4096
        assert disk.describe().sector_size == 4096
        assert disk.read(8 * MIB - 2, 2) == b"ZZ"


def test_payload_entries_step_over_bitmap_entries(tmp_path: Path) -> None:
    made = Vhdx(4100 * MIB)  # a chunk is 4096 blocks of 1 MiB
    made.block(4095, b"x" * 8)
    made.block(4096, b"y" * 8)
    with open_disk(put(tmp_path / "a.vhdx", made.build())) as disk:
        assert disk.read(4095 * MIB, 8) == b"x" * 8
        assert disk.read(4096 * MIB, 8) == b"y" * 8


def test_required_unknown_region_is_unsupported(tmp_path: Path) -> None:
    made = sample()
    made.extra_regions = [(UUID(int=5), 16 * MIB, MIB, 1)]
    with pytest.raises(UnsupportedError) as caught:
        open_disk(put(tmp_path / "a.vhdx", made.build()))
    assert caught.value.found == UUID(int=5)


def test_unknown_region_that_is_not_required_is_passed_over(tmp_path: Path) -> None:
    made = sample()
    made.extra_regions = [(UUID(int=5), 16 * MIB, MIB, 0)]
    with open_disk(put(tmp_path / "a.vhdx", made.build())) as disk:
        assert disk.read(0, 1) == b"A"


def test_required_unknown_metadata_is_unsupported(tmp_path: Path) -> None:
    made = sample()
    made.extra_items = [(UUID(int=6), b"what", 4)]
    with pytest.raises(UnsupportedError) as caught:
        open_disk(put(tmp_path / "a.vhdx", made.build()))
    assert caught.value.found == UUID(int=6)


def test_unknown_version_is_unsupported_and_not_corrupt(tmp_path: Path) -> None:
    data = patched(sample().build(), (128 << 10, header(9, version=2)))
    with pytest.raises(UnsupportedError) as caught:
        open_disk(put(tmp_path / "a.vhdx", data))
    assert caught.value.found == 2


@pytest.mark.parametrize(
    ("entry", "offset"),
    [(1 << 62 | FULLY, None), ((1 << 44) - 1 << 20 | FULLY, None), (4096 << 20 | FULLY, 4096 << 20)],
)
def test_block_past_the_end_of_the_file_is_corrupt(tmp_path: Path, entry: int, offset: int | None) -> None:
    made = sample()
    made.bat[made.index(2)] = entry
    with open_disk(put(tmp_path / "a.vhdx", made.build())) as disk:
        assert disk.read(0, 1) == b"A"
        with pytest.raises(CorruptImageError) as caught:
            disk.read(2 * MIB, 1)
        if offset is not None:
            assert caught.value.offset == offset
        assert disk.check().corruptions >= 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("state", [4, 7])
def test_impossible_block_state_is_corrupt(tmp_path: Path, state: int) -> None:
    made = sample()
    made.bat[made.index(2)] = DATA_AT | state
    with open_disk(put(tmp_path / "a.vhdx", made.build())) as disk:
        with pytest.raises(CorruptImageError) as caught:
            disk.read(2 * MIB, 1)
        assert caught.value.found == state
        assert disk.check().corruptions == 1  # type: ignore[attr-defined]


def test_read_that_leaves_the_disk_is_a_usage_error(tmp_path: Path) -> None:
    with open_disk(put(tmp_path / "a.vhdx", sample().build())) as disk, pytest.raises(UsageError):
        disk.read(8 * MIB - 1, 2)


def test_truncated_file_names_the_region_that_is_gone(tmp_path: Path) -> None:
    data = sample().build()[: 3 * MIB + 4096]
    with pytest.raises(CorruptImageError, match="BAT region ends past the end"):
        open_disk(put(tmp_path / "a.vhdx", data))


def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    made = sample()
    items = [item if item[0] != DISK_SIZE else (DISK_SIZE, struct.pack("<Q", 1 << 63), 6) for item in made.items()]
    data = patched(made.build(), (2 * MIB, metadata(items)))
    with pytest.raises(CorruptImageError, match="virtual disk size"):
        open_disk(put(tmp_path / "a.vhdx", data))
    items = [item if item[0] != DISK_SIZE else (DISK_SIZE, struct.pack("<Q", 64 << 40), 6) for item in made.items()]
    data = patched(made.build(), (2 * MIB, metadata(items)))
    with pytest.raises(UnsupportedError, match="block allocation table"):
        open_disk(put(tmp_path / "a.vhdx", data))


def test_overlapping_regions_are_corrupt(tmp_path: Path) -> None:
    from builders.vhdx import BAT, METADATA

    table = region_table([(BAT, 2 * MIB, 2 * MIB, 1), (METADATA, 3 * MIB, MIB, 1)])
    data = patched(sample().build(), (192 << 10, table), (256 << 10, table))
    with pytest.raises(CorruptImageError, match="overlap"):
        open_disk(put(tmp_path / "a.vhdx", data))


def test_info_needs_no_rights_to_write(tmp_path: Path) -> None:
    path = put(tmp_path / "a.vhdx", sample().build())
    path.chmod(0o400)
    before = path.stat().st_mtime_ns
    with open_disk(path) as disk:
        disk.read(0, disk.size)
    assert path.stat().st_mtime_ns == before
    assert os.access(path, os.R_OK)


def test_file_that_ends_inside_a_header_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises((CorruptImageError, StorageError)):
        open_disk(put(tmp_path / "a.vhdx", sample().build()[:70_000]))
