"""What a disk's file systems don't need: free clusters, and the contents of page and hibernation files.

Only where the file system can be trusted to know: a volume that is dirty, hibernated, whose log isn't clean or
whose structures contradict each other is refused, since what it calls free may be a file's.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from byre.disks.disk import Disk
from byre.disks.writer import Int64Array
from byre.errors import ByreError, MissingError, UnsupportedError
from byre.extents import Kind
from byre.filesystems.base import Entry, FileSystem, VolumeFacts
from byre.filesystems.opening import OpenVolume, open_volumes, read_partitions
from byre.ranges import joined
from byre.volumes.partition import whole
from byre.volumes.types import PIECES

EMPTIED = ("/pagefile.sys", "/hiberfil.sys")
"""Files whose contents no shut-down system needs: they keep their size and read as zeros."""
JUDGED = frozenset({"ntfs", "fat12", "fat16", "fat32", "exfat"})

FileId = tuple[int, str, str]
"""Partition, path, stream."""


@dataclass(frozen=True, slots=True)
class Unneeded:
    """``ranges``: rows ``(start, stop)`` of guest bytes, ascending and apart. ``free`` and ``emptied`` are the bytes
    of free clusters and of files' contents among them; ``files`` the files that lose their contents."""

    ranges: Int64Array
    free: int
    emptied: int
    files: tuple[tuple[int, str], ...]


def find_unneeded(disk: Disk, *, what: str = "", checked_later: bool = False) -> Unneeded:
    """Every range of the disk that nothing needs. ``what`` names a state in errors: a snapshot. ``checked_later``:
    the caller checks the file systems of the disk without these ranges, and throws it away where they are damaged.

    Raises UnsupportedError where a file system can't be trusted to say, or there is none that Byre judges.
    """
    table = read_partitions(disk)
    name = whole(disk).name
    volumes = open_volumes(disk, table)
    _refuse_overlaps(volumes, name, what)
    pieces: list[Int64Array] = []
    free = emptied = 0
    files: list[tuple[int, str]] = []
    judged = False
    for volume in volumes:
        if volume.filesystem is None or volume.filesystem.type not in JUDGED:
            continue
        judged = True
        _refuse_piece(volume, name, what)
        facts = volume.filesystem.facts()
        _require_sound(volume, facts, name, what, checked_later=checked_later)
        for slice_ in volume.filesystem.free_extents():
            pieces.append(np.stack((slice_["disk"], slice_["disk"] + slice_["length"]), axis=1))
            free += int(slice_["length"].sum())
        for path in EMPTIED:
            ranges = _contents(volume.filesystem, path)
            if len(ranges):
                pieces.append(ranges)
                emptied += int((ranges[:, 1] - ranges[:, 0]).sum())
                files.append((volume.partition.index, path))
    if not judged:
        raise UnsupportedError(
            f"{what}has no file system whose free space Byre can tell", path=name, expected="NTFS, FAT or exFAT"
        )
    return Unneeded(joined(pieces), free, emptied, tuple(files))


def _refuse_piece(volume: OpenVolume, name: str, what: str) -> None:
    """What a volume in pieces calls free may be another volume's, even where each cluster is inside its partition."""
    piece = PIECES.get(volume.partition.type)
    if piece is not None:
        raise UnsupportedError(
            f"{what}partition {volume.partition.index}: free space can't be trusted: the partition is {piece}",
            path=name,
            found=f"type {volume.partition.type}",
        )


def _require_sound(volume: OpenVolume, facts: VolumeFacts, name: str, what: str, *, checked_later: bool) -> None:
    """Raise unless the volume's own account of its space can be trusted."""
    assert volume.filesystem is not None
    reason = _distrust(volume.filesystem, facts, checked_later=checked_later)
    if reason is not None:
        raise UnsupportedError(
            f"{what}partition {volume.partition.index}: free space can't be trusted: {reason}",
            path=name,
            hint="Start the guest, let it check its disk, and shut it down properly.",
        )


def _distrust(files: FileSystem, facts: VolumeFacts, *, checked_later: bool) -> str | None:
    if facts.dirty or (facts.dirty is None and files.type == "ntfs"):
        return "the volume is marked dirty" if facts.dirty else "its dirty flag can't be read"
    if facts.hibernated or (facts.hibernated is None and files.type == "ntfs"):
        return "a hibernated session lies on it" if facts.hibernated else "hiberfil.sys may hold a session"
    if facts.log not in ("clean", "empty", None):
        return f"its log is {facts.log}"
    if checked_later:
        return None
    report = files.check()
    if report.corruptions:
        first = next((each.message for each in report.problems if each.kind == "corruption"), "")
        return f"{report.corruptions} of its structures are broken: {first}"
    return None


def _refuse_overlaps(volumes: list[OpenVolume], name: str, what: str) -> None:
    """What is free in one volume must not be another's data."""
    parts = sorted((each.partition.start, each.partition.stop, each.partition.index) for each in volumes)
    reach, owner = -1, 0
    for start, stop, index in parts:
        if start < reach:
            raise UnsupportedError(f"{what}partitions {owner} and {index} overlap", path=name)
        reach, owner = max(reach, stop), index


def _contents(files: FileSystem, path: str) -> Int64Array:
    """Where the bytes of a page or hibernation file lie; nothing where it has another name, or isn't plain."""
    none = np.zeros((0, 2), dtype=np.int64)
    try:
        entry = files.lookup(path)
        if entry.is_dir or entry.links != 1 or entry.reparse is not None:
            return none
        rows = files.extents(entry)
    except MissingError:
        return none
    plain = rows[rows["kind"] == Kind.DATA]
    if len(plain) != len(rows[rows["kind"] != Kind.ZERO]) or (plain["disk"] % 512).any():
        return none  # compressed, or inside its MFT record
    return np.stack((plain["disk"], plain["disk"] + plain["stored"]), axis=1)


def hash_files(disk: Disk, leave_out: tuple[tuple[int, str], ...] = ()) -> dict[FileId, str]:
    """SHA-256 of every stream of every file on the disk; of what can't be read, why not."""
    found: dict[FileId, str] = {}
    for volume in open_volumes(disk):
        if volume.filesystem is None:
            continue
        index = volume.partition.index
        for entry in volume.filesystem.walk():
            if (index, entry.path) in leave_out:
                continue
            for stream in ([] if entry.is_dir else [""]) + [each.name for each in entry.streams]:
                found[index, entry.path, stream] = stream_digest(volume.filesystem, entry, stream)
    return found


def stream_digest(files: FileSystem, entry: Entry, stream: str) -> str:
    """SHA-256 of one stream; where it can't be read, why not."""
    digest = hashlib.sha256()
    try:
        for chunk in files.chunks(entry, stream):
            digest.update(chunk)
    except ByreError as error:
        return error.what
    return digest.hexdigest()
