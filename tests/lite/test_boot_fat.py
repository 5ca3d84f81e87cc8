"""Byre's boot code for FAT under QEMU: NTLDR, and ReactOS's FREELDR.SYS, from FAT12, FAT16 and FAT32."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.bochs import BIOSES, start_in_bochs
from builders.boot_disks import boot_disk, take_lba_away
from builders.boot_loaders import Started, build_loader, start
from byre.lite.mending.boot_code import FREELDR, NTLDR
from oracles import run_tool

pytestmark = pytest.mark.oracle

SIZE = 250_048
_KINDS = {"fat12": 8, "fat16": 32, "fat32": 64}
"""MiB."""


def _volume(folder: Path, kind: str, *options: str, name: str = "NTLDR", scattered: bool = False) -> Path:
    """A volume by mkfs.fat with a loader by mtools; ``scattered``: in pieces, behind a hundred names in the root."""
    image = folder / "volume.img"
    with image.open("wb") as file:
        file.truncate(_KINDS[kind] << 20)
    run_tool("mkfs.fat", "-F", kind[3:], "-h", "63", *options, image)
    if scattered:
        (folder / "filling").mkdir()
        names = [folder / "filling" / f"a longer name {number}.txt" for number in range(100)]
        for number, path in enumerate(names):
            path.write_bytes(bytes([number]) * 5 * 1024)
        run_tool("mcopy", "-i", image, *names, "::")
        run_tool("mdel", "-i", image, *(f"::{path.name}" for path in names[::2]))
    source = folder / name
    source.write_bytes(build_loader(SIZE, folder))
    run_tool("mcopy", "-i", image, source, "::")
    return image


def _is_started(found: Started | str | bytes, entry: tuple[int, int] = (0x2000, 0), hidden: int = 63) -> None:
    assert found == Started(entry, (0, 0, 0), 0x7C00, 0x80, hidden, 0xAA55, 0)


@pytest.mark.parametrize("kind", _KINDS)
def test_a_loader_in_pieces_starts(tmp_path: Path, kind: str) -> None:
    _is_started(start(boot_disk(tmp_path / "d.img", _volume(tmp_path, kind, scattered=True), kind)))


@pytest.mark.parametrize("bios", BIOSES)
@pytest.mark.parametrize("kind", _KINDS)
def test_a_loader_starts_under_other_bioses(tmp_path: Path, kind: str, bios: str) -> None:
    _is_started(start_in_bochs(boot_disk(tmp_path / "d.img", _volume(tmp_path, kind), kind), bios))


@pytest.mark.parametrize("kind", _KINDS)
def test_freeloader_is_started_where_reactos_wants_it(tmp_path: Path, kind: str) -> None:
    volume = _volume(tmp_path, kind, name="FREELDR.SYS")
    _is_started(start(boot_disk(tmp_path / "d.img", volume, kind, loader=FREELDR)), (0, 0xF800))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("fat16", ("-r", "4096")), ("fat16", ("-s", "1")), ("fat32", ("-s", "1", "-R", "64")), ("fat16", ("-f", "1"))],
    ids=["large root", "small clusters", "many reserved sectors", "one FAT"],
)
def test_other_layouts_start(tmp_path: Path, kind: str, options: tuple[str, ...]) -> None:
    image = _volume(tmp_path, kind, *options, scattered=True)
    _is_started(start(boot_disk(tmp_path / "d.img", image, kind)))


@pytest.mark.parametrize("kind", _KINDS)
def test_a_bios_without_lba_is_asked_by_its_own_geometry(tmp_path: Path, kind: str) -> None:
    disk = boot_disk(tmp_path / "d.img", _volume(tmp_path, kind), kind, start=100 << 11, size=600 << 20)
    take_lba_away(disk)
    # The master boot record reads by the entry's CHS then, which names another place: what it names is filled in.
    with disk.open("r+b") as file:
        file.seek((100 << 11) * 512)
        sector = file.read(512)
        file.seek(63 * 512)
        file.write(sector)
    _is_started(start(disk), hidden=100 << 11)


@pytest.mark.parametrize("first", [9 << 21, (1 << 32) - 64], ids=["9 GiB", "across 2 TiB"])
def test_a_partition_may_lie_anywhere(tmp_path: Path, first: int) -> None:
    disk = boot_disk(tmp_path / "d.img", _volume(tmp_path, "fat32"), "fat32", start=first, slot=3)
    _is_started(start(disk), hidden=first)


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize("loader", [NTLDR, FREELDR])
def test_a_missing_loader_is_said(tmp_path: Path, kind: str, loader: str) -> None:
    volume = _volume(tmp_path, kind, name="NTLDR.BAK")
    run_tool("mmd", "-i", volume, "::NTLDR", "::FREELDR.SYS")
    said = f"{loader} is missing"
    assert start(boot_disk(tmp_path / "d.img", volume, kind, loader=loader), said) == said


def test_a_disk_that_ends_early_is_said(tmp_path: Path) -> None:
    disk = boot_disk(tmp_path / "d.img", _volume(tmp_path, "fat16"), "fat16")
    with disk.open("r+b") as file:
        file.truncate(64 * 512)
    assert start(disk, "Disk error") == "Disk error"
