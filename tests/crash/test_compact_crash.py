"""Compacting in place: the same disk and snapshots, a sound and shorter file, at any cut."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from builders.qcow2_images import RECIPES, make
from builders.qemu import assert_sound, qemu_img, qemu_io
from byre.disks.qcow2.compact import compact_image, plan_compact
from byre.disks.qcow2.snapshots import create_snapshot
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states
from crash.test_snapshot_crash import QEMU_EVERY, _view, judge_metadata

STATES = int(os.environ.get("BYRE_CRASH_STATES", "40"))
NAMES = (
    "v2-backing",
    "v3",
    "cluster-512",
    "cluster-512-refcount-64",
    "refcount-2",
    "zlib",
    "extended-backing",
    "lazy",
)


def worn(name: str, folder: Path) -> Path:
    """An image with snapshots, holes in its file and tables near its end."""
    image = make(next(recipe for recipe in RECIPES if recipe.name == name), folder).path
    if name == "refcount-2":
        qemu_img("snapshot", "-d", "old", image)
    storage = MemoryStorage(image.read_bytes())
    create_snapshot(storage, "middle")
    image.write_bytes(storage.data)
    rng = random.Random(name)
    for _ in range(8):
        start = rng.randrange(1800) * 512
        qemu_io(image, [f"write -P {rng.randrange(1, 255)} {start} 50k", f"discard {rng.randrange(1500) * 512} 100k"])
    storage = MemoryStorage(image.read_bytes())
    create_snapshot(storage, "late")
    image.write_bytes(storage.data)
    qemu_img("snapshot", "-d", "middle", image)
    return image


@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_a_cut_compact_never_changes_what_is_read(name: str, tmp_path: Path) -> None:
    image = worn(name, tmp_path)
    base = image.read_bytes()
    view = _view(base, tmp_path)
    plan = plan_compact(MemoryStorage(base))
    storage = RecordingStorage(base)
    saved = compact_image(storage)
    assert saved == len(base) - len(storage.data)
    assert saved > 0
    assert abs(saved - plan.shorter) <= len(base) // 10
    assert _view(bytes(storage.data), tmp_path) == view
    image.write_bytes(storage.data)
    assert_sound(image)
    for count, state in enumerate(crash_states(storage.log, base, random.Random(9), STATES)):
        assert _view(state, tmp_path) == view
        judge_metadata(state, tmp_path / "cut.qcow2" if count % QEMU_EVERY == 0 else None)


@pytest.mark.oracle
def test_bitmaps_stay_valid_through_compacting(tmp_path: Path) -> None:
    image = tmp_path / "bitmaps.qcow2"
    qemu_img("create", "-f", "qcow2", image, "64M")
    qemu_io(image, ["write -P 1 0 8M"])
    qemu_img("bitmap", "--add", image, "dirt")
    qemu_io(image, ["write -P 2 4M 1M", "discard 0 3M"])
    storage = MemoryStorage(image.read_bytes())
    saved = compact_image(storage)
    image.write_bytes(storage.data)
    assert saved >= 2 << 20
    assert_sound(image)
    assert '"dirt"' in qemu_img("info", "--output=json", image)
    assert '"in-use"' not in qemu_img("info", "--output=json", image)
    qemu_io(image, ["read -P 0 0 3M", "read -P 2 4M 1M"])


@pytest.mark.oracle
def test_vm_state_survives_compacting(tmp_path: Path) -> None:
    from builders.vm_state import save_vm

    image = save_vm(tmp_path)
    qemu_io(image, ["write -P 1 0 2M", "discard 0 1M"])
    storage = MemoryStorage(image.read_bytes())
    compact_image(storage)
    image.write_bytes(storage.data)
    assert_sound(image)
    qemu_img("snapshot", "-a", "running", image)
    assert_sound(image)
