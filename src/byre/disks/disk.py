"""The seam that convert, compare, map, the NBD server and the file systems know, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

from byre.extents import ExtentTable
from byre.storage.base import Buffer, Storage

SLICE_ROWS = 1 << 18
"""The most rows that one slice of ``Disk.extents`` should hold: 10 MB of table."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """One internal snapshot. ``created`` is RFC 3339 in UTC; sizes are bytes; what doesn't apply is None."""

    id: str
    name: str
    created: str | None
    virtual_size: int
    vm_state_size: int = 0
    vm_clock_ns: int | None = None
    icount: int | None = None


@dataclass(frozen=True, slots=True)
class Backing:
    """A reference to the image below: the name as it stands in the image, its stated format, and whether the
    file is there and allowed to be opened (``reason`` says why not)."""

    name: str
    format: str | None
    resolved: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Bitmap:
    """A persistent dirty bitmap. ``granularity`` is bytes of disk for each bit."""

    name: str
    granularity: int
    enabled: bool
    consistent: bool


@dataclass(frozen=True, slots=True)
class Description:
    """What ``byre info`` says of one image file. ``details`` holds the format's own facts, ready for JSON."""

    format: str
    virtual_size: int
    subformat: str | None = None
    sector_size: int = 512
    cluster_size: int | None = None
    compression: str | None = None
    encryption: str | None = None
    backing: Backing | None = None
    data_file: str | None = None
    files: tuple[str, ...] = ()
    snapshots: tuple[SnapshotInfo, ...] = ()
    bitmaps: tuple[Bitmap, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


@runtime_checkable
class Disk(Protocol):
    """A virtual disk. Offsets and lengths are guest bytes.

    Concurrent reads are safe; writes are exclusive; a table of extents holds until the next write.
    """

    format: str
    size: int
    """Virtual size in bytes."""
    sector_size: int
    """Logical sector size in bytes: 512 or 4096."""
    block_size: int
    """The unit in which the format allocates (cluster, block, grain), bytes: a good size to read by."""
    writable: bool

    @property
    def files(self) -> tuple[Storage, ...]:
        """What the ``file`` column of the extents indexes, the backing chain's files included."""
        ...

    def extents(self, start: int = 0, stop: int | None = None) -> Iterator[ExtentTable]:
        """Where the bytes of ``[start, stop)`` lie, in slices of a bounded number of rows, neighbours merged."""
        ...

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill the buffer. A range that leaves the disk is a UsageError."""
        ...

    def read(self, offset: int, length: int) -> bytes: ...

    def describe(self) -> Description: ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class WritableDisk(Disk, Protocol):
    """A disk that takes writes."""

    def write(self, offset: int, data: Buffer) -> None: ...

    def write_zeroes(self, offset: int, length: int) -> None:
        """The range reads as zeros afterwards, by metadata where the format can."""
        ...

    def discard(self, offset: int, length: int) -> None:
        """The guest no longer needs the range: afterwards it reads as zeros, or nothing happened. Never does
        what lies in the backing image show through."""
        ...

    def flush(self) -> None: ...


@runtime_checkable
class SnapshotDisk(Disk, Protocol):
    """A disk whose format keeps internal snapshots."""

    def snapshots(self) -> tuple[SnapshotInfo, ...]: ...

    def open_snapshot(self, snapshot_id: str) -> Disk:
        """The disk as it was then, read-only; it shares this disk's storage and closes nothing of it."""
        ...


class DiskDefaults:
    """What most disks share: reading bytes, leaving a ``with`` block."""

    format = ""
    sector_size = 512
    block_size = 1 << 16
    writable = False

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        raise NotImplementedError

    def read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self.read_into(offset, buffer)
        return bytes(buffer)

    def close(self) -> None:
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that ``check`` found. ``kind``: ``corruption`` (data is or may be lost), ``leak`` (space only),
    ``note`` (worth knowing, breaks nothing). ``code`` never changes: ``qcow2.refcount-too-low``."""

    kind: str
    code: str
    message: str
    offset: int | None = None
    count: int = 1
    repairable: bool = False


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a format's own ``check`` says. The lists are capped; ``corruptions`` and ``leaks`` count all."""

    format: str
    corruptions: int
    leaks: int
    problems: tuple[Problem, ...] = ()
    allocated_blocks: int | None = None
    total_blocks: int | None = None
    image_end: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0 sound, 2 corrupt, 3 leaks only: as people know it from qemu-img."""
        return 2 if self.corruptions else 3 if self.leaks else 0


@runtime_checkable
class CheckedDisk(Disk, Protocol):
    """A disk whose format can check its own metadata. Changes nothing."""

    def check(self) -> CheckReport: ...


@runtime_checkable
class ResizableDisk(WritableDisk, Protocol):
    """A disk whose virtual size can be changed in place; it must have been opened writable."""

    def resize(self, size: int) -> None:
        """Grow or shrink to ``size`` bytes. What is new reads as zeros, whatever a parent has there; what is cut
        off is lost, and the caller has seen to it that this was wanted."""
        ...


@runtime_checkable
class CompactableDisk(WritableDisk, Protocol):
    """A disk that can give back the room of blocks that hold nothing."""

    def compact(self) -> int:
        """Pack the file and cut it; returns the bytes by which it became shorter. A crash at any time leaves an
        image that reads the same."""
        ...
