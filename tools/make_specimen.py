#!/usr/bin/env python3
"""Rebuilds ``src/byre/samples/specimen.qcow2``: a guest laid out like Windows XP, all of it of our own making.

An MBR disk with one NTFS volume that mkntfs and ntfs-3g write, synthetic hives and small PE files from
``tests/builders/xp.py``; as a qcow2 with the internal snapshots ``clean`` and ``infected``, reverted to clean.
What ``infected`` adds is inert. Needs root or FUSE, ntfs-3g and qemu-img (the last to hold the result against).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from builders import xp  # noqa: E402
from byre.lite.mending.boot_code import NTLDR, volume_code, with_master_code, with_volume_code  # noqa: E402

DISK_SIZE = 256 << 20
SECTORS_PER_TRACK, HEADS = 63, 255
START_LBA = 63
BUILT = 1_208_346_600  # every file's time: 2008-04-16T11:50:00Z
DELETED = {"/Documents and Settings/operator/Desktop/readme.txt"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "src/byre/samples/specimen.qcow2")
    args = parser.parse_args()
    for tool in ("mkntfs", "ntfs-3g", "qemu-img"):
        if shutil.which(tool) is None:
            sys.exit(f"{tool} is not installed (Debian: ntfs-3g, qemu-utils)")
    with tempfile.TemporaryDirectory(prefix="byre-specimen-") as folder:
        build(Path(folder), args.output)
    print(f"{args.output}: {args.output.stat().st_size} bytes")


def build(folder: Path, output: Path) -> None:
    """Make the two states as raw disks, then one qcow2 of them."""
    volume = folder / "volume.img"
    with volume.open("wb") as file:
        file.truncate(DISK_SIZE - START_LBA * 512 - (1 << 20))
    geometry = ["-p", str(START_LBA), "-S", str(SECTORS_PER_TRACK), "-H", str(HEADS), "-s", "512", "-c", "4096"]
    subprocess.run(["mkntfs", "-q", "-F", "-f", "-L", "SPECIMEN", *geometry, volume], check=True, capture_output=True)
    write_boot_code(volume)
    clean = xp.clean_files()
    write_files(volume, folder / "mnt", clean)
    states = [folder / "clean.raw", folder / "infected.raw"]
    wrap(volume, states[0])
    write_files(volume, folder / "mnt", xp.infected_files(), remove=DELETED)
    wrap(volume, states[1])
    make_qcow2(states, output)


def write_boot_code(volume: Path) -> None:
    """Boot code of Byre's own in mkntfs's place, in the copy too: it starts /NTLDR, which says that there is nothing
    to boot."""
    code = volume_code("ntfs", NTLDR)
    assert code is not None
    with volume.open("r+b") as file:
        boot = with_volume_code(file.read(512), code)
        file.seek(0)
        file.write(boot)
        file.seek(-512, os.SEEK_END)
        file.write(boot[:512])


def write_files(volume: Path, mount: Path, files: Mapping[str, bytes], *, remove: set[str] = frozenset()) -> None:
    """Write files into the NTFS volume through ntfs-3g, with fixed times."""
    mount.mkdir(exist_ok=True)
    with mounted(volume, mount):
        for name in xp.folders(files):
            (mount / name.lstrip("/")).mkdir(exist_ok=True)
        for name, data in files.items():
            path = mount / name.lstrip("/")
            path.write_bytes(data)
            os.utime(path, (BUILT, BUILT))
        for name in remove:
            (mount / name.lstrip("/")).unlink()


@contextlib.contextmanager
def mounted(volume: Path, mount: Path) -> Iterator[None]:
    subprocess.run(["ntfs-3g", "-o", "noatime", volume, mount], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", mount], check=True)


def wrap(volume: Path, disk: Path) -> None:
    """Put the volume behind an MBR of Byre's own code with one active NTFS partition, as XP's Setup lays it out."""
    size = volume.stat().st_size
    sector = bytearray(512)
    struct.pack_into("<I", sector, 0x1B8, xp.DISK_SIGNATURE)
    struct.pack_into("<BBBBBBBBII", sector, 0x1BE, 0x80, 1, 1, 0, 7, HEADS - 1, 0xFF, 0xFF, START_LBA, size // 512)
    with disk.open("wb") as target, volume.open("rb") as source:
        target.truncate(DISK_SIZE)
        target.write(with_master_code(sector))
        target.seek(START_LBA * 512)
        while piece := source.read(1 << 20):
            if piece.strip(b"\0"):
                target.write(piece)
            else:
                target.seek(len(piece), os.SEEK_CUR)


def make_qcow2(states: list[Path], output: Path) -> None:
    """One compressed qcow2 with a snapshot for each state, and today's disk as the first of them."""
    made = output.with_suffix(".part")
    byre = [sys.executable, "-m", "byre"]
    made.unlink(missing_ok=True)
    subprocess.run(
        [*byre, "convert", "-O", "qcow2", "--compress", "zlib", "--level", "9", states[0], made], check=True
    )
    subprocess.run([*byre, "snapshot", "create", made, "clean"], check=True)
    write_differences(states[0], states[1], made)
    subprocess.run([*byre, "snapshot", "create", made, "infected"], check=True)
    subprocess.run([*byre, "snapshot", "revert", made, "clean"], check=True)
    packed = output.with_suffix(".packed")
    packed.unlink(missing_ok=True)
    subprocess.run(
        [*byre, "convert", "-O", "qcow2", "--with-snapshots", "--compress", "zlib", "--level", "9", made, packed],
        check=True,
    )
    for name, raw in zip(("clean", "infected"), states, strict=True):
        check = folder_compare(packed, name, raw)
        if check:
            sys.exit(f"snapshot {name} is not what was written: {check}")
    subprocess.run(["qemu-img", "check", "-q", packed], check=True)
    made.unlink()
    packed.replace(output)


def write_differences(before: Path, after: Path, image: Path) -> None:
    """Write into the image what differs between two raw disks, by 4 KiB."""
    import byre

    step = 4096
    with before.open("rb") as old, after.open("rb") as new, byre.open_disk(image, writable=True) as disk:
        for offset in range(0, DISK_SIZE, 1 << 20):
            first, second = old.read(1 << 20), new.read(1 << 20)
            if first == second:
                continue
            for at in range(0, 1 << 20, step):
                if first[at : at + step] != second[at : at + step]:
                    disk.write(offset + at, second[at : at + step])
        disk.flush()


def folder_compare(image: Path, snapshot: str, raw: Path) -> str:
    """What qemu-img says against the snapshot being this raw disk; empty where nothing."""
    address = f"driver=qcow2,file.filename={image}"
    with tempfile.TemporaryDirectory() as folder:
        flat = Path(folder) / "flat.raw"
        subprocess.run(
            ["qemu-img", "convert", "-l", f"snapshot.name={snapshot}", "-O", "raw", "--image-opts", address, flat],
            check=True,
        )
        done = subprocess.run(
            ["qemu-img", "compare", "-f", "raw", "-F", "raw", flat, raw], capture_output=True, text=True
        )
    return "" if done.returncode == 0 else done.stdout


if __name__ == "__main__":
    main()
