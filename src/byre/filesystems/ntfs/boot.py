"""The NTFS boot sector: sizes, and where the MFT is."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.errors import ByreError, CorruptImageError
from byre.units import is_power_of_two
from byre.volumes.partition import VolumeDisk
from byre.volumes.problems import Problems

OEM_ID = b"NTFS    "

_BPB = struct.Struct("<HB10xHHI8xQQQb3xb3xQ")
"""Bytes per sector at 0x0B … serial number at 0x48."""


@dataclass(frozen=True, slots=True)
class BootSector:
    """Sizes in bytes, places in clusters (LCN)."""

    sector_size: int
    cluster_size: int
    total_sectors: int
    mft_lcn: int
    mftmirr_lcn: int
    record_size: int
    index_record_size: int
    serial: int
    hidden_sectors: int
    heads: int

    @property
    def clusters(self) -> int:
        return self.total_sectors * self.sector_size // self.cluster_size

    @classmethod
    def parse(cls, sector: bytes) -> BootSector:
        """From 512 bytes; raises CorruptImageError."""
        if sector[3:11] != OEM_ID:
            raise CorruptImageError("no NTFS boot sector", offset=3, found=sector[3:11], expected=OEM_ID)
        fields = _BPB.unpack_from(sector, 0x0B)
        sector_size, per_cluster, _, heads, hidden, total, mft, mirror, record, index, serial = fields
        if not is_power_of_two(sector_size) or not 256 <= sector_size <= 4096:
            raise CorruptImageError("impossible sector size", offset=0x0B, found=sector_size)
        # Clusters above 64 KiB (Windows 10) store the power of two as a negative byte.
        sectors = per_cluster if per_cluster <= 0x80 else 1 << min(256 - per_cluster, 31)
        cluster_size = sectors * sector_size
        if not is_power_of_two(sectors) or cluster_size > 2 << 20:
            raise CorruptImageError("impossible cluster size", offset=0x0D, found=per_cluster)
        if not 0 < total < 1 << 55:
            raise CorruptImageError("impossible number of sectors", offset=0x28, found=total)
        boot = cls(
            sector_size=sector_size,
            cluster_size=cluster_size,
            total_sectors=total,
            mft_lcn=mft,
            mftmirr_lcn=mirror,
            record_size=_record_size(record, cluster_size, 0x40),
            index_record_size=_record_size(index, cluster_size, 0x44),
            serial=serial,
            hidden_sectors=hidden,
            heads=heads,
        )
        if mft >= boot.clusters or mft == 0:
            raise CorruptImageError("the MFT lies outside the volume", offset=0x30, found=mft)
        return boot


def _record_size(value: int, cluster_size: int, offset: int) -> int:
    size = value * cluster_size if value > 0 else 1 << min(-value, 31)
    if not is_power_of_two(size) or not 512 <= size <= 65536:
        raise CorruptImageError("impossible record size", offset=offset, found=value)
    return size


def read_boot(volume: VolumeDisk, problems: Problems) -> BootSector:
    """The boot sector, or its copy from the volume's last sector (NT 3.51: its middle), which is then said."""
    try:
        boot = BootSector.parse(volume.read(0, 512))
    except CorruptImageError as error:
        for offset in (volume.size - 512, volume.size // 1024 * 512):
            try:
                boot = BootSector.parse(volume.read(offset, 512))
            except ByreError:
                continue
            problems.add("ntfs.boot-sector", f"the boot sector is broken, its copy is used: {error}", offset=0)
            return boot
        error.path = volume.name
        raise
    if boot.total_sectors * boot.sector_size > volume.size:
        problems.add(
            "ntfs.truncated",
            f"the volume says {boot.total_sectors * boot.sector_size} bytes, the partition holds {volume.size}",
            offset=0x28,
        )
    return boot
