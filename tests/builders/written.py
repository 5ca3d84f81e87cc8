"""New images through a format's own ``create``, without the pipeline: blocks that aren't zeros are placed."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from byre.disks.formats import format_named
from byre.disks.writer import ImageWriter
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for storage in (self.storage, *self.extras):
            storage.close()


def write_image(
    path: Path, format: str, content: bytes | dict[int, bytes], size: int | None = None, **options: Any
) -> Path:
    """Write ``content`` (all of it, or pieces by guest offset) as a new image. With a backing file, blocks that
    are all zeros are placed as zeros; a dict then leaves out what isn't named."""
    pieces = {0: content} if isinstance(content, bytes) else content
    if size is None:
        size = max(offset + len(piece) for offset, piece in pieces.items())
    with FileTarget(path) as target:
        writer = format_named(format).load().create(target, size, options)
        blocks = _blocks(pieces, writer.block_size)
        zero = [block for block, data in blocks.items() if not any(data)]
        _place(writer, {block: blocks[block] for block in sorted(set(blocks) - set(zero))})
        writer.place_zero(np.array(sorted(zero), dtype=np.int64))
        writer.finish()
    return path


def _place(writer: ImageWriter, blocks: dict[int, bytearray]) -> None:
    numbers = np.array(list(blocks), dtype=np.int64)
    stored = np.full(len(blocks), writer.block_size, dtype=np.int64)
    where = writer.place(numbers, stored, np.zeros(len(blocks), dtype=bool))
    for (block, data), file, host in zip(blocks.items(), where.file.tolist(), where.host.tolist(), strict=True):
        inside = min(writer.block_size, writer.size - block * writer.block_size)
        writer.files[file].write(host, bytes(data[:inside]))


def _blocks(pieces: dict[int, bytes], block_size: int) -> dict[int, bytearray]:
    blocks: dict[int, bytearray] = {}
    for offset, piece in pieces.items():
        done = 0
        while done < len(piece):
            block, within = divmod(offset + done, block_size)
            count = min(block_size - within, len(piece) - done)
            data = blocks.setdefault(block, bytearray(block_size))
            data[within : within + count] = piece[done : done + count]
            done += count
    return blocks
