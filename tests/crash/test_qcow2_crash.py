"""A cut at any write of a change leaves a sound image whose every sector is the old one or the new one."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders.opened import folder_context
from builders.qcow2_images import RECIPES, make
from builders.qemu import assert_sound
from byre.disks.context import OpenContext
from byre.disks.qcow2 import open_disk
from byre.disks.qcow2.check import check_image
from byre.disks.qcow2.image import Qcow2Disk
from byre.disks.qcow2.writing import WritableQcow2Disk
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states

SECTOR = 512
STATES = int(os.environ.get("BYRE_CRASH_STATES", "50"))
QEMU_EVERY = 20
"""qemu-img looks at every twentieth state, and at the last."""

Change = Callable[[WritableQcow2Disk, random.Random], None]


def _writes(disk: WritableQcow2Disk, rng: random.Random) -> None:
    for _ in range(6):
        start = rng.randrange(disk.size)
        data = rng.randbytes(min(rng.choice((100, 700, 70_000, 200_000)), disk.size - start))
        disk.write(start, data)
        if rng.random() < 0.3:
            disk.flush()


def _zeroes(disk: WritableQcow2Disk, rng: random.Random) -> None:
    for _ in range(6):
        start = rng.randrange(disk.size)
        disk.write_zeroes(start, min(rng.choice((100, 70_000, 300_000)), disk.size - start))


def _discards(disk: WritableQcow2Disk, rng: random.Random) -> None:
    for _ in range(3):
        start = rng.randrange(disk.size)
        disk.discard(start, min(600_000, disk.size - start))
        disk.flush()
        again = rng.randrange(disk.size)
        disk.write(again, rng.randbytes(min(90_000, disk.size - again)))


def _fills(disk: WritableQcow2Disk, rng: random.Random) -> None:
    """Everything: new refcount blocks, and with small clusters a larger refcount table."""
    for start in range(0, disk.size, 500_000):
        disk.write(start, rng.randbytes(min(500_000, disk.size - start)))


def _grows(disk: WritableQcow2Disk, rng: random.Random) -> None:
    disk.grow_l1(len(disk.l1) + 5000)
    disk.write(0, rng.randbytes(1000))


NAMES = (
    "v2-backing",
    "v3-backing",
    "cluster-512",
    "cluster-512-refcount-64",
    "zlib",
    "extended-backing",
    "refcount-2",
)
CHANGES: tuple[Change, ...] = (_writes, _zeroes, _discards, _fills, _grows)


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.strip("_"))
def test_every_cut_leaves_old_or_new_sectors_in_a_sound_image(name: str, change: Change, tmp_path: Path) -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    made = make(recipe, tmp_path)
    base = made.path.read_bytes()
    context = folder_context(tmp_path, writable=True)
    storage = RecordingStorage(base)
    disk = open_disk(storage, context)
    assert isinstance(disk, WritableQcow2Disk)
    change(disk, random.Random(7))
    new = disk.read(0, disk.size)
    final_size = disk.size
    disk.close()
    versions = _versions(change, base, context, final_size)
    versions.append(new)
    cut = tmp_path / "cut.qcow2"
    count = 0
    for state in crash_states(storage.log, base, random.Random(3), STATES):
        found = _open(state, folder_context(tmp_path))
        content = found.read(0, found.size)
        _assert_old_or_new(content, versions)
        if made.snapshot is not None:
            assert found.open_snapshot("1").read(0, len(made.snapshot)) == made.snapshot
        report = check_image(MemoryStorage(state, name="<cut>"))
        assert report.corruptions == 0, report.problems
        if count % QEMU_EVERY == 0:
            cut.write_bytes(state)
            assert_sound(cut, leaks=True)
        count += 1
    assert count > 10
    cut.write_bytes(storage.data)
    assert_sound(cut)
    assert _open(bytes(storage.data), folder_context(tmp_path)).read(0, final_size) == new


def _versions(change: Change, base: bytes, context: OpenContext, size: int) -> list[bytes]:
    """What the disk held before the change and after each of its calls: a sector may be as in any of them."""
    disk = open_disk(MemoryStorage(base), context)
    assert isinstance(disk, WritableQcow2Disk)
    versions = [disk.read(0, size)]

    def noted(method: Callable[..., None]) -> Callable[..., None]:
        def call(*words: object) -> None:
            method(*words)
            versions.append(disk.read(0, size))

        return call

    for name in ("write", "write_zeroes", "discard"):
        setattr(disk, name, noted(getattr(disk, name)))
    change(disk, random.Random(7))
    disk.close()
    return versions


def _assert_old_or_new(content: bytes, versions: list[bytes]) -> None:
    found = _sectors(content)
    known = np.zeros(len(found), dtype=bool)
    for version in versions:
        known |= (found == _sectors(version)).all(axis=1)
    assert known.all(), f"sector {int(np.argmin(known))} is neither old nor new"


def _sectors(content: bytes) -> np.ndarray:
    return np.frombuffer(content.ljust(-(-len(content) // SECTOR) * SECTOR, b"\0"), dtype="<u8").reshape(
        -1, SECTOR // 8
    )


def _open(state: bytes, context: OpenContext) -> Qcow2Disk:
    return open_disk(MemoryStorage(state, name="<cut>"), context)
