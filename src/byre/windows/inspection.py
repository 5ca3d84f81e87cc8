"""A whole disk looked into: partitions, file systems, the systems installed on them, and guest paths."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from byre.disks.disk import Disk
from byre.errors import ByreError, CorruptImageError, MissingError, StorageError, UnsupportedError
from byre.filesystems.base import Entry, FileSystem
from byre.filesystems.opening import OpenVolume, open_volumes, read_partitions
from byre.volumes.partition import PartitionTable
from byre.windows.roots import find_roots

if TYPE_CHECKING:
    from byre.windows.guest import Guest

_DRIVE = re.compile(r"^([A-Za-z]):(?=[\\/]|$)")


@dataclass(frozen=True, slots=True)
class Place:
    """A guest path found: the volume it lies on and its entry there."""

    volume: OpenVolume
    files: FileSystem
    entry: Entry


class Inspection:
    """What is on a disk. Mutable: guests are read when they are first asked for. Doesn't own the disk."""

    def __init__(self, disk: Disk, *, name: str, partition: int | None = None) -> None:
        self.disk = disk
        self.name = name
        self.table: PartitionTable = read_partitions(disk)
        self.volumes: list[OpenVolume] = open_volumes(disk, self.table)
        self._only = partition
        if partition is not None and all(volume.partition.index != partition for volume in self.volumes):
            known = ", ".join(str(volume.partition.index) for volume in self.volumes) or "none"
            raise MissingError(f"has no partition {partition}", path=name, found=f"partitions: {known}")

    @cached_property
    def roots(self) -> tuple[tuple[OpenVolume, str], ...]:
        """Each installed Windows or ReactOS: its volume and its folder there."""
        found = []
        for volume in self.volumes:
            if volume.filesystem is None or (self._only is not None and volume.partition.index != self._only):
                continue
            found += [(volume, root) for root in find_roots(volume.filesystem)]
        return tuple(found)

    @cached_property
    def guests(self) -> tuple[Guest, ...]:
        """The facts of every installed system."""
        from byre.windows.guest import read_guest  # here and in _mounted_devices: most paths need neither

        return tuple(
            read_guest(volume.filesystem, root, volume=volume.partition.index)
            for volume, root in self.roots
            if volume.filesystem is not None
        )

    @cached_property
    def drives(self) -> dict[str, OpenVolume]:
        """Drive letters as the installed system knows them (MountedDevices). Without that its own drive has the
        letter that it noted of itself, and the other readable volumes C:, D:, … in order."""
        mounted = self._mounted_devices()
        if mounted:
            return mounted
        readable = [volume for volume in self.volumes if volume.filesystem is not None]
        found: dict[str, OpenVolume] = {}
        if len(readable) > 1 and self.roots:
            volume, root = self.roots[0]
            found[self._own_letter(volume, root)] = volume
            readable.remove(volume)
        free = [each for each in map(chr, range(ord("C"), ord("Z") + 1)) if each not in found]
        return {**found, **dict(zip(free, readable, strict=False))}

    def volume_for(self, path: str) -> OpenVolume:
        """The volume that a guest path means: its drive letter's, the partition asked for, or the system's."""
        if self._only is not None:
            return next(volume for volume in self.volumes if volume.partition.index == self._only)
        match = _DRIVE.match(path)
        if match:
            letter = match[1].upper()
            if letter in self.drives:
                return self.drives[letter]
            known = ", ".join(f"{each}:" for each in sorted(self.drives)) or "none"
            raise MissingError(f"has no drive {letter}:", path=self.name, found=f"drives: {known}")
        if self.roots:
            return self.roots[0][0]
        for volume in self.volumes:
            if volume.filesystem is not None:
                return volume
        reasons = "; ".join(str(volume.reason) for volume in self.volumes if volume.reason)
        raise UnsupportedError(
            "holds no file system that Byre reads", path=self.name, found=reasons or "no partition and no file system"
        )

    def files_for(self, path: str) -> tuple[OpenVolume, FileSystem]:
        """The volume and file system that a guest path means; raises why where it can't be read."""
        volume = self.volume_for(path)
        if volume.filesystem is None:
            raise volume.reason or UnsupportedError("holds no file system", path=self.name)
        return volume, volume.filesystem

    def locate(self, path: str) -> Place:
        """The entry at a guest path; MissingError where there is none."""
        volume, files = self.files_for(path)
        return Place(volume, files, files.lookup(path))

    def hides_names(self) -> bool:
        """Whether there may be files that aren't listed because a file system is damaged, in part or wholly."""
        return any(
            volume.filesystem.problems.hide_names
            if volume.filesystem is not None
            else isinstance(volume.reason, (CorruptImageError, StorageError))
            for volume in self.volumes
        )

    def unsearched(self) -> tuple[str, ...]:
        """What keeps "nothing found" from meaning that nothing is there: partitions that are damaged or unread."""
        found = []
        for volume in self.volumes:
            if volume.filesystem is None:
                found.append(f"partition {volume.partition.index} can't be read")
            elif volume.filesystem.problems:
                found.append(f"partition {volume.partition.index} is damaged")
        return tuple(found)

    def _mounted_devices(self) -> dict[str, OpenVolume]:
        from byre.windows.hives import read_hive

        for volume, root in self.roots:
            if volume.filesystem is None:
                continue
            hive = read_hive(volume.filesystem, f"{root}/system32/config/SYSTEM").value
            try:
                key = hive.key("MountedDevices") if hive else None
                values = key.values() if key else ()
            except ByreError:
                continue
            found = {}
            for value in values:
                match = re.fullmatch(r"\\DosDevices\\([A-Z]):", value.name, re.IGNORECASE)
                if match and len(value.data) == 12:
                    signature, start = struct.unpack("<IQ", value.data)
                    hit = self._volume_at(signature, start)
                    if hit is not None:
                        found[match[1].upper()] = hit
            # What the guest noted of itself is the truth for its own drive, wherever the disk lies now.
            if found and volume not in found.values():
                found[self._own_letter(volume, root)] = volume
            if found:
                return found
        return {}

    @staticmethod
    def _own_letter(volume: OpenVolume, root: str) -> str:
        from byre.windows.hives import own_drive, read_hive

        assert volume.filesystem is not None
        return own_drive(read_hive(volume.filesystem, f"{root}/system32/config/SOFTWARE").value)

    def _volume_at(self, signature: int, start: int) -> OpenVolume | None:
        if self.table.id is None or not self.table.id.startswith("0x") or int(self.table.id, 16) != signature:
            return None
        return next((volume for volume in self.volumes if volume.partition.start == start), None)


def inspect(disk: Disk, *, name: str | None = None, partition: int | None = None) -> Inspection:
    """Look into a disk. Raises only where the disk itself can't be read; the rest is in what is found."""
    shown = name if name is not None else disk.files[0].name if disk.files else "disk"
    return Inspection(disk, name=shown, partition=partition)
