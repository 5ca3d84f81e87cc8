"""The drives of a guest beside the system's: volumes of the same image that MountedDevices gives a letter, and paths
across all of them.

A path on the system's drive is ``/WINDOWS/x``, one on another ``D:/x``. Nothing is guessed: a volume without a letter
of this guest's own, or of a kind that Byre doesn't change, isn't one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from string import ascii_uppercase

from byre.audit.facts import Facts
from byre.disks.disk import CheckReport
from byre.errors import MissingError
from byre.filesystems.base import Entry, FileExtents, FileSystem, FreeExtents, Name, VolumeFacts
from byre.filesystems.opening import OpenVolume
from byre.lite.applying import changeable
from byre.volumes.partition import PartitionTable
from byre.volumes.types import PIECES
from byre.windows.roots import find_roots

_LETTERS = frozenset(ascii_uppercase)


@dataclass(frozen=True, slots=True)
class Drive:
    """One of them. ``letter`` in upper case; ``loader``: what the machine starts from lies there; ``system``: so does
    another installed system, whose waste is its own."""

    letter: str
    partition: int
    files: FileSystem
    loader: bool = False
    system: bool = False

    @property
    def prefix(self) -> str:
        return f"{self.letter}:"


def drives_of(volumes: Sequence[OpenVolume], facts: Facts) -> tuple[tuple[Drive, ...], tuple[str, ...]]:
    """(the other drives, notes on volumes that are none). Two letters of one volume are one drive, the first's."""
    guest = facts.guest
    assert guest is not None
    own = own_letter(facts)
    letters: dict[int, str] = {}
    for letter, signature, start in facts.system.value.mounted if facts.system.value is not None else ():
        fits = letter in _LETTERS and letter != own and signature == _signature(facts.table)
        if fits and letter not in letters.values():
            letters.setdefault(start, letter)
    loader = next((each.partition.index for each in volumes if each.partition.active and each.filesystem), None)
    found: list[Drive] = []
    notes: list[str] = []
    for volume in volumes:
        index, files = volume.partition.index, volume.filesystem
        if index == guest.volume or files is None:
            continue
        known = letters.get(volume.partition.start)
        if known is None:
            notes.append(f"partition {index} has no drive letter in {_told(facts)}: nothing of it goes")
        elif not changeable(volume):
            what = PIECES.get(volume.partition.type, files.type)
            notes.append(f"{known}: is {what}, which Byre doesn't change: nothing of it goes")
        else:
            roots = find_roots(files)
            found.append(Drive(known, index, files, index == loader, bool(roots)))
            if roots:
                notes.append(f"{known}: holds another system ({roots[0]}): recycle bin and restore points there stay")
    return tuple(sorted(found, key=lambda each: each.letter)), tuple(notes)


def _told(facts: Facts) -> str:
    """MountedDevices, with the disks that it knows where this is none of them: a clone."""
    system, own = facts.system.value, _signature(facts.table)
    known = sorted({row[1] for row in system.mounted}) if system is not None else []
    if own is None or not known or own in known:
        return "MountedDevices"
    return f"MountedDevices, which knows {', '.join(f'{each:#010x}' for each in known[:4])} and not {own:#010x}"


def own_letter(facts: Facts) -> str:
    """The system's own drive letter, by SOFTWARE's SystemRoot."""
    return facts.logon.value.drive if facts.logon.value is not None else "C"


def _signature(table: PartitionTable) -> int | None:
    """The disk signature that MountedDevices names; None for GPT, whose entries there are of another kind."""
    return int(table.id, 16) if table.scheme == "mbr" and table.id is not None else None


def letter_of(path: str) -> str | None:
    """The letter of a path on another drive, None for one on the system's: there a folder may be called ``:``."""
    return path[0].upper() if path[1:3] == ":/" and path[0] != "/" else None


class AllDrives:
    """The files of all drives of a guest as one file system, for what follows paths from one to another. Implements
    ``FileSystem``; what only a single volume has is the system's."""

    def __init__(self, system: FileSystem, drives: Iterable[Drive]) -> None:
        self.type, self.problems = system.type, system.problems
        self._system = system
        self._drives = {each.letter: each for each in drives}

    def _at(self, path: str) -> tuple[FileSystem, str, str]:
        """(file system, prefix, the path there). MissingError for a letter that is none of theirs."""
        if path[1:2] != ":" or path[0] == "/":
            return self._system, "", path
        drive = self._drives.get(path[0].upper())
        if drive is None:
            raise MissingError(f"has no drive {path[:2]}", found=path)
        return drive.files, drive.prefix, path[2:] or "/"

    def _of(self, entry: Entry) -> tuple[FileSystem, Entry]:
        files, _, path = self._at(entry.path)
        return files, entry._replace(path=path)

    def lookup(self, path: str) -> Entry:
        files, prefix, plain = self._at(path)
        return _placed(files.lookup(plain), prefix)

    def listdir(self, where: str | Entry = "/") -> list[Entry]:
        files, prefix, plain = self._at(where.path if isinstance(where, Entry) else where)
        return [_placed(each, prefix) for each in files.listdir(plain)]

    def walk(self, where: str | Entry = "/", *, deleted: bool = False, system: bool = False) -> Iterator[Entry]:
        """From the root: every drive, the system's first."""
        path = where.path if isinstance(where, Entry) else where
        files, prefix, plain = self._at(path)
        for entry in files.walk(plain, deleted=deleted, system=system):
            yield _placed(entry, prefix)
        for drive in self._drives.values() if path == "/" else ():
            for entry in drive.files.walk("/", deleted=deleted, system=system):
                yield _placed(entry, drive.prefix)

    def walk_names(self) -> Iterator[Name]:
        yield from self._system.walk_names()
        for drive in self._drives.values():
            for name in drive.files.walk_names():
                yield name._replace(path=drive.prefix + name.path)

    def read(self, entry: Entry, stream: str = "", offset: int = 0, length: int | None = None) -> bytes:
        files, own = self._of(entry)
        return files.read(own, stream, offset, length)

    def chunks(self, entry: Entry, stream: str = "", size: int = 1 << 20) -> Iterator[bytes]:
        files, own = self._of(entry)
        return files.chunks(own, stream, size)

    def extents(self, entry: Entry, stream: str = "", *, slack: bool = False) -> FileExtents:
        files, own = self._of(entry)
        return files.extents(own, stream, slack=slack)

    def facts(self) -> VolumeFacts:
        return self._system.facts()

    def free_extents(self) -> Iterator[FreeExtents]:
        return self._system.free_extents()

    def check(self) -> CheckReport:
        return self._system.check()


def _placed(entry: Entry, prefix: str) -> Entry:
    return entry._replace(path=f"{prefix}{entry.path}") if prefix else entry
