"""What is to be changed inside a guest, as values: a plan is a tuple of these. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Content:
    """The bytes of a file that is put into the guest: how many, and how to read ``length`` of them at ``offset``."""

    size: int
    read: Callable[[int, int], bytes]

    @classmethod
    def of(cls, data: bytes) -> Content:
        return cls(len(data), lambda offset, length: data[offset : offset + length])


@dataclass(frozen=True, slots=True)
class Remove:
    """A file, a link or a whole folder goes. ``path`` is a guest path, as for ``FileSystem.lookup``; a reparse point
    goes itself, never what it points to."""

    path: str


@dataclass(frozen=True, slots=True)
class MakeFolder:
    """A folder is there afterwards; one that is there already stays as it is. The folder above must be there, or
    be made by an earlier change."""

    path: str


@dataclass(frozen=True, slots=True)
class Put:
    """A file is there afterwards with this content; one that is there already keeps its name, times of birth and
    permissions. The folder must be there, or be made by an earlier change."""

    path: str
    content: Content


@dataclass(frozen=True, slots=True)
class Move:
    """A file gets another name, and maybe another folder: it is the same one still, with its content, permissions,
    times and streams. The folder of ``target`` must be there, or be made by an earlier change."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class Overwrite:
    """A file's bytes are replaced in place by as many others: how a registry hive is edited. Its size, clusters and
    times stay."""

    path: str
    data: bytes


Change: TypeAlias = Remove | MakeFolder | Put | Move | Overwrite


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done to a volume. ``removed`` and ``written`` are guest paths, every single file; bytes are those
    allocated to what was removed. ``confined`` says how the helper program was kept in, where one was used."""

    removed: tuple[str, ...]
    written: tuple[str, ...]
    freed: int
    confined: str | None = None
