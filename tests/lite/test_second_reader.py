"""A second reader comes to what Byre finds, on volumes with everything in them; where it doesn't, that is found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from builders.ntfs_volumes import mkntfs, mounted, rich_volume
from byre.disks.disk import Disk
from byre.disks.opening import open_disk
from byre.disks.scratch import open_scratch
from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.records import REFERENCE_MASK
from byre.filesystems.opening import OpenVolume, open_volumes
from byre.lite import ntfs_program
from byre.lite.applying import apply_changes
from byre.lite.changes import Remove
from byre.lite.second_reader import Listing, compare_ntfs, list_ntfs
from byre.lite.witnesses import asking

pytestmark = pytest.mark.oracle


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    image = tmp_path_factory.mktemp("second") / "rich.img"
    rich_volume(image)
    with open_disk(image, format="raw") as disk:
        yield disk


def volume_of(disk: Disk) -> tuple[OpenVolume, NtfsFileSystem]:
    volume = open_volumes(disk)[0]
    assert isinstance(volume.filesystem, NtfsFileSystem)
    return volume, volume.filesystem


def test_both_readers_have_the_same_names_sizes_and_places(rich: Disk) -> None:
    """Hard links, streams, sparse, compressed and fragmented files, junctions, long folders."""
    volume, files = volume_of(rich)
    listing = list_ntfs(rich, volume.partition)
    assert compare_ntfs(files, listing) == sum(1 for _ in files.walk()) > 1000


def test_a_file_that_one_reader_lacks_is_a_difference(rich: Disk, tmp_path: Path) -> None:
    volume, files = volume_of(rich)
    before = list_ntfs(rich, volume.partition)
    work = open_scratch(rich, tmp_path)
    try:
        apply_changes(work, volume, [Remove("/WINDOWS/system32/hal.dll")])
        after, changed = volume_of(work)
        assert compare_ntfs(changed, list_ntfs(work, after.partition))
        with pytest.raises(CorruptImageError, match=r"finds 'hal.dll' in folder record"):
            compare_ntfs(changed, before)
        with pytest.raises(CorruptImageError, match=r"doesn't find /WINDOWS/system32/hal.dll"):
            compare_ntfs(files, list_ntfs(work, after.partition))
    finally:
        work.close()


@pytest.mark.parametrize("field", ["size", "first"])
def test_a_size_or_a_place_that_one_reader_has_otherwise_is_a_difference(field: str, rich: Disk) -> None:
    volume, files = volume_of(rich)
    listing = list_ntfs(rich, volume.partition)
    rows = np.concatenate(listing.files)
    number = files.lookup("/WINDOWS/system32/ntoskrnl.exe").id
    rows[field][rows["reference"] == number] += 1
    with pytest.raises(CorruptImageError, match=f"MFT record {number & 0xFFFF}"):
        compare_ntfs(files, replace(listing, files=[rows]))
    with pytest.raises(CorruptImageError, match="didn't open every file"):
        compare_ntfs(files, replace(listing, files=[rows[rows["reference"] != number]]))


def test_a_planted_difference_fails_the_proof(rich: Disk, tmp_path: Path) -> None:
    """The index of a folder loses a name that the table has: only one of the two readers sees it."""
    volume, files = volume_of(rich)
    where = np.array([[0, rich.size]], dtype=np.int64)
    with asking(rich, [volume], where, [0]) as asked:
        assert [(each.reader, each.note) for each in asked.answers()] == [("libntfs-3g", None)]
    work = open_scratch(rich, tmp_path)
    try:
        work.write(*_name_in_index(rich, files, "/level 0", "level 1", "level X"))
        with (
            asking(work, [volume], where, [0]) as asked,
            pytest.raises(CorruptImageError, match="two readers disagree"),
        ):
            asked.answers()
    finally:
        work.close()


def _name_in_index(disk: Disk, files: NtfsFileSystem, folder: str, name: str, other: str) -> tuple[int, bytes]:
    """Where the index in a small folder's own record has a name, and another to write there."""
    record = files.mft.place(files.lookup(folder).id & REFERENCE_MASK)
    data = disk.read(record, files.boot.record_size)
    return record + data.rindex(name.encode("utf-16-le")), other.encode("utf-16-le")


def test_the_reader_may_not_write(rich: Disk) -> None:
    """A program that asks for more than it was started for is ended."""
    volume, _ = volume_of(rich)
    with pytest.raises(CorruptImageError, match="asked for what it may not"):
        ntfs_program.run_program(rich, volume.partition, {"confine": True, "operations": _delete(rich)})


def _delete(disk: Disk) -> list[dict[str, object]]:
    _, files = volume_of(disk)
    entry = files.lookup("/WINDOWS/system32/hal.dll")
    return [{"do": "delete", "inode": entry.id, "folder": files.lookup("/WINDOWS/system32").id, "name": entry.name}]


def test_a_volume_that_the_library_does_not_take_is_told(tmp_path: Path) -> None:
    image = mkntfs(tmp_path / "volume.img", 16 << 20)
    with mounted(image) as root:
        (root / "file").write_bytes(b"x" * 5000)
    with open_disk(image, format="raw") as disk:
        volume, _ = volume_of(disk)
        work = open_scratch(disk, tmp_path)
        try:
            work.write(volume.partition.start, b"\0" * 512)
            with pytest.raises(UnsupportedError, match="libntfs-3g can't be asked"):
                list_ntfs(work, volume.partition)
        finally:
            work.close()


@pytest.mark.parametrize(
    "messages",
    [
        [(b"N", b"")],
        [(b"N", bytes(4))],
        [(b"N", b"\1\0\0\0" + bytes(17))],
        [(b"F", b"")],
        [(b"F", bytes(24))],
        [(b"N", b"\1\0\0\0" + bytes(18)), (b"F", bytes(24)), (b"F", bytes(24))],
    ],
)
def test_a_listing_can_not_go_on_for_ever(messages: list[tuple[bytes, bytes]]) -> None:
    """The program reads a hostile volume: what it sends may be anything, and each message is kept."""
    listing = Listing()
    for letter, data in messages[:-1]:
        listing.take(letter, data)
    with pytest.raises(CorruptImageError, match="said what it may not"):
        listing.take(*messages[-1])
