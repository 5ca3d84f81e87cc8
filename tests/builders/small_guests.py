"""Guests on FAT volumes with an MBR in front, made of any set of files: other systems than the specimen's."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from builders import xp
from oracles import run_tool

START = 63 * 512


def fat_guest(image: Path, files: Mapping[str, bytes], *, bits: int = 32, size: int = 64 << 20) -> Path:
    """A raw disk with one active FAT partition that holds these files; folders are made."""
    volume, tree = image.with_suffix(".fat"), image.with_suffix(".tree")
    with volume.open("wb") as file:
        file.truncate(size)
    run_tool("mkfs.fat", "-F", str(bits), "-h", "63", "-n", "GUEST", volume)
    for name, data in files.items():
        path = tree / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    tops = sorted(tree.iterdir())
    run_tool("mcopy", "-s", "-Q", "-i", volume, *tops, "::/")
    table = struct.pack("<B3sB3sII", 0x80, b"\1\1\0", 0x0C, b"\xfe\xff\xff", 63, size // 512)
    head = bytes(440) + struct.pack("<IH", xp.DISK_SIGNATURE, 0) + table.ljust(64, b"\0") + b"\x55\xaa"
    image.write_bytes(head.ljust(START, b"\0") + volume.read_bytes())
    volume.unlink()
    return image


def volume_of(image: Path, volume: Path) -> Path:
    """The raw disk's volume as a file, for other programs."""
    volume.write_bytes(image.read_bytes()[START:])
    return volume
