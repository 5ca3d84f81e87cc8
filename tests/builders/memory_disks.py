"""Disks in memory."""

from __future__ import annotations

from byre.disks.raw import RawDisk
from byre.storage.memory import MemoryStorage


def memory_disk(data: bytes | bytearray, *, sector_size: int = 512) -> RawDisk:
    disk = RawDisk(MemoryStorage(data, writable=False))
    disk.sector_size = sector_size
    return disk
