"""FAT12, FAT16, FAT32 and exFAT, read-only."""

from __future__ import annotations

from byre.filesystems.fat.exfat import ExfatFileSystem
from byre.filesystems.fat.filesystem import FatFileSystem

__all__ = ["ExfatFileSystem", "FatFileSystem"]
