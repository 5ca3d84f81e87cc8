"""An NTFS volume, versions 1.2 to 3.1, as a FileSystem."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from itertools import chain
from threading import RLock

import numpy as np

from byre.disks.disk import CheckReport
from byre.disks.writer import BoolArray
from byre.errors import ByreError, CorruptImageError, MissingError, UnsupportedError, UsageError
from byre.filesystems.base import (
    SPARSE,
    Entry,
    FileExtents,
    FreeExtents,
    Name,
    Reparse,
    VolumeFacts,
    free_from_bits,
    join_free,
    name_of,
)
from byre.filesystems.hibernation import is_hibernated
from byre.filesystems.ntfs.allocation import owned_runs
from byre.filesystems.ntfs.boot import read_boot
from byre.filesystems.ntfs.check import check
from byre.filesystems.ntfs.content import read_content
from byre.filesystems.ntfs.logfile import LogState, parse_log
from byre.filesystems.ntfs.mft import list_bytes, open_mft
from byre.filesystems.ntfs.names import NameIndex
from byre.filesystems.ntfs.records import (
    BITMAP,
    DATA,
    IS_ENCRYPTED,
    REFERENCE_MASK,
    REPARSE_POINT,
    VOLUME_INFORMATION,
    VOLUME_NAME,
    Attribute,
    Record,
)
from byre.filesystems.ntfs.reparse import MAX_REPARSE, STUBS, parse_reparse
from byre.filesystems.ntfs.streams import (
    StreamMap,
    all_attributes,
    compressed_extents,
    file_extents_of_resident,
    plain_extents,
    stream_map,
)
from byre.filesystems.ntfs.table import FileTable, Table, scan
from byre.filesystems.ntfs.tree import NtfsTree
from byre.filesystems.paths import split_path
from byre.filesystems.tree import read_range
from byre.volumes.partition import VolumeDisk
from byre.volumes.problems import Problems

MFT, MFT_MIRROR, LOG_FILE, VOLUME, ROOT, BITMAP_FILE, UPCASE = 0, 1, 2, 3, 5, 6, 10
MAX_KEPT_NAMES = 250_000
"""About 60 MB of them; a large Windows has 100,000."""
BITMAP_SLICE = 1 << 20
MAX_CLUSTERS = 1 << 32
"""Windows gives a volume no more. A sparse $Bitmap of far more takes no room in an image, and days to be read."""
"""Bytes of $Bitmap at a time: 8 million clusters, 8 MB unpacked."""


class NtfsFileSystem:
    """The volume. Mutable: it scans the MFT on first need and keeps the result."""

    type = "ntfs"

    def __init__(self, volume: VolumeDisk) -> None:
        self.volume = volume
        self.problems = Problems()
        self.boot = read_boot(volume, self.problems)
        self.mft = open_mft(volume, self.boot, self.problems)
        self._lock = RLock()

    @cached_property
    def table(self) -> FileTable:
        """The MFT as columns; the one pass over it."""
        with self._lock:
            return scan(self.mft, self.problems)

    @cached_property
    def tree(self) -> NtfsTree:
        with self._lock:
            return NtfsTree(NameIndex(self.table, self._upcase()), self.problems, self._reparse)

    # Names

    def lookup(self, path: str) -> Entry:
        return self.tree.lookup(split_path(path), path, self.volume.name)

    def fold(self, name: str) -> str:
        """Names that fold to the same are the same name, by the volume's own table."""
        return self.tree.index.fold(name)

    def listdir(self, where: str | Entry = "/") -> list[Entry]:
        folder = self.lookup(where) if isinstance(where, str) else where
        if not folder.is_dir:
            raise UsageError("not a directory", path=self.volume.name, found=folder.path)
        return self.tree.children(folder.id & REFERENCE_MASK, folder.path, system=False)

    def walk(
        self,
        where: str | Entry = "/",
        *,
        deleted: bool = False,
        system: bool = False,
        left_out: BoolArray | None = None,
    ) -> Iterator[Entry]:
        """As every file system's. ``left_out`` says of each MFT record whether its file doesn't matter."""
        folder = self.lookup(where) if isinstance(where, str) else where
        yield from self.tree.walk(folder.id & REFERENCE_MASK, folder.path, system=system, left_out=left_out)
        if folder.id & REFERENCE_MASK == ROOT:
            yield from self.tree.orphans()
            if deleted:
                yield from self.tree.deleted()

    def walk_names(self) -> Iterator[Name]:
        # Kept, since a look inside asks for them twice; where there are too many, whoever asks may stop on the way.
        return iter(self._names) if len(self.table.names) <= MAX_KEPT_NAMES else self._walk_names()

    @cached_property
    def _names(self) -> tuple[Name, ...]:
        with self._lock:
            return tuple(self._walk_names())

    def _walk_names(self) -> Iterator[Name]:
        return chain(self.tree.walk_names(), map(name_of, self.tree.orphans()))

    # Bytes

    def read(self, entry: Entry, stream: str = "", offset: int = 0, length: int | None = None) -> bytes:
        found = self.stream(entry, stream)
        start, stop = read_range(found.size, offset, length)
        if start >= stop:
            return b""
        self._check_readable(entry, stream, found)
        return read_content(self.volume, found, self.boot.cluster_size, start, stop)

    def chunks(self, entry: Entry, stream: str = "", size: int = 1 << 20) -> Iterator[bytes]:
        found = self.stream(entry, stream)
        self._check_readable(entry, stream, found)
        step = max(size, found.unit) // (found.unit or 1) * (found.unit or 1)
        for start in range(0, found.size, step):
            stop = min(start + step, found.size)
            yield read_content(self.volume, found, self.boot.cluster_size, start, stop)

    def extents(self, entry: Entry, stream: str = "", *, slack: bool = False) -> FileExtents:
        found = self.stream(entry, stream)
        if found.resident is not None:
            return file_extents_of_resident(found, self.mft.place(found.record))
        if found.unit:
            return compressed_extents(found, self.boot.cluster_size, self.volume.start, slack=slack)
        return plain_extents(found, self.boot.cluster_size, self.volume.start, slack=slack)

    def stream(self, entry: Entry, name: str = "") -> StreamMap:
        """The map of one stream; a directory's or a missing one is a MissingError."""
        number = entry.id & REFERENCE_MASK
        record = self.mft.record(number)
        if record.sequence != entry.id >> 48:
            raise MissingError("the file is no longer in its MFT record", path=self.volume.name, found=entry.path)
        attributes = self.attributes_of(record)
        found = self._map(attributes, DATA, name)
        if found is None and name:
            folded = self.tree.index.fold(name)
            wanted = next(
                (each.name for each in attributes if each.type == DATA and self.tree.index.fold(each.name) == folded),
                name,
            )
            found = self._map(attributes, DATA, wanted)
        if found is None:
            what = f"stream {name!r}" if name else "data"
            raise MissingError(f"{entry.path!r} has no {what}", path=self.volume.name)
        return found

    def attributes(self, number: int) -> list[Attribute]:
        """Every attribute of a file, those of its extension records too."""
        return self.attributes_of(self.mft.record(number))

    def attributes_of(self, record: Record) -> list[Attribute]:
        """The same, where its base record has been read already."""
        return all_attributes(record, self.mft.record, lambda part: list_bytes(self.volume, self.boot, part))

    def _map(self, attributes: list[Attribute], kind: int, name: str) -> StreamMap | None:
        return stream_map(attributes, kind, name, self.boot.cluster_size, self.boot.clusters)

    def _check_readable(self, entry: Entry, stream: str, found: StreamMap) -> None:
        if found.flags & IS_ENCRYPTED:
            raise UnsupportedError(f"{entry.path!r} is encrypted (EFS)", path=self.volume.name)
        if not stream and entry.reparse is not None and entry.reparse.tag in STUBS and entry.attributes & SPARSE:
            raise UnsupportedError(
                f"the bytes of {entry.path!r} are kept elsewhere ({entry.reparse.kind})", path=self.volume.name
            )

    def _system_bytes(self, number: int, kind: int, name: str, limit: int) -> bytes:
        """The first ``limit`` bytes of an attribute of one of the file system's own files."""
        found = self._map(self.attributes(number), kind, name)
        if found is None:
            raise CorruptImageError(f"MFT record {number} lacks attribute {kind:#x}", path=self.volume.name)
        return read_content(self.volume, found, self.boot.cluster_size, 0, min(found.size, limit))

    def _reparse(self, number: int) -> Reparse | None:
        try:
            return parse_reparse(self._system_bytes(number, REPARSE_POINT, "", MAX_REPARSE))
        except ByreError as error:
            self.problems.add("ntfs.reparse", f"the reparse point of MFT record {number} can't be read: {error}")
            return Reparse(0, "malformed", None)

    def _upcase(self) -> bytes | None:
        try:
            data = self._system_bytes(UPCASE, DATA, "", 1 << 17)
            if len(data) == 1 << 17:
                return data
            error: object = f"{len(data)} bytes"
        except ByreError as caught:
            error = caught
        self.problems.add("ntfs.upcase", f"$UpCase can't be read, Unicode's own table is used: {error}")
        return None

    # The volume

    def facts(self) -> VolumeFacts:
        return self._facts

    @cached_property
    def _facts(self) -> VolumeFacts:
        boot = self.boot
        version, flags, label = self._volume_information()
        log = self.log_state()
        return VolumeFacts(
            type="ntfs",
            size=boot.total_sectors * boot.sector_size,
            cluster_size=boot.cluster_size,
            sector_size=boot.sector_size,
            version=version,
            label=label,
            serial=f"{boot.serial:016X}",
            free=self._free(),
            dirty=None if flags is None else bool(flags & 1),
            hibernated=self._hibernated(),
            log=log.state,
            log_version=log.version,
            details={
                "mft_records": self.mft.count,
                "record_size": boot.record_size,
                "volume_flags": flags,
                "log_reason": log.reason,
                "hidden_sectors": boot.hidden_sectors,
                "heads": boot.heads,
            },
        )

    def _volume_information(self) -> tuple[str | None, int | None, str | None]:
        version = flags = label = None
        try:
            for each in self.attributes(VOLUME):
                if each.type == VOLUME_INFORMATION and each.resident and len(each.value) >= 12:
                    major, minor, flags = struct.unpack_from("<8xBBH", each.value)
                    version = f"{major}.{minor}"
                elif each.type == VOLUME_NAME and each.resident:
                    label = each.value.decode("utf-16-le", "replace")
        except ByreError as error:
            self.problems.add("ntfs.volume", f"$Volume can't be read: {error}")
        return version, flags, label

    def log_state(self) -> LogState:
        """What $LogFile's restart pages say."""
        try:
            return parse_log(self._system_bytes(LOG_FILE, DATA, "", 1 << 17))
        except ByreError as error:
            return LogState("unknown", reason=str(error))

    def _hibernated(self) -> bool | None:
        try:
            entry = self.lookup("/hiberfil.sys")
        except MissingError:
            return False
        except ByreError:
            return None
        try:
            return is_hibernated(self.read(entry, length=4096))
        except ByreError as error:
            self.problems.add("ntfs.hiberfil", f"hiberfil.sys can't be read: {error}")
            return None

    def _free(self) -> int | None:
        try:
            return sum(int(table["length"].sum()) for table in self.free_extents())
        except ByreError as error:
            self.problems.add("ntfs.bitmap", f"$Bitmap can't be read: {error}")
            return None

    def free_extents(self) -> Iterator[FreeExtents]:
        return join_free(self._free_slices())

    def _free_slices(self) -> Iterator[FreeExtents]:
        size = self.boot.cluster_size
        for first, bits in self.bitmap():
            yield free_from_bits(bits, self.volume.start + first * size, size)

    def bitmap(self) -> Iterator[tuple[int, np.ndarray[tuple[int], np.dtype[np.uint8]]]]:
        """$Bitmap in slices: the first cluster, and a byte for each cluster, 1 where in use."""
        if self.boot.clusters > MAX_CLUSTERS:
            raise CorruptImageError(
                "the volume says that it has more clusters than any Windows gives one",
                path=self.volume.name,
                found=self.boot.clusters,
                expected=f"at most {MAX_CLUSTERS}",
            )
        found = self._map(self.attributes(BITMAP_FILE), DATA, "")
        needed = -(-self.boot.clusters // 8)
        if found is None or found.size < needed:
            raise CorruptImageError(
                "$Bitmap is too short", path=self.volume.name, found=found.size if found else 0, expected=needed
            )
        for start in range(0, needed, BITMAP_SLICE):
            stop = min(start + BITMAP_SLICE, needed)
            data = read_content(self.volume, found, self.boot.cluster_size, start, stop)
            bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
            yield start * 8, bits[: self.boot.clusters - start * 8]

    def owned_runs(self) -> Iterator[Table]:
        """Which file every used cluster belongs to (``allocation.OWNED``), for telling block differences as files."""
        return owned_runs(self.mft, self.problems)

    def mft_runs(self, problems: Problems) -> Iterator[Table]:
        """As ``owned_runs``, and kept; what is malformed goes to ``problems`` of the caller's own."""
        tables, found = self._runs
        problems.take(found)
        return iter(tables)

    @cached_property
    def _runs(self) -> tuple[tuple[Table, ...], Problems]:
        problems = Problems()
        with self._lock:
            return tuple(owned_runs(self.mft, problems)), problems

    def mft_bitmap(self) -> bytes:
        """$MFT's own bitmap: one bit for each record, in use or not."""
        return self._system_bytes(MFT, BITMAP, "", self.mft.count // 8 + 8)

    @cached_property
    def _report(self) -> CheckReport:
        with self._lock:
            return check(self)

    def check(self) -> CheckReport:
        return self._report
