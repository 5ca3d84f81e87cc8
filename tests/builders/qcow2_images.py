"""qcow2 images of every kind, made by qemu-img, each with what a reader has to find in it."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from builders.qemu import qemu_img, qemu_io

SIZE = 3 * (1 << 20) + 5 * 512
"""No multiple of any cluster: the last one is cut."""


@dataclass(frozen=True)
class Recipe:
    """How an image is made. ``options`` are qemu-img's ``-o``."""

    name: str
    options: str = ""
    compressed: bool = False
    snapshot: bool = False
    backing: str | None = None
    """``raw`` or ``qcow2``; one image below of another size."""
    backing_size: int = 2 << 20
    data_file: bool = False
    size: int = SIZE


RECIPES = (
    Recipe("v2", "compat=0.10", snapshot=True),
    Recipe("v2-backing", "compat=0.10", backing="raw", snapshot=True),
    Recipe("v3", snapshot=True),
    Recipe("v3-backing", backing="qcow2", snapshot=True),
    Recipe("v3-backing-longer", backing="raw", backing_size=5 << 20),
    Recipe("cluster-512", "cluster_size=512", snapshot=True, backing="qcow2", size=(1 << 20) + 512),
    Recipe("cluster-512-refcount-64", "cluster_size=512,refcount_bits=64", size=(3 << 20) + 512),
    Recipe("cluster-4k-refcount-8", "cluster_size=4096,refcount_bits=8", snapshot=True),
    Recipe("cluster-2m", "cluster_size=2M", backing="qcow2", size=(9 << 20) + 512),
    Recipe("refcount-1", "refcount_bits=1"),
    Recipe("refcount-2", "refcount_bits=2,cluster_size=4096", snapshot=True),
    Recipe("refcount-64", "refcount_bits=64", snapshot=True),
    Recipe("zlib", compressed=True, snapshot=True),
    Recipe("zlib-512", "cluster_size=512", compressed=True, size=(1 << 20) + 512),
    Recipe("zlib-backing", backing="raw", compressed=True),
    Recipe("zstd", "compression_type=zstd", compressed=True, snapshot=True),
    Recipe("lazy", "lazy_refcounts=on"),
    Recipe("extended", "extended_l2=on", snapshot=True),
    Recipe("extended-backing", "extended_l2=on,cluster_size=16k", backing="qcow2", snapshot=True),
    Recipe("extended-zstd", "extended_l2=on,compression_type=zstd", compressed=True, backing="raw"),
    Recipe("data-file", "data_file_raw=off", data_file=True),
    Recipe("data-file-raw", "data_file_raw=on", data_file=True),
    Recipe("data-file-extended", "extended_l2=on", data_file=True, backing="qcow2"),
)


@dataclass
class Made:
    """A made image: where it is, what is in it, and what its snapshot ``old`` holds."""

    path: Path
    content: bytes
    snapshot: bytes | None
    files: list[Path] = field(default_factory=list)

    def copy_to(self, folder: Path) -> Path:
        """A copy of the image and of what it names; the copy's path."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in [*self.files, self.path]:
            shutil.copy(file, folder / file.name)
        return folder / self.path.name


def make(recipe: Recipe, folder: Path, seed: int = 1) -> Made:
    """Make the image in ``folder``, which is empty."""
    rng = random.Random(f"{recipe.name} {seed}")
    image = folder / "image.qcow2"
    options = recipe.options
    files: list[Path] = []
    model = bytearray(recipe.size)
    words: list[str | Path] = []
    if recipe.backing:
        below = folder / f"below.{recipe.backing}"
        content = patterned(rng, recipe.backing_size)
        plain = folder / "below.tmp"
        plain.write_bytes(content)
        qemu_img("convert", "-f", "raw", "-O", recipe.backing, plain, below)
        plain.unlink()
        files.append(below)
        words = ["-b", below.name, "-F", recipe.backing]
        shared = min(recipe.size, recipe.backing_size)
        model[:shared] = content[:shared]
    if recipe.data_file:
        options = ",".join(filter(None, [options, f"data_file={folder / 'data.raw'}"]))
        files.append(folder / "data.raw")
    if recipe.compressed:
        _fill_compressed(recipe, folder, image, model, rng)
    else:
        qemu_img("create", "-f", "qcow2", *(["-o", options] if options else []), *words, image, str(recipe.size))
    _write(image, model, rng, 12, compressed=recipe.compressed)
    old: bytes | None = None
    if recipe.snapshot:
        qemu_img("snapshot", "-c", "old", image)
        old = bytes(model)
        _write(image, model, rng, 6, compressed=False)
    return Made(image, bytes(model), old, files)


def patterned(rng: random.Random, size: int) -> bytes:
    """Bytes with runs, noise and holes."""
    model = bytearray(size)
    for _ in range(40):
        start, length = _piece(rng, size)
        model[start : start + length] = _bytes(rng, length)
    return bytes(model)


def _fill_compressed(recipe: Recipe, folder: Path, image: Path, model: bytearray, rng: random.Random) -> None:
    source = folder / "source.tmp"
    for _ in range(20):
        start, length = _piece(rng, len(model))
        model[start : start + length] = _bytes(rng, length)
    source.write_bytes(model)
    options = ["-o", recipe.options] if recipe.options else []
    below = ["-B", f"below.{recipe.backing}", "-F", recipe.backing] if recipe.backing else []
    qemu_img("convert", "-c", "-f", "raw", "-O", "qcow2", *options, *below, source, image)
    source.unlink()


def _write(image: Path, model: bytearray, rng: random.Random, times: int, *, compressed: bool) -> None:
    commands = []
    for number in range(times):
        start, length = _piece(rng, len(model))
        kind = rng.randrange(4)
        value = rng.randrange(1, 256)
        if kind == 0:
            commands.append(f"write -z {start} {length}")
            value = 0
        elif kind == 1 and number % 2:
            commands.append(f"write -z -u {start} {length}")
            value = 0
        else:
            commands.append(f"write -P {value} {start} {length}")
        model[start : start + length] = bytes([value]) * length
    qemu_io(image, commands, "-f", "qcow2", "-d", "unmap")


def _piece(rng: random.Random, size: int) -> tuple[int, int]:
    start = rng.randrange(size // 512) * 512
    length = rng.choice((512, 4096, 65536, 131072, 300 * 512, rng.randrange(1, 600) * 512))
    return start, min(length, size - start)


def _bytes(rng: random.Random, length: int) -> bytes:
    match rng.randrange(3):
        case 0:
            return rng.randbytes(length)
        case 1:
            return bytes([rng.randrange(256)]) * length
        case _:
            return (rng.randbytes(7) * (length // 7 + 1))[:length]
