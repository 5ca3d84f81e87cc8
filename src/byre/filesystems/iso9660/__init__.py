"""ISO 9660 with Joliet, Rock Ridge and El Torito, read-only."""

from __future__ import annotations

from byre.filesystems.iso9660.filesystem import Iso9660FileSystem

__all__ = ["Iso9660FileSystem"]
