"""Broken VHDX files: whatever the bytes, only errors of ours, soon, and in bounded memory."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from contextlib import suppress
from uuid import UUID

import pytest

from builders.opened import open_in_memory
from builders.vhdx import BAT_AT, LOG_AT, LOG_GUID, METADATA_AT, MIB, ZERO, Vhdx, log_entry
from byre.disks.raw import RawDisk
from byre.disks.vhdx import open_disk
from byre.disks.vhdx.crc32c import crc32c
from byre.disks.vhdx.image import VhdxDisk
from byre.disks.vhdx.structures import find_replay, read_bat, read_headers, read_structures, replayed
from byre.errors import ByreError
from byre.storage.memory import MemoryStorage
from fuzzing import SmallStorage, case_count, fuzz

INTERESTING = (0, 1, 7, 0xFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1, 1 << 20, 6 | 1 << 20, 7 | 4 << 20)


def dynamic() -> bytes:
    made = Vhdx(6 * MIB)
    made.block(0, b"a" * MIB)
    made.state(2, ZERO)
    return made.build()


def dirty() -> bytes:
    made = Vhdx(6 * MIB, log_guid=LOG_GUID)
    offset = made.block(0, b"a" * MIB)
    page = struct.pack("<Q", offset | 6).ljust(4096, b"\0")
    for number in range(4):
        writes = [(BAT_AT, page), (BAT_AT + 8192, 4096)]
        made.log[8192 * number] = log_entry(LOG_GUID, 3 + number, 0, writes, flushed=MIB, last=8 * MIB)
    return made.build()


def child() -> bytes:
    made = Vhdx(6 * MIB, parent={"parent_linkage": f"{{{UUID(int=1)}}}", "relative_path": ".\\x"})
    made.partial(1, {3: b"x" * 512, 4: b"y" * 512})
    return made.build()


PLACES = (
    (64 << 10, 96),
    (128 << 10, 96),
    (192 << 10, 80),
    (256 << 10, 80),
    (METADATA_AT, 32 + 6 * 32),
    (METADATA_AT + 65536, 260),
    (BAT_AT, 64),
    (LOG_AT, 32768),
    (LOG_AT, 128),
)


def mutated(data: bytes, rng: random.Random) -> bytearray:
    image = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        start, length = rng.choice(PLACES)
        width = rng.choice((1, 2, 4, 8))
        at = start + rng.randrange(length - width) // width * width
        value = rng.choice((rng.getrandbits(64), rng.choice(INTERESTING)))
        image[at : at + width] = value.to_bytes(8, "little")[:width]
    if rng.random() < 0.8:  # past the checksums, where the interesting code is
        for at, size in ((64 << 10, 4096), (128 << 10, 4096), (192 << 10, 65536), (256 << 10, 65536)):
            seal(image, at, size)
        for at in range(LOG_AT, LOG_AT + 65536, 4096):
            size = int.from_bytes(image[at + 8 : at + 12], "little")
            if image[at : at + 4] == b"loge" and 0 < size <= 65536:
                seal(image, at, size)
    if rng.random() < 0.1:
        del image[rng.randrange(len(image)) :]
    return image


def seal(image: bytearray, at: int, size: int) -> None:
    image[at + 4 : at + 8] = bytes(4)
    image[at + 4 : at + 8] = struct.pack("<I", crc32c(image[at : at + size]))


def open_child(storage: MemoryStorage) -> VhdxDisk:
    headers, current = read_headers(storage)
    header = headers[current]
    assert header is not None
    view = replayed(storage, find_replay(storage, header))
    structures = read_structures(view)
    return VhdxDisk(view, structures, read_bat(view, structures), RawDisk(MemoryStorage(b"p" * 2 * MIB)))


def use(disk: VhdxDisk) -> None:
    disk.describe()
    for step in (
        lambda: disk.check(),
        lambda: [len(table) for table in disk.extents(0, 1 << 33)],
        lambda: disk.read(0, min(disk.size, 3 * MIB)),
        lambda: disk.read(max(0, disk.size - 1000), min(disk.size, 1000)),
    ):
        with suppress(ByreError):
            step()


@pytest.mark.fuzz
@pytest.mark.parametrize("make", [dynamic, dirty, child])
def test_mutated_images_raise_only_our_errors(make: Callable[[], bytes]) -> None:
    data = make()

    def case(rng: random.Random) -> bool:
        storage = MemoryStorage(mutated(data, rng))
        try:
            disk = open_child(storage) if make is child else open_in_memory(open_disk, storage)
        except ByreError:
            return False
        use(disk)
        return True

    opened = fuzz(f"vhdx {make.__name__}", 300, case)
    assert opened > case_count(300) // 10  # else the mutations only ever reach the front door


@pytest.mark.fuzz
@pytest.mark.parametrize("make", [dynamic, dirty])
def test_mutated_images_are_edited_with_only_our_errors(make: Callable[[], bytes]) -> None:
    data = make()

    def case(rng: random.Random) -> None:
        try:
            disk = open_in_memory(open_disk, SmallStorage(mutated(data, rng)), writable=True)
        except ByreError:
            return
        for step in (
            lambda disk=disk: disk.write(min(disk.size // 2, 5 * MIB), b"z" * 700),
            lambda disk=disk: disk.resize(min(disk.size, 30 * MIB) // 4096 * 4096 + 4096),
            lambda disk=disk: disk.compact(),
            lambda disk=disk: disk.close(),
        ):
            with suppress(ByreError):
                step()

    fuzz(f"vhdx edited {make.__name__}", 100, case)


def test_random_bytes_after_the_signature_are_refused() -> None:
    rng = random.Random(1)
    for size in (8, 1000, 70_000, 2 * MIB):
        with pytest.raises(ByreError):
            open_in_memory(open_disk, MemoryStorage(b"vhdxfile" + rng.randbytes(size)))
