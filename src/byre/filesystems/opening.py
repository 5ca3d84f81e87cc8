"""From a disk to its partition table and the file system of each partition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from byre.disks.disk import Disk
from byre.errors import ByreError, MissingError, UnsupportedError
from byre.filesystems.base import FileSystem
from byre.filesystems.detect import Detected, detect, recognise
from byre.volumes.partition import Partition, PartitionTable, VolumeDisk, whole
from byre.volumes.reading import read_table


@dataclass(frozen=True, slots=True)
class OpenVolume:
    """One partition and what lies in it: a file system, or the reason why there is none to read."""

    partition: Partition
    detected: Detected | None
    filesystem: FileSystem | None
    reason: ByreError | None

    @property
    def type(self) -> str | None:
        return self.detected.type if self.detected else None


def read_partitions(disk: Disk) -> PartitionTable:
    """The partition table of a disk; see ``byre.volumes.read_table``."""
    return read_table(disk, recognise)


def open_partition(disk: Disk, number: int) -> VolumeDisk:
    """The partition of this number (from 1, as ``byre inspect`` shows it) as a disk of its own."""
    partitions = read_partitions(disk).partitions
    for partition in partitions:
        if partition.index == number:
            return VolumeDisk(disk, partition.start, partition.length)
    known = ", ".join(str(partition.index) for partition in partitions) or "none"
    raise MissingError(f"has no partition {number}", path=whole(disk).name, found=f"partitions: {known}")


def open_volumes(disk: Disk, table: PartitionTable | None = None) -> list[OpenVolume]:
    """Every partition that can hold a file system, in the order of the table, each opened where Byre can.

    A partition that can't be read doesn't keep the others from being opened: it carries its ``reason``.
    """
    table = read_partitions(disk) if table is None else table
    found = []
    for partition in table.partitions:
        if partition.role == "extended":
            continue
        found.append(_open_partition(disk, partition))
    return found


def _open_partition(disk: Disk, partition: Partition) -> OpenVolume:
    detected: Detected | None = None
    try:
        if not partition.length or partition.start >= disk.size:
            raise UnsupportedError(f"partition {partition.index} lies outside the disk", path=whole(disk).name)
        volume = VolumeDisk(disk, partition.start, partition.length)
        detected = detect(volume)
        return OpenVolume(partition, detected, open_filesystem(volume, detected), None)
    except ByreError as error:
        return OpenVolume(partition, detected, None, error)


def open_filesystem(volume: Disk, detected: Detected | None = None) -> FileSystem:
    """The file system of a volume (or of a whole disk without a table).

    Raises UnsupportedError where there is none that Byre reads, naming what it is; CorruptImageError where it is
    one but too broken to start with.
    """
    piece = whole(volume)
    found = detect(piece) if detected is None else detected
    if found is None:
        raise UnsupportedError("no file system that Byre knows", path=piece.name)
    if not found.readable:
        raise UnsupportedError(f"{found.name} is not read by Byre", path=piece.name)
    return _opener(found.type)(piece)


def _opener(kind: str) -> Callable[[VolumeDisk], FileSystem]:
    if kind == "ntfs":
        from byre.filesystems.ntfs.filesystem import NtfsFileSystem

        return NtfsFileSystem
    if kind == "iso9660":
        from byre.filesystems.iso9660.filesystem import Iso9660FileSystem

        return Iso9660FileSystem
    if kind == "exfat":
        from byre.filesystems.fat.exfat import ExfatFileSystem

        return ExfatFileSystem
    from byre.filesystems.fat.filesystem import FatFileSystem

    return FatFileSystem
