"""A FAT volume as fsck.fat has it, where that is installed: a second reader beside Byre's own.

It gets a sparse copy of what it looks at, the reserved sectors, every copy of the table and the folders, as a file
without a name, and finds zeros in the place of all contents.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems.fat.directory import parse_directory
from byre.filesystems.fat.filesystem import FatFileSystem
from byre.filesystems.fat.table import FREE
from byre.filesystems.tree import read_extents
from byre.volumes.partition import VolumeDisk

READER = "fsck.fat"
PIECE = 1 << 20
MAX_COPIED = 256 << 20
"""The tables of 32 GB with clusters of 4 KiB take 64 MiB."""
PATIENCE = 120
"""Seconds."""
_PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
_LAST = re.compile(r": (\d+) files, (\d+)/(\d+) clusters$")
_NOBODY = 65534


def count_fat(files: FatFileSystem) -> tuple[int, int]:
    """Names and used clusters as fsck.fat finds them. Raises UnsupportedError where it isn't there or can't be asked,
    CorruptImageError where it finds anything to mend."""
    name = files.volume.name
    program = shutil.which(READER, path=_PLACES)
    if program is None or not sys.platform.startswith("linux"):
        raise UnsupportedError(f"{READER} isn't installed", path=name, hint="Install it: apt install dosfstools.")
    with tempfile.TemporaryFile(prefix="byre-") as copy:
        _copy(files, copy)
        done = _run(program, copy, name)
    lines = done.stdout.decode("ascii", "replace").splitlines()
    found = _LAST.search(lines[-1]) if lines else None
    if done.returncode != 0 or found is None:
        said = next((line for line in lines[1:] if line.strip()), f"exit status {done.returncode}")
        raise CorruptImageError(f"the proof failed: {READER} finds something to mend: {said}", path=name)
    return int(found[1]), int(found[2])


def compare_fat(files: FatFileSystem, counted: tuple[int, int]) -> int:
    """How many names both have. Raises CorruptImageError where fsck.fat counts another number of them, or of used
    clusters."""
    names = sum(1 for _ in files.walk()) + _has_label(files)  # which is an entry of the root folder
    used = int(np.count_nonzero(files.chains.next[2:] != FREE))
    if counted != (names, used):
        raise CorruptImageError(
            "the proof failed: two readers disagree",
            path=files.volume.name,
            found=f"{READER}: {counted[0]} names in {counted[1]} clusters",
            expected=f"{names} names in {used} clusters",
            hint="Nothing was written. Please report this with the image's audit.",
        )
    return names


def _has_label(files: FatFileSystem) -> bool:
    rows = files.extents(files.root())
    data = read_extents(files.volume, rows, 0, int(rows["length"].sum()))
    return parse_directory(data, wide=files.boot.kind == "fat32", codepage=files.codepage).label is not None


def _copy(files: FatFileSystem, copy: BinaryIO) -> None:
    copy.truncate(files.boot.total_size)
    total = 0
    for start, length in _wanted(files):
        total += length
        if total > MAX_COPIED:
            raise UnsupportedError(f"{READER} isn't asked: the tables and folders are too large to copy")
        for position in range(start, start + length, PIECE):
            data = _read(files.volume, position, min(PIECE, start + length - position))
            if any(data):
                copy.seek(position)
                copy.write(data)
    copy.flush()


def _wanted(files: FatFileSystem) -> Iterator[tuple[int, int]]:
    """What is copied: (offset in the volume, bytes)."""
    yield 0, files.boot.data_offset
    for entry in (files.root(), *(each for each in files.walk() if each.is_dir)):
        rows = files.extents(entry)
        for disk, length in zip(rows["disk"].tolist(), rows["length"].tolist(), strict=True):
            if disk - files.volume.start >= files.boot.data_offset:
                yield disk - files.volume.start, length


def _read(volume: VolumeDisk, offset: int, length: int) -> bytes:
    inside = max(0, min(length, volume.size - offset))
    return volume.read(offset, inside) if inside else b""


def _run(program: str, copy: BinaryIO, name: str) -> subprocess.CompletedProcess[bytes]:
    """fsck.fat on an open file, which it only reads; as nobody where we are root."""
    as_nobody: dict[str, Any] = {}
    if os.geteuid() == 0:
        os.fchown(copy.fileno(), _NOBODY, _NOBODY)
        as_nobody = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
    try:
        done: subprocess.CompletedProcess[bytes] = subprocess.run(
            [program, "-n", f"/proc/self/fd/{copy.fileno()}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(copy.fileno(),),
            env={"LC_ALL": "C"},
            cwd="/",
            timeout=PATIENCE,
            check=False,
            **as_nobody,
        )
        return done
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnsupportedError(f"{READER} can't be asked: {error}", path=name) from error
