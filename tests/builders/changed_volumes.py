"""A volume changed by Byre's writers, and what it then holds by our own reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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


@contextmanager
def reading(image: Path) -> Iterator[FileSystem]:
    """The file system of a raw image of one volume; closed afterwards, so that other programs may lock it."""
    with open_disk(image, format="raw") as disk:
        files = open_volumes(disk)[0].filesystem
        assert files is not None
        yield files


def holds(image: Path) -> dict[str, bytes | None]:
    """Every path with its bytes (None for a folder), by our reader, whose check must find nothing."""
    with reading(image) as files:
        found = {
            entry.path: None if entry.is_dir else files.read(entry) for entry in files.walk() if not entry.reparse
        }
        report = files.check()
        assert (report.corruptions, report.leaks) == (0, 0), report.problems
    return found
