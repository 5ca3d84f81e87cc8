"""An image that is refused, at whatever point of opening it, leaves neither itself nor its parent open."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from builders.written import write_image
from byre.disks.opening import open_disk
from byre.errors import ByreError

MIB = 1 << 20
CASES = int(os.environ.get("BYRE_FUZZ_CASES", "80"))
CHILDREN: dict[str, dict[str, object]] = {
    "qcow2": {"backing_file": "base.qcow2", "backing_format": "qcow2"},
    "vdi": {"backing_file": "base.vdi", "subformat": "differencing"},
    "vhd": {"backing_file": "base.vhd", "subformat": "differencing"},
    "vhdx": {"backing_file": "base.vhdx", "block_size": "1M", "subformat": "differencing"},
    "vmdk": {"backing_file": "base.vmdk"},
}


def damaged(base: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, most of them in what is read first; at times cut short."""
    image = bytearray(base)
    for _ in range(rng.choice((1, 1, 2, 8))):
        reach = rng.choice((64, 512, 1024, 4096, 280_000))
        image[rng.randrange(min(reach, len(image)))] = rng.choice((0, 1, 255, rng.randrange(256)))
    return bytes(image[: rng.randrange(len(image))] if rng.random() < 0.2 else image)


def open_files(folder: Path) -> list[str]:
    found = []
    for each in Path("/proc/self/fd").iterdir():
        if each.is_symlink() and str(target := each.readlink()).startswith(str(folder)):
            found.append(target.name)
    return found


@pytest.mark.fuzz
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="only Linux lists what is open")
@pytest.mark.parametrize("writable", [False, True], ids=["reading", "writing"])
@pytest.mark.parametrize("format", list(CHILDREN))
def test_a_refused_image_leaves_nothing_open(format: str, writable: bool, tmp_path: Path) -> None:
    path = tmp_path / f"image.{format}"
    write_image(tmp_path / f"base.{format}", format, {0: b"a" * 100_000}, MIB)
    write_image(path, format, {65536: b"c" * 100}, MIB, **CHILDREN[format])
    base, rng, refused = path.read_bytes(), random.Random(format), 0
    for _ in range(CASES):
        path.write_bytes(damaged(base, rng))
        try:
            with open_disk(path, writable=writable) as disk:
                disk.describe()
        except ByreError:
            refused += 1
        assert open_files(tmp_path) == []
    assert refused
