"""The seam between the pipeline that moves bytes and a format that is being written from start to end.

A writer only does metadata: it says where each block goes, remembers that, and at the end writes its tables.
The pipeline reads, looks for zeros, compresses and writes, on several threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from byre.storage.base import Storage

Int64Array: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
BoolArray: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where blocks go: for each one the index into the writer's ``files`` and the host offset in bytes."""

    file: Int64Array
    host: Int64Array


@dataclass(frozen=True, slots=True)
class Encoded:
    """One block ready to be stored. ``compressed`` False: the codec gained nothing and ``data`` is plain."""

    data: bytes | memoryview
    compressed: bool


Encoder: TypeAlias = Callable[[int, memoryview], Encoded]
"""(guest offset, one whole block) -> what to store. Called from several threads at once."""


class Target(Protocol):
    """Where a new image goes: nothing appears under a final name until all of it is on disk."""

    storage: Storage
    """The image's own file, empty and writable."""
    name: str
    """The final path, for errors and for names that must stand inside the image."""

    def extra(self, name: str) -> Storage:
        """Another file of the same image, beside it, published together with it."""
        ...


class ImageWriter(Protocol):
    """A new image being written. Blocks are numbered from guest offset 0; all calls come from one thread."""

    @property
    def files(self) -> tuple[Storage, ...]: ...

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        ...

    @property
    def block_size(self) -> int: ...

    @property
    def encode(self) -> Encoder | None:
        """None: blocks are stored as they are. The last block is padded with zeros for the encoder."""
        ...

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        """Take these blocks (ascending, each once in an image's life) and say where their bytes go.

        ``stored`` is the bytes that each takes; ``compressed`` whether it went through the encoder. The
        pipeline writes them, in any order, before it calls ``finish``. Of the last block only the bytes
        inside the disk are written, unless it is compressed.
        """
        ...

    def place_zero(self, blocks: Int64Array) -> None:
        """These blocks are zeros and must hide what a kept backing image has there."""
        ...

    def finish(self) -> None:
        """Write the tables. Blocks never placed read as zeros, or as the backing image. Doesn't flush."""
        ...
