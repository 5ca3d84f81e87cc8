"""Hostile qcow2 images: nothing but Byre's own errors, in bounded time and memory."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from builders.qcow2_images import RECIPES, make
from builders.qemu import qemu_img
from byre.disks.context import OpenContext, OpenOptions
from byre.disks.qcow2 import open_disk
from byre.disks.qcow2.image import Qcow2Disk
from byre.disks.qcow2.writing import WritableQcow2Disk
from byre.errors import ByreError
from byre.storage.memory import MemoryStorage
from fuzzing import SmallStorage, fuzz

NAMES = ("v2", "v3-backing", "cluster-512", "zlib", "zstd", "extended-backing", "refcount-1")

NASTY = (
    0,
    1,
    0x1FF,
    0x200,
    0x10000,
    0x7FFFFFFF,
    0xFFFFFFFF,
    1 << 32,
    (1 << 55) + 0x10000,
    1 << 56,
    1 << 62,
    (1 << 62) | 0x10001,
    1 << 63,
    (1 << 63) | 0x10000,
    (1 << 63) | (1 << 55),
    (1 << 64) - 1,
)
"""Values that sit on the edges of fields."""

Mutation = Callable[[bytearray, random.Random], None]


def _header(image: bytearray, rng: random.Random) -> None:
    """One field of the header, or a byte of it, its extensions or the backing name."""
    fields = [
        (4, 4),
        (8, 8),
        (16, 4),
        (20, 4),
        (24, 8),
        (32, 4),
        (36, 4),
        (40, 8),
        (48, 8),
        (56, 4),
        (60, 4),
        (64, 8),
    ]
    fields += [(72, 8), (80, 8), (88, 8), (96, 4), (100, 4), (104, 8)]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        if rng.random() < 0.3:
            image[rng.randrange(min(1024, len(image)))] = rng.randrange(256)
            continue
        offset, size = rng.choice(fields)
        value = rng.choice((*NASTY, rng.getrandbits(64), 1 << rng.randrange(64)))
        image[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "big")


def _tables(image: bytearray, rng: random.Random) -> None:
    """Entries of the L1 table, of L2 tables, of the refcount table and its blocks, of the snapshot's L1."""
    bits = min(int.from_bytes(image[20:24], "big"), 21) or 9
    l1 = int.from_bytes(image[40:48], "big")
    entries = int.from_bytes(image[36:40], "big")
    places = [l1 + 8 * rng.randrange(max(1, entries))]
    places.append(int.from_bytes(image[48:56], "big") + 8 * rng.choice((0, 1, rng.randrange(64))))
    for index in range(min(entries, 64)):
        table = int.from_bytes(image[l1 + 8 * index : l1 + 8 * index + 8], "big") & 0x00FFFFFFFFFFFE00
        if table:
            places += [table + 8 * rng.choice((0, 1, 2, 3, rng.randrange(max(64, 1 << bits) // 8))) for _ in range(3)]
    for _ in range(rng.choice((1, 2, 6))):
        at = rng.choice(places)
        if rng.random() < 0.5:
            value = rng.choice((*NASTY, rng.getrandbits(64)))
        else:
            value = int.from_bytes(image[at : at + 8], "big") ^ (1 << rng.randrange(64))
        image[at : at + 8] = value.to_bytes(8, "big")


def _snapshots(image: bytearray, rng: random.Random) -> None:
    """The snapshot table, or how many the header says there are."""
    at = int.from_bytes(image[64:72], "big")
    if not at or rng.random() < 0.2:
        image[60:64] = rng.choice((1, 2, 65536, 65537, 1 << 31)).to_bytes(4, "big")
        return
    for _ in range(rng.choice((1, 3, 8))):
        where = at + rng.randrange(72)
        size = rng.choice((1, 2, 4, 8))
        value = rng.choice((*NASTY, rng.getrandbits(64)))
        image[where : where + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "big")


def _noise(image: bytearray, rng: random.Random) -> None:
    """Bytes anywhere: compressed streams are most of some images."""
    for _ in range(rng.choice((1, 10, 200))):
        image[rng.randrange(len(image))] = rng.randrange(256)


def _cut(image: bytearray, rng: random.Random) -> None:
    """A file cut short."""
    del image[rng.choice((rng.randrange(200), rng.randrange(len(image)))) :]


def _extensions(image: bytearray, rng: random.Random) -> None:
    """Header extensions of any length, bitmaps and data file among them."""
    at = int.from_bytes(image[100:104], "big") if image[7] == 3 else 72
    for _ in range(rng.randrange(1, 4)):
        kind = rng.choice((0xE2792ACA, 0x6803F857, 0x23852875, 0x0537BE77, 0x44415441, rng.getrandbits(32)))
        length = rng.choice((0, 8, 16, 24, 48, 0xFFFFFFFF, rng.getrandbits(12)))
        image[at : at + 8] = struct.pack(">II", kind, length)
        if rng.random() < 0.5:
            image[at + 8 : at + 32] = struct.pack(">IIQQ", *(rng.choice(NASTY[:7]) for _ in range(4)))
        at += 8 + min(length, 64) + -length % 8
    if rng.random() < 0.5:
        image[88:96] = struct.pack(">Q", rng.getrandbits(2))


MUTATIONS: tuple[Mutation, ...] = (_header, _tables, _snapshots, _noise, _cut, _extensions)


@pytest.mark.fuzz
@pytest.mark.oracle
@pytest.mark.parametrize("name", NAMES)
def test_a_mutated_image_gives_nothing_but_byre_errors(name: str, tmp_path: Path) -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    base = make(recipe, tmp_path).path.read_bytes()

    def refused(rng: random.Random) -> bool:
        seed = rng.getrandbits(32)
        return not survives(mutated(base, seed), seed, tmp_path)

    assert fuzz(f"qcow2 {name}", 70, refused), "no mutation was ever noticed"


def mutated(base: bytes, seed: int) -> bytes:
    """The image with one or two kinds of harm done to it."""
    rng = random.Random(seed)
    image = bytearray(base)
    for _ in range(rng.choice((1, 1, 2))):
        if len(image) > 128:
            rng.choice(MUTATIONS)(image, rng)
    return bytes(image)


def survives(image: bytes, seed: int, folder: Path) -> bool:
    """Do all that can be done with an image; False where any of it was refused."""
    steps: tuple[Callable[[], object], ...] = (
        lambda: _look(image, folder),
        lambda: _write(image, random.Random(seed), folder),
    )
    sound = True
    for step in steps:
        try:
            step()
        except ByreError as error:
            assert str(error)
            sound = False
    return sound


def _look(image: bytes, folder: Path) -> None:
    errors: list[ByreError] = []

    def attempt(call: Callable[[], object]) -> None:
        try:
            call()
        except ByreError as error:
            errors.append(error)

    with open_disk(MemoryStorage(image), _context(folder, writable=False)) as disk:
        attempt(disk.describe)
        attempt(lambda: _scan(disk))
        for offset in (0, 65536, disk.size // 2, max(0, disk.size - 5000)):
            attempt(lambda offset=offset: disk.read(offset, min(5000, abs(disk.size - offset))))  # type: ignore[misc]
        attempt(lambda: disk.read(0, min(disk.size, 1 << 22)))
        for entry in disk.snapshots()[:4]:
            attempt(lambda entry=entry: disk.open_snapshot(entry.id).read(0, 70_000))  # type: ignore[misc]
            attempt(lambda entry=entry: disk.read_vm_state(entry.id, 0, 4096))  # type: ignore[misc]
    if errors:
        raise errors[0]


def _scan(disk: Qcow2Disk) -> None:
    position = 0
    for table in disk.extents():
        assert int(table["start"][0]) == position
        position = int(table["start"][-1] + table["length"][-1])
        assert (table["length"] > 0).all()
    assert position == disk.size


def _write(image: bytes, rng: random.Random, folder: Path) -> None:
    with open_disk(SmallStorage(image), _context(folder, writable=True)) as disk:
        assert isinstance(disk, WritableQcow2Disk)
        size = disk.size
        for _ in range(4):
            start = rng.randrange(max(1, min(size, 1 << 22)))
            length = min(rng.choice((10, 5000, 100_000)), max(0, size - start))
            rng.choice((lambda o, n: disk.write(o, rng.randbytes(n)), disk.write_zeroes, disk.discard))(start, length)
        disk.flush()


def _context(folder: Path, *, writable: bool) -> OpenContext:
    from byre.disks.opening import open_disk as open_path
    from byre.storage.local import open_file

    return OpenContext(
        OpenOptions(writable=writable),
        folder.resolve(),
        lambda path, format, context: open_path(path, format=format),
        lambda path, options: open_file(path),
    )


@pytest.mark.oracle
@pytest.mark.parametrize("length", [2, 3, 70])
def test_a_backing_chain_that_loops_or_never_ends_is_refused(length: int, tmp_path: Path) -> None:
    from byre.disks.opening import open_disk as open_path

    first = tmp_path / "0.qcow2"
    qemu_img("create", "-f", "qcow2", "-o", "cluster_size=512", first, "64k")
    qemu_img("rebase", "-u", "-f", "qcow2", "-b", "1.qcow2", "-F", "qcow2", first)
    data = first.read_bytes()
    for number in range(1, length):
        name = b"%d.qcow2" % ((number + 1) % length if length < 70 else number + 1)
        patched = bytearray(data)
        at = int.from_bytes(data[8:16], "big")
        patched[at : at + len(name)] = name
        patched[16:20] = struct.pack(">I", len(name))
        (tmp_path / f"{number}.qcow2").write_bytes(patched)
    with pytest.raises(ByreError, match=r"loops|longer than"):
        open_path(first)
