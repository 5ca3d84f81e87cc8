"""Partitions as facts, and one partition seen as a disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from byre.disks.disk import Description, Disk, DiskDefaults, Problem
from byre.errors import CorruptImageError, UsageError
from byre.extents import ExtentTable
from byre.storage.base import Storage


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition. ``start`` and ``length`` are guest bytes as the table states them, even when impossible.

    ``index`` is the number that Windows and Linux use: 1 to 4 primary, from 5 logical, GPT by slot; 0 is a
    whole disk without a table. ``role``: ``primary``, ``extended``, ``logical``, ``gpt`` or ``whole-disk``.
    ``type`` is ``0x07`` or a GUID; ``type_name`` is what the world calls it.
    """

    index: int
    start: int
    length: int
    role: str
    type: str
    type_name: str
    name: str = ""
    active: bool = False
    guid: str | None = None
    attributes: int = 0

    @property
    def stop(self) -> int:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class PartitionTable:
    """What the start (and, for GPT, the end) of a disk says. ``scheme``: ``mbr``, ``gpt``, ``superfloppy`` or
    ``none``. ``id`` is the MBR's disk signature (``0x1234abcd``) or the GPT's GUID."""

    scheme: str
    sector_size: int
    id: str | None = None
    partitions: tuple[Partition, ...] = ()
    problems: tuple[Problem, ...] = ()
    dynamic: bool = False
    """A Windows dynamic disk (LDM): its volumes need not be the partitions."""
    details: Mapping[str, object] = field(default_factory=dict)


class VolumeDisk(DiskDefaults):
    """The bytes of one partition as a read-only disk: offset 0 is its first byte. Doesn't own the disk.

    ``start`` is its first byte as a guest offset of the whole disk; a partition that leaves the disk is cut.
    """

    writable = False

    def __init__(self, disk: Disk, start: int = 0, length: int | None = None) -> None:
        stop = disk.size if length is None else start + length
        if start < 0 or start > disk.size or stop < start:
            raise UsageError("the partition lies outside the disk", found=f"{start}+{length}", expected=disk.size)
        self._disk = disk
        self._skip = start
        self.start: int = start + (disk.start if isinstance(disk, VolumeDisk) else 0)
        self.size = min(stop, disk.size) - start
        self.format = disk.format
        self.sector_size = disk.sector_size
        self.block_size = disk.block_size

    @property
    def name(self) -> str:
        """What errors call it: the image's name."""
        if isinstance(self._disk, VolumeDisk):
            return self._disk.name
        files = self._disk.files
        return files[0].name if files else "<disk>"

    @property
    def files(self) -> tuple[Storage, ...]:
        return self._disk.files

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return
        for table in self._disk.extents(self._skip + start, self._skip + stop):
            shifted = table.copy()
            shifted["start"] -= self._skip
            yield shifted

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill the buffer; a range past the end is a CorruptImageError: it was the image that named it."""
        self._check(offset, len(buffer))
        self._disk.read_into(self._skip + offset, buffer)

    def read(self, offset: int, length: int) -> bytes:
        """As ``read_into``; checked before anything is allocated."""
        self._check(offset, length)
        return self._disk.read(self._skip + offset, length)

    def _check(self, offset: int, length: int) -> None:
        if length < 0 or offset < 0 or offset + length > self.size:
            raise CorruptImageError(
                "points past the end of its volume",
                path=self.name,
                found=f"{offset}+{length}",
                expected=f"within {self.size} bytes",
            )

    def describe(self) -> Description:
        return Description(format=self.format, virtual_size=self.size, sector_size=self.sector_size)


def whole(disk: Disk) -> VolumeDisk:
    """The disk as one volume."""
    return disk if isinstance(disk, VolumeDisk) else VolumeDisk(disk)
