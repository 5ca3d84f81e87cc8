"""A qcow2 image as a disk: opening, its snapshots, what it says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from byre.disks.context import OpenContext
from byre.disks.disk import Backing, CheckReport, Description, Disk, DiskDefaults, SnapshotInfo
from byre.disks.qcow2.bitmaps import describe_bitmaps
from byre.disks.qcow2.entries import U64Array
from byre.disks.qcow2.header import (
    COMPRESSION_NAMES,
    CORRUPT,
    DIRTY,
    EXT_BACKING_FORMAT,
    EXT_DATA_FILE,
    EXTENDED_L2,
    EXTERNAL_DATA_FILE,
    KNOWN_AUTOCLEAR,
    LAZY_REFCOUNTS,
    RAW_EXTERNAL_DATA,
    Header,
    read_header,
)
from byre.disks.qcow2.reading import Source, check_range
from byre.disks.qcow2.snapshot_table import Snapshot, read_snapshot_table
from byre.disks.qcow2.tables import read_l1
from byre.errors import ByreError, CorruptImageError, MissingError, UnsupportedError, UsageError
from byre.extents import ExtentTable, merged_slices
from byre.storage.base import Buffer, Storage, StorageDefaults

_QEMU_NAMES = {"vpc": "vhd", "host_device": "raw", "file": "raw"}
"""QEMU's names in the backing format extension, where ours differ."""


class UnopenedStorage(StorageDefaults):
    """Stands for a data file that isn't open: every look at it raises the reason."""

    path: Path | None = None
    writable = False

    def __init__(self, name: str, reason: ByreError) -> None:
        self.name = name
        self._reason = reason

    @property
    def size(self) -> int:
        raise self._reason

    @property
    def allocated(self) -> int:
        raise self._reason

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        raise self._reason

    def write(self, offset: int, data: Buffer) -> None:
        raise self._reason

    def truncate(self, size: int) -> None:
        raise self._reason

    def flush(self) -> None:
        raise self._reason

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        raise self._reason


class Qcow2View(DiskDefaults):
    """One state of the disk, today's or a snapshot's, read through its L1 table."""

    format = "qcow2"

    def __init__(self, source: Source, l1: U64Array, size: int) -> None:
        self.source = source
        self.l1 = l1
        self.size = size
        self.block_size = source.geometry.cluster_size

    @property
    def storage(self) -> Storage:
        return self.source.storage

    @property
    def header(self) -> Header:
        return self.source.header

    @property
    def files(self) -> tuple[Storage, ...]:
        return self.source.files

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        return self.source.extents(self.l1, start, self.size if stop is None else min(stop, self.size))

    def own_extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        """As ``extents`` without the backing chain: what it would have to hold is unallocated."""
        end = self.size if stop is None else min(stop, self.size)
        return merged_slices(self.source.own_extents(self.l1, start, end))

    def read(self, offset: int, length: int) -> bytes:
        check_range(self.storage.name, offset, length, self.size)  # before a buffer of that length is made
        return super().read(offset, length)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        view = memoryview(buffer).cast("B")
        check_range(self.storage.name, offset, len(view), self.size)
        self.source.read_into(self.l1, offset, view)

    def describe(self) -> Description:
        return _describe(self.source, self.size)


class Qcow2Disk(Qcow2View):
    """The image as it is today. Owns its storage, data file and backing chain."""

    def __init__(
        self, source: Source, l1: U64Array, snapshot_table: tuple[Snapshot, ...], context: OpenContext
    ) -> None:
        super().__init__(source, l1, source.header.size)
        self.snapshot_table = snapshot_table
        self.context = context
        self._infos: tuple[SnapshotInfo, ...] | None = None

    def snapshots(self) -> tuple[SnapshotInfo, ...]:
        if self._infos is None:
            self._infos = tuple(
                replace(entry.info, virtual_size=self._size_of(entry)) for entry in self.snapshot_table
            )
        return self._infos

    def open_snapshot(self, snapshot_id: str) -> Qcow2View:
        """The disk as it was in the snapshot of this id; it shares this image's storage."""
        entry = self._snapshot(snapshot_id)
        size = self._size_of(entry)
        l1 = read_l1(
            self.storage,
            self.source.geometry,
            entry.l1_table_offset,
            entry.l1_size,
            what=f"the L1 table of {entry.info.name!r}",
        )
        if len(l1) < self.source.geometry.l1_entries_for(size):
            raise CorruptImageError(
                f"the L1 table of snapshot {entry.info.name!r} is too small for its disk",
                path=self.storage.name,
                offset=entry.l1_table_offset,
                found=f"{len(l1)} entries",
                expected=f"{self.source.geometry.l1_entries_for(size)} for {size} bytes",
            )
        return Qcow2View(self.source, l1, size)

    def read_vm_state(self, snapshot_id: str, offset: int, length: int) -> bytes:
        """Bytes of the machine state that a snapshot holds, from ``offset`` within it.

        It lies past the end of the disk, from the first L2 table that the disk doesn't need.
        """
        entry = self._snapshot(snapshot_id)
        check_range(self.storage.name, offset, length, entry.vm_state_size)
        start = self.vm_state_offset(entry)
        l1 = read_l1(self.storage, self.source.geometry, entry.l1_table_offset, entry.l1_size)
        if start + offset + length > len(l1) * self.source.geometry.l2_coverage:
            raise CorruptImageError(
                f"the machine state of snapshot {entry.info.name!r} leaves its L1 table", path=self.storage.name
            )
        buffer = bytearray(length)
        self.source.read_into(l1, start + offset, memoryview(buffer), through=False)
        return bytes(buffer)

    def vm_state_offset(self, entry: Snapshot) -> int:
        """The guest offset at which the snapshot's machine state begins."""
        geometry = self.source.geometry
        return geometry.l1_entries_for(self._size_of(entry)) * geometry.l2_coverage

    def describe(self) -> Description:
        name = self.storage.name
        return replace(
            super().describe(),
            backing=_describe_backing(self.header, self.context, name),
            snapshots=self.snapshots(),
            bitmaps=describe_bitmaps(self.storage, self.header),
        )

    def check(self) -> CheckReport:
        """Check the image's own metadata, as it stands in the file. Changes nothing."""
        from byre.disks.qcow2.check import check_image

        return check_image(self.storage)

    def close(self) -> None:
        source = self.source
        if source.backing is not None:
            source.backing.close()
        for storage in reversed(source.files[: source.own_files]):
            storage.close()

    def _size_of(self, entry: Snapshot) -> int:
        return self.size if entry.disk_size is None else entry.disk_size

    def _snapshot(self, snapshot_id: str) -> Snapshot:
        for entry, info in zip(self.snapshot_table, self.snapshots(), strict=True):
            if info.id == snapshot_id:
                return entry
        raise MissingError(f"has no snapshot with the id {snapshot_id!r}", path=self.storage.name)


def open_disk(storage: Storage, context: OpenContext) -> Qcow2Disk:
    """Open a qcow2 image; with ``context.options.writable`` for random writes too."""
    opened: list[Storage | Disk] = [storage]
    try:
        header = read_header(storage)
        data, backing, missing = _open_references(storage, header, context, opened)
        if context.options.writable:
            header = _mended(storage, header)
        source = Source(storage, header, data=data, backing=backing, missing=missing)
        l1 = _read_active_l1(storage, header)
        snapshots = read_snapshot_table(storage, header)
        if context.options.writable:
            from byre.disks.qcow2.writing import WritableQcow2Disk  # it is built on this module

            return WritableQcow2Disk(source, l1, snapshots, context)
        return Qcow2Disk(source, l1, snapshots, context)
    except BaseException:
        for owned in reversed(opened):
            owned.close()
        raise


def _mended(storage: Storage, header: Header) -> Header:
    """The header of an image that takes writes: one that wasn't closed cleanly gets its refcounts rebuilt, as
    QEMU does it. Whatever may not be written to at all is left as it is. Raises UnsupportedError where the
    image can't be mended safely."""
    if not header.incompatible & DIRTY or header.incompatible & CORRUPT or header.encryption or not storage.writable:
        return header
    from byre.disks.qcow2.repair import rebuild_dirty  # only then: it brings all of 'check' along
    from byre.disks.qcow2.survey import survey

    rebuild_dirty(survey(storage))
    return read_header(storage)


def _open_references(
    storage: Storage, header: Header, context: OpenContext, opened: list[Storage | Disk]
) -> tuple[Storage | None, Disk | None, ByreError | None]:
    """(data file, backing image, why one of them is not open); what is opened is added to ``opened``."""
    data: Storage | None = None
    backing: Disk | None = None
    missing: ByreError | None = None
    if header.incompatible & EXTERNAL_DATA_FILE:
        try:
            data = _open_data_file(storage, header, context)
            opened.append(data)
        except ByreError as error:
            if context.options.with_backing:
                raise
            data, missing = UnopenedStorage(storage.name, error), error
    if header.backing_file and context.options.with_backing:
        backing = _open_backing(storage, header, context)
        opened.append(backing)
    return data, backing, missing


def _open_data_file(storage: Storage, header: Header, context: OpenContext) -> Storage:
    name = header.extension(EXT_DATA_FILE)
    if not name:
        raise CorruptImageError("has an external data file but doesn't name it", path=storage.name)
    return context.open_reference_storage(
        os_name(name), "data file", image=storage.name, writable=context.options.writable
    )


def _open_backing(storage: Storage, header: Header, context: OpenContext) -> Disk:
    name = os_name(header.backing_file or b"")
    stated = stated_backing_format(header) or context.options.backing_format
    if stated is None:
        raise UnsupportedError(
            f"doesn't state the format of its backing image {name!r}, and guessing it would trust what a guest "
            "may have written there",
            path=storage.name,
            hint="Say it: --backing-format raw, or --backing-format qcow2.",
        )
    try:
        return context.open_reference(name, "backing image", image=storage.name, format=stated)
    except UsageError as error:
        raise UnsupportedError(
            f"its backing image {name!r} is said to be of a format that is not read: {stated}", path=storage.name
        ) from error


def stated_backing_format(header: Header) -> str | None:
    """Byre's name of the format that the image states for its backing image."""
    stated = header.extension(EXT_BACKING_FORMAT)
    if not stated:
        return None
    name = stated.decode("utf-8", "backslashreplace").lower()
    return _QEMU_NAMES.get(name, name)


def os_name(name: bytes) -> str:
    """A file name as it stands in the image, as Python's file functions take it."""
    return name.decode("utf-8", "surrogateescape")


def _read_active_l1(storage: Storage, header: Header) -> U64Array:
    needed = header.geometry.l1_entries_for(header.size)
    if header.l1_size < needed:
        raise CorruptImageError(
            "the L1 table is too small for the disk",
            path=storage.name,
            offset=36,
            found=f"{header.l1_size} entries",
            expected=f"{needed} for {header.size} bytes",
            hint=f"Run 'byre check {storage.name}'.",
        )
    return read_l1(storage, header.geometry, header.l1_table_offset, header.l1_size)


def _describe(source: Source, size: int) -> Description:
    header = source.header
    data_file = header.extension(EXT_DATA_FILE) if header.incompatible & EXTERNAL_DATA_FILE else None
    details: dict[str, object] = {
        "version": header.version,
        "refcount_bits": header.refcount_bits,
        "extended_l2": bool(header.incompatible & EXTENDED_L2),
        "lazy_refcounts": bool(header.compatible & LAZY_REFCOUNTS),
        "dirty": bool(header.incompatible & DIRTY),
        "corrupt": bool(header.incompatible & CORRUPT),
        "data_file_raw": bool(header.autoclear & RAW_EXTERNAL_DATA) if data_file else None,
        "unknown_autoclear": header.autoclear & ~KNOWN_AUTOCLEAR,
        "unknown_compatible": header.compatible & ~LAZY_REFCOUNTS,
    }
    return Description(
        format="qcow2",
        virtual_size=size,
        subformat=f"version {header.version}",
        cluster_size=header.cluster_size,
        compression=COMPRESSION_NAMES[header.compression_type],
        encryption=header.encryption,
        data_file=None if data_file is None else _shown(data_file),
        files=tuple(storage.name for storage in source.files),
        details=details,
    )


def _describe_backing(header: Header, context: OpenContext, image: str) -> Backing | None:
    if not header.backing_file:
        return None
    stated = stated_backing_format(header)
    resolved: str | None = None
    reason: str | None = None
    try:
        resolved = str(context.resolve(os_name(header.backing_file), "backing image", image=image))
    except ByreError as error:
        reason = str(error)
    return Backing(name=_shown(header.backing_file), format=stated, resolved=resolved, reason=reason)


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
