"""Writes a whole image through a format's ``create``, block by block, as simply as can be."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path

import numpy as np

from byre.storage.base import Storage
from byre.storage.local import open_file


class FileTarget:
    """A new image written straight to its path."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        self.name = str(path)
        self.storage: Storage = open_file(path, writable=True)
        self.extras: list[Storage] = []

    def extra(self, name: str) -> Storage:
        path = Path(self.name).parent / name
        path.write_bytes(b"")
        self.extras.append(open_file(path, writable=True))
        return self.extras[-1]

    def close(self) -> None:
        for storage in (self.storage, *self.extras):
            storage.close()


def write_image(
    path: Path,
    format: str,
    data: Mapping[int, bytes],
    size: int,
    options: Mapping[str, object] | None = None,
    *,
    zero_blocks: tuple[int, ...] = (),
) -> None:
    """An image of ``size`` bytes; ``data`` maps guest offsets to bytes, the rest is never placed."""
    target = FileTarget(path)
    try:
        writer = import_module(f"byre.disks.{format}").create(target, size, options or {})
        unit = writer.block_size
        touched: dict[int, bytearray] = {}
        for offset, piece in data.items():
            for at in range(offset // unit, (offset + len(piece) - 1) // unit + 1):
                block = touched.setdefault(at, bytearray(unit))
                low, high = max(offset, at * unit), min(offset + len(piece), (at + 1) * unit)
                block[low - at * unit : high - at * unit] = piece[low - offset : high - offset]
        blocks = np.array(sorted(touched), dtype=np.int64)
        if len(blocks):
            stored = np.full(len(blocks), unit, dtype=np.int64)
            placed = writer.place(blocks, stored, np.zeros(len(blocks), dtype=np.bool_))
            for block, file, host in zip(blocks.tolist(), placed.file.tolist(), placed.host.tolist(), strict=True):
                inside = min(unit, writer.size - block * unit)
                writer.files[file].write(host, memoryview(touched[block])[:inside])
        if zero_blocks:
            writer.place_zero(np.array(zero_blocks, dtype=np.int64))
        writer.finish()
    finally:
        target.close()
