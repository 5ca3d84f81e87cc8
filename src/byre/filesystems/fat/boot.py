"""The BIOS parameter block of FAT12, FAT16 and FAT32.

Source: Microsoft, FAT: General Overview of On-Disk Format 1.03. The kind follows from the number of clusters alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.errors import CorruptImageError
from byre.units import ceil_div, is_power_of_two

_BPB = struct.Struct("<HBHBHHBHHHII")


@dataclass(frozen=True, slots=True)
class FatBoot:
    """Sizes in bytes and places as byte offsets in the volume; ``clusters`` counts data clusters."""

    kind: str
    sector_size: int
    cluster_size: int
    fat_offset: int
    fat_size: int
    fats: int
    root_offset: int
    root_entries: int
    root_cluster: int
    data_offset: int
    clusters: int
    total_size: int
    serial: int | None
    label: str
    dirty: bool
    active_fat: int
    fsinfo_offset: int | None
    backup_offset: int | None

    @classmethod
    def parse(cls, sector: bytes) -> FatBoot:
        """From the first 512 bytes; raises CorruptImageError."""
        fields = _BPB.unpack_from(sector, 0x0B)
        size, per_cluster, reserved, fats, root_entries, total16, media, fat16, _, _, _, total32 = fields
        if not is_power_of_two(size) or not 512 <= size <= 4096:
            raise CorruptImageError("impossible sector size", offset=0x0B, found=size)
        if not is_power_of_two(per_cluster) or size * per_cluster > 1 << 18:
            raise CorruptImageError("impossible cluster size", offset=0x0D, found=per_cluster)
        if not reserved or not 1 <= fats <= 4 or (media < 0xF8 and media != 0xF0):
            raise CorruptImageError("no FAT boot sector", offset=0x0E, found=sector[0x0B:0x18])
        fat_sectors = fat16 or struct.unpack_from("<I", sector, 0x24)[0]
        total = total16 or total32
        root_sectors = ceil_div(root_entries * 32, size)
        data = reserved + fats * fat_sectors + root_sectors
        if not fat_sectors or total <= data:
            raise CorruptImageError(
                "a FAT volume without room for data", offset=0x13, found=total, expected=f"> {data}"
            )
        clusters = (total - data) // per_cluster
        # A FAT32 volume has no fixed root; small ones made by other tools keep FAT32 below 65525 clusters.
        wide = fat16 == 0 and root_entries == 0
        kind = "fat32" if wide else "fat12" if clusters < 4085 else "fat16"
        clusters = min(clusters, _entries(kind, fat_sectors * size) - 2)
        if clusters <= 0 or clusters > 0x0FFFFFF5:
            raise CorruptImageError("impossible number of clusters", offset=0x24, found=clusters)
        return cls._with_extension(sector, kind, fields, fat_sectors, clusters, total)

    @classmethod
    def _with_extension(
        cls, sector: bytes, kind: str, fields: tuple[int, ...], fat_sectors: int, clusters: int, total: int
    ) -> FatBoot:
        size, per_cluster, reserved, fats, root_entries = fields[:5]
        wide = kind == "fat32"
        tail = 0x40 if wide else 0x24
        signed = sector[tail + 2] in (0x28, 0x29)
        flags, _, root, info, backup = struct.unpack_from("<HHIHH", sector, 0x28) if wide else (0, 0, 0, 0, 0)
        root_offset = (reserved + fats * fat_sectors) * size
        return cls(
            kind=kind,
            sector_size=size,
            cluster_size=size * per_cluster,
            fat_offset=reserved * size,
            fat_size=fat_sectors * size,
            fats=fats,
            root_offset=root_offset,
            root_entries=root_entries,
            root_cluster=root,
            data_offset=root_offset + ceil_div(root_entries * 32, size) * size,
            clusters=clusters,
            total_size=total * size,
            serial=struct.unpack_from("<I", sector, tail + 3)[0] if signed else None,
            label=sector[tail + 7 : tail + 18].decode("cp437").rstrip() if sector[tail + 2] == 0x29 else "",
            dirty=bool(sector[tail + 1] & 1),
            active_fat=flags & 15 if flags & 0x80 and flags & 15 < fats else 0,
            fsinfo_offset=info * size if wide and 0 < info < reserved else None,
            backup_offset=backup * size if wide and 0 < backup < reserved else None,
        )


def _entries(kind: str, fat_size: int) -> int:
    """How many entries a FAT has room for."""
    return fat_size * 2 // 3 if kind == "fat12" else fat_size // (2 if kind == "fat16" else 4)


def is_fat(head: bytes, volume_size: int) -> str | None:
    """The kind, where the bytes make a FAT boot sector and not merely pass for one."""
    jump = head[0] == 0xE9 or (head[0] == 0xEB and head[2] == 0x90)
    if len(head) < 512 or (not jump and head[510:512] != b"\x55\xaa"):
        return None
    try:
        boot = FatBoot.parse(head[:512])
    except CorruptImageError:
        return None
    # A whole disk may be cut short; a boot record read as a parameter block is wrong by far more.
    return boot.kind if boot.fat_offset + boot.fat_size <= volume_size else None
