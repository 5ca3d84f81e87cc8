"""FAT volumes by mtools, exFAT volumes by mkfs.exfat and a few entry sets of our own (fsck.exfat judges them)."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

from oracles import run_tool

CONTENT = {
    "README.TXT": b"plain short name\r\n",
    "lower.txt": b"lower-case short name",
    "A long file name.with dots.txt": b"long" * 1000,
    "empty.bin": b"",
    "Sub Directory/inner file.bin": random.Random(3).randbytes(70_000),
    "Sub Directory/second.bin": random.Random(4).randbytes(30_001),
}


def make_fat(image: Path, bits: int, size: int, folder: Path, *options: str) -> dict[str, bytes]:
    """A FAT volume with ``CONTENT`` and a fragmented file; what is in it, by path."""
    with image.open("wb") as file:
        file.truncate(size)
    run_tool("mkfs.fat", "-F", str(bits), "-n", "BYRE FAT", "-i", "12345678", *options, image)
    run_tool("mmd", "-i", image, "::/Sub Directory")
    written = dict(CONTENT)
    for number in range(12):
        written[f"filler {number}.bin"] = bytes([number]) * 8192
    for name, data in written.items():
        _mcopy(image, folder, name, data)
    for number in range(0, 12, 2):
        run_tool("mdel", "-i", image, f"::/filler {number}.bin")
        del written[f"filler {number}.bin"]
    written["fragmented.bin"] = random.Random(5).randbytes(60_000)
    _mcopy(image, folder, "fragmented.bin", written["fragmented.bin"])
    return {f"/{name}": data for name, data in written.items()}


def _mcopy(image: Path, folder: Path, name: str, data: bytes) -> None:
    source = folder / "source.bin"
    source.write_bytes(data)
    os.utime(source, (1_000_000_000, 1_000_000_000))
    run_tool("mcopy", "-m", "-i", image, source, f"::/{name}")


class ExfatBuilder:
    """Adds files to the root of a fresh exFAT volume. Mutable: it writes into ``data``."""

    def __init__(self, image: Path, size: int) -> None:
        with image.open("wb") as file:
            file.truncate(size)
        run_tool("mkfs.exfat", "-L", "Byre exFAT", "-c", "4K", image)
        self.image = image
        self.data = bytearray(image.read_bytes())
        fields = struct.unpack_from("<IIIII", self.data, 0x50)
        self.fat, self.heap, self.root = fields[0] * 512, fields[2] * 512, fields[4]
        root = self.at(self.root)
        bitmap = next(self.data[at : at + 32] for at in range(root, root + 4096, 32) if self.data[at] == 0x81)
        self.bitmap = self.at(struct.unpack_from("<I", bitmap, 20)[0])
        self.slot = next(at for at in range(root, root + 4096, 32) if self.data[at] == 0)
        self.free = self.root + 1

    def at(self, cluster: int) -> int:
        return self.heap + (cluster - 2) * 4096

    def add(self, name: str, content: bytes, *, scattered: bool = False, valid: int | None = None) -> None:
        """One file: its clusters in a row without the FAT, or every other one through it."""
        step = 2 if scattered else 1
        count = -(-len(content) // 4096)
        clusters = [self.free + step * number for number in range(count)]
        self.free += step * count
        for number, cluster in enumerate(clusters):
            piece = content[number * 4096 : (number + 1) * 4096]
            self.data[self.at(cluster) : self.at(cluster) + len(piece)] = piece
            self.data[self.bitmap + (cluster - 2) // 8] |= 1 << (cluster - 2) % 8
            following = clusters[number + 1] if number + 1 < count else 0xFFFFFFFF
            struct.pack_into("<I", self.data, self.fat + 4 * cluster, following if scattered else 0)
        units = name.encode("utf-16-le")
        names = [units[at : at + 30].ljust(30, b"\0") for at in range(0, len(units), 30)]
        stamp = (2001 - 1980) << 25 | 9 << 21 | 9 << 16 | 1 << 11 | 46 << 5 | 20
        head = struct.pack(
            "<BBHHHIII5B7x", 0x85, 1 + len(names), 0, 0x20, 0, stamp, stamp, stamp, 0, 0, 128, 128, 128
        )
        flags = 1 if scattered or not count else 3
        written = len(content) if valid is None else valid
        stream = struct.pack(
            "<BBBBHHQIIQ",
            0xC0,
            flags,
            0,
            len(units) // 2,
            _name_hash(units),
            0,
            written,
            0,
            clusters[0] if count else 0,
            len(content),
        )
        raw = bytearray(head + stream + b"".join(b"\xc1\0" + part for part in names))
        struct.pack_into("<H", raw, 2, _set_checksum(raw))
        self.data[self.slot : self.slot + len(raw)] = raw
        self.slot += len(raw)

    def save(self) -> Path:
        self.image.write_bytes(self.data)
        return self.image


def _name_hash(units: bytes) -> int:
    total = 0
    for byte in units.decode("utf-16-le").upper().encode("utf-16-le"):
        total = ((total >> 1 | (total & 1) << 15) + byte) & 0xFFFF
    return total


def _set_checksum(raw: bytes) -> int:
    total = 0
    for index, byte in enumerate(raw):
        if index not in (2, 3):
            total = ((total >> 1 | (total & 1) << 15) + byte) & 0xFFFF
    return total
