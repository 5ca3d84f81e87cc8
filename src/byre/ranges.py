"""Ranges of bytes, rows of ``(start, stop)``: what is free, was written or is left out, millions at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def joined(pieces: Sequence[Int64Array]) -> Int64Array:
    """All the ranges as one table: ascending, and apart."""
    rows = np.concatenate(pieces) if pieces else np.zeros((0, 2), dtype=np.int64)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    if not len(rows):
        return rows
    reach = np.maximum.accumulate(rows[:, 1])
    heads = np.flatnonzero(np.concatenate(([True], rows[1:, 0] > reach[:-1])))
    tails = np.concatenate((heads[1:] - 1, [len(rows) - 1]))
    return np.stack((rows[heads, 0], reach[tails]), axis=1)


def touched(ranges: Int64Array, starts: Int64Array, stops: Int64Array) -> BoolArray:
    """Which of the spans from ``starts`` to ``stops`` have a byte in ``ranges``, which are ascending and apart."""
    if not len(ranges):
        return np.zeros(len(starts), dtype=np.bool_)
    at = np.searchsorted(ranges[:, 1], starts, side="right")
    inside = at < len(ranges)
    found: BoolArray = inside & (ranges[np.where(inside, at, 0), 0] < stops)
    return found
