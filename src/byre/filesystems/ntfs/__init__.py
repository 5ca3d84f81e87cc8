"""NTFS 1.2 to 3.1, read-only."""

from __future__ import annotations

from byre.filesystems.ntfs.filesystem import NtfsFileSystem

__all__ = ["NtfsFileSystem"]
