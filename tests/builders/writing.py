"""Driving an ImageWriter without the conversion pipeline: whole blocks, in order, in one thread."""

from __future__ import annotations

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
    block = writer.block_size
    total = -(-source.size // block)
    for first in range(0, total, batch):
        numbers, pieces, stored, packed = [], [], [], []
        for number in range(first, min(total, first + batch)):
            start = number * block
            data = source.read(start, min(block, source.size - start))
            if not any(data):
                continue
            if writer.encode is not None:
                encoded = writer.encode(start, memoryview(data.ljust(block, b"\0")))
                data, flag = bytes(encoded.data), encoded.compressed
            else:
                flag = False
            numbers.append(number)
            pieces.append(data)
            stored.append(len(data))
            packed.append(flag)
        if not numbers:
            continue
        placement = writer.place(np.array(numbers), np.array(stored), np.array(packed))
        for piece, file, host in zip(pieces, placement.file.tolist(), placement.host.tolist(), strict=True):
            writer.files[file].write(host, piece)
    writer.finish()
