"""Driving an ImageWriter without the conversion pipeline: whole blocks, in order, in one thread."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from byre.disks.disk import Disk
from byre.disks.writer import ImageWriter
from byre.storage.base import Storage
from byre.storage.local import LocalFile, open_file


class FolderTarget:
    """A ``Target`` that writes straight to the final names. Mutable: it remembers what it opened."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self.folder = path.parent
        self.opened: list[LocalFile] = []
        self.storage: Storage = self._new(path)

    def _new(self, path: Path) -> LocalFile:
        path.write_bytes(b"")
        storage = open_file(path, writable=True)
        self.opened.append(storage)
        return storage

    def extra(self, name: str) -> Storage:
        return self._new(self.folder / name)

    def close(self) -> None:
        for storage in self.opened:
            storage.close()


def copy_into(source: Disk, writer: ImageWriter, *, batch: int = 64) -> None:
    """Copy what isn't zeros, ``batch`` blocks at a time, then finish."""
    total = -(-source.size // writer.block_size)
    for first in range(0, total, batch):
        copy_blocks(source, writer, range(first, min(total, first + batch)))
    writer.finish()


def copy_blocks(source: Disk, writer: ImageWriter, numbers: Iterable[int]) -> None:
    """Copy these blocks, but for those of zeros."""
    block = writer.block_size
    taken, pieces, packed = [], [], []
    for number in numbers:
        start = number * block
        data = source.read(start, min(block, source.size - start))
        if not any(data):
            continue
        flag = False
        if writer.encode is not None:
            encoded = writer.encode(start, memoryview(data.ljust(block, b"\0")))
            data, flag = bytes(encoded.data), encoded.compressed
        taken.append(number)
        pieces.append(data)
        packed.append(flag)
    if not taken:
        return
    stored = np.array([len(piece) for piece in pieces])
    placement = writer.place(np.array(taken), stored, np.array(packed))
    for piece, file, host in zip(pieces, placement.file.tolist(), placement.host.tolist(), strict=True):
        writer.files[file].write(host, piece)
