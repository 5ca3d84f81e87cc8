"""A volume changed by Byre's writers, and what it then holds by our own reader."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from byre.convert.convert import convert_image
from byre.disks.opening import open_disk
from byre.disks.scratch import open_scratch
from byre.filesystems.base import FileSystem
from byre.filesystems.opening import open_volumes
from byre.lite.applying import apply_changes
from byre.lite.changes import Applied, Change


def change(image: Path, changes: Sequence[Change], out: Path) -> Applied:
    """``image`` (raw, one volume) with the changes made, as a raw image at ``out``."""
    before = image.read_bytes()
    with open_disk(image, format="raw") as disk:
        work = open_scratch(disk, out.parent)
        try:
            applied = apply_changes(work, open_volumes(disk)[0], changes)
            convert_image(work, out, "raw", force=True)
        finally:
            work.close()
    assert image.read_bytes() == before
    return applied


def holds(image: Path) -> tuple[dict[str, bytes | None], FileSystem]:
    """Every path with its bytes (None for a folder), by our reader, whose check must find nothing."""
    disk = open_disk(image, format="raw")
    files = open_volumes(disk)[0].filesystem
    assert files is not None
    found = {entry.path: None if entry.is_dir else files.read(entry) for entry in files.walk() if not entry.reparse}
    report = files.check()
    assert (report.corruptions, report.leaks) == (0, 0), report.problems
    return found, files
