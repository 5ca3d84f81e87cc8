"""The file allocation table as an array of successors, and chains followed a fragment at a time."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from byre.errors import CorruptImageError, UnsupportedError
from byre.volumes.partition import VolumeDisk

MAX_FAT_BYTES = 1 << 29
"""FATs above 512 MiB (128 million clusters) aren't loaded."""

FREE, BAD, END = 0, -2, -1


class Chains:
    """Successors by cluster number (0 and 1 are no clusters): ``FREE``, ``END``, ``BAD`` or the next cluster.

    A fragment ends at a *break*: a cluster whose successor isn't the one after it. Following a chain hops from
    break to break, so its cost is the number of fragments, not of clusters.
    """

    def __init__(self, successors: npt.NDArray[np.int32]) -> None:
        self.next = successors
        self.count = len(successors)
        following = np.arange(1, self.count + 1, dtype=np.int32)
        runs_on = successors == following
        breaks = ~runs_on & (successors != FREE)
        # A free cluster that one runs into ends the fragment, too: the chain is broken there.
        breaks[1:] |= (successors[1:] == FREE) & runs_on[:-1]
        breaks[-1:] = True
        self.breaks = np.flatnonzero(breaks)

    def follow(self, first: int, limit: int) -> tuple[list[tuple[int, int]], str | None]:
        """``(cluster, count)`` fragments of at most ``limit`` clusters, and what is wrong with the chain."""
        found: list[tuple[int, int]] = []
        hops = self.hops(first, limit)
        while True:
            try:
                found.append(next(hops))
            except StopIteration as stop:
                wrong: str | None = stop.value
                return found, wrong

    def hops(self, first: int, limit: int) -> Generator[tuple[int, int], None, str | None]:
        """The fragments one by one; returns what is wrong with the chain. Never visits a fragment twice."""
        seen: set[int] = set()
        here, taken = first, 0
        while taken < limit:
            if not 2 <= here < self.count:
                return f"points to cluster {here}, outside the volume"
            if int(self.next[here]) == FREE:
                return f"runs into the free cluster {here}"
            last = int(self.breaks[int(np.searchsorted(self.breaks, here))])
            if last in seen:
                return f"loops at cluster {here}"
            seen.add(last)
            following = int(self.next[last])
            broken = following == FREE
            count = min(last - here + (0 if broken else 1), limit - taken)
            yield here, count
            taken += count
            if following == END:
                return None
            if broken:
                return f"runs into the free cluster {last}"
            if following == BAD:
                return f"runs into the bad cluster {last}"
            here = following
        return None


def load_fat(volume: VolumeDisk, kind: str, offset: int, size: int, clusters: int) -> npt.NDArray[np.int32]:
    """One copy of the table as successors, ``clusters + 2`` long. Raises CorruptImageError, UnsupportedError."""
    entries = clusters + 2
    needed = {"fat12": (entries * 3 + 1) // 2, "fat16": entries * 2}.get(kind, entries * 4)
    if needed > MAX_FAT_BYTES:
        raise UnsupportedError("the file allocation table is too large", path=volume.name, found=needed)
    if needed > size:
        raise CorruptImageError(
            "the file allocation table is too short", path=volume.name, found=size, expected=needed
        )
    data = volume.read(offset, needed)
    if kind == "fat12":
        raw = _unpack12(data, entries)
        top = 0xFFF
    elif kind == "fat16":
        raw = np.frombuffer(data, dtype="<u2", count=entries).astype(np.int32)
        top = 0xFFFF
    else:
        mask = 0x0FFFFFFF if kind == "fat32" else 0xFFFFFFFF
        wide = np.frombuffer(data, dtype="<u4", count=entries) & np.uint32(mask)
        ends = wide >= mask - 7
        bad = wide == mask - 8
        narrow: npt.NDArray[np.int32] = np.minimum(wide, np.uint32(0x7FFFFFFF)).astype(np.int32)
        narrow[ends], narrow[bad] = END, BAD
        return narrow
    ends, bad = raw >= top - 7, raw == top - 8
    raw[ends], raw[bad] = END, BAD
    return raw


def _unpack12(data: bytes, entries: int) -> npt.NDArray[np.int32]:
    """Three bytes hold two entries."""
    padded = np.frombuffer(data + bytes(-len(data) % 3 + 3), dtype=np.uint8)
    triples: Any = padded[: len(padded) // 3 * 3].reshape(-1, 3).astype(np.int32)
    pairs = np.empty((len(triples), 2), dtype=np.int32)
    pairs[:, 0] = triples[:, 0] | (triples[:, 1] & 15) << 8
    pairs[:, 1] = triples[:, 1] >> 4 | triples[:, 2] << 4
    flat: npt.NDArray[np.int32] = pairs.reshape(-1)[:entries].copy()
    return flat
