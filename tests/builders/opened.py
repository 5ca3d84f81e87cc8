"""Opens a format's disk over bytes in memory, as the crash and fuzz tests need it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from byre.disks.context import OpenContext, OpenOptions
from byre.disks.disk import Disk
from byre.errors import MissingError
from byre.storage.base import Storage


def _nothing_else(path: Path, *_: Any) -> Any:
    raise MissingError("these tests open one file only", path=path)


def memory_context(*, writable: bool = False) -> OpenContext:
    """A context in which no other file can be opened."""
    return OpenContext(OpenOptions(writable=writable), None, _nothing_else, _nothing_else)


def open_in_memory(
    opener: Callable[[Storage, OpenContext], Disk], storage: Storage, *, writable: bool = False
) -> Any:
    return opener(storage, memory_context(writable=writable))
