"""MBR and GPT against sfdisk, and tables that are broken in known ways."""

from __future__ import annotations

import json
import struct
import subprocess
from pathlib import Path

import pytest

import byre
from builders.memory_disks import memory_disk
from builders.opened import kept_open
from byre.disks.disk import Disk
from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems import open_volumes, read_partitions
from byre.volumes import VolumeDisk
from oracles import require_tool, run_tool

MBR_SCRIPT = "label: dos\nlabel-id: 0x1234abcd\n63,20000,7,*\n20480,2048,c\n24576,,5\n24640,1000,6\n26000,1000,83\n"
GPT_SCRIPT = (
    'label: gpt\nstart=2048,size=2048,type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7,name="Basic data"\n'
    "start=8192,size=4096,type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n"
)


def make_table(image: Path, script: str, size: int = 32 << 20) -> dict[str, object]:
    with image.open("wb") as file:
        file.truncate(size)
    subprocess.run([require_tool("sfdisk"), "-q", image], input=script, text=True, check=True, capture_output=True)
    table: dict[str, object] = json.loads(run_tool("sfdisk", "--json", image))["partitiontable"]
    return table


@pytest.mark.oracle
@pytest.mark.parametrize("script", [MBR_SCRIPT, GPT_SCRIPT], ids=["mbr", "gpt"])
def test_partitions_are_those_that_sfdisk_lists(tmp_path: Path, script: str) -> None:
    theirs = make_table(tmp_path / "disk.img", script)
    ours = read_partitions(kept_open(byre.open_disk(tmp_path / "disk.img", format="raw")))
    rows = theirs["partitions"]
    assert isinstance(rows, list)
    wanted = [(row["start"] * 512, row["size"] * 512) for row in rows]
    assert [(each.start, each.length) for each in ours.partitions] == wanted
    assert not ours.problems
    assert ours.id is not None and ours.id.lower() == str(theirs["id"]).lower()


@pytest.mark.oracle
def test_numbers_roles_and_the_active_partition(tmp_path: Path) -> None:
    make_table(tmp_path / "disk.img", MBR_SCRIPT)
    table = read_partitions(kept_open(byre.open_disk(tmp_path / "disk.img", format="raw")))
    assert [(each.index, each.role, each.type) for each in table.partitions] == [
        (1, "primary", "0x07"),
        (2, "primary", "0x0c"),
        (3, "extended", "0x05"),
        (5, "logical", "0x06"),
        (6, "logical", "0x83"),
    ]
    assert [each.index for each in table.partitions if each.active] == [1]


@pytest.mark.oracle
def test_a_broken_primary_gpt_gives_way_to_the_backup_and_says_so(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    make_table(image, GPT_SCRIPT)
    sound = read_partitions(kept_open(byre.open_disk(image, format="raw")))
    data = bytearray(image.read_bytes())
    data[512 + 16] ^= 1
    table = read_partitions(memory_disk(data))
    assert table.partitions == sound.partitions
    assert [problem.code for problem in table.problems] == ["gpt.primary-broken", "gpt.backup-used"]
    data[-512 + 16] ^= 1
    table = read_partitions(memory_disk(data))
    assert {"gpt.primary-broken", "gpt.backup-broken"} <= {problem.code for problem in table.problems}


@pytest.mark.oracle
def test_gpt_copies_that_differ_are_told(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    make_table(image, GPT_SCRIPT)
    other = image.read_bytes()
    make_table(image, GPT_SCRIPT.replace("size=4096", "size=6144"))
    mixed = image.read_bytes()[: 1 << 20] + other[1 << 20 :]
    assert "gpt.copies-differ" in {problem.code for problem in read_partitions(memory_disk(mixed)).problems}


def mbr(*rows: tuple[int, int, int, int], size: int = 8 << 20) -> bytearray:
    """``(status, type, start, sectors)`` of each partition."""
    data = bytearray(size)
    for slot, (status, kind, start, sectors) in enumerate(rows):
        struct.pack_into("<B3xB3xII", data, 0x1BE + 16 * slot, status, kind, start, sectors)
    data[510:512] = b"\x55\xaa"
    return data


def codes(disk: Disk) -> set[str]:
    return {problem.code for problem in read_partitions(disk).problems}


def test_overlapping_outside_and_double_active_partitions_are_reported() -> None:
    data = mbr((0x80, 7, 63, 1000), (0x80, 7, 500, 1000), (0, 7, 16000, 4000), (0, 7, 1 << 31, 5))
    assert codes(memory_disk(data)) == {"table.overlap", "mbr.several-active", "table.cut", "table.outside"}
    reasons = [volume.reason for volume in open_volumes(memory_disk(data))]
    assert all(isinstance(reason, UnsupportedError) for reason in reasons)


def test_a_loop_of_extended_boot_records_ends() -> None:
    data = mbr((0, 5, 100, 5000))
    for link, following in ((100, 200), (300, 0)):
        at = link * 512
        struct.pack_into("<B3xB3xII", data, at + 0x1BE, 0, 6, 10, 20)
        struct.pack_into("<B3xB3xII", data, at + 0x1CE, 0, 5, following, 30)
        data[at + 510 : at + 512] = b"\x55\xaa"
    table = read_partitions(memory_disk(data))
    assert [each.start // 512 for each in table.partitions if each.role == "logical"] == [110, 310]
    assert [problem.code for problem in table.problems] == ["mbr.ebr-loop"]


def test_the_left_over_of_an_older_file_system_does_not_hide_the_table() -> None:
    data = mbr((0x80, 7, 64, 1000))
    data[0x438:0x43A] = b"\x53\xef"
    data[64 * 512 + 3 : 64 * 512 + 11] = b"NTFS    "
    assert read_partitions(memory_disk(data)).scheme == "mbr"
    data[64 * 512 + 3] = 0
    assert read_partitions(memory_disk(data)).scheme == "superfloppy"


def test_dynamic_disks_are_named() -> None:
    table = read_partitions(memory_disk(mbr((0, 0x42, 63, 1000))))
    assert table.dynamic and table.partitions[0].type_name == "Windows dynamic disk (LDM)"


def test_sectors_of_4096_bytes() -> None:
    data = mbr((0x80, 7, 64, 512))
    data[64 * 4096 + 3 : 64 * 4096 + 11] = b"NTFS    "
    guessed = read_partitions(memory_disk(data))
    assert (guessed.sector_size, guessed.partitions[0].start) == (4096, 64 * 4096)
    told = read_partitions(memory_disk(data, sector_size=4096))
    assert told.partitions[0].start == 64 * 4096 and not told.problems


@pytest.mark.oracle
def test_file_systems_that_byre_only_names(tmp_path: Path) -> None:
    for command, kind in (
        (("mke2fs", "-q", "-t", "ext4"), "ext4"),
        (("mke2fs", "-q"), "ext2"),
        (("mkswap",), "swap"),
    ):
        image = tmp_path / f"{kind}.img"
        with image.open("wb") as file:
            file.truncate(16 << 20)
        run_tool(*command, image)
        [volume] = open_volumes(kept_open(byre.open_disk(image, format="raw")))
        assert volume.type == kind and isinstance(volume.reason, UnsupportedError)


def test_a_slice_shifts_extents_and_guards_its_end() -> None:
    disk = memory_disk(bytes(range(256)) * 32)
    piece = VolumeDisk(VolumeDisk(disk, 512, 4096), 512, 2048)
    assert (piece.start, piece.size) == (1024, 2048)
    assert piece.read(1, 3) == b"\x01\x02\x03"
    [table] = piece.extents()
    assert (int(table["start"][0]), int(table["host"][0]), int(table["length"][0])) == (0, 1024, 2048)
    with pytest.raises(CorruptImageError):
        piece.read(2000, 100)
