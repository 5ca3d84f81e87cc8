from __future__ import annotations

import random
import subprocess
from pathlib import Path

import numpy as np
import pytest

import byre
from builders.mixture import mixture, write_sparse
from byre.convert.compare import Difference, compare_disks
from byre.convert.convert import convert_image

SIZE = 9 << 20


def differences(one: Path, other: Path, *, strict: bool = False) -> list[Difference]:
    with byre.open_disk(one) as first, byre.open_disk(other) as second:
        return list(compare_disks(first, second, strict=strict, threads=2))


def brute_force(one: bytes, other: bytes) -> list[tuple[int, int]]:
    length = max(len(one), len(other))
    a, b = (np.frombuffer(data.ljust(length, b"\0"), dtype=np.uint8).reshape(-1, 512) for data in (one, other))
    flags = np.concatenate(([0], (a != b).any(axis=1).astype(np.int8), [0]))
    edges = np.flatnonzero(np.diff(flags)).reshape(-1, 2)
    return [(int(first) * 512, int(last - first) * 512) for first, last in edges]


@pytest.mark.parametrize("seed", range(6))
def test_every_difference_is_found_and_nothing_else(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    one = mixture(SIZE, seed)
    other = bytearray(one)
    for _ in range(40):
        at = rng.randrange(len(other) - 5000)
        length = rng.choice((1, 511, 512, 5000))
        other[at : at + length] = rng.choice((bytes(length), rng.randbytes(length)))
    other = other[: rng.choice((SIZE, SIZE - 512 * 777))]
    a, b = write_sparse(tmp_path / "a.raw", one), write_sparse(tmp_path / "b.raw", bytes(other))
    with byre.open_disk(b) as source:
        convert_image(source, tmp_path / "b.qcow2", "qcow2", {"compress": seed % 2 == 0, "cluster_size": "8K"})
    expected = brute_force(one, bytes(other))
    for candidate in (b, tmp_path / "b.qcow2"):
        found = differences(a, candidate)
        assert [(piece.start, piece.length) for piece in found] == expected
        assert {piece.kind for piece in found} <= {"content"}


def test_a_longer_disk_of_zeros_is_the_same_unless_strict(tmp_path: Path) -> None:
    a, b = tmp_path / "a.raw", tmp_path / "b.raw"
    a.write_bytes(b"x" * 4096)
    b.write_bytes(b"x" * 4096 + bytes(8192))
    assert differences(a, b) == []
    assert Difference(4096, 8192, "size") in differences(a, b, strict=True)


@pytest.mark.oracle
def test_what_two_disks_share_in_one_file_is_not_read(tmp_path: Path) -> None:
    raw = write_sparse(tmp_path / "a.raw", mixture(SIZE, 3))
    image = tmp_path / "a.qcow2"
    subprocess.run(["qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", raw, image], check=True)
    subprocess.run(["qemu-img", "snapshot", "-c", "one", image], check=True)
    subprocess.run(["qemu-io", "-c", "write -P 7 1M 64k", image], check=True, capture_output=True)
    with byre.open_disk(image) as now, byre.open_disk(f"{image}@one") as then:
        read = []
        for disk in (now, then):
            original = disk.read_into
            disk.read_into = lambda at, view, call=original: (read.append(len(view)), call(at, view))[1]  # type: ignore[method-assign]
        found = list(compare_disks(now, then))
    assert found and all(1 << 20 <= piece.start < (1 << 20) + (64 << 10) for piece in found)
    assert sum(read) <= 64 << 10


@pytest.mark.oracle
@pytest.mark.parametrize("second", ["same", "allocated", "longer"])
def test_strict_agrees_with_qemu_img(tmp_path: Path, second: str) -> None:
    a, b = tmp_path / "a.qcow2", tmp_path / "b.qcow2"
    for image in (a, b):
        size = "5M" if second == "longer" and image is b else "4M"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, size], check=True)
        subprocess.run(["qemu-io", "-c", "write -P 1 0 1M", image], check=True, capture_output=True)
    if second == "allocated":
        subprocess.run(["qemu-io", "-c", "write -P 0 2M 64k", b], check=True, capture_output=True)
    theirs = subprocess.run(["qemu-img", "compare", "-s", a, b], check=False, capture_output=True).returncode
    assert (differences(a, b, strict=True) != []) == (theirs == 1)
    assert differences(a, b) == []
