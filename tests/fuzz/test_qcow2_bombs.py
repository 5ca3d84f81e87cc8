"""Small qcow2 files that ask for much work."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from builders.opened import open_in_memory
from builders.qemu import qemu_img, qemu_io
from byre.disks.qcow2 import open_disk
from byre.errors import CorruptImageError
from byre.storage.memory import MemoryStorage
from fuzzing import fuzz

pytestmark = pytest.mark.oracle

CLUSTER = 65536


@pytest.fixture
def image(tmp_path: Path) -> bytearray:
    """An image of one allocated cluster, filled up to whole clusters."""
    path = tmp_path / "small.qcow2"
    qemu_img("create", "-f", "qcow2", path, "1M")
    qemu_io(path, ["write -P 1 0 64k"])
    data = bytearray(path.read_bytes())
    return data + bytes(-len(data) % CLUSTER)


def test_an_l1_table_that_names_one_l2_table_over_and_over_is_refused(image: bytearray) -> None:
    at, count = len(image), 1 << 22
    l1 = int.from_bytes(image[40:48], "big")
    image += bytes(image[l1 : l1 + 8]) * count
    image[24:32] = struct.pack(">Q", count * (CLUSTER // 8) * CLUSTER)
    image[36:48] = struct.pack(">IQ", count, at)

    def scan(_: random.Random) -> None:
        with pytest.raises(CorruptImageError) as caught:
            open_in_memory(open_disk, MemoryStorage(image))
        assert (caught.value.offset, caught.value.found) == (at, count)

    fuzz("l1 bomb", 1, scan)


def test_65536_empty_snapshots_are_opened_and_described_in_time(image: bytearray) -> None:
    image[60:72] = struct.pack(">IQ", 65536, len(image))
    image += bytes(65536 * 40)

    def look(_: random.Random) -> None:
        with open_in_memory(open_disk, MemoryStorage(image)) as disk:
            assert len(disk.describe().snapshots) == 65536

    fuzz("snapshot bomb", 1, look)
