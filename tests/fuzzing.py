"""What every fuzz suite shares: how many cases, random numbers for each, and the bounds that no case may pass.

``BYRE_FUZZ_CASES`` says how many cases each suite runs (``make fuzz`` sets more); without it a suite's own number.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from byre.errors import StorageError
from byre.storage.memory import MemoryStorage
from effort import slowness

SECONDS = 2.0
"""Processor time of one case, so that a busy machine fails none; a slow one has longer."""
MEMORY = 512 << 20
"""Bytes by which one case may raise the memory that the process has in use."""
_ADDRESSES = 2 * MEMORY
"""Address space on top of what the process has: where it ends is a MemoryError, not a machine that swaps. It is
more than ``MEMORY`` since a thread takes addresses that it never touches."""

MOST_BYTES = 64 << 20

_PEAK_RESET = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class SmallStorage(MemoryStorage):
    """Refuses to grow beyond what a test may take, where a file would stay sparse."""

    def truncate(self, size: int) -> None:
        if size > MOST_BYTES:
            raise StorageError("changing the length failed: File too large", path=self.name)
        super().truncate(size)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        if offset + len(data) > MOST_BYTES:
            raise StorageError("write failed: File too large", path=self.name, offset=offset)
        super().write(offset, data)


def case_count(default: int) -> int:
    """How many cases a suite runs whose own number is ``default``."""
    return int(os.environ.get("BYRE_FUZZ_CASES") or default)


def fuzz(label: str, default: int, case: Callable[[random.Random], object]) -> int:
    """Run ``case`` with random numbers of its own for each number below the count; how many returned something
    true. A failure names the case: ``random.Random("label number")`` brings it back."""
    hits = 0
    with _address_limit():
        for number in range(case_count(default)):
            seed = f"{label} {number}"
            try:
                with _bounds():
                    hits += bool(case(random.Random(seed)))
            except BaseException as error:
                error.add_note(f"fuzz case {seed!r}")
                raise
    return hits


@contextlib.contextmanager
def _bounds() -> Iterator[None]:
    with contextlib.suppress(OSError):
        _PEAK_RESET.write_text("5")  # Linux: the peak starts again from what is in use now
    before, started = _memory("VmRSS"), time.process_time()
    yield
    took, grown = time.process_time() - started, _memory("VmHWM") - before
    assert took < SECONDS or took < SECONDS * slowness(), f"took {took:.1f} s"
    assert grown < MEMORY, f"took {grown >> 20} MiB"


def _memory(field: str) -> int:
    """Bytes; where /proc doesn't tell, the most that the process ever had."""
    try:
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return int(line.split()[1]) << 10


@contextlib.contextmanager
def _address_limit() -> Iterator[None]:
    old, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = _memory("VmSize") + _ADDRESSES
    if _STATUS.exists() and (old == resource.RLIM_INFINITY or wanted < old):
        resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (old, hard))
