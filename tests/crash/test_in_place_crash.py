"""Changes made in place: a cut at any write leaves the disk as it was or as it was meant to be, never a mixture."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest

from builders.opened import folder_context
from builders.qcow2_images import RECIPES, make
from builders.qemu import assert_sound
from byre.disks.disk import Disk, SnapshotDisk
from byre.disks.opening import open_disk as open_path
from byre.disks.qcow2 import open_disk
from byre.disks.qcow2.check import check_image
from byre.disks.qcow2.writing import WritableQcow2Disk
from byre.disks.scratch import ScratchDisk
from byre.errors import ByreError, ExistsError, InterruptedByUserError, StorageError, UnsupportedError, UsageError
from byre.lite.saving import refuse_in_place, save_in_place
from byre.storage.base import Buffer, Storage
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states

STATES = int(os.environ.get("BYRE_CRASH_STATES", "40"))
NAMES = ("v3-backing", "cluster-512", "refcount-2", "zlib", "extended-backing")


def _open(storage: Storage, folder: Path, *, writable: bool) -> Disk:
    return open_disk(storage, folder_context(folder, writable=writable))


def _save(storage: Storage, folder: Path, *, left_out: bool = False) -> bytes:
    """Scattered changes, in place behind a snapshot, with or without ranges that nothing needs any more; returns what
    the disk then holds."""
    disk = _open(storage, folder, writable=True)
    assert isinstance(disk, WritableQcow2Disk)
    work = ScratchDisk(disk, MemoryStorage(bytes(disk.size)))
    rng = random.Random(3)
    for _ in range(40):
        offset = rng.randrange(disk.size - 9000)
        work.write(offset, rng.randbytes(rng.choice([16, 512, 9000])))
    wanted = work.read(0, disk.size)
    ranges = None
    if left_out:
        edges = sorted(rng.sample(range(0, disk.size, 512), 60))
        ranges = np.array(edges, dtype=np.int64).reshape(-1, 2)
        for start, stop in ranges.tolist():
            wanted = wanted[:start] + bytes(stop - start) + wanted[stop:]
    save_in_place(disk, work, "before", left_out=ranges)
    if ranges is None:
        return wanted
    with _open(storage, folder, writable=False) as disk:
        found = disk.read(0, disk.size)
    # A range that is left out reads as zeros or as it was; all else is as it was to be.
    masked = found
    for start, stop in ranges.tolist():
        masked = masked[:start] + bytes(stop - start) + masked[stop:]
    assert masked == wanted
    assert found.count(0) > disk.size // 8
    return found


@pytest.mark.oracle
@pytest.mark.parametrize("left_out", [False, True], ids=["all kept", "some left out"])
@pytest.mark.parametrize("name", NAMES)
def test_every_cut_leaves_the_old_or_the_new_state(name: str, left_out: bool, tmp_path: Path) -> None:
    image = make(next(recipe for recipe in RECIPES if recipe.name == name), tmp_path).path
    base = image.read_bytes()
    with open_path(image) as disk:
        old = disk.read(0, disk.size)
    storage = RecordingStorage(base)
    new = _save(storage, tmp_path, left_out=left_out)
    assert old != new
    seen = set()
    for state in crash_states(storage.log, base, random.Random(5), STATES):
        with _open(MemoryStorage(state), tmp_path, writable=False) as disk:
            now = disk.read(0, disk.size)
            assert now in (old, new)
            seen.add(now == new)
            if now == new:
                assert [entry.name for entry in disk.describe().snapshots][-1] == "before"
        bad = [entry for entry in check_image(MemoryStorage(state)).problems if entry.kind == "corruption"]
        assert all(entry.code == "qcow2.copied-flag-missing" for entry in bad), bad
    assert seen == {False, True}
    image.write_bytes(storage.data)
    assert_sound(image)
    with open_path(f"{image}@before") as disk:
        assert disk.read(0, disk.size) == old


def test_a_full_disk_leaves_the_old_state(tmp_path: Path) -> None:
    image = make(next(recipe for recipe in RECIPES if recipe.name == "v3-backing"), tmp_path).path
    base = image.read_bytes()
    probe = RecordingStorage(base)
    _save(probe, tmp_path)
    with open_path(image) as disk:
        old = disk.read(0, disk.size)
    for after in range(1, len(probe.log) - 6, 9):
        storage = RecordingStorage(base, fail_after=after)
        with pytest.raises(StorageError):
            _save(storage, tmp_path)
        with _open(MemoryStorage(bytes(storage.data)), tmp_path, writable=False) as disk:
            assert disk.read(0, disk.size) == old


class _Interrupted(RecordingStorage):
    """Ctrl-C in the place of a failure."""

    def write(self, offset: int, data: Buffer) -> None:
        try:
            super().write(offset, data)
        except StorageError as error:
            raise KeyboardInterrupt from error


def test_ctrl_c_between_two_writes_names_the_snapshot_once_it_is_there(tmp_path: Path) -> None:
    base = make(next(recipe for recipe in RECIPES if recipe.name == "v3-backing"), tmp_path).path.read_bytes()
    probe = RecordingStorage(base)
    _save(probe, tmp_path)
    told = 0
    for after in range(1, len(probe.log) - 6, 9):
        storage = _Interrupted(base, fail_after=after)
        with pytest.raises(ByreError) as caught:
            _save(storage, tmp_path)
        with _open(MemoryStorage(bytes(storage.data)), tmp_path, writable=False) as disk:
            assert isinstance(disk, SnapshotDisk)
            kept = [each.name for each in disk.snapshots()]
        if isinstance(caught.value, InterruptedByUserError):
            assert "'before'" in (caught.value.hint or "")
            told += "before" in kept
        else:  # a flush failed, as an error does
            assert isinstance(caught.value, StorageError)
    assert told


def test_holding_back_needs_a_snapshot(tmp_path: Path) -> None:
    image = make(next(recipe for recipe in RECIPES if not recipe.snapshot), tmp_path).path
    with open_path(image, writable=True) as disk:
        assert isinstance(disk, WritableQcow2Disk)
        with pytest.raises(UsageError):
            disk.hold()


def test_a_taken_name_changes_nothing(tmp_path: Path) -> None:
    image = make(next(recipe for recipe in RECIPES if recipe.name == "v3-backing"), tmp_path).path
    storage = MemoryStorage(image.read_bytes())
    _save(storage, tmp_path)
    once = bytes(storage.data)
    with pytest.raises(ExistsError):
        _save(storage, tmp_path)
    assert bytes(storage.data) == once


def test_other_formats_are_refused_before_any_work(tmp_path: Path) -> None:
    raw = tmp_path / "x.raw"
    raw.write_bytes(bytes(4096))
    with open_path(raw, format="raw", writable=True) as disk, pytest.raises(UnsupportedError) as caught:
        refuse_in_place(disk)
    assert "-o" in (caught.value.hint or "")
