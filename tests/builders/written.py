"""New images through a format's own ``create``, without the pipeline: blocks that aren't zeros are placed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from byre.disks.formats import format_named
from byre.storage.base import Storage
from byre.storage.local import open_file


class FileTarget:
    """A target that is the file itself."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(b"")
        self.name = str(path)
        self.storage: Storage = open_file(path, writable=True)

    def extra(self, name: str) -> Storage:
        raise AssertionError("one file is all that these formats need")


def write_image(
    path: Path, format: str, content: bytes | dict[int, bytes], size: int | None = None, **options: Any
) -> Path:
    """Write ``content`` (all of it, or pieces by guest offset) as a new image. With a backing file, blocks that
    are all zeros are placed as zeros; a dict then leaves out what isn't named."""
    pieces = {0: content} if isinstance(content, bytes) else content
    if size is None:
        size = max(offset + len(piece) for offset, piece in pieces.items())
    target = FileTarget(path)
    writer = format_named(format).load().create(target, size, options)
    blocks = _blocks(pieces, writer.block_size)
    zero = [block for block, data in blocks.items() if not any(data)]
    held = sorted(set(blocks) - set(zero))
    count = len(held)
    where = writer.place(
        np.array(held, dtype=np.int64), np.full(count, writer.block_size, dtype=np.int64), np.zeros(count, dtype=bool)
    )
    for block, host in zip(held, where.host.tolist(), strict=True):
        inside = min(writer.block_size, size - block * writer.block_size)
        target.storage.write(host, bytes(blocks[block][:inside]))
    writer.place_zero(np.array(sorted(zero), dtype=np.int64))
    writer.finish()
    target.storage.close()
    return path


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
