"""What lies where as a plan goes on: names of the volume that went, and names that are new. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from byre.errors import MissingError, UsageError
from byre.filesystems.base import Entry
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.paths import join_path, split_path
from byre.filesystems.tree import TreeFileSystem
from byre.lite.changes import Move

Files: TypeAlias = NtfsFileSystem | TreeFileSystem
Where: TypeAlias = str | int
"""A folder: the exact path of one of the volume's, the number of one that is new."""
MAX_NAME = 255
"""UTF-16 units."""
_DEVICES = re.compile(
    r"(?:con|prn|aux|nul|clock\$|conin\$|conout\$|(?:com|lpt)[1-9\xb9\xb2\xb3]) *(?:\..*)?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Made:
    """A name that is new. ``number`` is its own among them; ``operation`` is the writer's."""

    path: str
    is_dir: bool
    number: int
    operation: int


class PlannedNames:
    """The names of one volume while changes to it are gathered. Mutable.

    Of two names that differ in case alone, which only other systems make, each is found by its exact spelling.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self._gone: set[str] = set()
        self._made: dict[tuple[Where, str], Made] = {}
        self._above_made: set[str] = set()

    def find(self, path: str) -> Entry | Made | None:
        """What is at a path by now; None where nothing is."""
        if not self._made:
            return self._living(path)
        here: Entry | Made | None = self.files.lookup("/")
        for name in split_path(path):
            if here is None or not here.is_dir:
                return None
            made = self._made.get((where(here), self.files.fold(name)))
            if made is not None:
                here = made
            else:
                here = self._living(join_path(here.path, name)) if isinstance(here, Entry) else None
        return here

    def folder(self, path: str) -> Entry | Made:
        """The folder that a new name at ``path`` lies in."""
        above = "/" + "/".join(split_path(path)[:-1])
        found = self.find(above)
        if found is None:
            raise MissingError("the folder isn't there, or went by an earlier change", path=self._name, found=above)
        if not found.is_dir or (isinstance(found, Entry) and found.reparse is not None):
            raise UsageError("not a folder that files can be put in", path=self._name, found=found.path)
        return found

    def existing(self, path: str) -> Entry | None:
        """What is to be removed at a path: None where it went already. MissingError where it never was there,
        UsageError where an earlier change made it, or something in it."""
        found = self.find(path)
        if found is None:
            entry = self.files.lookup(path)
            return None if entry.path in self._gone else entry
        if isinstance(found, Made) or found.path in self._above_made:
            raise UsageError("what a plan makes isn't removed in it", path=self._name, found=found.path)
        return found

    def is_gone(self, entry: Entry) -> bool:
        return entry.path in self._gone

    def remove(self, entry: Entry) -> None:
        self._gone.add(entry.path)

    def make(self, path: str, folder: Entry | Made, *, is_dir: bool, operation: int) -> Made:
        """Note a new name in ``folder``."""
        made = Made(path, is_dir, len(self._made), operation)
        self._made[where(folder), self.files.fold(split_path(path)[-1])] = made
        if isinstance(folder, Entry):
            self._above_made.update(_upwards(folder.path))
        return made

    def _living(self, path: str) -> Entry | None:
        try:
            entry = self.files.lookup(path)
        except MissingError:
            return None
        return None if entry.path in self._gone else entry

    @property
    def _name(self) -> str:
        return self.files.volume.name


def movable(names: PlannedNames, change: Move, volume: str) -> Entry:
    """The file that is to get another name. MissingError where it isn't there, UsageError for a folder, a reparse
    point, and a name that is taken."""
    entry = names.existing(change.path)
    if entry is None:
        raise MissingError("it went by an earlier change", path=volume, found=change.path)
    if entry.is_dir or entry.reparse is not None:
        raise UsageError("only a file is moved", path=volume, found=entry.path)
    there = names.find(change.target)
    if there is not None:
        raise UsageError("something of that name is there", path=volume, found=there.path)
    return entry


def new_name(path: str, volume: str) -> str:
    """The last name of a path, where Windows can use it for something new. Raises UsageError.

    Source: Microsoft's "Naming Files, Paths, and Namespaces".
    """
    names = split_path(path)
    name = names[-1] if names else ""
    bad = set('\\/:*?"<>|') & set(name) or any(ord(letter) < 32 for letter in name)
    if not name or len(name.encode("utf-16-le", "surrogatepass")) > 2 * MAX_NAME or bad or name[-1] in " .":
        raise UsageError("not a name that Windows can use", path=volume, found=repr(name))
    if _DEVICES.fullmatch(name):
        raise UsageError("Windows takes that name for a device, with any ending", path=volume, found=repr(name))
    return name


def where(folder: Entry | Made) -> Where:
    return folder.path if isinstance(folder, Entry) else folder.number


def _upwards(path: str) -> Iterable[str]:
    """A path and those above it, as the entries have them."""
    while path and path != "/":
        yield path
        path = path.rpartition("/")[0]
    yield "/"
