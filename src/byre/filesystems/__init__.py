"""Read-only file systems over a disk: NTFS, FAT, exFAT, ISO 9660.

for volume in open_volumes(disk):
    if volume.filesystem is not None:
        for entry in volume.filesystem.walk():
            print(entry.path, entry.size)
"""

from __future__ import annotations

from byre.filesystems.base import Entry, FileSystem, Reparse, Stream, VolumeFacts
from byre.filesystems.detect import Detected, detect
from byre.filesystems.opening import OpenVolume, open_filesystem, open_volumes, read_partitions

__all__ = [
    "Detected",
    "Entry",
    "FileSystem",
    "OpenVolume",
    "Reparse",
    "Stream",
    "VolumeFacts",
    "detect",
    "open_filesystem",
    "open_volumes",
    "read_partitions",
]
