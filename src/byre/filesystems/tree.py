"""What file systems with plain directories share: looking up, walking, reading by extents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from byre.errors import ByreError, CorruptImageError, MissingError, UsageError
from byre.extents import Kind
from byre.filesystems.base import MAX_READ, Entry, FileExtents, Name, name_of
from byre.filesystems.capitals import capitals
from byre.filesystems.paths import MAX_PATH, split_path
from byre.volumes.partition import VolumeDisk
from byre.volumes.problems import Problems


class TreeFileSystem:
    """The part of a FileSystem that follows from ``root``, ``children``, ``fold`` and ``extents``.

    Mutable as a base only: subclasses hold ``volume`` and ``problems``.
    """

    type = ""
    volume: VolumeDisk
    problems: Problems

    def root(self) -> Entry:
        raise NotImplementedError

    def children(self, folder: Entry, *, deleted: bool = False) -> list[Entry]:
        """The entries of one directory; raises CorruptImageError where it can't be read."""
        raise NotImplementedError

    def extents(self, entry: Entry, stream: str = "", *, slack: bool = False) -> FileExtents:
        raise NotImplementedError

    def directory_blocks(self, entry: Entry) -> Iterable[int]:
        """The clusters or blocks of a directory: no walk reads one of them for two directories, or a crafted
        volume of n blocks would make it read n * n."""
        raise NotImplementedError

    def fold(self, name: str) -> str:
        """Names that fold to the same are the same name."""
        return capitals(name)

    def lookup(self, path: str) -> Entry:
        here = self.root()
        for name in split_path(path):
            wanted = self.fold(name)
            rows = self.children(here) if here.is_dir else []
            match = next((row for row in rows if row.name == name), None)
            if match is None:
                match = next((row for row in rows if self.fold(row.name) == wanted), None)
            if match is None:
                match = next((row for row in rows if row.short_name and self.fold(row.short_name) == wanted), None)
            if match is None:
                raise MissingError(
                    f"has no {path!r}",
                    path=self.volume.name,
                    found=f"{name!r} isn't in {here.path!r}",
                    hint=self.problems.missing_hint,
                )
            here = match
        return here

    def listdir(self, where: str | Entry = "/") -> list[Entry]:
        folder = self.lookup(where) if isinstance(where, str) else where
        if not folder.is_dir:
            raise UsageError("not a directory", path=self.volume.name, found=folder.path)
        return sorted(self.children(folder), key=lambda row: self.fold(row.name))

    def walk(self, where: str | Entry = "/", *, deleted: bool = False, system: bool = False) -> Iterator[Entry]:
        top = self.lookup(where) if isinstance(where, str) else where
        seen: set[int] = set()
        self._claim(top, seen)
        waiting = [iter(self._rows(top, deleted))]
        while waiting:
            row = next(waiting[-1], None)
            if row is None:
                waiting.pop()
                continue
            yield row
            if not row.is_dir or row.reparse is not None or row.deleted:
                continue
            if not self._claim(row, seen):
                self.problems.add(f"{self.type}.directory-twice", f"{row.path!r} shares its bytes with another")
            elif len(row.path) > MAX_PATH:
                what = "directories nest deeper than any path can say"
                self.problems.add(f"{self.type}.too-deep", what, hides_names=True)
            else:
                waiting.append(iter(self._rows(row, deleted)))

    def walk_names(self) -> Iterator[Name]:
        return map(name_of, self.walk())

    def _claim(self, folder: Entry, seen: set[int]) -> bool:
        """Add a directory's blocks to those seen; False at the first that is there already. What came before it
        stays claimed, so that all claims together visit each block once."""
        try:
            for block in self.directory_blocks(folder):
                if block in seen:
                    return False
                seen.add(block)
        except ByreError:
            return True  # listing it will say why
        return True

    def _rows(self, folder: Entry, deleted: bool) -> list[Entry]:
        try:
            return sorted(self.children(folder, deleted=deleted), key=lambda row: self.fold(row.name))
        except ByreError as error:
            what = f"{folder.path!r} can't be listed: {error}"
            self.problems.add(f"{self.type}.directory-unreadable", what, hides_names=True)
            return []

    def stream_size(self, entry: Entry, stream: str) -> int:
        if not stream:
            return entry.size
        raise MissingError(f"{entry.path!r} has no stream {stream!r}", path=self.volume.name)

    def read(self, entry: Entry, stream: str = "", offset: int = 0, length: int | None = None) -> bytes:
        start, stop = read_range(self.stream_size(entry, stream), offset, length)
        if start >= stop:
            return b""
        return read_extents(self.volume, self.extents(entry, stream), start, stop)

    def chunks(self, entry: Entry, stream: str = "", size: int = 1 << 20) -> Iterator[bytes]:
        table = self.extents(entry, stream)
        total = self.stream_size(entry, stream)
        for start in range(0, total, size):
            yield read_extents(self.volume, table, start, min(start + size, total))


def read_range(size: int, offset: int, length: int | None) -> tuple[int, int]:
    """The part of a stream that a read asks for, cut to its end; UsageError where it is senseless or too much."""
    if offset < 0 or (length is not None and length < 0):
        raise UsageError("a negative offset or length", found=f"{offset}, {length}")
    stop = size if length is None else min(size, offset + length)
    if stop - offset > MAX_READ:
        raise UsageError("too much for one read", found=stop - offset, expected=f"at most {MAX_READ} bytes")
    return offset, stop


def read_extents(volume: VolumeDisk, table: FileExtents, start: int, stop: int) -> bytes:
    """The bytes ``[start, stop)`` of a stream without compressed rows; raises CorruptImageError where the table
    ends before."""
    if len(table) == 1:
        row = table[0]
        if int(row["kind"]) == Kind.DATA and int(row["start"]) == 0 and int(row["length"]) >= stop:
            return volume.read(int(row["disk"]) - volume.start + start, stop - start)
    return bytes(fill_extents(volume, table, start, stop))


def fill_extents(volume: VolumeDisk, table: FileExtents, start: int, stop: int) -> bytearray:
    """What ``read_extents`` reads, in a buffer that is the caller's own."""
    if stop > start and (not len(table) or int(table["start"][-1] + table["length"][-1]) < stop):
        raise CorruptImageError("a file's clusters end before the file does", path=volume.name, expected=stop)
    buffer = bytearray(stop - start)
    view = memoryview(buffer)
    first = int(table["start"].searchsorted(start, side="right")) - 1
    last = int(table["start"].searchsorted(stop, side="left"))
    for begin, length, kind, disk, _ in table[max(first, 0) : last].tolist():
        if kind != Kind.DATA:
            continue
        low, high = max(begin, start), min(begin + length, stop)
        if low < high:
            volume.read_into(disk - volume.start + low - begin, view[low - start : high - start])
    return buffer
