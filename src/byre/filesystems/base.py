"""The seam that everything above knows of a file system: names, files, and where their bytes lie on the disk.

Paths have ``/`` between names and start with one; ``\\`` and a drive letter are accepted when looking up.
Names are as the file system has them: they may hold control characters, lone surrogates or separators, and are
for display only after escaping, for the host's file system only after defusing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from byre.disks.disk import CheckReport
from byre.volumes.problems import Problems

READ_ONLY, HIDDEN, SYSTEM, DIRECTORY, ARCHIVE = 0x1, 0x2, 0x4, 0x10, 0x20
REPARSE_POINT, SPARSE, COMPRESSED, ENCRYPTED = 0x400, 0x200, 0x800, 0x4000
"""Windows' file attributes, used for every file system; the others don't matter to anything here."""

MAX_READ = 1 << 30
"""The most that one ``read`` returns: a larger file is read by ``chunks`` or in parts."""

FILE_EXTENT = np.dtype([("start", "<i8"), ("length", "<i8"), ("kind", "u1"), ("disk", "<i8"), ("stored", "<i8")])
"""One row of a file's extents, sorted by ``start`` without gaps.

========  ======================================================================================================
start     offset in the stream, bytes
length    bytes of the stream, > 0
kind      ``byre.extents.Kind``: DATA byte for byte, ZERO for sparse parts and what was never written,
          COMPRESSED for a piece of a compressed unit
disk      guest offset on the whole disk of the first byte; -1 where none
stored    bytes taken on the disk; equals ``length`` for DATA, 0 for ZERO
========  ======================================================================================================
"""

FREE_EXTENT = np.dtype([("disk", "<i8"), ("length", "<i8")])
"""Free space: guest offset on the whole disk and bytes, ascending, neighbours joined."""

FileExtents: TypeAlias = np.ndarray[Any, np.dtype[np.void]]
FreeExtents: TypeAlias = np.ndarray[Any, np.dtype[np.void]]
Numbers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Stream:
    """A named stream beside a file's own bytes. Sizes in bytes."""

    name: str
    size: int
    allocated: int


@dataclass(frozen=True, slots=True)
class Reparse:
    """A reparse point or symbolic link. ``tag`` is Windows' number (0xA000000C symlink, 0xA0000003 junction;
    0 where the file system has none); ``kind`` names it; ``target`` is what it says, never followed here."""

    tag: int
    kind: str
    target: str | None


class Entry(NamedTuple):
    """One name of one file or directory. Times are nanoseconds since 1970 UTC (see ``VolumeFacts.local_times``),
    None where there is none; ``changed`` is when the metadata changed. ``id`` is the same for all hard links.

    A named tuple: a volume has a million of them, and a frozen dataclass takes four times as long to make.
    """

    path: str
    name: str
    id: int
    is_dir: bool
    size: int
    allocated: int
    attributes: int
    created: int | None
    modified: int | None
    accessed: int | None
    changed: int | None
    links: int = 1
    short_name: str | None = None
    deleted: bool = False
    streams: tuple[Stream, ...] = ()
    reparse: Reparse | None = None

    @property
    def is_folder(self) -> bool:
        """Whether a walk goes into it: a link to a directory is none."""
        return self.is_dir and self.reparse is None


class Name(NamedTuple):
    """What a look at many files needs of an Entry, made in a third of the time. ``allocated`` in bytes;
    ``is_link``: it has a reparse point."""

    path: str
    allocated: int
    is_dir: bool = False
    is_link: bool = False
    id: int = 0

    @property
    def is_folder(self) -> bool:
        return self.is_dir and not self.is_link


@dataclass(frozen=True, slots=True)
class VolumeFacts:
    """What the volume says of itself. Sizes in bytes; None means that it doesn't say or it can't be read.

    ``log``: ``clean``, ``unclean``, ``empty``, ``unknown`` or None (no journal). ``local_times``: times have
    no zone and are the guest's wall clock, given here as if it were UTC.
    """

    type: str
    size: int
    cluster_size: int
    sector_size: int
    version: str | None = None
    label: str | None = None
    serial: str | None = None
    free: int | None = None
    dirty: bool | None = None
    hibernated: bool | None = None
    log: str | None = None
    log_version: str | None = None
    local_times: bool = False
    details: Mapping[str, object] = field(default_factory=dict)


@runtime_checkable
class FileSystem(Protocol):
    """A read-only file system. Everything raises ByreError only; damage that doesn't stop the work goes to
    ``problems`` and the rest goes on. Reads may run concurrently."""

    type: str
    problems: Problems

    def facts(self) -> VolumeFacts: ...

    def lookup(self, path: str) -> Entry:
        """The entry at a path, case-insensitive where the file system is; of two names that differ in case alone
        the one that is spelt so. MissingError where there is none."""
        ...

    def listdir(self, where: str | Entry = "/") -> list[Entry]:
        """The entries of a directory, by name; the file system's own metadata files are left out."""
        ...

    def walk(self, where: str | Entry = "/", *, deleted: bool = False, system: bool = False) -> Iterator[Entry]:
        """Everything below a directory, each before what it holds. ``deleted`` adds what was deleted and can
        still be seen; ``system`` the file system's own metadata files."""
        ...

    def walk_names(self) -> Iterator[Name]:
        """What ``walk`` comes by from the root, in the same order."""
        ...

    def read(self, entry: Entry, stream: str = "", offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a stream; short at its end. More than ``MAX_READ`` is a UsageError."""
        ...

    def chunks(self, entry: Entry, stream: str = "", size: int = 1 << 20) -> Iterator[bytes]:
        """A stream from start to end in pieces."""
        ...

    def extents(self, entry: Entry, stream: str = "", *, slack: bool = False) -> FileExtents:
        """Where a stream's bytes lie on the disk (``FILE_EXTENT``); ``slack`` adds what is allocated past its
        end and past what was ever written, as DATA."""
        ...

    def free_extents(self) -> Iterator[FreeExtents]:
        """Free space on the disk (``FREE_EXTENT``), in slices of a bounded number of rows."""
        ...

    def check(self) -> CheckReport:
        """Compare the file system's structures with each other: slower than a walk; changes nothing."""
        ...


def name_of(entry: Entry) -> Name:
    return Name(entry.path, entry.allocated, entry.is_dir, entry.reparse is not None, entry.id)


def no_extents(rows: int = 0) -> FileExtents:
    return np.zeros(rows, dtype=FILE_EXTENT)


def file_extents(rows: Iterable[tuple[int, int, int, int, int]]) -> FileExtents:
    """A table from ``(start, length, kind, disk, stored)``."""
    return np.array(list(rows), dtype=FILE_EXTENT)


def runs_of(chosen: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[Numbers, Numbers]:
    """Where the runs of True in a row begin and end."""
    edges = np.flatnonzero(chosen[1:] != chosen[:-1]) + 1
    if len(chosen):
        edges = np.concatenate(([0] * bool(chosen[0]), edges, [len(chosen)] * bool(chosen[-1]))).astype(np.int64)
    return edges[::2], edges[1::2]


def free_from_bits(used: np.ndarray[Any, np.dtype[np.uint8]], first: int, unit: int) -> FreeExtents:
    """Free extents of clusters in a row: ``used`` is 0 where free, the first cluster lies at guest offset
    ``first``, each is ``unit`` bytes."""
    starts, stops = runs_of(used == 0)
    table = np.empty(len(starts), dtype=FREE_EXTENT)
    table["disk"] = first + starts * unit
    table["length"] = (stops - starts) * unit
    return table


def join_free(slices: Iterable[FreeExtents]) -> Iterator[FreeExtents]:
    """The same slices with a neighbour across each border joined."""
    held: FreeExtents | None = None
    for piece in slices:
        if not len(piece):
            continue
        if held is None:
            held = piece
            continue
        if held["disk"][-1] + held["length"][-1] == piece["disk"][0]:
            piece = piece.copy()
            piece["length"][0] += held["length"][-1]
            piece["disk"][0] = held["disk"][-1]
            held = held[:-1]
        if len(held):
            yield held
        held = piece
    if held is not None and len(held):
        yield held
