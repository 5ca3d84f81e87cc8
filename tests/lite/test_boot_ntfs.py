"""Byre's boot code for NTFS under QEMU: it finds NTLDR wherever it lies, loads it whole, or says why it can't."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.bochs import BIOSES, start_in_bochs
from builders.boot_disks import boot_disk, take_lba_away
from builders.boot_loaders import Started, build_loader, start
from builders.ntfs_records import Volume, spread
from builders.ntfs_volumes import mkntfs, mounted, need, set_attributes
from byre.disks.opening import open_disk
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.opening import open_volumes
from oracles import run_tool

pytestmark = pytest.mark.oracle

SIZE = 250_048
"""Bytes of a loader that takes four segments, as NTLDR does."""
_GEOMETRY = ("-s", "512", "-p", "63", "-H", "255", "-S", "63")


def _volume(folder: Path, *options: str, size: int = 16 << 20, loader: int = SIZE) -> Path:
    """A volume with a loader in its root, written by ntfs-3g's tools."""
    image = mkntfs(folder / "volume.img", size, *_GEOMETRY, *options)
    source = folder / "NTLDR"
    source.write_bytes(build_loader(loader, folder))
    run_tool("ntfscp", "-q", "-f", image, source, "NTLDR")
    return image


def says(disk: Path, said: str) -> bool:
    return start(disk, said) == said


def _is_started(found: Started | str | bytes, hidden: int = 63) -> None:
    assert found == Started((0x2000, 0), (0, 0, 0), 0x7C00, 0x80, hidden, 0xAA55, 0)


@pytest.mark.parametrize("cluster", [512, 1024, 4096, 8192, 65536])
def test_a_loader_starts_from_clusters_of_any_size(tmp_path: Path, cluster: int) -> None:
    _is_started(start(boot_disk(tmp_path / "d.img", _volume(tmp_path, "-c", str(cluster)), "ntfs")))


@pytest.mark.parametrize("bios", BIOSES)
def test_a_loader_starts_under_other_bioses(tmp_path: Path, bios: str) -> None:
    _is_started(start_in_bochs(boot_disk(tmp_path / "d.img", _volume(tmp_path), "ntfs"), bios))


@pytest.mark.parametrize(
    "size", [432, 65536, 65536 + 16, 448 << 10], ids=["resident", "64 KiB", "and more", "448 KiB"]
)
def test_a_loader_of_any_size_is_loaded_to_its_last_byte(tmp_path: Path, size: int) -> None:
    _is_started(start(boot_disk(tmp_path / "d.img", _volume(tmp_path, loader=size), "ntfs")))


@pytest.mark.parametrize("first", [9 << 21, (1 << 32) - 64, 65], ids=["9 GiB", "across 2 TiB", "slot 3"])
def test_a_partition_may_lie_anywhere(tmp_path: Path, first: int) -> None:
    disk = boot_disk(tmp_path / "d.img", _volume(tmp_path), "ntfs", start=first, slot=2)
    _is_started(start(disk), first)


def test_a_bios_without_lba_is_asked_by_its_own_geometry(tmp_path: Path) -> None:
    disk = boot_disk(tmp_path / "d.img", _volume(tmp_path), "ntfs", size=600 << 20)
    take_lba_away(disk)
    _is_started(start(disk))


def test_what_chs_does_not_reach_is_said(tmp_path: Path) -> None:
    disk = boot_disk(tmp_path / "d.img", _volume(tmp_path), "ntfs", start=63, size=20 << 30)
    volume = tmp_path / "volume.img"
    far = boot_disk(tmp_path / "far.img", volume, "ntfs", start=17 << 21)
    with far.open("rb") as source, disk.open("r+b") as file:  # the boot sector is near, the volume isn't
        source.seek((17 << 21) * 512)
        file.seek(63 * 512)
        file.write(source.read(512))
    take_lba_away(disk)
    assert says(disk, "Byre's boot code: A disk read error occurred")


@pytest.fixture(scope="module")
def scattered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MFT, the root's index and NTLDR in dozens of pieces, NTLDR among 1500 names in the root."""
    need("mkntfs", "ntfs-3g")
    folder = tmp_path_factory.mktemp("scattered")
    image = mkntfs(folder / "volume.img", 12 << 20, "-c", "512", *_GEOMETRY)
    loader = build_loader(SIZE, folder)
    with mounted(image) as root:
        filling = root / "filling"
        filling.mkdir()
        count = 0
        try:
            while True:
                (filling / f"{count:05}").write_bytes(b"x" * 1024)
                count += 1
        except OSError:
            pass
        for number in range(0, count, 2):
            (filling / f"{number:05}").unlink(missing_ok=True)
        for number in range(1500):
            (root / f"NTLD{'qS'[number % 2]} {number:05}.txt").write_bytes(b"neighbour")
        (root / "ntldr").write_bytes(loader)
    with open_disk(image) as disk:
        files = open_volumes(disk)[0].filesystem
        assert isinstance(files, NtfsFileSystem)
        table, file = files.lookup("/$MFT"), files.lookup("/ntldr")
        rows = files.extents(table)
        assert len(rows) > 20 and len(files.extents(file)) > 20
        assert int(rows["length"][0]) < (file.id & 0xFFFFFFFF) * 1024  # its record isn't in the MFT's first run
    return image


def _nothing(volume: Volume, record: int) -> None:
    pass


@pytest.mark.parametrize(
    "change",
    [
        _nothing,
        lambda volume, record: spread(volume, 0, 20, 0x80, cut=4),
        lambda volume, record: spread(volume, 0, 20, 0x80, cut=4, apart=True),
        lambda volume, record: spread(volume, 5, 21, 0x90),
        lambda volume, record: spread(volume, 5, 22, 0xA0),
        lambda volume, record: spread(volume, record, 23, 0x80, cut=10, apart=True),
    ],
    ids=["plain", "MFT's list", "MFT's list apart", "index root apart", "index apart", "NTLDR's list apart"],
)
def test_scattered_files_are_followed_and_so_are_attribute_lists(
    tmp_path: Path, scattered: Path, change: Callable[[Volume, int], None]
) -> None:
    image = tmp_path / "volume.img"
    shutil.copyfile(scattered, image)
    with open_disk(image) as disk:
        files = open_volumes(disk)[0].filesystem
        assert files is not None
        record = files.lookup("/ntldr").id & 0xFFFFFFFF
    change(Volume(image), record)
    with open_disk(image) as disk:
        files = open_volumes(disk)[0].filesystem
        assert files is not None
        assert files.read(files.lookup("/ntldr")) == build_loader(SIZE, tmp_path)
    _is_started(start(boot_disk(tmp_path / "d.img", image, "ntfs")))


@pytest.mark.parametrize("cluster", [8192, 65536])
def test_a_large_root_is_searched_whose_blocks_are_smaller_than_clusters(tmp_path: Path, cluster: int) -> None:
    need("ntfs-3g")
    image = mkntfs(tmp_path / "volume.img", 64 << 20, "-c", str(cluster), *_GEOMETRY)
    with mounted(image) as root:
        for number in range(900):
            (root / f"{chr(65 + number % 26)} neighbour {number}").write_bytes(b"")
        (root / "ntldr").write_bytes(build_loader(SIZE, tmp_path))
    _is_started(start(boot_disk(tmp_path / "d.img", image, "ntfs")))


def test_other_streams_and_namesakes_are_not_taken_for_it(tmp_path: Path) -> None:
    need("ntfs-3g")
    image = mkntfs(tmp_path / "volume.img", 16 << 20, *_GEOMETRY)
    with mounted(image) as root:
        for name in ("NTLD", "NTLDR.bak", "NTLDRS", "NTLDr2", "ntldq", "ntlds", "ntldŕ"):
            (root / name).write_bytes(b"another")
        (root / "Ntldr").write_bytes(build_loader(SIZE, tmp_path))
        (root / "Ntldr:Zone.Identifier").write_bytes(b"[ZoneTransfer]")
        (root / "folder").mkdir()
        (root / "folder" / "NTLDR").write_bytes(b"another")
    _is_started(start(boot_disk(tmp_path / "d.img", image, "ntfs")))


def _missing(root: Path) -> None:
    (root / "NTLDR.OLD").write_bytes(b"another")


def _folder(root: Path) -> None:
    (root / "NTLDR").mkdir()


def _empty(root: Path) -> None:
    (root / "NTLDR").write_bytes(b"")


def _compressed(root: Path) -> None:
    (root / "packed").mkdir()
    set_attributes(root / "packed", 0x810)
    (root / "packed" / "NTLDR").write_bytes(b"a loader " * 30_000)
    (root / "packed" / "NTLDR").rename(root / "NTLDR")


def _large(root: Path) -> None:
    (root / "NTLDR").write_bytes(bytes((448 << 10) + 1))


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (_missing, "NTLDR is missing"),
        (_folder, "NTLDR is missing"),
        (_empty, "NTLDR is missing"),
        (_compressed, "NTLDR is compressed, encrypted or sparse"),
        (_large, "NTLDR is too large"),
    ],
)
def test_what_can_not_be_started_is_said(tmp_path: Path, plant: Callable[[Path], None], said: str) -> None:
    need("ntfs-3g")
    image = mkntfs(tmp_path / "volume.img", 16 << 20, *_GEOMETRY)
    with mounted(image) as root:
        plant(root)
    assert says(boot_disk(tmp_path / "d.img", image, "ntfs"), f"Byre's boot code: {said}")


def test_a_damaged_record_and_missing_code_are_said(tmp_path: Path) -> None:
    image = _volume(tmp_path)
    disk = boot_disk(tmp_path / "d.img", image, "ntfs")
    volume = Volume(image)
    with disk.open("r+b") as file:
        file.seek(63 * 512 + volume.places[5] + 510)
        file.write(b"\0\0")
    assert says(disk, "Byre's boot code: the file system is damaged")
    with disk.open("r+b") as file:
        file.seek(66 * 512)
        file.write(bytes(512))
    assert says(disk, "Byre's boot code: its other sectors are not there")
