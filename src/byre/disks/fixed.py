"""Fixed images that must have no holes in the host file."""

from __future__ import annotations

import numpy as np

from byre.disks.writer import BoolArray
from byre.storage.base import Storage

_STEP = 1 << 20


class BlockFiller:
    """Remembers which blocks a writer placed and writes zeros to the others.

    Windows refuses to attach a VHD or VHDX that is a sparse file on its host, and a copy of a file with holes
    may well be one. Mutable: ``placed`` is set as blocks come.
    """

    def __init__(self, blocks: int) -> None:
        self.placed: BoolArray = np.zeros(blocks, dtype=bool)

    def fill(self, storage: Storage, start: int, block_size: int, stop: int | None = None) -> None:
        """Zeros for every block never placed; block 0 lies at ``start``, nothing is written from ``stop`` on."""
        zeros = memoryview(bytes(min(block_size, _STEP)))
        for block in np.flatnonzero(~self.placed).tolist():
            begin = start + block * block_size
            end = begin + block_size if stop is None else min(stop, begin + block_size)
            for position in range(begin, end, len(zeros)):
                storage.write(position, zeros[: end - position])
