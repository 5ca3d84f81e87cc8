"""A damaged disk against a sound one: nothing but Byre's own errors, and an end."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import byre
from byre.differences.compare import diff_disks
from byre.disks.disk import Description, Disk, DiskDefaults
from byre.errors import ByreError
from byre.extents import ExtentTable
from byre.filesystems.unneeded import find_unneeded
from byre.storage.base import Storage
from byre.windows.inspection import inspect

SPECIMEN = Path(byre.__file__).parent / "samples" / "specimen.qcow2"
CASES = int(os.environ.get("BYRE_FUZZ_CASES", "16"))


class DamagedDisk(DiskDefaults):
    """A disk on which some bytes are others."""

    def __init__(self, disk: Disk, damage: dict[int, int]) -> None:
        self.disk, self.damage = disk, damage
        self.format, self.size = disk.format, disk.size
        self.sector_size, self.block_size = disk.sector_size, disk.block_size

    @property
    def files(self) -> tuple[Storage, ...]:
        return ()  # no file: nothing of it is taken for the same as another disk's

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        for table in self.disk.extents(start, stop):
            copy = table.copy()
            copy["file"] = -1
            yield copy

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        self.disk.read_into(offset, buffer)
        for place, value in self.damage.items():
            if offset <= place < offset + len(buffer):
                buffer[place - offset] = value

    def describe(self) -> Description:
        return self.disk.describe()


@pytest.mark.parametrize("seed", range(8))
def test_fuzz_a_damaged_disk_ends_in_differences_or_in_an_error_of_ours(seed: int) -> None:
    source = random.Random(seed)
    with byre.open_disk(f"{SPECIMEN}@clean") as sound, byre.open_disk(f"{SPECIMEN}@infected") as other:
        live = np.concatenate([table[table["kind"] != 2] for table in other.extents()])
        live = live[live["kind"] != 0]
        for _ in range(max(1, CASES // 8)):
            damage: dict[int, int] = {}
            for _ in range(source.choice((1, 10, 100))):
                row = live[source.randrange(len(live))]
                damage[int(row["start"]) + source.randrange(int(row["length"]))] = source.randrange(256)
            broken = DamagedDisk(other, damage)
            try:
                diff_disks(inspect(sound, name="a"), inspect(broken, name="b"), everything=True)
                find_unneeded(broken)
            except ByreError:
                continue
