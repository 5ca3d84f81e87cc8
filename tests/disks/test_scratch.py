"""A scratch disk holds what an array would, and its base never changes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import byre
from builders.qcow2_images import RECIPES, make
from builders.qemu import qemu_img
from byre.disks.disk import WritableDisk
from byre.disks.scratch import open_scratch
from byre.errors import UsageError
from byre.extents import Kind


def test_random_writes_read_back_and_the_image_stays(tmp_path: Path) -> None:
    made = make(next(recipe for recipe in RECIPES if recipe.name == "v3-backing"), tmp_path)
    before = made.path.read_bytes()
    rng = random.Random(7)
    with byre.open_disk(made.path) as base:
        model = bytearray(base.read(0, base.size))
        scratch = open_scratch(base, tmp_path)
        assert isinstance(scratch, WritableDisk)
        for _ in range(300):
            offset = rng.randrange(base.size)
            data = rng.randbytes(min(rng.choice([1, 7, 512, 4096, 70_000]), base.size - offset))
            scratch.write(offset, data)
            model[offset : offset + len(data)] = data
        scratch.write_zeroes(12345, 70_000)
        model[12345 : 12345 + 70_000] = bytes(70_000)
        assert scratch.read(0, base.size) == model
        changed = np.zeros(base.size, dtype=bool)
        for start, stop in scratch.changes():
            changed[start:stop] = True
        unchanged = np.frombuffer(base.read(0, base.size), dtype=np.uint8)
        assert (np.frombuffer(model, dtype=np.uint8)[~changed] == unchanged[~changed]).all()
        _assert_extents_tell_the_truth(scratch, bytes(model))
        scratch.close()
    assert made.path.read_bytes() == before
    assert not list(tmp_path.glob(".byre-*"))


def _assert_extents_tell_the_truth(disk: byre.disks.scratch.ScratchDisk, model: bytes) -> None:  # type: ignore[name-defined]
    position = 0
    for table in disk.extents():
        for row in table:
            assert row["start"] == position
            start, length = int(row["start"]), int(row["length"])
            position += length
            if row["kind"] == Kind.DATA:
                stored = disk.files[int(row["file"])].read(int(row["host"]), length)
                assert stored == model[start : start + length]
            elif row["kind"] != Kind.COMPRESSED:
                assert not any(model[start : start + length])
    assert position == len(model)


def test_a_range_past_the_end_is_a_usage_error(tmp_path: Path) -> None:
    made = make(RECIPES[0], tmp_path)
    with byre.open_disk(made.path) as base:
        scratch = open_scratch(base, tmp_path)
        with pytest.raises(UsageError) as caught:
            scratch.write(base.size - 1, b"ab")
        assert caught.value.offset == base.size - 1
        scratch.close()


@pytest.mark.oracle
def test_what_a_change_costs_does_not_depend_on_the_size_of_the_disk(tmp_path: Path) -> None:
    """An image of a few kilobytes may be a disk of 2^60 bytes: hours, were every megabyte looked at."""
    image = tmp_path / "huge.qcow2"
    qemu_img("create", "-q", "-f", "qcow2", "-o", "cluster_size=2M", image, "1E")
    with byre.open_disk(image) as base, open_scratch(base, tmp_path) as scratch:
        scratch.write(1 << 40, b"x" * 512)
        scratch.write(0, b"y" * 1000)
        rows = [row for table in scratch.extents() for row in table.tolist() if row[2] == Kind.DATA]
        assert [row[:2] for row in rows] == [(0, 1024), (1 << 40, 512)]
