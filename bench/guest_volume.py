"""The large guests that the benchmarks look into, audit and slim: the specimen's system and many more files.

Each is made under a temporary name by mkntfs and ntfs-3g (root or FUSE). As a program,
``guest_volume.py VOLUME IMAGE FILES``, it makes what bench/guests.py looks into: a raw NTFS volume, and a qcow2 of it
with a snapshot ``before``, after which some files changed.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

import make_specimen  # noqa: E402
from builders import xp  # noqa: E402
from builders.ntfs_volumes import mkntfs, mounted  # noqa: E402
from builders.pe import PeSpec, build_pe  # noqa: E402

TOOLS = ("mkntfs", "ntfs-3g")
IN_FOLDER = 200
"""Files in each folder."""
MIXED = (200, 600, 4_000, 20_000, 60_000)
"""Bytes of a file among many: 17,000 on average."""
LARGE = (4_000, 20_000, 60_000, 120_000, 171_000)
"""Bytes of a file that is read whole: 75,000 on average, so that 20,000 of them are 1.5 GB."""
PROGRAMS = 3
"""One file in so many of those is a program."""
WASTE = (
    "WINDOWS/Temp",
    "WINDOWS/SoftwareDistribution/Download",
    "Documents and Settings/operator/Local Settings/Temp",
)
"""Where the files lie that slimming by the profile ``safe`` takes."""

BYRE = (sys.executable, "-m", "byre")
Files = Iterable[tuple[str, bytes]]
"""Paths relative to the volume's root, each folder's files in a row, and their bytes."""


def can_make() -> bool:
    return all(shutil.which(tool) for tool in TOOLS)


def make_volume(volume: Path, size: int, more: Files) -> None:
    """An NTFS volume that thinks it lies where ``make_image`` puts it, with the specimen's system and ``more``."""
    geometry = ("-p", make_specimen.START_LBA, "-S", make_specimen.SECTORS_PER_TRACK, "-H", make_specimen.HEADS)
    mkntfs(volume, size, *map(str, geometry))
    with mounted(volume) as root:
        files = xp.clean_files()
        for name in xp.folders(files):
            (root / name.lstrip("/")).mkdir(exist_ok=True)
        for name, data in files.items():
            (root / name.lstrip("/")).write_bytes(data)
        here = root
        for name, data in more:
            target = root / name
            if target.parent != here:
                here = target.parent
                here.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)


def make_image(volume: Path, image: Path) -> None:
    """A plain qcow2 of the volume behind an MBR; the volume is gone afterwards."""
    disk, made = image.with_suffix(".raw"), image.with_suffix(".part")
    make_specimen.DISK_SIZE = volume.stat().st_size + (2 << 20)
    make_specimen.wrap(volume, disk)
    volume.unlink()
    subprocess.run([*BYRE, "convert", "--force", disk, made, "-O", "qcow2"], check=True, stdout=subprocess.DEVNULL)
    disk.unlink()
    made.replace(image)


def audited_guest(image: Path, count: int) -> None:
    """What bench/audit.py audits: ``count`` more files, a third of them programs."""
    volume = image.with_suffix(".volume")
    make_volume(volume, 255 << 20 if count < 2_000 else 3 << 30, _programs(count))
    make_image(volume, image)


def slimmed_guest(image: Path, count: int, gone: int, size: int) -> None:
    """What bench/slim.py slims: ``count`` more files on a volume of ``size`` bytes, of which the profile ``safe``
    takes ``gone``."""
    volume = image.with_suffix(".volume")
    make_volume(volume, size, _with_waste(count, gone))
    make_image(volume, image)


def _programs(count: int) -> Iterator[tuple[str, bytes]]:
    source = random.Random(11)
    for number in range(count):
        data = source.randbytes(source.choice(LARGE))
        is_program = number % PROGRAMS == 0
        if is_program:
            spec = PeSpec(name=f"part{number}.dll", imports={"kernel32.dll": ["CreateFileW"]}, timestamp=number)
            # What follows the sections is an overlay, as installers have it: digests are taken of all of it.
            data = build_pe(spec) + data
        folder = f"Program Files/package {number // IN_FOLDER}"
        yield f"{folder}/part{number}.{'dll' if is_program else 'dat'}", data


def _with_waste(count: int, gone: int) -> Iterator[tuple[str, bytes]]:
    """Folders of waste between those of files that stay, so that their records and clusters lie among each other."""
    source = random.Random(13)
    every = max(1, count // gone)
    for folder in range(-(-count // IN_FOLDER)):
        waste = folder % every == every - 1
        place = f"{WASTE[folder // every % len(WASTE)]}/{folder}" if waste else f"Program Files/package {folder}"
        for number in range(folder * IN_FOLDER, min(count, (folder + 1) * IN_FOLDER)):
            yield f"{place}/file {number}.dat", source.randbytes(source.choice(MIXED))


def _documents(count: int) -> Iterator[tuple[str, bytes]]:
    source = random.Random(7)
    for number in range(count):
        yield _document(number), source.randbytes(source.choice(MIXED))


def _document(number: int) -> str:
    return f"WINDOWS/folder {number // IN_FOLDER}/file {number}.dll"


def main() -> None:
    volume, image, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    part, later = volume.with_suffix(".part"), volume.with_suffix(".later")
    make_volume(part, (64 << 20) + count * 40_000, _documents(count))
    subprocess.run([*BYRE, "convert", "--force", part, image, "-O", "qcow2"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*BYRE, "snapshot", "create", image, "before"], check=True, stdout=subprocess.DEVNULL)
    shutil.copyfile(part, later)
    source = random.Random(8)
    with mounted(later) as root:
        for name, data in xp.infected_files().items():
            target = root / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for number in range(0, count, 100):
            (root / _document(number)).write_bytes(source.randbytes(5000))
    _apply(part, later, image)
    later.unlink()
    part.replace(volume)


def _apply(before: Path, after: Path, image: Path) -> None:
    """Write into the image what differs between two volumes."""
    import byre
    from byre.convert.compare import compare_disks

    with byre.open_disk(before) as old, byre.open_disk(after) as new, byre.open_disk(image, writable=True) as disk:
        for piece in compare_disks(old, new):
            for start in range(piece.start, piece.start + piece.length, 1 << 20):
                disk.write(start, new.read(start, min(1 << 20, piece.start + piece.length - start)))


if __name__ == "__main__":
    main()
