"""A kill or a power cut at any write leaves a VMDK that opens and reads as before or after it."""

from __future__ import annotations

import random

from builders.opened import open_in_memory
from builders.writing import copy_into
from byre.disks.raw import RawDisk
from byre.disks.vmdk import create, open_disk
from byre.storage.memory import MemoryStorage
from crash.recording import RecordingStorage, crash_states

GRAIN = 4096
SIZE = 120 * GRAIN + 512


class _Memory:
    def __init__(self) -> None:
        self.name = "seed.vmdk"
        self.storage = MemoryStorage()

    def extra(self, name: str) -> MemoryStorage:
        raise AssertionError(name)


def image(seed: int) -> tuple[bytes, bytes]:
    """(the file, what the disk reads as): every other grain holds something."""
    rng = random.Random(seed)
    content = b"".join(rng.randbytes(GRAIN) + bytes(GRAIN) for _ in range(60)) + rng.randbytes(512)
    target = _Memory()
    copy_into(RawDisk(MemoryStorage(content)), create(target, SIZE, {"grain_size": GRAIN}))
    return bytes(target.storage.data), content


def test_cut_while_writing_leaves_each_sector_old_or_new() -> None:
    base, content = image(1)
    storage = RecordingStorage(base)
    disk = open_in_memory(open_disk, storage, writable=True)
    rng = random.Random(2)
    seen = [{content[at : at + 512]} for at in range(0, SIZE, 512)]
    for _ in range(25):
        begin = rng.randrange(0, SIZE - 512, 512)
        length = min(SIZE - begin, rng.choice((512, 1536, GRAIN, 3 * GRAIN)))
        data = bytes(length) if rng.random() < 0.3 else rng.randbytes(length)
        disk.write(begin, data) if any(data) else disk.write_zeroes(begin, length)
        for at in range(0, length, 512):
            seen[(begin + at) // 512].add(data[at : at + 512])
        if rng.random() < 0.2:
            disk.flush()
    disk.close()
    for state in crash_states(storage.log, base, random.Random(3), limit=150):
        after = open_in_memory(open_disk, MemoryStorage(state))
        data = after.read(0, SIZE)
        for number, allowed in enumerate(seen):
            assert data[number * 512 : number * 512 + 512] in allowed
        codes = {problem.code for problem in after.check().problems if problem.kind == "corruption"}
        assert codes <= {"vmdk.redundant-tables-differ"}


def test_cut_while_compacting_leaves_the_same_disk() -> None:
    base, content = image(4)
    storage = MemoryStorage(base)
    disk = open_in_memory(open_disk, storage, writable=True)
    disk.write(3 * GRAIN, bytes(40 * GRAIN))
    disk.close()
    expected = content[: 3 * GRAIN] + bytes(40 * GRAIN) + content[43 * GRAIN :]
    base = bytes(storage.data)
    recording = RecordingStorage(base)
    packing = open_in_memory(open_disk, recording, writable=True)
    assert packing.compact() > 0
    for state in crash_states(recording.log, base, random.Random(5), limit=150):
        after = open_in_memory(open_disk, MemoryStorage(state))
        assert after.read(0, SIZE) == expected
        codes = {problem.code for problem in after.check().problems if problem.kind == "corruption"}
        assert codes <= {"vmdk.redundant-tables-differ"}


def test_cut_while_growing_leaves_the_old_or_the_new_size() -> None:
    base, content = image(6)
    recording = RecordingStorage(base)
    disk = open_in_memory(open_disk, recording, writable=True)
    new = SIZE + 600 * GRAIN
    disk.resize(new)
    sizes = set()
    for state in crash_states(recording.log, base, random.Random(7), limit=150):
        after = open_in_memory(open_disk, MemoryStorage(state))
        sizes.add(after.size)
        assert after.read(0, SIZE) == content
        assert not any(after.read(SIZE, after.size - SIZE))
    assert sizes == {SIZE, new}
