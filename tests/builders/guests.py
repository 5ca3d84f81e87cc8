"""Volumes with a guest on them that are larger than the specimen."""

from __future__ import annotations

import random
from pathlib import Path

from builders import xp
from builders.ntfs_volumes import mkntfs, mounted


def large_guest(image: Path, size: int, *, fillers: int, filler_bytes: int) -> Path:
    """An NTFS volume of ``size`` bytes with the clean system, and files whose content nothing needs to read."""
    mkntfs(image, size)
    files = xp.clean_files()
    with mounted(image) as root:
        for name in xp.folders(files):
            (root / name.lstrip("/")).mkdir(exist_ok=True)
        for name, data in files.items():
            (root / name.lstrip("/")).write_bytes(data)
        folder = root / "Archive"
        folder.mkdir()
        content = random.Random(7).randbytes(filler_bytes)
        for number in range(fillers):
            (folder / f"run {number:05}.dat").write_bytes(content)
    return image
