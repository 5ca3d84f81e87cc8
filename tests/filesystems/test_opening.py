"""A disk with several partitions: each file system knows where it lies on the whole disk."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from builders.fat_volumes import make_fat
from builders.memory_disks import memory_disk
from builders.ntfs_volumes import Manifest
from byre.errors import CorruptImageError, UnsupportedError
from byre.extents import Kind
from byre.filesystems import open_filesystem, open_volumes

pytestmark = pytest.mark.oracle

MIB = 1 << 20


@pytest.fixture
def two_partitions(rich_ntfs: Manifest, tmp_path: Path) -> bytearray:
    """NTFS at 1 MiB, FAT16 in an extended partition behind it, and a partition of nothing."""
    make_fat(tmp_path / "fat.img", 16, 8 * MIB, tmp_path, "-s", "1")
    ntfs, fat = rich_ntfs.image.read_bytes(), (tmp_path / "fat.img").read_bytes()
    data = bytearray(MIB) + ntfs + bytes(MIB) + fat + bytes(MIB)
    extended = (MIB + len(ntfs)) // 512
    rows = (
        (0x80, 7, 2048, len(ntfs) // 512),
        (0, 15, extended, 2048 + len(fat) // 512),
        (0, 0x83, extended + 2048 + len(fat) // 512, 2048),
    )
    for slot, row in enumerate(rows):
        struct.pack_into("<B3xB3xII", data, 0x1BE + 16 * slot, *row)
    struct.pack_into("<B3xB3xII", data, extended * 512 + 0x1BE, 0, 6, 2048, len(fat) // 512)
    data[510:512] = data[extended * 512 + 510 : extended * 512 + 512] = b"\x55\xaa"
    return data


def test_volumes_open_and_what_is_empty_says_why(two_partitions: bytearray) -> None:
    volumes = open_volumes(memory_disk(two_partitions))
    assert [(volume.partition.index, volume.type) for volume in volumes] == [(1, "ntfs"), (3, None), (5, "fat16")]
    assert isinstance(volumes[1].reason, UnsupportedError)


def test_extents_count_from_the_start_of_the_whole_disk(two_partitions: bytearray, rich_ntfs: Manifest) -> None:
    disk = memory_disk(two_partitions)
    ntfs, _, fat = (volume.filesystem for volume in open_volumes(disk))
    assert ntfs is not None and fat is not None
    for fs, path in ((ntfs, "/WINDOWS/system32/ntoskrnl.exe"), (fat, "/Sub Directory/inner file.bin")):
        entry = fs.lookup(path)
        rows = fs.extents(entry).tolist()
        on_disk = b"".join(disk.read(row[3], row[1]) if row[2] == Kind.DATA else bytes(row[1]) for row in rows)
        assert on_disk == fs.read(entry)
    found = hashlib.sha256(ntfs.read(ntfs.lookup("/WINDOWS/system32/hal.dll"))).hexdigest()
    assert found == rich_ntfs.files["/WINDOWS/system32/hal.dll"]
    first = next(iter(fat.free_extents()))
    assert int(first["disk"][0]) > 41 * MIB


def test_one_broken_volume_leaves_the_others(two_partitions: bytearray) -> None:
    start = MIB + int.from_bytes(two_partitions[MIB + 0x30 : MIB + 0x38], "little") * 4096
    mirror = MIB + int.from_bytes(two_partitions[MIB + 0x38 : MIB + 0x40], "little") * 4096
    two_partitions[start : start + 4] = two_partitions[mirror : mirror + 4] = b"XXXX"
    ntfs, _, fat = open_volumes(memory_disk(two_partitions))
    assert isinstance(ntfs.reason, CorruptImageError) and ntfs.type == "ntfs"
    assert fat.filesystem is not None and fat.filesystem.lookup("/README.TXT").size > 0


def test_a_disk_of_nothing_has_no_volumes() -> None:
    assert open_volumes(memory_disk(bytes(MIB))) == []
    assert open_volumes(memory_disk(b"")) == []
    with pytest.raises(UnsupportedError):
        open_filesystem(memory_disk(bytes(MIB)))
