"""Finding the parent of a differencing image by what it says of itself: its UUID, not its name.

VDI, VHD and VHDX name their parent by an identifier. It is looked for in the files and folders that the user
gave, and in the image's own folder; only headers are read, of a bounded number of regular files.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from byre.disks.context import OpenContext
from byre.disks.disk import Disk

MAX_ENTRIES = 20_000
"""Directory entries looked at in one folder: far above any library of disk images, and about a second's work."""


def candidates(context: OpenContext) -> Iterator[Path]:
    """Regular files that may be the parent: those the user named, then the image's folder, then the user's
    folders; by name within a folder, so that the same one is found each time."""
    seen: set[Path] = set()
    named = [path for path in context.options.parents if path.is_file()]
    folders = [path for path in context.options.parents if path.is_dir()]
    if context.folder is not None:
        folders.insert(0, context.folder)
    for path in named:
        seen.add(path)
        yield path
    for folder in folders:
        for path in files_in(folder):
            if path not in seen:
                seen.add(path)
                yield path


def files_in(folder: Path) -> list[Path]:
    """The regular files of a folder, by name; symbolic links count as what they point at."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for count, entry in enumerate(entries):
                if count >= MAX_ENTRIES:
                    break
                if entry.is_file():
                    found.append(folder / entry.name)
    except OSError:
        return []
    return sorted(found)


def read_ends(path: Path, head: int, tail: int) -> tuple[bytes, bytes]:
    """The first and last bytes of a file, fewer where it is shorter; empty where it can't be read: an
    unreadable neighbour isn't the parent, and is none of the user's worries here."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return b"", b""
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return b"", b""
        return os.pread(fd, head, 0), os.pread(fd, tail, max(0, status.st_size - tail)) if tail else b""
    except OSError:
        return b"", b""
    finally:
        os.close(fd)


def find_parent(context: OpenContext, rank: Callable[[Path], int]) -> Path | None:
    """The candidate of the highest ``rank`` above 0, the first of several. A rank of 2 or more ends the search:
    the identifier and everything else agree; 1 is a parent that has changed since."""
    best: tuple[int, Path] | None = None
    for path in candidates(context):
        score = rank(path)
        if score >= 2:
            return path
        if score > (best[0] if best else 0):
            best = (score, path)
    return best[1] if best else None


def folder_above_has(context: OpenContext, rank: Callable[[Path], int]) -> Path | None:
    """A fitting file one folder up, where VirtualBox keeps the base of an image in ``Snapshots``. Only for a
    hint: it lies outside the image's folder, so the user has to say that it may be used."""
    if context.folder is None or context.folder.parent == context.folder:
        return None
    return next((path for path in files_in(context.folder.parent) if rank(path) > 0), None)


def open_parent(context: OpenContext, path: Path, *, image: str, format: str) -> Disk:
    """Open a found parent read-only with its own chain, confined as every reference is; what the user gave as a
    parent is allowed. Raises CorruptImageError for a loop, UnsupportedError for an endless chain."""
    options = context.options
    allowed = replace(options, allow_paths=(*options.allow_paths, *options.parents))
    return replace(context, options=allowed).open_reference(str(path), "parent", image=image, format=format)
