"""What is at the start of a volume: a file system that Byre reads, or one that it can only name.

Magic numbers from the file systems' own specifications and the kernel's headers; names are for people.
"""

from __future__ import annotations

from dataclasses import dataclass

from byre.errors import ByreError
from byre.filesystems.fat.boot import is_fat
from byre.volumes.partition import VolumeDisk

READABLE = frozenset({"ntfs", "fat12", "fat16", "fat32", "exfat", "iso9660"})


@dataclass(frozen=True, slots=True)
class Detected:
    """``type`` is a short name, ``name`` what people call it; ``readable`` whether Byre reads it."""

    type: str
    name: str

    @property
    def readable(self) -> bool:
        return self.type in READABLE


_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (3, b"NTFS    ", "ntfs", "NTFS"),
    (3, b"EXFAT   ", "exfat", "exFAT"),
    (3, b"-FVE-FS-", "bitlocker", "BitLocker-encrypted volume"),
    (3, b"ReFS\0\0\0\0", "refs", "ReFS"),
    (0, b"LUKS\xba\xbe", "luks", "LUKS-encrypted volume"),
    (0, b"XFSB", "xfs", "XFS"),
    (0, b"hsqs", "squashfs", "SquashFS"),
    (0x200, b"LABELONE", "lvm2", "Linux LVM physical volume"),
    (0x10040, b"_BHRfS_M", "btrfs", "Btrfs"),
    (0x10034, b"ReIsEr", "reiserfs", "ReiserFS"),
    (0x8000, b"JFS1", "jfs", "JFS"),
    (0x400, b"\x10\x20\xf5\xf2", "f2fs", "F2FS"),
    (0x400, b"H+\0\x04", "hfsplus", "HFS+"),
    (0x400, b"HX\0\x05", "hfsplus", "HFSX"),
    (0x20, b"NXSB", "apfs", "APFS"),
    (0xFF6, b"SWAPSPACE2", "swap", "Linux swap"),
    (0xFF6, b"SWAP-SPACE", "swap", "Linux swap (old)"),
    (0x1000, b"\xfc\x4e\x2b\xa9", "mdraid", "Linux RAID member"),
    (0x2000, b"\xf9\x95\xe8\x49\xfa\x53\xe9\xc5", "hpfs", "HPFS"),
)


def detect(volume: VolumeDisk) -> Detected | None:
    """The file system of a volume, or None where nothing is known. Reads a few sectors; raises only where the
    disk itself can't be read."""
    head = _peek(volume, 0, 4096)
    if len(head) < 512:
        return None
    for offset, magic, kind, name in _MAGIC:
        if _peek(volume, offset, len(magic), head) == magic:
            return Detected(kind, name)
    if _peek(volume, 0x438, 2, head) == b"\x53\xef":
        return _ext(_peek(volume, 0x400, 0x80, head))
    fat = is_fat(head, volume.size)
    if fat is not None:
        return Detected(fat, fat.upper())
    return _optical(volume)


def _peek(volume: VolumeDisk, offset: int, length: int, head: bytes = b"") -> bytes:
    if offset + length <= len(head):
        return head[offset : offset + length]
    length = min(length, volume.size - offset)
    return volume.read(offset, length) if length > 0 else b""


def _ext(superblock: bytes) -> Detected:
    compatible = int.from_bytes(superblock[0x5C:0x60], "little")
    incompatible = int.from_bytes(superblock[0x60:0x64], "little")
    if incompatible & 0x3C0:  # extents, 64bit, mmp, flex_bg
        return Detected("ext4", "ext4")
    return Detected("ext3", "ext3") if compatible & 4 else Detected("ext2", "ext2")


def _optical(volume: VolumeDisk) -> Detected | None:
    """The volume recognition sequence from sector 16 on: ISO 9660 wins over UDF, for discs that have both."""
    udf = False
    for sector in range(16, 32):
        mark = _peek(volume, sector * 2048 + 1, 5)
        if mark == b"CD001":
            return Detected("iso9660", "ISO 9660")
        if mark in (b"NSR02", b"NSR03"):
            udf = True
        elif mark not in (b"BEA01", b"TEA01", b"BOOT2"):
            break
    return Detected("udf", "UDF") if udf else None


def recognise(volume: VolumeDisk) -> str | None:
    """The type's short name, or None, also where the volume can't be read."""
    try:
        found = detect(volume)
    except ByreError:
        return None
    return found.type if found else None
