"""An ISO 9660 volume as a FileSystem: by Joliet's names where there are some, else Rock Ridge's, else its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from byre.disks.disk import CheckReport
from byre.errors import ByreError, CorruptImageError, UnsupportedError
from byre.extents import Kind
from byre.filesystems.base import (
    DIRECTORY,
    HIDDEN,
    Entry,
    FileExtents,
    FreeExtents,
    Reparse,
    VolumeFacts,
    file_extents,
)
from byre.filesystems.iso9660.descriptors import BootImage, read_descriptors
from byre.filesystems.iso9660.directory import DirectoryRecord, RockRidge, records, rock_ridge
from byre.filesystems.paths import join_path
from byre.filesystems.tree import TreeFileSystem
from byre.volumes.partition import VolumeDisk
from byre.volumes.problems import Problems

MAX_DIRECTORY = 1 << 25
"""32 MiB: some 300,000 names in one directory."""
SECTOR = 2048

Parts = tuple[tuple[int, int], ...]
"""``(byte offset in the volume, bytes)`` of a file's extents."""


class Iso9660FileSystem(TreeFileSystem):
    """The volume. An entry's ``id`` is the byte offset in the volume of its (first) directory record."""

    type = "iso9660"

    def __init__(self, volume: VolumeDisk, names: str | None = None) -> None:
        self.volume = volume
        self.problems = Problems()
        found = read_descriptors(volume, self.problems)
        self.udf = found.udf
        self.boot_images: tuple[BootImage, ...] = found.boot_images
        chosen = found.joliet if found.joliet is not None and names in (None, "joliet") else found.primary
        if chosen is None:
            raise UnsupportedError("has no such names", path=volume.name, found=names)
        self.descriptor = chosen
        self._parts: dict[int, Parts] = {}
        self._skip = 0 if chosen.joliet else self._susp_skip()
        self._rock = self._skip >= 0 and not chosen.joliet and names in (None, "rockridge")
        self.names = "joliet" if chosen.joliet else "rockridge" if self._rock else "plain"

    def _susp_skip(self) -> int:
        """The bytes to skip in system use areas, from the root's own SP field; -1 where there is none."""
        root = self.descriptor.root
        try:
            data = self.volume.read(root.extent * self.descriptor.block_size, min(max(root.size, 34), SECTOR))
        except ByreError:
            return -1
        first = next(iter(records(data)), None)
        if not isinstance(first, DirectoryRecord):
            return -1
        area = first.system_use
        return area[6] if len(area) >= 7 and area[:2] == b"SP" and area[4:6] == b"\xbe\xef" else -1

    def root(self) -> Entry:
        root = self.descriptor.root
        self._parts[0] = ((root.extent * self.descriptor.block_size, root.size),)
        return Entry("/", "", 0, True, 0, 0, DIRECTORY, None, root.modified, None, None)

    def _parts_of(self, entry: Entry) -> Parts:
        if entry.id == 0:
            self.root()
        parts = self._parts.get(entry.id)
        if parts is None:
            raise CorruptImageError(f"{entry.path!r} belongs to another volume", path=self.volume.name)
        return parts

    def directory_blocks(self, entry: Entry) -> Iterable[int]:
        start, size = self._parts_of(entry)[0]
        return range(start // SECTOR, (start + min(size, MAX_DIRECTORY) - 1) // SECTOR + 1)

    def children(self, folder: Entry, *, deleted: bool = False) -> list[Entry]:
        start, size = self._parts_of(folder)[0]
        if size > MAX_DIRECTORY:
            what = f"{folder.path!r} is too large: its start is read"
            self.problems.add("iso9660.directory-size", what, hides_names=True)
            size = MAX_DIRECTORY
        data = self.volume.read(start, size)
        found: list[Entry] = []
        pending: list[DirectoryRecord] = []
        for record in records(data):
            if isinstance(record, int):
                what = f"{folder.path!r} has a malformed record"
                self.problems.add("iso9660.record", what, offset=start + record, hides_names=True)
                pending = []
                continue
            if record.is_self_or_parent:
                continue
            pending.append(record)
            if record.more:
                continue
            entry = self._entry(pending, folder.path, start)
            pending = []
            if entry is not None:
                found.append(entry)
        return found

    def _entry(self, pieces: list[DirectoryRecord], folder: str, start: int) -> Entry | None:
        first = pieces[0]
        block = self.descriptor.block_size
        if any(piece.interleaved for piece in pieces):
            self.problems.add("iso9660.interleaved", f"an interleaved file in {folder!r} is left out", kind="note")
            return None
        extra = self._rock_ridge(first)
        if extra is not None and extra.relocated:
            self.problems.add("iso9660.relocated", f"a relocated directory in {folder!r}", kind="note")
        name = extra.name if extra is not None and extra.name else self._plain_name(first)
        ident = start + first.offset
        self._parts[ident] = tuple((piece.extent * block, piece.size) for piece in pieces)
        size = sum(piece.size for piece in pieces)
        link = extra.link if extra is not None else None
        return Entry(
            path=join_path(folder, name),
            name=name,
            id=ident,
            is_dir=first.is_dir,
            size=0 if first.is_dir else size,
            allocated=-(-size // block) * block,
            attributes=(DIRECTORY if first.is_dir else 0) | (HIDDEN if first.hidden else 0) | 1,
            created=None,
            modified=extra.modified if extra is not None and extra.modified is not None else first.modified,
            accessed=None,
            changed=None,
            reparse=None if link is None else Reparse(0, "symlink", link),
        )

    def _plain_name(self, record: DirectoryRecord) -> str:
        if self.descriptor.joliet:
            raw = record.raw_name[: len(record.raw_name) // 2 * 2]
            name = raw.decode("utf-16-be", "surrogatepass")
        else:
            name = record.raw_name.decode("latin-1")
        stem, mark, version = name.rpartition(";")
        if mark and version.isdigit():
            name = stem
        # A name without an extension keeps its dot in ISO 9660's own form.
        return name[:-1] if name.endswith(".") and len(name) > 1 and not self.descriptor.joliet else name

    def _rock_ridge(self, record: DirectoryRecord) -> RockRidge | None:
        if not self._rock:
            return None

        def continuation(block: int, offset: int, length: int) -> bytes:
            if length > SECTOR:
                return b""
            try:
                return self.volume.read(block * self.descriptor.block_size + offset, length)
            except ByreError as error:
                self.problems.add("iso9660.continuation", f"a continuation area can't be read: {error}")
                return b""

        return rock_ridge(record.system_use, self._skip, continuation)

    def extents(self, entry: Entry, stream: str = "", *, slack: bool = False) -> FileExtents:
        self.stream_size(entry, stream)
        rows: list[tuple[int, int, int, int, int]] = []
        start = 0
        for offset, size in self._parts_of(entry):
            if size:
                rows.append((start, size, Kind.DATA, self.volume.start + offset, size))
            start += size
        return file_extents(rows)

    def facts(self) -> VolumeFacts:
        descriptor = self.descriptor
        return VolumeFacts(
            type="iso9660",
            size=descriptor.blocks * descriptor.block_size,
            cluster_size=descriptor.block_size,
            sector_size=SECTOR,
            label=descriptor.label,
            free=0,
            details={
                "names": self.names,
                "udf": self.udf,
                "system": descriptor.system,
                "publisher": descriptor.publisher,
                "application": descriptor.application,
                "created": descriptor.created,
                "boot_images": [
                    {name: getattr(image, name) for name in BootImage.__slots__} for image in self.boot_images
                ],
            },
        )

    def free_extents(self) -> Iterator[FreeExtents]:
        return iter(())

    def check(self) -> CheckReport:
        """Whether every file lies inside the volume."""
        for entry in self.walk():
            if any(offset + size > self.volume.size for offset, size in self._parts_of(entry)):
                self.problems.add("iso9660.outside", f"{entry.path!r} lies past the end of the volume")
        found = tuple(self.problems)
        corruptions = sum(each.count for each in found if each.kind == "corruption")
        return CheckReport(format="iso9660", corruptions=corruptions, leaks=0, problems=found)
