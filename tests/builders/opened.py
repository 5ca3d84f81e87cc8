"""Opens a format's disk over bytes in memory, as the crash and fuzz tests need it, and closes what tests leave."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

from byre.disks.context import OpenContext, OpenOptions
from byre.disks.disk import Disk
from byre.disks.opening import open_disk
from byre.errors import MissingError
from byre.storage.base import Storage
from byre.storage.local import open_file


class Closable(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closable)
AT_THE_END = ExitStack()
"""What the running test has opened and nobody else closes; ``conftest`` closes it after each test."""


def kept_open(opened: T) -> T:
    """The same, closed when the test ends: for helpers that hand out what reads from it."""
    AT_THE_END.callback(opened.close)
    return opened


def _nothing_else(path: Path, *_: Any) -> Any:
    raise MissingError("these tests open one file only", path=path)


def memory_context(*, writable: bool = False) -> OpenContext:
    """A context in which no other file can be opened."""
    return OpenContext(OpenOptions(writable=writable), None, _nothing_else, _nothing_else)


def folder_context(folder: Path, *, writable: bool = False) -> OpenContext:
    """A context in which an image's backing image and its data files are those of a folder, until the test ends."""
    return OpenContext(
        OpenOptions(writable=writable),
        folder.resolve(),
        lambda path, format, context: kept_open(open_disk(path, format=format)),
        lambda path, options: kept_open(open_file(path)),
    )


def open_in_memory(
    opener: Callable[[Storage, OpenContext], Disk], storage: Storage, *, writable: bool = False
) -> Any:
    return opener(storage, memory_context(writable=writable))
