"""Check and repair against qemu-img: the same verdict on sound and on broken images, and sound ones after it."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from builders.qcow2_images import RECIPES, Recipe, make
from builders.qemu import assert_sound, qemu_check, qemu_img, qemu_io
from byre.disks.disk import CheckReport
from byre.disks.qcow2.check import check_image
from byre.disks.qcow2.header import read_header
from byre.disks.qcow2.repair import apply_repair, plan_repair
from byre.disks.qcow2.survey import survey
from byre.errors import ByreError
from byre.storage.memory import MemoryStorage

SMALL = [recipe for recipe in RECIPES if recipe.name != "cluster-2m"]
CASES = int(os.environ.get("BYRE_BROKEN_CASES", "8"))


def codes(report: CheckReport) -> set[str]:
    return {problem.code.removeprefix("qcow2.") for problem in report.problems}


def repaired(data: bytes, mode: str) -> tuple[MemoryStorage, CheckReport]:
    storage = MemoryStorage(data)
    found = survey(storage)
    apply_repair(found, plan_repair(found, mode))
    return storage, check_image(storage)


@pytest.mark.oracle
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_sound_images_are_sound_and_counted_as_qemu_counts(recipe: Recipe, tmp_path: Path) -> None:
    image = make(recipe, tmp_path).path
    report = check_image(MemoryStorage(image.read_bytes()))
    assert report.exit_status == 0, report.problems
    told = qemu_check(image)
    assert report.allocated_blocks == told.get("allocated-clusters", 0)
    assert report.total_blocks == told["total-clusters"]
    assert report.image_end == told["image-end-offset"]
    assert report.details["fragmented_clusters"] == told.get("fragmented-clusters", 0)
    assert report.details["compressed_clusters"] == told.get("compressed-clusters", 0)


@pytest.mark.oracle
@pytest.mark.parametrize(
    "recipe", [recipe for recipe in RECIPES if recipe.name != "cluster-2m"], ids=lambda r: r.name
)
def test_broken_tables_get_the_verdict_that_qemu_gives(recipe: Recipe, tmp_path: Path) -> None:
    made = make(recipe, tmp_path).path
    base = made.read_bytes()
    rng = random.Random(f"broken {recipe.name}")
    image = tmp_path / "broken.qcow2"
    for _ in range(CASES):
        state = bytearray(base)
        places = _interesting_places(base)
        for _ in range(rng.choice((1, 1, 3))):
            at = rng.choice(places)
            state[at] ^= 1 << rng.randrange(8)
        image.write_bytes(state)
        try:
            report = check_image(MemoryStorage(bytes(state)))
        except ByreError:
            report = None
        told = _qemu_verdict(image)
        if report is None or told is None:
            continue
        if codes(report) == {"zero-flag-in-version-2"}:
            continue  # QEMU's check lets it pass, its reader doesn't
        assert (report.exit_status == 0) == (told[0] == 0), (told, report)
        assert (report.exit_status == 2) == (told[0] == 2), (told, report)
        _assert_repair_helps(bytes(state), report, image)


def _assert_repair_helps(state: bytes, report: CheckReport, image: Path) -> None:
    found = survey(MemoryStorage(state))
    plan = plan_repair(found, "all")
    storage, after = repaired(state, "all")
    if plan.refusals:
        return
    assert after.exit_status == 0, (report, plan, after)
    image.write_bytes(storage.data)
    assert_sound(image)


def _qemu_verdict(image: Path) -> tuple[int, int, int] | None:
    """(status, corruptions, leaks), or None where QEMU doesn't open it."""
    import json
    import subprocess

    done = subprocess.run(
        ["qemu-img", "check", "-f", "qcow2", "--output=json", image], capture_output=True, text=True, check=False
    )
    if done.returncode == 1:
        return None
    told = json.loads(done.stdout)
    return done.returncode, told.get("corruptions", 0), told.get("leaks", 0)


def _interesting_places(base: bytes) -> list[int]:
    """Offsets of bytes in refcount blocks and in L1 and L2 entries that are in use."""
    storage = MemoryStorage(base)
    header = read_header(storage)
    found = survey(storage)
    places: list[int] = []
    for index in range(header.l1_size):
        if struct.unpack_from(">Q", base, header.l1_table_offset + 8 * index)[0]:
            places += [header.l1_table_offset + 8 * index + byte for byte in range(8)]
    size = header.geometry.l2_entry_size
    for offset in found.roots.tables.offsets.tolist()[:8]:
        used = [
            offset + at
            for at in range(0, header.cluster_size, size)
            if any(base[offset + at : offset + at + 8]) and offset + at + size <= len(base)
        ]
        places += [at + byte for at in used[:40] for byte in range(size)]
    for block in found.stored.blocks[found.stored.blocks != 0].tolist()[:4]:
        places += range(block, block + max(1, min(64, found.file_clusters << found.stored.order >> 3)))
    return places


@pytest.mark.oracle
def test_leaks_are_counted_and_given_back(tmp_path: Path) -> None:
    image = tmp_path / "leaks.qcow2"
    qemu_img("create", "-f", "qcow2", image, "4M")
    qemu_io(image, ["write -P 1 0 256k"])
    data = bytearray(image.read_bytes())
    storage = MemoryStorage(data)
    header = read_header(storage)
    l2 = struct.unpack_from(">Q", data, header.l1_table_offset)[0] & 0x00FF_FFFF_FFFF_FE00
    data[l2 : l2 + 16] = bytes(16)
    report = check_image(MemoryStorage(bytes(data)))
    assert (report.exit_status, report.leaks, report.corruptions) == (3, 2, 0)
    image.write_bytes(data)
    assert qemu_check(image)["leaks"] == 2
    mended, after = repaired(bytes(data), "leaks")
    assert after.exit_status == 0
    image.write_bytes(mended.data)
    assert_sound(image)


@pytest.mark.oracle
@pytest.mark.parametrize("cluster", [512, 4096, 65536])
def test_lost_refcounts_are_rebuilt_beside_the_old_ones(cluster: int, tmp_path: Path) -> None:
    image = tmp_path / "lost.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", f"cluster_size={cluster}", image, "4M")
    qemu_io(image, ["write -P 1 0 2M", "write -P 2 3M 512k"])
    qemu_img("snapshot", "-c", "one", image)
    data = bytearray(image.read_bytes())
    header = read_header(MemoryStorage(data))
    table = header.refcount_table_offset
    data[table : table + 8] = bytes(8)
    data[79] |= 1  # dirty
    broken = MemoryStorage(data)
    report = check_image(broken)
    assert report.exit_status == 2
    assert {"refcount-too-low", "dirty"} <= codes(report)
    plan = plan_repair(survey(broken), "all")
    assert plan.structures
    assert plan.dirty
    mended, after = repaired(bytes(data), "all")
    assert after.exit_status == 0, after
    assert after.problems == ()
    image.write_bytes(mended.data)
    assert_sound(image)
    qemu_io(image, ["read -P 1 0 2M", "read -P 2 3M 512k"])


def test_a_table_that_points_nowhere_is_refused_with_the_reason(tmp_path: Path) -> None:
    image = tmp_path / "nowhere.qcow2"
    qemu_img("create", "-f", "qcow2", image, "4M")
    qemu_io(image, ["write -P 1 0 64k"])
    data = bytearray(image.read_bytes())
    header = read_header(MemoryStorage(data))
    struct.pack_into(">Q", data, header.l1_table_offset, 1 << 63 | 1 << 40)
    storage = MemoryStorage(data)
    plan = plan_repair(survey(storage), "all")
    assert not plan.leaks
    assert any("l2-table-outside" in refusal for refusal in plan.refusals)
    before = bytes(storage.data)
    apply_repair(survey(storage), plan)
    assert bytes(storage.data) == before


@pytest.mark.oracle
def test_a_cluster_shared_by_a_table_and_data_is_an_overlap(tmp_path: Path) -> None:
    image = tmp_path / "overlap.qcow2"
    qemu_img("create", "-f", "qcow2", image, "4M")
    qemu_io(image, ["write -P 1 0 128k"])
    data = bytearray(image.read_bytes())
    header = read_header(MemoryStorage(data))
    l2 = struct.unpack_from(">Q", data, header.l1_table_offset)[0] & 0x00FF_FFFF_FFFF_FE00
    struct.pack_into(">Q", data, l2, 1 << 63 | header.l1_table_offset)
    report = check_image(MemoryStorage(data))
    assert report.exit_status == 2
    assert "metadata-overlap" in codes(report)
    image.write_bytes(data)
    assert qemu_check(image)["corruptions"]


@pytest.mark.oracle
def test_bitmaps_are_counted(tmp_path: Path) -> None:
    image = tmp_path / "bitmaps.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "cluster_size=4096", image, "64M")
    qemu_img("bitmap", "--add", "-g", "512", image, "dirt")
    qemu_io(image, ["write -P 1 0 1M", "write -P 1 40M 1M"])
    data = bytearray(image.read_bytes())
    assert check_image(MemoryStorage(data)).problems == ()
    data[95] = 0  # as after a program that doesn't know bitmaps
    report = check_image(MemoryStorage(data))
    image.write_bytes(data)
    assert report.leaks == qemu_check(image)["leaks"] > 0
    assert "bitmaps-void" in codes(report)
