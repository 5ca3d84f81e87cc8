"""Offline snapshots against QEMU: what Byre makes QEMU takes as its own, and the other way round."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

import byre
from builders.qcow2_images import RECIPES, Recipe, make
from builders.qemu import assert_same, assert_sound, qemu_img, qemu_io
from byre.disks.qcow2.check import check_image
from byre.disks.qcow2.header import read_header
from byre.disks.qcow2.repair import apply_repair, plan_repair
from byre.disks.qcow2.snapshot_table import Snapshot, read_snapshot_table
from byre.disks.qcow2.snapshots import create_snapshot, delete_snapshot, rename_snapshot, revert_to_snapshot, shorten
from byre.disks.qcow2.survey import survey
from byre.errors import CorruptImageError, ExistsError, StorageError, UnsupportedError, UsageError
from byre.storage.base import Buffer
from byre.storage.local import open_file
from crash.recording import Punch, RecordingStorage

SHARING = [recipe for recipe in RECIPES if not recipe.data_file and "refcount_bits=1" not in recipe.options]


def snapshots_of(image: Path) -> tuple[Snapshot, ...]:
    with open_file(image) as storage:
        return read_snapshot_table(storage, read_header(storage))


def change(image: Path, operation: object, *arguments: object, **options: object) -> object:
    with open_file(image, writable=True) as storage:
        return operation(storage, *arguments, **options)  # type: ignore[operator]


def assert_clean(image: Path) -> None:
    with open_file(image) as storage:
        report = check_image(storage)
    assert (report.corruptions, report.leaks) == (0, 0), report.problems


@pytest.mark.oracle
@pytest.mark.parametrize("recipe", SHARING, ids=lambda recipe: recipe.name)
def test_random_snapshots_and_writes_are_what_qemu_sees(recipe: Recipe, tmp_path: Path) -> None:
    made = make(recipe, tmp_path)
    image, rng = made.path, random.Random(f"snapshots {recipe.name}")
    active = bytearray(made.content)
    kept = {} if made.snapshot is None else {"old": made.snapshot}
    plain = tmp_path / "expected.raw"
    for step in range(14):
        action = rng.choice(("write", "byre-write", "create", "revert", "delete", "rename", "qemu"))
        if action == "write":
            start = rng.randrange(len(active) // 512 - 8) * 512
            qemu_io(image, [f"write -P {step + 1} {start} 4096"], "-f", "qcow2")
            active[start : start + 4096] = bytes([step + 1]) * 4096
        elif action == "byre-write":
            data = rng.randbytes(rng.choice((512, 70_000)))
            start = rng.randrange((len(active) - len(data)) // 512) * 512
            with byre.open_disk(image, writable=True) as disk:
                disk.write(start, data)
            active[start : start + len(data)] = data
        elif action == "create" or not kept:
            try:
                change(image, create_snapshot, f"s{step}")
                kept[f"s{step}"] = bytes(active)
            except UnsupportedError:
                assert "refcount_bits=2" in recipe.options
                assert len(kept) == 2
        elif action == "qemu" and len(kept) < 3 and "refcount_bits=2" not in recipe.options:
            qemu_img("snapshot", "-c", f"q{step}", image)
            kept[f"q{step}"] = bytes(active)
        else:
            name = rng.choice(sorted(kept))
            number = next(entry.info.id for entry in snapshots_of(image) if entry.info.name == name)
            if action == "delete":
                change(image, delete_snapshot, number)
                change(image, shorten)
                del kept[name]
            elif action == "revert":
                change(image, revert_to_snapshot, number)
                active = bytearray(kept[name])
            else:
                change(image, rename_snapshot, number, f"r{step}")
                kept[f"r{step}"] = kept.pop(name)
        assert_clean(image)
        if step % 3 == 0:
            assert_sound(image)
    assert_sound(image)
    assert sorted(entry.info.name for entry in snapshots_of(image)) == sorted(kept)
    plain.write_bytes(active)
    assert_same(image, plain)
    for name, content in kept.items():
        with byre.open_disk(image, snapshot=name) as disk:
            assert disk.read(0, disk.size) == content
    if kept and "refcount_bits=2" not in recipe.options:  # QEMU counts one more on its way, and 3 is the most there
        name = rng.choice(sorted(kept))
        qemu_img("snapshot", "-a", name, image)
        plain.write_bytes(kept[name])
        assert_same(image, plain)
        assert_sound(image)


@pytest.mark.oracle
def test_revert_to_a_snapshot_of_another_size_resizes_the_disk_as_qemu_does(tmp_path: Path) -> None:
    image = tmp_path / "grown.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "cluster_size=4096", image, "3M")
    qemu_io(image, ["write -P 1 0 64k"])
    qemu_img("snapshot", "-c", "small", image)
    qemu_img("resize", "-f", "qcow2", image, "9M")
    qemu_io(image, ["write -P 2 8M 64k"])
    change(image, create_snapshot, "large")
    for number, name, size in ((1, "small", 3 << 20), (2, "large", 9 << 20)):
        change(image, revert_to_snapshot, str(number))
        assert_sound(image)
        with byre.open_disk(image) as disk, byre.open_disk(image, snapshot=name) as snapshot:
            assert disk.size == size
            assert disk.read(0, size) == snapshot.read(0, size)
        qemu_io(image, ["read -P 1 0 64k"])


@pytest.mark.oracle
def test_vm_state_stays_in_its_snapshot(tmp_path: Path, vm_state_image: Path) -> None:
    image = tmp_path / "vm.qcow2"
    image.write_bytes(vm_state_image.read_bytes())
    saved = snapshots_of(image)[0]
    assert saved.vm_state_size > 100_000
    before = _vm_state(image)
    change(image, create_snapshot, "beside")
    change(image, revert_to_snapshot, saved.info.id)
    change(image, rename_snapshot, saved.info.id, "renamed")
    change(image, delete_snapshot, "2")
    change(image, shorten)
    assert_sound(image)
    (left,) = snapshots_of(image)
    assert (left.vm_state_size, left.vm_clock_nsec, left.icount) == (
        saved.vm_state_size,
        saved.vm_clock_nsec,
        saved.icount,
    )
    assert _vm_state(image) == before
    with open_file(image) as storage:
        header = read_header(storage)
    assert header.l1_size == header.geometry.l1_entries_for(header.size)


def _vm_state(image: Path) -> bytes:
    """What lies behind the disk's end in the first snapshot, read through its L1 table."""
    import numpy as np

    from byre.disks.qcow2.l2_walk import read_table

    with open_file(image) as storage:
        header = read_header(storage)
        (first, *_) = read_snapshot_table(storage, header)
        l1 = read_table(storage, first.l1_table_offset, first.l1_size)
        found = b""
        for entry in l1[header.geometry.l1_entries_for(header.size) :]:
            offset = int(entry) & 0x00FF_FFFF_FFFF_FE00
            if offset:
                table = np.frombuffer(storage.read(offset, header.cluster_size), dtype=">u8")
                for value in table[(table & 0x00FF_FFFF_FFFF_FE00) != 0]:
                    found += storage.read(int(value) & 0x00FF_FFFF_FFFF_FE00, header.cluster_size)
    return found


@pytest.mark.oracle
def test_names_and_ids_that_exist_are_refused(tmp_path: Path) -> None:
    image = tmp_path / "names.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    change(image, create_snapshot, "one")
    with pytest.raises(ExistsError) as taken:
        change(image, create_snapshot, "one")
    assert taken.value.found == "id 1, name 'one'"
    with pytest.raises(ExistsError):
        change(image, create_snapshot, "1")
    change(image, create_snapshot, "two")
    with pytest.raises(ExistsError):
        change(image, rename_snapshot, "2", "one")
    with pytest.raises(UsageError):
        change(image, create_snapshot, "x" * 256)
    with pytest.raises(UsageError):
        change(image, create_snapshot, "")
    assert [entry.id for entry in snapshots_of(image)] == [b"1", b"2"]
    assert_sound(image)


@pytest.mark.oracle
def test_ids_go_on_after_the_highest_as_qemu_counts(tmp_path: Path) -> None:
    image = tmp_path / "ids.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    for name in ("a", "b", "c"):
        qemu_img("snapshot", "-c", name, image)
    change(image, delete_snapshot, "2")
    change(image, create_snapshot, "d")
    change(image, create_snapshot, "6")
    change(image, create_snapshot, "e")
    assert [entry.id for entry in snapshots_of(image)] == [b"1", b"3", b"4", b"5", b"7"]


@pytest.mark.oracle
def test_one_bit_refcounts_have_no_room_for_a_snapshot(tmp_path: Path) -> None:
    image = tmp_path / "narrow.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "refcount_bits=1", image, "1M")
    before = image.read_bytes()
    with pytest.raises(UnsupportedError, match="one bit wide"):
        change(image, create_snapshot, "one")
    assert image.read_bytes() == before


@pytest.mark.oracle
def test_an_external_data_file_has_no_snapshots(tmp_path: Path) -> None:
    image = tmp_path / "outside.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={tmp_path / 'd.raw'}", image, "1M")
    with pytest.raises(UnsupportedError, match="external data file"):
        change(image, create_snapshot, "one")


@pytest.mark.oracle
def test_a_broken_image_is_left_alone(tmp_path: Path) -> None:
    image = tmp_path / "broken.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    qemu_io(image, ["write -P 1 0 128k"])
    with open_file(image, writable=True) as storage:
        header = read_header(storage)
        table = int.from_bytes(storage.read(header.refcount_table_offset, 8), "big")
        storage.write(table + 2 * 5, b"\0\0")  # a data cluster that says it is free
    before = image.read_bytes()
    with pytest.raises(CorruptImageError) as refused:
        change(image, create_snapshot, "one")
    assert refused.value.found == "2 corruptions"
    assert image.read_bytes() == before


@pytest.mark.oracle
def test_bitmaps_are_marked_inconsistent_by_a_revert_and_kept_by_the_rest(tmp_path: Path) -> None:
    image = tmp_path / "bitmaps.qcow2"
    qemu_img("create", "-f", "qcow2", image, "64M")
    qemu_img("bitmap", "--add", image, "dirt")
    qemu_io(image, ["write -P 1 0 1M"])
    change(image, create_snapshot, "one")
    change(image, rename_snapshot, "1", "uno")
    assert '"in-use"' not in qemu_img("info", "--output=json", image)
    assert_sound(image)
    change(image, revert_to_snapshot, "1")
    assert '"in-use"' in qemu_img("info", "--output=json", image)
    assert_sound(image)
    qemu_img("bitmap", "--remove", image, "dirt")
    assert_sound(image)


@pytest.mark.oracle
def test_delete_gives_the_space_back_and_shorten_cuts_the_file(tmp_path: Path) -> None:
    image = tmp_path / "space.qcow2"
    qemu_img("create", "-f", "qcow2", image, "64M")
    qemu_io(image, ["write -P 1 0 16M"])
    change(image, create_snapshot, "one")
    qemu_io(image, ["write -P 2 0 16M"])
    storage = RecordingStorage(image.read_bytes())
    freed = delete_snapshot(storage, "1").freed
    assert freed >= 16 << 20
    assert sum(event.length for event in storage.log if isinstance(event, Punch)) == freed
    shorten(storage)
    image.write_bytes(storage.data)
    assert_sound(image)


class _FullDisk(RecordingStorage):
    """Takes writes over what is there already, and not a byte more."""

    def write(self, offset: int, data: Buffer) -> None:
        if offset + len(data) > self.size:
            raise StorageError("write failed: No space left on device", path=self.name, offset=offset)
        super().write(offset, data)


@pytest.mark.oracle
def test_a_snapshot_that_finds_no_room_leaves_the_image_as_it_was(tmp_path: Path) -> None:
    image = tmp_path / "full.qcow2"
    qemu_img("create", "-f", "qcow2", image, "4M")
    qemu_io(image, ["write -P 1 0 4M"])
    before = image.read_bytes()
    storage = _FullDisk(before)
    with pytest.raises(StorageError):
        create_snapshot(storage, "one")
    assert bytes(storage.data) == before


@pytest.mark.oracle
def test_an_unknown_autoclear_bit_is_cleared_before_the_first_write(tmp_path: Path) -> None:
    image = tmp_path / "autoclear.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    with open_file(image, writable=True) as storage:
        storage.write(88, (1 << 40).to_bytes(8, "big"))
    change(image, create_snapshot, "one")
    with open_file(image) as storage:
        assert read_header(storage).autoclear == 0


@pytest.mark.oracle
def test_a_dirty_image_is_mended_before_its_snapshot(tmp_path: Path) -> None:
    image = tmp_path / "lazy.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "lazy_refcounts=on", image, "8M")
    with open_file(image, writable=True) as storage:
        storage.write(79, b"\1")
    change(image, create_snapshot, "one")
    assert_sound(image)
    with open_file(image) as storage:
        assert read_header(storage).incompatible == 0


@pytest.mark.oracle
def test_an_image_that_is_marked_corrupt_is_left_alone_until_repaired(tmp_path: Path) -> None:
    image = tmp_path / "marked.qcow2"
    qemu_img("create", "-f", "qcow2", image, "1M")
    data = bytearray(image.read_bytes())
    data[79] |= 2
    image.write_bytes(data)
    with pytest.raises(CorruptImageError, match="marked corrupt"):
        change(image, create_snapshot, "one")
    with open_file(image, writable=True) as storage:
        found = survey(storage)
        plan = plan_repair(found, "all")
        assert plan.actions == ("clear the corrupt flag",)
        apply_repair(found, plan)
    change(image, create_snapshot, "one")
    assert_sound(image)
