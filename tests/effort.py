"""Bounds on the work that something takes, in processor time of the machine that they were set on."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

REFERENCE = 0.018
"""Seconds of processor time that ``_work`` takes on the machine on which the bounds were chosen."""


def slowness() -> float:
    """How many times longer this machine takes at this moment than the one that the bounds were set on; at least 1.

    The work is measured each time: a machine slows down when others use its caches and the other half of its cores.
    """
    return max(1.0, min(_seconds(_work) for _ in range(3)) / REFERENCE)


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail where the block takes more processor time of this process and of the programs that it waits for."""
    before = _used()
    yield
    took = _used() - before
    assert took < seconds or took < seconds * slowness(), f"took {took:.1f} s of processor time"


def _used() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _seconds(work: Callable[[], object]) -> float:
    before = time.thread_time()
    work()
    return time.thread_time() - before


def _work() -> object:
    """Some of what a parser does: numbers and slices in Python, whole tables in numpy, a digest."""
    data = bytes(range(256)) * 4096
    total = 0
    for at in range(0, len(data), 16):
        total += int.from_bytes(data[at : at + 8], "little") & 0xFFFF
    table = np.frombuffer(data, "<u4")
    return total, int(np.sort(table)[::7].sum()), hashlib.sha256(data).digest()
