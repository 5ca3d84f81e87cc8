"""Writing a flat VMDK: a raw file and the text that names it."""

from __future__ import annotations

import numpy as np

from byre.disks.vmdk.descriptor import Descriptor, serialise_descriptor
from byre.disks.writer import BoolArray, Encoder, Int64Array, Placement
from byre.storage.base import Storage


class FlatWriter:
    """Blocks go where the guest sees them in the ``-flat`` file; the descriptor is written last."""

    encode: Encoder | None = None
    block_size = 1 << 16

    def __init__(self, text: Storage, flat: Storage, size: int, descriptor: Descriptor) -> None:
        self.files: tuple[Storage, ...] = (flat,)
        self.size = size
        self._text = text
        self._descriptor = descriptor
        flat.truncate(size)

    def place(self, blocks: Int64Array, stored: Int64Array, compressed: BoolArray) -> Placement:
        return Placement(file=np.zeros(len(blocks), dtype=np.int64), host=blocks * self.block_size)

    def place_zero(self, blocks: Int64Array) -> None:
        return None

    def finish(self) -> None:
        self._text.write(0, serialise_descriptor(self._descriptor))
