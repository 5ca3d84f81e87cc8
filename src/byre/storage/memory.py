"""A storage in memory, for tests, small metadata and planning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from byre.errors import StorageError
from byre.storage.base import Buffer, StorageDefaults


class MemoryStorage(StorageDefaults):
    """A growable array of bytes behind the Storage protocol."""

    def __init__(self, data: Buffer = b"", *, name: str = "<memory>", writable: bool = True) -> None:
        self.name = name
        self.path: Path | None = None
        self.writable = writable
        self.data = bytearray(data)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def allocated(self) -> int:
        return len(self.data)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        length = len(buffer)
        if offset < 0 or offset + length > len(self.data):
            raise StorageError(
                "read past the end",
                path=self.name,
                offset=offset,
                found=f"{max(0, len(self.data) - offset)} bytes",
                expected=f"{length} bytes",
            )
        buffer[:] = self.data[offset : offset + length]

    def write(self, offset: int, data: Buffer) -> None:
        if not self.writable:
            raise StorageError("write to a storage that was opened read-only", path=self.name, offset=offset)
        end = offset + len(data)
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        self.data[offset:end] = data

    def punch(self, offset: int, length: int) -> bool:
        end = min(offset + length, len(self.data))
        if end > offset:
            self.data[offset:end] = bytes(end - offset)
        return True

    def truncate(self, size: int) -> None:
        if size < len(self.data):
            del self.data[size:]
        else:
            self.data.extend(bytes(size - len(self.data)))

    def flush(self) -> None:
        return None

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        stop = min(stop, len(self.data))
        if start < stop:
            yield start, stop
