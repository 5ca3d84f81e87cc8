"""FAT12, FAT16, FAT32 and exFAT against mtools, fsck.exfat and The Sleuth Kit."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import byre
from builders.fat_volumes import ExfatBuilder, make_fat
from builders.memory_disks import memory_disk
from builders.opened import kept_open
from byre.errors import CorruptImageError, MissingError
from byre.filesystems import FileSystem, open_filesystem
from byre.filesystems.base import name_of
from byre.filesystems.fat.table import Chains
from oracles import run_tool

pytestmark = pytest.mark.oracle

KINDS = {12: 4 << 20, 16: 20 << 20, 32: 40 << 20}


def open_image(image: Path) -> FileSystem:
    return open_filesystem(kept_open(byre.open_disk(image, format="raw")))


@pytest.fixture(scope="module", params=list(KINDS))
def fat(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, bytes], int]:
    folder = tmp_path_factory.mktemp("fat")
    image = folder / f"fat{request.param}.img"
    return image, make_fat(image, request.param, KINDS[request.param], folder), request.param


def test_every_file_that_mtools_wrote_is_there(fat: tuple[Path, dict[str, bytes], int]) -> None:
    image, written, _ = fat
    fs = open_image(image)
    found = {entry.path: fs.read(entry) for entry in fs.walk() if not entry.is_dir}
    assert list(fs.walk_names()) == [name_of(entry) for entry in fs.walk()]
    assert found == written
    assert not fs.problems


def test_a_fat_s_extents_lead_to_the_same_bytes(fat: tuple[Path, dict[str, bytes], int]) -> None:
    image, written, bits = fat
    disk = kept_open(byre.open_disk(image, format="raw"))
    fs = open_filesystem(disk)
    for path, data in written.items():
        table = fs.extents(fs.lookup(path.upper()))
        assert b"".join(disk.read(row[3], row[1]) for row in table.tolist()) == data
    # mtools takes FAT32's hint of the next free cluster, and so leaves the holes alone.
    assert bits == 32 or len(fs.extents(fs.lookup("/fragmented.bin"))) > 3


def test_a_fat_says_what_minfo_says(fat: tuple[Path, dict[str, bytes], int]) -> None:
    image, _, bits = fat
    fs = open_image(image)
    facts = fs.facts()
    assert (facts.type, facts.label, facts.serial) == (f"fat{bits}", "BYRE FAT", "12345678")
    assert (facts.dirty, facts.hibernated, facts.local_times) == (False, False, True)
    shown = run_tool("mdir", "-i", image, "::/")
    free = int("".join(shown.strip().splitlines()[-1].split()[:-2]))
    assert facts.free == free == sum(int(table["length"].sum()) for table in fs.free_extents())
    entry = fs.lookup("/Sub Directory/inner file.bin")
    assert entry.short_name == "INNERF~1.BIN" and entry.modified is not None


def test_deleted_fat_files_keep_their_bytes(fat: tuple[Path, dict[str, bytes], int]) -> None:
    image, _, _ = fat
    fs = open_image(image)
    gone = [entry for entry in fs.walk(deleted=True) if entry.deleted]
    assert any(entry.size == 8192 for entry in gone)


def test_check_of_a_sound_fat_is_clean(fat: tuple[Path, dict[str, bytes], int]) -> None:
    report = open_image(fat[0]).check()
    assert (report.corruptions, report.leaks, report.problems) == (0, 0, ())


def test_check_sees_differing_fats_lost_clusters_and_a_loop(fat: tuple[Path, dict[str, bytes], int]) -> None:
    image, _, bits = fat
    data = bytearray(image.read_bytes())
    fs = open_filesystem(memory_disk(data))
    boot = fs.boot  # type: ignore[attr-defined]
    start = int(fs.extents(fs.lookup("/fragmented.bin"))["disk"][0])
    cluster = (start - boot.data_offset) // boot.cluster_size + 2
    at = boot.fat_offset + (cluster * 3 // 2 if bits == 12 else cluster * bits // 8)
    link = cluster.to_bytes(4, "little")
    if bits == 12:
        word = int.from_bytes(data[at : at + 2], "little")
        word = word & 0x000F | cluster << 4 if cluster & 1 else word & 0xF000 | cluster
        link = word.to_bytes(2, "little")
    width = 4 if bits == 32 else 2
    data[at : at + width] = link[:width]
    broken = open_filesystem(memory_disk(data))
    with pytest.raises(CorruptImageError):
        broken.read(broken.lookup("/fragmented.bin"))
    report = broken.check()
    codes = {problem.code for problem in report.problems}
    assert {"fat.copies-differ", "fat.lost-clusters", "fat.chain", "fat.size"} <= codes
    assert report.corruptions and report.leaks


def test_chains_hop_by_fragment_and_stop_at_damage() -> None:
    successors = np.array([0, 0, 3, 4, 8, 0, -2, 6, 9, -1, 11, 5, 12], dtype=np.int32)
    chains = Chains(successors)
    assert chains.follow(2, 100) == ([(2, 3), (8, 2)], None)
    assert chains.follow(2, 2) == ([(2, 2)], None)
    assert chains.follow(6, 9) == ([(6, 1)], "runs into the bad cluster 6")
    assert chains.follow(12, 100)[1] == "loops at cluster 12"
    assert chains.follow(5, 9)[1] == "runs into the free cluster 5"
    assert chains.follow(99, 9)[1] == "points to cluster 99, outside the volume"


@pytest.fixture(scope="module")
def exfat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    builder = ExfatBuilder(tmp_path_factory.mktemp("exfat") / "exfat.img", 8 << 20)
    source = random.Random(9)
    written = {
        "/contiguous.bin": source.randbytes(50_001),
        "/scattered file with a long name.bin": source.randbytes(33_333),
        "/Ünïcode ⚡.txt": b"text",
        "/empty": b"",
        "/half written.bin": source.randbytes(5000) + bytes(5000),
    }
    for path, data in written.items():
        valid = 5000 if "half" in path else None
        builder.add(path[1:], data, scattered="scattered" in path, valid=valid)
    image = builder.save()
    run_tool("fsck.exfat", "-n", image)
    return image, written


def test_every_file_of_an_exfat_volume(exfat: tuple[Path, dict[str, bytes]]) -> None:
    image, written = exfat
    fs = open_image(image)
    assert {entry.path: fs.read(entry) for entry in fs.walk()} == written
    facts = fs.facts()
    assert (facts.type, facts.label, facts.dirty) == ("exfat", "Byre exFAT", False)
    assert facts.free == sum(int(table["length"].sum()) for table in fs.free_extents())
    assert fs.lookup("/ÜNÏCODE ⚡.TXT").modified == 1_000_000_000 * 10**9
    assert len(fs.extents(fs.lookup("/scattered file with a long name.bin"))) == 9
    assert fs.check().problems == ()
    with pytest.raises(MissingError):
        fs.lookup("/nothing")


def test_sleuth_kit_lists_the_same_exfat_files(exfat: tuple[Path, dict[str, bytes]]) -> None:
    image, written = exfat
    listed = run_tool("fls", "-p", "-u", "-F", image)
    names = {"/" + line.split(":\t", 1)[1] for line in listed.splitlines() if ":\t" in line}
    assert set(written) <= names


def test_a_broken_exfat_boot_region_falls_back_to_its_copy(exfat: tuple[Path, dict[str, bytes]]) -> None:
    data = bytearray(exfat[0].read_bytes())
    data[0x58] ^= 0xFF
    fs = open_filesystem(memory_disk(data))
    assert len(list(fs.walk())) == len(exfat[1])
    assert fs.problems.codes == ("exfat.boot-sector",)
