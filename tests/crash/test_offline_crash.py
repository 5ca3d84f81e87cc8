"""Cuts of resize, commit, rebase and repair: the view is the old or the new one, and for an overlay the same."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.opened import folder_context
from builders.qcow2_images import RECIPES, Recipe, make
from builders.qemu import assert_sound, qemu_img, qemu_io
from byre.disks.qcow2 import open_disk
from byre.disks.qcow2.backing_name import change_backing
from byre.disks.qcow2.commit import commit_overlay
from byre.disks.qcow2.header import read_header
from byre.disks.qcow2.rebase import rebase_image
from byre.disks.qcow2.repair import apply_repair, plan_repair
from byre.disks.qcow2.resize import resize_image
from byre.disks.qcow2.survey import survey
from byre.disks.qcow2.writing import WritableQcow2Disk
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states
from crash.test_snapshot_crash import QEMU_EVERY, judge_metadata

STATES = int(os.environ.get("BYRE_CRASH_STATES", "40"))


def recipe_named(name: str) -> Recipe:
    return next(recipe for recipe in RECIPES if recipe.name == name)


def writable(storage: MemoryStorage, folder: Path) -> WritableQcow2Disk:
    disk = open_disk(storage, folder_context(folder, writable=True))
    assert isinstance(disk, WritableQcow2Disk)
    return disk


def content(state: bytes, folder: Path) -> bytes:
    disk = open_disk(MemoryStorage(state, name="<cut>"), folder_context(folder))
    return disk.read(0, disk.size)


def judge(
    storage: RecordingStorage, base: bytes, folder: Path, allowed: Callable[[bytes], bool], *, states: int = STATES
) -> None:
    for count, state in enumerate(crash_states(storage.log, base, random.Random(11), states)):
        assert allowed(content(state, folder))
        judge_metadata(state, folder / "cut.qcow2" if count % QEMU_EVERY == 0 else None)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["v2", "v3-backing-longer", "cluster-512", "extended-backing", "zlib"])
@pytest.mark.parametrize("factor", [0.4, 4.0])
def test_a_cut_resize_leaves_the_old_size_or_the_new(name: str, factor: float, tmp_path: Path) -> None:
    made = make(recipe_named(name), tmp_path)
    base = made.path.read_bytes()
    size = int(len(made.content) * factor) // 512 * 512
    storage = RecordingStorage(base)
    resize_image(writable(storage, tmp_path), size)
    new = made.content[:size].ljust(size, b"\0")
    assert content(bytes(storage.data), tmp_path) == new
    judge(storage, base, tmp_path, lambda seen: seen in (made.content, new))
    made.path.write_bytes(storage.data)
    assert_sound(made.path)
    if made.snapshot is not None:
        old = open_disk(MemoryStorage(storage.data), folder_context(tmp_path)).open_snapshot("1")
        assert old.read(0, old.size) == made.snapshot


@pytest.mark.oracle
def test_what_a_shrink_cut_off_does_not_come_back(tmp_path: Path) -> None:
    image = tmp_path / "there-and-back.qcow2"
    qemu_img("create", "-f", "qcow2", image, "3M")
    qemu_io(image, ["write -P 7 0 3M"])
    storage = MemoryStorage(image.read_bytes())
    resize_image(writable(storage, tmp_path), (1 << 20) + 512)
    resize_image(writable(storage, tmp_path), 3 << 20)
    assert content(bytes(storage.data), tmp_path) == b"\7" * ((1 << 20) + 512) + bytes((2 << 20) - 512)


def _overlay(folder: Path, options: str) -> tuple[Path, bytes]:
    for name, seed in (("base", 1), ("other", 2)):
        image = folder / f"{name}.qcow2"
        qemu_img("create", "-f", "qcow2", image, "2M")
        qemu_io(image, [f"write -P {seed} 0 1M", "write -P 3 1200k 100k", f"write -P {seed + 10} 1900k 64k"])
    overlay = folder / "overlay.qcow2"
    extra = ["-o", options] if options else []
    qemu_img("create", "-f", "qcow2", *extra, "-b", "base.qcow2", "-F", "qcow2", overlay, "3M")
    qemu_io(overlay, ["write -P 5 300k 200k", "write -z 700k 128k", "write -P 6 2500k 10k"])
    raw = folder / "view.raw"
    qemu_img("convert", "-O", "raw", overlay, raw)
    return overlay, raw.read_bytes()


@pytest.mark.oracle
@pytest.mark.parametrize("options", ["", "extended_l2=on", "cluster_size=512", "compat=0.10"])
@pytest.mark.parametrize("target", ["other.qcow2", None])
def test_a_cut_rebase_never_changes_the_view(options: str, target: str | None, tmp_path: Path) -> None:
    overlay, view = _overlay(tmp_path, options)
    base = overlay.read_bytes()
    storage = RecordingStorage(base)
    below = None
    if target is not None:
        below = open_disk(MemoryStorage((tmp_path / target).read_bytes()), folder_context(tmp_path))
    rebase_image(writable(storage, tmp_path), below, target, "qcow2" if target else None)
    header = read_header(storage)
    assert header.backing_file == (None if target is None else target.encode())
    judge(storage, base, tmp_path, lambda seen: seen == view)
    overlay.write_bytes(storage.data)
    assert_sound(overlay)
    qemu_img("compare", "-f", "qcow2", "-F", "raw", overlay, tmp_path / "view.raw")


@pytest.mark.oracle
@pytest.mark.parametrize("options", ["", "extended_l2=on", "cluster_size=512"])
def test_a_cut_commit_never_changes_the_overlay(options: str, tmp_path: Path) -> None:
    overlay, view = _overlay(tmp_path, options)
    below = tmp_path / "base.qcow2"
    resize = MemoryStorage(below.read_bytes())
    resize_image(writable(resize, tmp_path), 3 << 20)
    below.write_bytes(resize.data)
    base, above = below.read_bytes(), overlay.read_bytes()
    backing, top = RecordingStorage(base), RecordingStorage(above)
    target = writable(backing, tmp_path)
    commit_overlay(writable(top, tmp_path), target, keep=False)
    for count, state in enumerate(crash_states(backing.log, base, random.Random(11), STATES)):
        below.write_bytes(state)
        assert content(above, tmp_path) == view
        if count % QEMU_EVERY == 0:
            assert_sound(below, leaks=True)
    below.write_bytes(backing.data)
    judge(top, above, tmp_path, lambda seen: seen == view)
    assert content(bytes(backing.data), tmp_path) == view
    overlay.write_bytes(top.data)
    assert_sound(overlay)
    assert_sound(below)


@pytest.mark.oracle
@pytest.mark.parametrize("names", ["short.raw", "x" * 900])
def test_a_cut_change_of_name_leaves_one_of_the_two(names: str, tmp_path: Path) -> None:
    overlay, _ = _overlay(tmp_path, "")
    base = overlay.read_bytes()
    storage = RecordingStorage(base)
    change_backing(storage, names, "raw")
    change_backing(storage, "base.qcow2", "qcow2")
    for state in crash_states(storage.log, base, random.Random(4), 80):
        header = read_header(MemoryStorage(state))
        told = header.backing_file, header.extension(0xE2792ACA)
        assert told in ((b"base.qcow2", b"qcow2"), (names.encode(), b"raw"))
    overlay.write_bytes(storage.data)
    qemu_img("info", overlay)
    assert len(read_header(storage).extensions) == len(read_header(MemoryStorage(base)).extensions)


@pytest.mark.oracle
@pytest.mark.parametrize("name", ["v3", "refcount-64", "cluster-512"])
def test_a_cut_repair_keeps_the_disk_and_can_be_done_again(name: str, tmp_path: Path) -> None:
    made = make(recipe_named(name), tmp_path)
    damaged = bytearray(made.path.read_bytes())
    found = survey(MemoryStorage(damaged))
    block = int(found.stored.blocks[0])
    rng = random.Random(name)
    for _ in range(12):
        damaged[block + rng.randrange(40)] ^= 1 << rng.randrange(4)
    storage = RecordingStorage(damaged)
    found = survey(storage)
    apply_repair(found, plan_repair(found, "all"))
    for state in crash_states(storage.log, bytes(damaged), random.Random(2), STATES):
        assert content(state, tmp_path) == made.content
        again = MemoryStorage(state)
        found = survey(again)
        apply_repair(found, plan_repair(found, "all"))
        assert survey(again).findings.problems == ()
    made.path.write_bytes(storage.data)
    assert_sound(made.path)


def test_the_snapshots_of_an_overlay_keep_it_from_being_committed(tmp_path: Path) -> None:
    overlay, _ = _overlay(tmp_path, "")
    qemu_img("snapshot", "-c", "one", overlay)

    from byre.errors import UnsupportedError

    target = writable(MemoryStorage((tmp_path / "base.qcow2").read_bytes()), tmp_path)
    with pytest.raises(UnsupportedError, match="snapshots"):
        commit_overlay(writable(MemoryStorage(overlay.read_bytes()), tmp_path), target, keep=False)
