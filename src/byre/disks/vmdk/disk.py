"""An open VMDK: its extents side by side, its parent below."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from byre.disks.blockmap import check_range, over_parent
from byre.disks.disk import Backing, CheckReport, Description, Disk, DiskDefaults
from byre.disks.vmdk.descriptor import Descriptor
from byre.disks.vmdk.extent import Extent
from byre.disks.vmdk.layout import SparseHeader
from byre.extents import ExtentTable, Kind, merged_slices
from byre.storage.base import Buffer, Storage

if TYPE_CHECKING:
    from byre.disks.vmdk.editing import Editor


@dataclass(frozen=True, slots=True)
class Source:
    """Where a VMDK's own words stand: the file that was opened, its descriptor's place in it, and for a hosted
    sparse file its header (the footer's, where that is the one that counts)."""

    storage: Storage
    descriptor_offset: int
    descriptor_bytes: int
    header: SparseHeader | None = None
    footer_offset: int | None = None
    trailing: int = 0


class VmdkDisk(DiskDefaults):
    """A VMDK as a disk. Mutable: a writer changes its tables, size and CID.

    ``parent`` None with a descriptor that names one means that the chain wasn't asked for.
    """

    format = "vmdk"

    def __init__(
        self,
        source: Source,
        descriptor: Descriptor,
        extents: tuple[Extent, ...],
        *,
        parent: Disk | None = None,
        backing: Backing | None = None,
    ) -> None:
        self.source = source
        self.descriptor = descriptor
        self.parts = extents
        self.parent = parent
        self.backing = backing
        self.writable = source.storage.writable
        self._editor: Editor | None = None
        self._arrange()

    def _arrange(self) -> None:
        self.starts: list[int] = []
        position = 0
        for part in self.parts:
            self.starts.append(position)
            position += part.size
        self.size = position
        self.block_size = max((part.grain_bytes for part in self.parts), default=1 << 16)
        own = [self.source.storage]
        for part in self.parts:
            if part.storage is not None and all(part.storage is not known for known in own):
                own.append(part.storage)
        self.own_files = tuple(own)
        place = {id(storage): index for index, storage in enumerate(own)}
        self.file_of = [-1 if part.storage is None else place[id(part.storage)] for part in self.parts]

    @property
    def cid(self) -> int:
        return self.descriptor.cid

    @property
    def files(self) -> tuple[Storage, ...]:
        return (*self.own_files, *(self.parent.files if self.parent else ()))

    def own_rows(self, start: int, stop: int) -> Iterator[ExtentTable]:
        """The rows of this image alone, in the disk's offsets."""
        index = bisect_right(self.starts, start) - 1
        while start < stop and index < len(self.parts):
            part, base = self.parts[index], self.starts[index]
            end = min(stop, base + part.size)
            for table in part.rows(start - base, end - base):
                table["start"] += base
                table["file"][table["file"] == 0] = self.file_of[index]
                yield table
            start = end
            index += 1

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        stop = self.size if stop is None else min(stop, self.size)
        if start >= stop:
            return iter(())
        return merged_slices(self._numbered(over_parent(self.own_rows(start, stop), self.parent)))

    def _numbered(self, slices: Iterator[ExtentTable]) -> Iterator[ExtentTable]:
        """The parent's files follow all of ours; ``over_parent`` has counted one."""
        more = len(self.own_files) - 1
        for table in slices:
            if more and self.parent is not None:
                table["file"][table["depth"] > 0] += more
            yield table

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        check_range(self.source.storage.name, offset, len(view), self.size)
        index = bisect_right(self.starts, offset) - 1
        for table in merged_slices(self.own_rows(offset, offset + len(view))):
            for start, length, kind, host, stored, file, _ in table.tolist():
                piece = view[start - offset : start - offset + length]
                if kind == Kind.DATA:
                    self.own_files[file].read_into(host, piece)
                elif kind == Kind.COMPRESSED:
                    while start >= self.starts[index] + self.parts[index].size:
                        index += 1
                    part = self.parts[index]
                    part.read_grain(host, stored, (start - self.starts[index]) % part.grain_bytes, piece)
                elif kind == Kind.UNALLOCATED and self.parent is not None:
                    inside = max(0, min(length, self.parent.size - start))
                    if inside:
                        self.parent.read_into(start, piece[:inside])
                    _clear(piece[inside:])
                else:
                    _clear(piece)

    def describe(self) -> Description:
        header = self.source.header
        descriptor = self.descriptor
        details: dict[str, object] = {
            "create_type": descriptor.create_type,
            "cid": f"{descriptor.cid:08x}",
            "parent_cid": f"{descriptor.parent_cid:08x}" if descriptor.has_parent else None,
            "encoding": descriptor.encoding,
            "extents": [
                {"access": line.access, "sectors": line.sectors, "type": line.type, "file": line.name}
                for line in descriptor.extents
            ],
            "ddb": dict(descriptor.ddb),
        }
        if header is not None:
            details |= {
                "header_version": header.version,
                "unclean_shutdown": header.unclean_shutdown,
                "redundant_grain_tables": header.redundant,
                "zeroed_grains": header.zeroed_grains,
                "markers": header.markers,
                "footer": self.source.footer_offset is not None,
            }
        return Description(
            format="vmdk",
            virtual_size=self.size,
            subformat=descriptor.create_type,
            cluster_size=self.block_size if any(part.kind != "FLAT" for part in self.parts) else None,
            compression="zlib" if any(getattr(part, "compressed", False) for part in self.parts) else None,
            backing=self.backing,
            files=tuple(storage.name for storage in self.own_files),
            details=details,
        )

    def check(self) -> CheckReport:
        from byre.disks.vmdk.checking import check_disk

        return check_disk(self)

    def editor(self) -> Editor:
        """What writes to this image; UnsupportedError where its kind isn't written to."""
        if self._editor is None:
            from byre.disks.vmdk.editing import Editor

            self._editor = Editor.for_disk(self)
        return self._editor

    def write(self, offset: int, data: Buffer) -> None:
        self.editor().write(offset, data)

    def write_zeroes(self, offset: int, length: int) -> None:
        self.editor().write_zeroes(offset, length)

    def discard(self, offset: int, length: int) -> None:
        self.editor().discard(offset, length)

    def resize(self, size: int) -> None:
        from byre.disks.vmdk.resizing import resize

        resize(self, size)

    def compact(self) -> int:
        from byre.disks.vmdk.compacting import compact

        return compact(self)

    def flush(self) -> None:
        if self._editor is not None:
            self._editor.flush()
        for storage in self.own_files:
            if storage.writable:
                storage.flush()

    def forget_editor(self) -> None:
        """After the file was rearranged: whoever writes next looks anew."""
        self._editor = None

    def rearrange(self, source: Source, descriptor: Descriptor, extents: tuple[Extent, ...]) -> None:
        """Go on with another header, descriptor and extents of the same files."""
        self.source, self.descriptor, self.parts = source, descriptor, extents
        self._editor = None
        self._arrange()

    def close(self) -> None:
        try:
            if self._editor is not None:
                self._editor.flush()
        finally:
            self._editor = None  # closing twice is no harm
            self._close_files()

    def _close_files(self) -> None:
        try:
            if self.parent is not None:
                self.parent.close()
        finally:
            for storage in self.own_files:
                storage.close()


def _clear(view: memoryview) -> None:
    view[:] = bytes(len(view))
