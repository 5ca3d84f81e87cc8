from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import byre
from builders.ntfs_volumes import mkntfs, mounted, need, set_attributes
from byre.convert.compare import compare_disks
from byre.differences.compare import Differences, diff_disks
from byre.differences.files import FileChange
from byre.disks.disk import Disk, DiskDefaults
from byre.extents import ExtentTable
from byre.storage.base import Storage
from byre.windows.inspection import inspect
from oracles import run_tool
from programs import byre as run_byre

OLD = 1_200_000_000_000_000_000
pytestmark = pytest.mark.oracle


def settle(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            os.utime(Path(folder, name), ns=(OLD, OLD))


def two_states(folder: Path) -> tuple[Path, Path]:
    """A volume as ntfs-3g wrote it, and a copy in which files came, went, moved and changed."""
    need("mkntfs", "ntfs-3g")
    before, after = mkntfs(folder / "before.img", 30 << 20), folder / "after.img"
    rng = np.random.default_rng(4)
    with mounted(before) as root:
        for name in ("keep", "grow", "same size", "rename me", "touch", "hide", "stream", "gone", "resident", "move"):
            size = 400 if name == "resident" else 100_000
            (root / name).write_bytes(rng.bytes(size))
        (root / "folder" / "deep").mkdir(parents=True)
        (root / "folder" / "deep" / "file").write_bytes(b"x" * 5000)
        (root / "pagefile.sys").write_bytes(rng.bytes(100_000))
        settle(root)
    shutil.copyfile(before, after)
    with mounted(after) as root:
        with (root / "grow").open("ab") as file:
            file.write(b"more")
        with (root / "same size").open("r+b") as file:
            file.seek(70_000)
            file.write(b"other")
        with (root / "pagefile.sys").open("r+b") as file:
            file.write(b"other")
        (root / "rename me").rename(root / "renamed")
        (root / "folder").rename(root / "other folder")
        (root / "resident").write_bytes(bytes(400))
        set_attributes(root / "hide", 0x22)
        Path(f"{root}/stream:evil").write_bytes(b"payload")
        (root / "gone").unlink()
        shutil.copyfile(root / "move", root / "moved")
        (root / "move").unlink()
        (root / "new").write_bytes(b"new")
        settle(root)
        os.utime(root / "touch", ns=(OLD + 10**12, OLD + 10**12))
    return before, after


def diff(before: Path, after: Path, *, everything: bool = False) -> Differences:
    with byre.open_disk(before) as first, byre.open_disk(after) as second:
        return diff_disks(inspect(first), inspect(second), everything=everything)


def by_path(found: Differences) -> dict[str, FileChange]:
    return {change.path: change for volume in found.volumes for change in volume.files}


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return two_states(tmp_path_factory.mktemp("states"))


def test_each_kind_of_change_is_told_as_what_it_is(states: tuple[Path, Path]) -> None:
    found = by_path(diff(*states))
    told = {path: (change.kind, change.what) for path, change in found.items() if change.noise is None}
    assert told == {
        "/grow": ("changed", ("content", "size")),
        "/same size": ("changed", ("content",)),
        "/resident": ("changed", ("content",)),
        "/renamed": ("renamed", ()),
        "/moved": ("renamed", ("created",)),
        "/other folder": ("renamed", ()),
        "/hide": ("metadata", ("attributes",)),
        "/touch": ("metadata", ("modified",)),
        "/stream": ("changed", ("stream evil",)),
        "/gone": ("removed", ()),
        "/new": ("added", ()),
    }
    assert found["/renamed"].old_path == "/rename me" and found["/moved"].old_path == "/move"


def test_a_page_file_is_folded_away_with_its_reason(states: tuple[Path, Path]) -> None:
    found = by_path(diff(*states))
    assert found["/pagefile.sys"].noise == "page or hibernation file"


def test_the_file_systems_own_files_are_told_only_when_asked_for(states: tuple[Path, Path]) -> None:
    assert "/$Bitmap" not in by_path(diff(*states))
    assert by_path(diff(*states, everything=True))["/$Bitmap"].noise == "file system"


def test_the_same_disk_is_the_same_and_costs_no_reading(states: tuple[Path, Path]) -> None:
    found = diff(states[0], states[0])
    assert found.same(everything=True) and found.blocks.apart == 0 and found.blocks.compared == 0


def test_a_copy_in_another_format_is_the_same(states: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.vdi"
    run_byre("convert", states[0], copy)
    found = diff(states[0], copy)
    assert found.same(everything=True) and found.blocks.compared > 500_000


def test_a_volume_at_another_place_of_its_disk_is_compared_by_reading(
    states: tuple[Path, Path], tmp_path: Path
) -> None:
    """Behind a partition table nothing lies where it lay: the files are still the same ones."""
    disk = tmp_path / "disk.img"
    size = states[1].stat().st_size
    with disk.open("wb") as file:
        sector = bytearray(512)
        entry = (
            bytes([0x80, 1, 1, 0, 7, 254, 255, 255])
            + (63).to_bytes(4, "little")
            + (size // 512).to_bytes(4, "little")
        )
        sector[0x1BE : 0x1BE + 16] = entry
        sector[510:] = b"\x55\xaa"
        file.write(sector)
        file.seek(63 * 512)
        file.write(states[1].read_bytes())
    found = diff(states[0], disk)
    kinds = {path: change.kind for path, change in by_path(found).items() if change.noise is None}
    assert kinds["/same size"] == "changed" and "/keep" not in kinds
    assert found.disk[0].where == "partition 1 moved or resized"


def test_a_changed_boot_sector_is_told(states: tuple[Path, Path], tmp_path: Path) -> None:
    patched = tmp_path / "patched.img"
    shutil.copyfile(states[0], patched)
    with patched.open("r+b") as file:
        file.seek(0x60)
        file.write(b"\xeb\xfe")
    change = by_path(diff(states[0], patched))["/$Boot"]
    assert change.kind == "changed" and change.noise is None


class CountingDisk(DiskDefaults):
    """Notes every range of the disk that is read."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.format, self.size = disk.format, disk.size
        self.sector_size, self.block_size = disk.sector_size, disk.block_size
        self.reads: list[tuple[int, int]] = []

    @property
    def files(self) -> tuple[Storage, ...]:
        return self.disk.files

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        return self.disk.extents(start, stop)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        self.reads.append((offset, offset + len(buffer)))
        self.disk.read_into(offset, buffer)

    def describe(self) -> byre.Description:
        return self.disk.describe()

    def read_outside(self, ranges: list[tuple[int, int]]) -> int:
        """Bytes read, those of ``ranges`` left out."""
        total = 0
        for start, stop in self.reads:
            total += stop - start - sum(max(0, min(stop, high) - max(start, low)) for low, high in ranges)
        return total


def metadata_ranges(disk: Disk) -> list[tuple[int, int]]:
    """Where the MFT, the indexes and the file system's other own files lie."""
    files = inspect(disk).volumes[0].filesystem
    assert files is not None
    found = [(0, 16384)]
    for entry in files.walk(system=True):
        if entry.path.startswith("/$") and entry.path != "/$BadClus" and entry.size:
            rows = files.extents(entry, slack=True)
            found += [(int(row["disk"]), int(row["disk"] + row["stored"])) for row in rows if row["disk"] >= 0]
    return found


def test_two_states_of_a_40_gb_disk_cost_no_more_reading_than_what_differs(tmp_path: Path) -> None:
    need("mkntfs", "ntfs-3g")
    before, after, overlay = mkntfs(tmp_path / "before.raw", 40 << 30), tmp_path / "after.raw", tmp_path / "o.qcow2"
    rng = np.random.default_rng(5)
    with mounted(before) as root:
        for number in range(300):
            (root / f"file {number}").write_bytes(rng.bytes(20_000))
        (root / "in place").write_bytes(bytes(range(256)) * (20 << 12))
        (root / "large").write_bytes(rng.bytes(30 << 20))
    run_byre("create", overlay, "-b", before, "-F", "raw")
    run_tool("cp", "--sparse=always", before, after)
    with mounted(after) as root:
        (root / "added").write_bytes(rng.bytes(60 << 20))
        with (root / "in place").open("r+b") as file:
            file.write(rng.bytes(20 << 20))
        with (root / "large").open("r+b") as file:
            file.seek(10 << 20)
            file.write(rng.bytes(20 << 20))
    different = 0
    with (
        byre.open_disk(before) as first,
        byre.open_disk(after) as second,
        byre.open_disk(overlay, writable=True) as target,
    ):
        for piece in compare_disks(first, second):
            different += piece.length
            for start in range(piece.start, piece.start + piece.length, 1 << 20):
                length = min(1 << 20, piece.start + piece.length - start)
                target.write(start, second.read(start, length))
    assert different > 100_000_000
    with byre.open_disk(before) as one, byre.open_disk(overlay) as other:
        pair = CountingDisk(one), CountingDisk(other)
        found = diff_disks(inspect(pair[0]), inspect(pair[1]))
        outside = sum(disk.read_outside(metadata_ranges(disk.disk)) for disk in pair)
    kinds = {path: change.kind for path, change in by_path(found).items() if change.noise is None}
    assert kinds == {"/added": "added", "/in place": "changed", "/large": "changed"}
    assert found.blocks.apart < different * 1.05
    assert outside <= different * 1.01


def test_bytes_changed_past_the_file_system_are_found(states: tuple[Path, Path], tmp_path: Path) -> None:
    """No record, time or bitmap says so: only the bytes do."""
    patched = tmp_path / "patched.img"
    shutil.copyfile(states[0], patched)
    with byre.open_disk(states[0]) as disk:
        files = inspect(disk).volumes[0].filesystem
        assert files is not None
        place = int(files.extents(files.lookup("/keep"))["disk"][0])
    with patched.open("r+b") as file:
        file.seek(place + 5000)
        file.write(b"tampered")
    found = by_path(diff(states[0], patched))
    assert {path: (change.kind, change.what) for path, change in found.items()} == {
        "/keep": ("changed", ("content",))
    }
