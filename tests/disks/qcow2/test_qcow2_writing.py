"""Random writes into every kind of image: QEMU finds the image sound, and in it what a plain array would hold."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import byre
from builders.qcow2_images import RECIPES, Made, Recipe, make
from builders.qemu import assert_same, assert_sound, qemu_img, qemu_io
from byre.disks.disk import WritableDisk

pytestmark = pytest.mark.oracle

Operation = tuple[str, int, int, int]
"""(what, where in 1/65536 of the disk, bytes, seed)."""

LENGTHS = st.one_of(
    st.integers(1, 5000),
    st.sampled_from([512, 4096, 65536, 65536 * 2, 2048, 16384]),
    st.integers(1, 400_000),
)
OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "write_zeroes", "discard", "flush", "reopen"]),
        st.one_of(st.integers(0, 65535), st.integers(0, 31).map(lambda part: part * 2048)),
        LENGTHS,
        st.integers(0, 255),
    ),
    min_size=4,
    max_size=40,
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Made]:
    made: dict[str, Made] = {}

    def get(recipe: Recipe) -> Made:
        if recipe.name not in made:
            made[recipe.name] = make(recipe, tmp_path_factory.mktemp(recipe.name))
        return made[recipe.name]

    return get


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_random_operations_leave_what_an_array_would_hold(
    recipe: Recipe, images: Callable[[Recipe], Made], tmp_path: Path
) -> None:
    made = images(recipe)
    numbers = itertools.count()

    @settings(
        max_examples=int(os.environ.get("BYRE_STATEFUL_EXAMPLES", "8")),
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(OPERATIONS)
    def play(operations: list[Operation]) -> None:
        image = copy_of(made, tmp_path / str(next(numbers)))
        model = bytearray(made.content)
        run(image, model, operations)
        verify(image, model, made.snapshot)

    play()


def test_writes_by_qemu_are_read_back_by_byre(images: Callable[[Recipe], Made], tmp_path: Path) -> None:
    made = images(RECIPES[3])
    image = made.copy_to(tmp_path)
    model = bytearray(made.content)
    with byre.open_disk(image, writable=True) as disk:
        assert isinstance(disk, WritableDisk)
        disk.write(1000, b"one" * 50_000)
    model[1000:151000] = b"one" * 50_000
    qemu_io(image, ["write -P 7 100k 200k", "write -z 400k 64k", "discard 1M 128k"], "-f", "qcow2")
    model[100 << 10 : 300 << 10] = b"\7" * (200 << 10)
    model[400 << 10 : 464 << 10] = bytes(64 << 10)
    with byre.open_disk(image) as disk:
        found = disk.read(0, disk.size)
    assert found[: 1 << 20] == model[: 1 << 20]
    assert found[(1 << 20) + (128 << 10) :] == model[(1 << 20) + (128 << 10) :]


def copy_of(made: Made, folder: Path) -> Path:
    """A copy whose data file, if it has one, is the copied one."""
    image = made.copy_to(folder)
    if any(file.name == "data.raw" for file in made.files):
        qemu_img("amend", "-f", "qcow2", "-o", f"data_file={folder / 'data.raw'}", image)
    return image


def run(image: Path, model: bytearray, operations: list[Operation]) -> None:
    """Do the operations to the image and to the array."""
    disk = byre.open_disk(image, writable=True)
    try:
        for what, where, length, seed in operations:
            assert isinstance(disk, WritableDisk)
            start = min(where * len(model) // 65536, len(model) - 1)
            length = min(length, len(model) - start)
            if what == "write":
                data = (
                    bytes([seed]) * length
                    if seed % 2
                    else bytes((seed + at) & 0xFF for at in range(256)) * (length // 256 + 1)
                )
                disk.write(start, data[:length])
                model[start : start + length] = data[:length]
            elif what == "write_zeroes":
                disk.write_zeroes(start, length)
                model[start : start + length] = bytes(length)
            elif what == "discard":
                before = bytes(model[start : start + length])
                disk.discard(start, length)
                after = disk.read(start, length)
                for at in range(0, length, 512):
                    was, now = before[at : at + 512], after[at : at + 512]
                    assert all(new in (0, old) for new, old in zip(now, was, strict=True))
                model[start : start + length] = after
            elif what == "flush":
                disk.flush()
            else:
                disk.close()
                disk = byre.open_disk(image, writable=True)
        assert disk.read(0, disk.size) == model
        rows = [row for table in disk.extents() for row in table[["start", "length"]].tolist()]
        assert rows[0][0] == 0
        assert sum(length for _, length in rows) == disk.size
    finally:
        disk.close()


def verify(image: Path, model: bytearray, snapshot: bytes | None) -> None:
    """QEMU takes the image for sound, without leaks, and reads the same; so does a fresh Byre."""
    assert_sound(image)
    expected = image.with_name("expected.raw")
    expected.write_bytes(model)
    assert_same(image, expected)
    with byre.open_disk(image) as disk:
        assert disk.read(0, disk.size) == model
    if snapshot is not None:
        with byre.open_disk(f"{image}@old") as old:
            assert old.read(0, old.size) == snapshot
