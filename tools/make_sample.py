#!/usr/bin/env python3
"""Rebuild the sample image that ships with Byre: src/byre/samples/farm.qcow2.

A small NTFS volume behind an MBR as Windows XP laid it out (first partition at sector 63), made by mkntfs and
filled through ntfs-3g, turned into a compressed qcow2 by qemu-img, with two internal snapshots that qemu-img took
between changes. Needs root (or FUSE for users), ntfs-3g and qemu-utils. NTFS keeps times and a random serial
number, so two runs don't give the same bytes. All text in it is Byre's own.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "src" / "byre" / "samples" / "farm.qcow2"
MIB = 1 << 20
SECTOR = 512
PARTITION_SECTOR = 63
DISK_SIZE = 24 * MIB
VOLUME_SIZE = DISK_SIZE - MIB
STEP = 4096
"""Changes go into the image in pieces of this size: one cluster of NTFS, and of the qcow2."""
MAX_SAMPLE_BYTES = 500_000

WELCOME = """\
This is the disk of a machine that never was.

It stands in for the old computer in the corner: the one that runs the milking
parlour, weighs the hay, prints the ear tags, and must not be upgraded, because
the program that knows how has no author any more.

Everything on it was written for Byre, which keeps such disks safe.
"""
ANIMALS = "tag,name,kind,born\r\n" + "".join(
    f"{tag},{name},{kind},{year}\r\n"
    for tag, name, kind, year in (
        (101, "Bramble", "cow", 1998),
        (102, "Hazel", "cow", 1999),
        (103, "Sorrel", "cow", 2001),
        (117, "Old Tom", "horse", 1986),
        (204, "Dandelion", "goat", 2003),
        (205, "Thistle", "goat", 2003),
    )
)
LEDGER = "date,litres,note\r\n" + "".join(
    f"2004-03-{day:02},{412 + (day * 37) % 61},{'vet came' if day == 9 else ''}\r\n" for day in range(1, 31)
)
SPRING = """\
Spring 2004. The parlour program asks for its key disk again. Copied it before
it could die. Hazel has calved: tag 104, Clover.
"""
AUTUMN = """\
Autumn 2004. Sold Old Tom's cart. Ledger moved to the new sheet.
"""


def main() -> int:
    for command in ("mkntfs", "ntfs-3g", "qemu-img", "qemu-io"):
        if shutil.which(command, path="/usr/bin:/usr/sbin:/bin:/sbin:/usr/local/bin") is None:
            print(f"make_sample: {command} is missing (Debian: ntfs-3g, qemu-utils)", file=sys.stderr)
            return 1
    with tempfile.TemporaryDirectory(prefix="byre-sample-") as folder:
        work = Path(folder)
        image = build(work)
        size = image.stat().st_size
        if size > MAX_SAMPLE_BYTES:
            print(f"make_sample: {size} bytes, more than {MAX_SAMPLE_BYTES}", file=sys.stderr)
            return 1
        SAMPLE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image, SAMPLE)
    print(f"{SAMPLE.relative_to(ROOT)}: {size} bytes")
    return 0


def build(work: Path) -> Path:
    """The image, in three states: snapshot 'clean', snapshot 'spring', and today's."""
    volume, disk, image = work / "volume.ntfs", work / "disk.raw", work / "farm.qcow2"
    with volume.open("wb") as file:
        file.truncate(VOLUME_SIZE)
    geometry = ["-p", str(PARTITION_SECTOR), "-H", "255", "-S", "63", "-s", str(SECTOR), "-c", str(STEP)]
    call("mkntfs", "-Q", "-F", "-q", "-L", "FARM", *geometry, volume)
    edit(volume, work, first_files)
    compose(volume, disk)
    # zlib clusters, as most compressed images in the field have them
    call("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", "-o", f"cluster_size={STEP}", disk, image)
    call("qemu-img", "snapshot", "-c", "clean", image)
    for name, change in (("spring", spring), (None, autumn)):
        before = disk.read_bytes()
        edit(volume, work, change)
        compose(volume, disk)
        write_changes(image, before, disk.read_bytes(), work)
        if name is not None:
            call("qemu-img", "snapshot", "-c", name, image)
    call("qemu-img", "check", "-q", image)
    call("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", disk, image)
    return image


def first_files(root: Path) -> None:
    write(root / "Notes" / "welcome.txt", WELCOME)
    write(root / "Farm" / "animals.csv", ANIMALS)
    write(root / "Farm" / "Milk" / "ledger-2004.csv", LEDGER)


def spring(root: Path) -> None:
    write(root / "Notes" / "spring.txt", SPRING)
    write(root / "Farm" / "animals.csv", ANIMALS + "104,Clover,cow,2004\r\n")


def autumn(root: Path) -> None:
    write(root / "Notes" / "autumn.txt", AUTUMN)
    (root / "Farm" / "Milk" / "ledger-2004.csv").rename(root / "Farm" / "Milk" / "ledger-old.csv")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode("ascii"))


def edit(volume: Path, work: Path, change: Callable[[Path], None]) -> None:
    """Mount the volume with ntfs-3g, change it, unmount."""
    mount = work / "mount"
    mount.mkdir(exist_ok=True)
    call("ntfs-3g", volume, mount)
    try:
        change(mount)
    finally:
        call("umount", mount)


def compose(volume: Path, disk: Path) -> None:
    """The whole disk: an MBR with one active NTFS partition, and the volume at sector 63."""
    data = volume.read_bytes()
    entry = struct.pack(
        "<B3sB3sII", 0x80, b"\x01\x01\x00", 0x07, b"\xfe\xff\xff", PARTITION_SECTOR, len(data) // SECTOR
    )
    table = bytearray(SECTOR)
    table[440:444] = b"FARM"
    table[446:462] = entry
    table[510:512] = b"\x55\xaa"
    whole = bytes(table) + bytes((PARTITION_SECTOR - 1) * SECTOR) + data
    disk.write_bytes(whole + bytes(DISK_SIZE - len(whole)))


def write_changes(image: Path, before: bytes, after: bytes, work: Path) -> None:
    """Put what differs into the image with qemu-io, as a running machine would have."""
    piece = work / "piece"
    for start in range(0, len(after), STEP):
        block = after[start : start + STEP]
        if block != before[start : start + STEP]:
            piece.write_bytes(block)
            call("qemu-io", "-f", "qcow2", "-c", f"write -q -s {piece} {start} {len(block)}", image)


def call(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
