"""A cut at any write of a snapshot's change leaves the image as it was or as it was meant to be."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.opened import folder_context
from builders.qcow2_images import RECIPES, make
from builders.qemu import assert_sound, qemu_check, qemu_img, qemu_io
from byre.disks.qcow2 import open_disk
from byre.disks.qcow2.check import check_image
from byre.disks.qcow2.header import read_header
from byre.disks.qcow2.repair import apply_repair, plan_repair
from byre.disks.qcow2.snapshot_table import read_snapshot_table
from byre.disks.qcow2.snapshots import create_snapshot, delete_snapshot, rename_snapshot, revert_to_snapshot, shorten
from byre.disks.qcow2.survey import survey
from byre.storage.base import Storage
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states

STATES = int(os.environ.get("BYRE_CRASH_STATES", "40"))
QEMU_EVERY = 12
View = tuple[bytes, dict[str, bytes]]


def _deletes(storage: Storage) -> None:
    delete_snapshot(storage, "1")
    shorten(storage)


OPERATIONS: dict[str, Callable[[Storage], object]] = {
    "create": lambda storage: create_snapshot(storage, "new", created=1e9),
    "revert": lambda storage: revert_to_snapshot(storage, "1"),
    "delete": _deletes,
    "rename": lambda storage: rename_snapshot(storage, "1", "renamed"),
}
NAMES = ("v2-backing", "v3-backing", "cluster-512", "refcount-2", "zlib", "extended-backing", "cluster-2m")
LARGE = ("cluster-2m",)
"""Fewer states of these: each is tens of megabytes."""


@pytest.mark.oracle
@pytest.mark.parametrize("name", [*NAMES, "resized"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_cut_leaves_the_old_or_the_new_image(name: str, operation: str, tmp_path: Path) -> None:
    if name == "resized":
        image = _resized(tmp_path)
    else:
        recipe = next(recipe for recipe in RECIPES if recipe.name == name)
        image = make(recipe, tmp_path).path
        if not recipe.snapshot:
            qemu_img("snapshot", "-c", "old", image)
            qemu_io(image, ["write -P 77 1M 64k"], "-f", "qcow2")
    base = image.read_bytes()
    storage = RecordingStorage(base)
    OPERATIONS[operation](storage)
    old, new = _view(base, tmp_path), _view(bytes(storage.data), tmp_path)
    assert old != new
    for count, state in enumerate(
        crash_states(storage.log, base, random.Random(5), STATES // (8 if name in LARGE else 1))
    ):
        assert _view(state, tmp_path) in (old, new)
        judge_metadata(state, tmp_path / "cut.qcow2" if count % QEMU_EVERY == 0 else None)
    image.write_bytes(storage.data)
    assert_sound(image)


def judge_metadata(state: bytes, scratch: Path | None) -> None:
    """At worst leaks and missing COPIED flags, which a repair by Byre, and one by QEMU, cleans."""
    report = check_image(MemoryStorage(state))
    bad = [entry for entry in report.problems if entry.kind == "corruption"]
    assert all(entry.code == "qcow2.copied-flag-missing" for entry in bad), bad
    mended = MemoryStorage(state)
    found = survey(mended)
    apply_repair(found, plan_repair(found, "all"))
    after = check_image(mended)
    assert (after.corruptions, after.leaks) == (0, 0), after.problems
    if scratch is not None:
        scratch.write_bytes(state)
        seen = qemu_check(scratch)
        assert seen.get("corruptions", 0) == report.corruptions, (seen, report)
        assert bool(seen.get("leaks", 0)) == bool(report.leaks), (seen, report)
        qemu_img("check", "-r", "all", scratch, ok=(0, 2, 3))
        assert_sound(scratch)
        scratch.write_bytes(mended.data)
        assert_sound(scratch)


def _resized(folder: Path) -> Path:
    image = folder / "resized.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "cluster_size=4096", image, "1M")
    qemu_img("snapshot", "-c", "old", image)
    qemu_img("resize", "-f", "qcow2", image, "7M")
    return image


def _view(state: bytes, folder: Path) -> View:
    """What the disk and every snapshot hold."""
    storage = MemoryStorage(state, name="<cut>")
    disk = open_disk(storage, folder_context(folder))
    snapshots = read_snapshot_table(storage, read_header(storage))
    held = {}
    for snapshot in snapshots:
        opened = disk.open_snapshot(snapshot.info.id)
        held[snapshot.info.name] = opened.read(0, opened.size)
    return disk.read(0, disk.size), held
