"""Damaged NTFS and FAT volumes that are changed: one of Byre's errors, or a result that holds what was asked for and
that ntfsfix and fsck.fat take as they took what was there before; never a byte outside of the volume."""

from __future__ import annotations

import random
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from builders.fat_volumes import make_fat
from builders.memory_disks import memory_disk
from builders.ntfs_volumes import mkntfs, mounted, need
from byre.disks.disk import Disk
from byre.disks.scratch import ScratchDisk
from byre.errors import ByreError
from byre.extents import Kind
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.opening import open_volumes
from byre.filesystems.unneeded import hash_files
from byre.lite.applying import apply_changes
from byre.lite.changes import Change, Content, MakeFolder, Overwrite, Put, Remove
from byre.storage.memory import MemoryStorage
from fuzzing import fuzz
from oracles import require_tool

pytestmark = [pytest.mark.fuzz, pytest.mark.oracle]

START = 63 * 512
TAIL = 1 << 20


@dataclass(frozen=True)
class Target:
    """A disk with one volume: its bytes, where damage is worth it, and what can be asked for."""

    image: bytes
    places: tuple[tuple[int, int], ...]
    files: tuple[tuple[str, int], ...]
    folders: tuple[str, ...]
    judge: tuple[str, ...]

    def changes(self, rng: random.Random) -> list[Change]:
        found: list[Change] = [MakeFolder("/made"), Put("/made/new.bin", Content.of(rng.randbytes(20_000)))]
        gone = rng.sample(self.files, min(3, len(self.files)))
        found += [Remove(path) for path, _ in gone]
        kept = [row for row in self.files if row not in gone]
        for path, size in rng.sample(kept, min(2, len(kept))):
            found.append(Overwrite(path, bytes(size)) if size > 4096 else Put(path, Content.of(b"other")))
        if rng.random() < 0.3:
            found.append(Remove(rng.choice(self.folders)))
        rng.shuffle(found)
        found.sort(key=lambda change: isinstance(change, Put) and change.path.startswith("/made"))
        return found


def _disk_of(volume: Path, kind: int, judge: tuple[str, ...]) -> Target:
    """A partitioned disk around a volume; the ranges of its metadata, by our own reader."""
    data = volume.read_bytes()
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", kind, b"\0\2\0", START // 512, len(data) // 512)
    table = (bytes(446) + entry + bytes(48) + b"\x55\xaa").ljust(START, b"M")
    image = table + data + b"T" * TAIL
    places = [(START, 512)]
    disk = memory_disk(image)
    files = open_volumes(disk)[0].filesystem
    assert files is not None
    entries = list(files.walk())
    if isinstance(files, NtfsFileSystem):
        assert files.facts().log in ("clean", "empty")
        system = [
            each for each in files.walk(system=True) if each.name in ("$MFT", "$MFTMirr", "$LogFile", "$Bitmap")
        ]
        for each in system:
            rows = files.extents(each)
            rows = rows[rows["kind"] == Kind.DATA]
            weight = {"$MFT": 40, "$LogFile": 1, "$Bitmap": 2, "$MFTMirr": 1}[each.name]
            used = {"$MFT": 64 << 10, "$LogFile": 8192}.get(each.name, 4096)
            places += [(int(row["disk"]), min(int(row["length"]), used)) for row in rows] * weight
        at = image.find(b"INDX")
        while at >= 0:
            places += [(at, 4096)] * 2
            at = image.find(b"INDX", at + 4096)
    else:
        places += [(START, 96 << 10)] * 6
        for each in entries:
            if each.is_dir:
                places += [(int(row["disk"]), 1024) for row in files.extents(each)] * 2
    plain = [
        each
        for each in entries
        if not each.is_dir and each.links == 1 and not each.attributes & 0x800 and each.reparse is None
    ]
    return Target(
        image,
        tuple(places),
        tuple((each.path, each.size) for each in plain),
        tuple(each.path for each in entries if each.is_dir),
        judge,
    )


@pytest.fixture(scope="module")
def ntfs(tmp_path_factory: pytest.TempPathFactory) -> Target:
    need("mkntfs", "ntfs-3g", "ntfsfix")
    image = mkntfs(tmp_path_factory.mktemp("ntfs") / "volume.img", 8 << 20)
    rng = random.Random(1)
    with mounted(image) as root:
        for folder in ("a", "b", "a/deep"):
            (root / folder).mkdir()
            for number in range(6):
                (root / folder / f"file {number}.txt").write_bytes(rng.randbytes(rng.choice([10, 700, 9000, 40_000])))
        (root / "crowd").mkdir()
        for number in range(80):
            (root / "crowd" / f"a longer name for number {number}.dat").write_bytes(b"x" * number)
        (root / "b" / "linked").hardlink_to(root / "a" / "file 0.txt")
        (root / "b" / "file 1.txt:stream").write_bytes(rng.randbytes(2000))
    return _disk_of(image, 7, ("ntfsfix", "-n"))


@pytest.fixture(scope="module", params=[12, 16, 32])
def fat(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Target:
    folder = tmp_path_factory.mktemp("fat")
    size = {12: 2 << 20, 16: 8 << 20, 32: 34 << 20}[request.param]
    options = ("-s", "1") if request.param != 12 else ()
    make_fat(folder / "volume.img", request.param, size, folder, *options)
    return _disk_of(folder / "volume.img", {12: 1, 16: 6, 32: 0x0C}[request.param], ("fsck.fat", "-n"))


EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 63, (1 << 64) - 1)


def _damage(image: bytes, places: tuple[tuple[int, int], ...], rng: random.Random) -> bytearray:
    data = bytearray(image)
    for _ in range(rng.choice([1, 1, 1, 2, 5, 30])):
        start, length = rng.choice(places)
        at = start + rng.randrange(length)
        match rng.randrange(5):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at] = rng.randrange(256)
            case 2:
                width = rng.choice([1, 2, 4, 8])
                at -= at % width
                data[at : at + width] = (rng.choice(EXTREMES) & (1 << 8 * width) - 1).to_bytes(width, "little")
            case 3:
                size = rng.choice([4, 16, 512, 1024])
                data[at : at + size] = bytes([rng.choice([0, 0xFF])]) * size
            case 4:
                other, span = rng.choice(places)
                size = min(1024, length, span)
                data[start : start + size] = data[other : other + size]
    return data


def _one_case(target: Target, rng: random.Random, folder: Path) -> bool:
    """Whether the damaged volume was changed all the same."""
    damaged = bytes(_damage(target.image, target.places, rng))
    changes = target.changes(rng)
    disk = memory_disk(damaged)
    work = ScratchDisk(disk, MemoryStorage(bytes(len(damaged))))
    try:
        volume = open_volumes(disk)[0]
        apply_changes(work, volume, changes)
    except ByreError as error:
        assert error.what
        return False
    finally:
        for low, high in work.changes():
            assert low >= START and high <= len(damaged) - TAIL
    _hold_against(changes, disk, work)
    if _accepts(target, damaged, folder):
        after = work.read(0, work.size)
        assert _accepts(target, after, folder), changes
    return True


def _hold_against(changes: list[Change], before: Disk, after: ScratchDisk) -> None:
    """Nothing that wasn't named has changed; what was named is as it should be. Our own check still passes, or says
    so: the proof would then refuse."""
    files = open_volumes(after)[0].filesystem
    assert files is not None
    if files.check().corruptions:
        return
    old, new = hash_files(before), hash_files(after)
    named = [change.path for change in changes]
    for key in old.keys() | new.keys():
        if old.get(key) != new.get(key):
            assert any(f"{key[1]}/".startswith(f"{path}/") for path in named) or _linked(before, key[1], named), key


def _linked(disk: Disk, path: str, named: list[str]) -> bool:
    """Whether it is another name of a file that was written."""
    files = open_volumes(disk)[0].filesystem
    assert files is not None
    ids = set()
    for each in named:
        try:
            ids.add(files.lookup(each).id)
        except ByreError:
            continue
    return any(entry.path == path and entry.id in ids for entry in files.walk())


def _accepts(target: Target, image: bytes, folder: Path) -> bool:
    """Whether the second tool finds the volume sound."""
    file = folder / "judged.img"
    file.write_bytes(image[START : len(image) - TAIL])
    name, *options = target.judge
    command = [require_tool(name), *options, str(file)]
    return subprocess.run(command, capture_output=True, timeout=240, check=False).returncode == 0


def test_fuzz_damaged_ntfs_is_refused_or_soundly_changed(ntfs: Target, tmp_path: Path) -> None:
    changed = fuzz("changed ntfs", 50, lambda rng: _one_case(ntfs, rng, tmp_path))
    assert changed


def test_fuzz_damaged_fat_is_refused_or_soundly_changed(fat: Target, tmp_path: Path) -> None:
    changed = fuzz(f"changed fat {len(fat.image)}", 25, lambda rng: _one_case(fat, rng, tmp_path))
    assert changed
