"""A file system in memory, from a dictionary of guest paths: for what is read through the ``FileSystem`` seam."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from byre.disks.disk import CheckReport
from byre.errors import CorruptImageError, MissingError
from byre.filesystems.base import Entry, FileExtents, FreeExtents, Name, VolumeFacts, name_of, no_extents
from byre.volumes.problems import Problems


class MemoryFiles:
    """Files by path, case-insensitive. ``unreadable``: paths whose content raises CorruptImageError."""

    type = "ntfs"

    def __init__(self, files: Mapping[str, bytes], unreadable: frozenset[str] = frozenset()) -> None:
        self.problems = Problems()
        self._data = {path.lower(): data for path, data in files.items()}
        self._names = {path.lower(): path for path in files}
        self._unreadable = {path.lower() for path in unreadable}
        for path in list(files):
            parts = path.split("/")
            for depth in range(2, len(parts)):
                folder = "/".join(parts[:depth])
                self._names.setdefault(folder.lower(), folder)

    def facts(self) -> VolumeFacts:
        return VolumeFacts(type="ntfs", size=1 << 28, cluster_size=4096, sector_size=512, dirty=False, log="clean")

    def lookup(self, path: str) -> Entry:
        key = path.replace("\\", "/").lower().rstrip("/")
        if key and key not in self._names:
            raise MissingError("there is no such file", path=path)
        return self._entry(key)

    def _entry(self, key: str) -> Entry:
        path = self._names.get(key, "/")
        size = len(self._data.get(key, b""))
        is_dir = key not in self._data
        return Entry(path, path.rpartition("/")[2], hash(key), is_dir, size, size, 0, None, None, None, None)

    def listdir(self, where: str | Entry = "/") -> list[Entry]:
        path = where.path if isinstance(where, Entry) else where
        parent = "" if path == "/" else self.lookup(path).path.lower()
        return [self._entry(key) for key in sorted(self._names) if key.rpartition("/")[0] == parent]

    def walk(self, where: str | Entry = "/", *, deleted: bool = False, system: bool = False) -> Iterator[Entry]:
        top = where.path if isinstance(where, Entry) else where
        below = top.lower().rstrip("/") + "/"
        return (self._entry(key) for key in sorted(self._names) if key.startswith(below))

    def walk_names(self) -> Iterator[Name]:
        return map(name_of, self.walk())

    def read(self, entry: Entry, stream: str = "", offset: int = 0, length: int | None = None) -> bytes:
        key = entry.path.lower()
        if key in self._unreadable:
            raise CorruptImageError("its clusters lie outside the volume", path=entry.path)
        data = self._data[key][offset:]
        return data if length is None else data[:length]

    def chunks(self, entry: Entry, stream: str = "", size: int = 1 << 20) -> Iterator[bytes]:
        yield self.read(entry)

    def extents(self, entry: Entry, stream: str = "", *, slack: bool = False) -> FileExtents:
        return no_extents()

    def free_extents(self) -> Iterator[FreeExtents]:
        return iter(())

    def check(self) -> CheckReport:
        return CheckReport("ntfs", 0, 0)
