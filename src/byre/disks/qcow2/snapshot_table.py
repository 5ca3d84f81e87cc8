"""The snapshot table: entries of variable length, 8-aligned, one after the other. Pure.

Source: docs/interop/qcow2.txt, "Snapshots"; caps as QEMU has them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime

from byre.disks.disk import SnapshotInfo
from byre.disks.qcow2.header import MAX_L1_BYTES, Header
from byre.errors import CorruptImageError
from byre.storage.base import Storage

_FIXED = struct.Struct(">QIHHIIQII")
FIXED_LENGTH = _FIXED.size
MAX_EXTRA = 1024
MAX_TABLE_BYTES = 64 << 20
"""QEMU stops at 64 MiB (1024 × 65,536) of table."""
NO_ICOUNT = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One entry. ``disk_size`` is None where a version 2 image doesn't say: then it is today's size."""

    l1_table_offset: int
    l1_size: int
    id: bytes
    name: bytes
    date_sec: int = 0
    date_nsec: int = 0
    vm_clock_nsec: int = 0
    vm_state_size: int = 0
    disk_size: int | None = None
    icount: int | None = None
    unknown_extra: bytes = b""
    """Extra data past the fields that we know, kept as it is."""

    @property
    def info(self) -> SnapshotInfo:
        """As the rest of Byre sees it; ``virtual_size`` 0 where the entry doesn't say."""
        return SnapshotInfo(
            id=self.id.decode("utf-8", "backslashreplace"),
            name=self.name.decode("utf-8", "backslashreplace"),
            created=_rfc3339(self.date_sec, self.date_nsec),
            virtual_size=self.disk_size or 0,
            vm_state_size=self.vm_state_size,
            vm_clock_ns=self.vm_clock_nsec,
            icount=self.icount,
        )

    def pack(self) -> bytes:
        """The entry with its padding, in the form that version 3 requires."""
        extra = struct.pack(">QQ", self.vm_state_size, self.disk_size or 0)
        if self.icount is not None or self.unknown_extra:
            extra += struct.pack(">Q", NO_ICOUNT if self.icount is None else self.icount)
        extra += self.unknown_extra
        fixed = _FIXED.pack(
            self.l1_table_offset,
            self.l1_size,
            len(self.id),
            len(self.name),
            self.date_sec,
            self.date_nsec,
            self.vm_clock_nsec,
            min(self.vm_state_size, 0xFFFFFFFF),
            len(extra),
        )
        body = fixed + extra + self.id + self.name
        return body + bytes(-len(body) % 8)


def pack_snapshot_table(snapshots: tuple[Snapshot, ...]) -> bytes:
    return b"".join(snapshot.pack() for snapshot in snapshots)


def read_snapshot_table(storage: Storage, header: Header) -> tuple[Snapshot, ...]:
    """All entries of the image's snapshot table. Raises CorruptImageError."""
    if not header.nb_snapshots:
        return ()
    reader = _Reader(storage, header.snapshots_offset)
    return tuple(_parse_entry(reader, header) for _ in range(header.nb_snapshots))


class _Reader:
    """Reads the table forward in chunks. Mutable: it remembers how far it is."""

    CHUNK = 1 << 16

    def __init__(self, storage: Storage, start: int) -> None:
        self.storage = storage
        self.start = start
        self.position = 0
        self._buffer = bytearray()

    def take(self, length: int) -> bytes:
        wanted = self.position + length
        if wanted > MAX_TABLE_BYTES:
            raise CorruptImageError(
                "the snapshot table is too large",
                path=self.storage.name,
                offset=self.start,
                found=f"over {MAX_TABLE_BYTES} bytes",
            )
        if wanted > len(self._buffer):
            at = self.start + len(self._buffer)
            available = max(0, self.storage.size - at)
            more = min(available, max(self.CHUNK, wanted - len(self._buffer)))
            if len(self._buffer) + more < wanted:
                raise CorruptImageError(
                    "the snapshot table leaves the file",
                    path=self.storage.name,
                    offset=self.start + self.position,
                    found=f"a file of {self.storage.size} bytes",
                )
            self._buffer += self.storage.read(at, more)
        piece = bytes(self._buffer[self.position : wanted])
        self.position = wanted
        return piece


def _parse_entry(reader: _Reader, header: Header) -> Snapshot:
    at = reader.start + reader.position
    name = reader.storage.name
    l1_offset, l1_size, id_size, name_size, sec, nsec, clock, vm_size, extra_size = _FIXED.unpack(
        reader.take(FIXED_LENGTH)
    )
    if extra_size > MAX_EXTRA:
        raise CorruptImageError(
            "a snapshot has too much extra data",
            path=name,
            offset=at,
            found=extra_size,
            expected=f"at most {MAX_EXTRA}",
        )
    if l1_size * 8 > MAX_L1_BYTES or l1_offset % header.cluster_size:
        raise CorruptImageError(
            "a snapshot's L1 table is too large or not aligned",
            path=name,
            offset=at,
            found=f"{l1_size} entries at {l1_offset:#x}",
        )
    body = reader.take(extra_size + id_size + name_size)
    extra, names = body[:extra_size], body[extra_size:]
    padding = -reader.position % 8
    if padding and reader.start + reader.position + padding <= reader.storage.size:
        reader.take(padding)
    elif padding:
        reader.position += padding  # the last entry's padding may lie past the end of the file
    # Version 3 requires 16 bytes of extra data, but QEMU opens images that were upgraded without: so do we, and
    # leave it to 'check' to say so (version 3 and disk_size None).
    words: list[int | None] = [*struct.unpack_from(f">{min(3, extra_size // 8)}Q", extra), None, None, None]
    large, disk_size, icount = words[:3]
    return Snapshot(
        l1_table_offset=l1_offset,
        l1_size=l1_size,
        id=names[:id_size],
        name=names[id_size:],
        date_sec=sec,
        date_nsec=nsec,
        vm_clock_nsec=clock,
        vm_state_size=vm_size if large is None else large,
        disk_size=disk_size,
        icount=None if icount == NO_ICOUNT else icount,
        unknown_extra=extra[24:],
    )


def _rfc3339(seconds: int, nanoseconds: int) -> str | None:
    if seconds == 0:
        return None
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanoseconds // 1_000_000:03d}" if 1_000_000 <= nanoseconds < 1_000_000_000 else ""
    return f"{moment}{fraction}Z"
