"""What block-map formats share: extents over a parent, and plans for packing a file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from byre.disks import blockmap
from byre.disks.blockmap import BlockMapDisk, Blocks, BlockState, plan_moves
from byre.disks.writer import BoolArray
from byre.extents import ExtentTable, Kind
from byre.storage.memory import MemoryStorage

BLOCK = 4096
COUNT = 40


class Mapped(BlockMapDisk):
    """Random states over a storage of random bytes; knows what it should read as."""

    format = "test"
    block_size = BLOCK

    def __init__(self, rng: random.Random, size: int, parent: Mapped | None) -> None:
        count = -(-size // BLOCK)
        self.size = size
        self.parent = parent
        self.storage = MemoryStorage(rng.randbytes(count * BLOCK))
        self.state = np.array([rng.randrange(4) for _ in range(count)], dtype=np.uint8)
        self.host = np.array(rng.sample(range(count), count), dtype=np.int64) * BLOCK
        self.bits = [np.array([rng.random() < 0.5 for _ in range(BLOCK // 512)]) for _ in range(count)]
        below = parent.model if parent else b""
        self.model = b"".join(self._sector(at, below) for at in range(0, size, 512))

    def _sector(self, at: int, below: bytes) -> bytes:
        block, within = divmod(at, BLOCK)
        state = self.state[block]
        if state == BlockState.DATA or (state == BlockState.PARTIAL and self.bits[block][within // 512]):
            return self.storage.read(int(self.host[block]) + within, 512)
        return bytes(512) if state == BlockState.ZERO else below[at : at + 512].ljust(512, b"\0")

    def blocks(self, first: int, stop: int) -> Blocks:
        return Blocks(self.state[first:stop], self.host[first:stop])

    def present(self, block: int) -> BoolArray:
        return self.bits[block]


def stack(seed: int) -> Mapped:
    rng = random.Random(seed)
    base = Mapped(rng, BLOCK * COUNT - 1024, None)
    middle = Mapped(rng, BLOCK * (COUNT - 9) - 512, base)
    return Mapped(rng, BLOCK * (COUNT + 3), middle)


def bytes_of(disk: Mapped, tables: Iterator[ExtentTable]) -> tuple[bytes, list[int]]:
    out = bytearray()
    depths = []
    for table in tables:
        for _, length, kind, host, stored, file, depth in table.tolist():
            assert stored == (length if kind == Kind.DATA else 0)
            out += disk.files[file].read(host, length) if kind == Kind.DATA else bytes(length)
            depths.append(depth)
    return bytes(out), depths


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rows", [3, 1 << 18])
def test_extents_and_reads_agree_with_the_model_through_two_parents(
    seed: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockmap, "SLICE_ROWS", rows)
    disk = stack(seed)
    found, depths = bytes_of(disk, disk.extents())
    assert found == disk.model
    assert set(depths) == {-1, 0, 1, 2}
    assert disk.read(0, disk.size) == disk.model
    rng = random.Random(seed)
    for _ in range(30):
        start = rng.randrange(disk.size)
        stop = rng.randrange(start, disk.size + 1)
        assert disk.read(start, stop - start) == disk.model[start:stop]
        assert bytes_of(disk, disk.extents(start, stop))[0] == disk.model[start:stop]


def test_extents_cover_the_range_without_gaps_and_are_merged() -> None:
    disk = stack(7)
    table = np.concatenate(list(disk.extents(700, disk.size - 700)))
    assert table["start"][0] == 700
    assert (table["start"][1:] == (table["start"] + table["length"])[:-1]).all()
    assert table["start"][-1] + table["length"][-1] == disk.size - 700
    kinds = list(zip(table["kind"], table["depth"], strict=True))
    same = [one == two and one[0] != Kind.DATA for one, two in pairwise(kinds)]
    assert not any(same)


@pytest.mark.parametrize("seed", range(200))
def test_moves_fill_gaps_and_never_touch_what_is_in_use(seed: int) -> None:
    rng = random.Random(seed)
    length = rng.choice((512, 4608, 8192))
    position = rng.choice((0, 512, 2048))
    start = position
    blocks, fixed = [], []
    for _ in range(rng.randrange(12)):
        position += rng.choice((0, 0, 512, length, 3 * length, 3 * length + 1024))
        if rng.random() < 0.2:
            fixed.append((position, position + 512))
            position += 512
        else:
            blocks.append(position)
            position += length
    rng.shuffle(blocks)
    hosts = np.array(blocks, dtype=np.int64)
    others = np.array(fixed, dtype=np.int64).reshape(-1, 2)
    moves = plan_moves(hosts, length, start, fixed=others, align=rng.choice((1, 4096)), phase=512)
    assert (hosts[moves.index] == moves.source).all()
    assert (moves.target < moves.source).all()
    used = [(at, at + length) for at in blocks] + fixed + [(at, at + length) for at in moves.target.tolist()]
    used.sort()
    assert all(one[1] <= two[0] for one, two in pairwise(used))
    gone = set(moves.source.tolist())
    left = [at + length for at in blocks if at not in gone] + [stop for _, stop in fixed]
    assert moves.end == max([start, *left, *(at + length for at in moves.target.tolist())])
    assert all(at >= start for at in moves.target.tolist())


def test_equal_blocks_are_packed_without_a_gap() -> None:
    hosts = np.array([9, 0, 4, 7, 2], dtype=np.int64) * 4096
    moves = plan_moves(hosts, 4096, 0)
    assert moves.end == 5 * 4096
    assert len(moves.index) == 2
