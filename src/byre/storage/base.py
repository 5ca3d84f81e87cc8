"""The seam between bytes somewhere and everything that reads or writes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeAlias, runtime_checkable

Buffer: TypeAlias = bytes | bytearray | memoryview


@runtime_checkable
class Storage(Protocol):
    """Random access to bytes. Offsets and lengths are host bytes.

    Reads may run concurrently with each other; writes need the caller's own order. Every method raises
    StorageError when the operating system refuses.
    """

    name: str
    """What an error calls it: the path as the user typed it, or a URL without its secrets."""
    path: Path | None
    """The resolved local path, where there is one."""
    writable: bool

    @property
    def size(self) -> int:
        """Length in bytes, as of the last look: a file that another program grows may be longer."""
        ...

    @property
    def allocated(self) -> int:
        """Bytes that it takes on its host, holes not counted."""
        ...

    def fileno(self) -> int | None:
        """A file descriptor that ``os.pread`` and ``os.copy_file_range`` may use, or None."""
        ...

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill the whole buffer from ``offset``; a file that ends before is a StorageError."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``."""
        ...

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``; past the end the file grows."""
        ...

    def write_vector(self, offset: int, buffers: Sequence[Buffer]) -> None:
        """Write the buffers one after the other from ``offset``."""
        ...

    def punch(self, offset: int, length: int) -> bool:
        """Make the range read as zeros and give its space back; False if that can't be done here, and then
        nothing has changed."""
        ...

    def preallocate(self, offset: int, length: int) -> bool:
        """Reserve space that reads as zeros; the file grows to hold it. False if that can't be done here."""
        ...

    def start_writeback(self, offset: int, length: int) -> None:
        """A hint: begin to bring this range to stable storage, so that ``flush`` has less to wait for."""
        ...

    def truncate(self, size: int) -> None: ...

    def flush(self) -> None:
        """Return when everything written is on stable storage."""
        ...

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """The ``(start, stop)`` ranges that may hold data, ascending, clipped; the rest are holes."""
        ...

    def close(self) -> None: ...


class StorageDefaults:
    """What most storages share. Mutable as a base only: it holds nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        return None

    def fileno(self) -> int | None:
        return None

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        raise NotImplementedError

    def read(self, offset: int, length: int) -> bytes:
        buffer = bytearray(length)
        self.read_into(offset, buffer)
        return bytes(buffer)

    def write(self, offset: int, data: Buffer) -> None:
        raise NotImplementedError

    def write_vector(self, offset: int, buffers: Sequence[Buffer]) -> None:
        self.write(offset, b"".join(buffers))

    def punch(self, offset: int, length: int) -> bool:
        return False

    def preallocate(self, offset: int, length: int) -> bool:
        return False

    def start_writeback(self, offset: int, length: int) -> None:
        return None
