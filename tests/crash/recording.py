"""A storage that records what is done to it, and the images that a kill or a power cut could leave behind.

    storage = RecordingStorage(base)
    ...                                # the verb under test writes to it
    for state in crash_states(storage.log, base, random.Random(1), limit=200):
        check(state)

The model of the disk: what was written before the last flush is there, all of it and in order; of what came
after, any subset may be there, in any order, and any of it may be torn at a sector of 512 bytes. A process
that is killed is the special case in which everything up to the cut is there.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from byre.errors import StorageError
from byre.storage.base import Buffer
from byre.storage.memory import MemoryStorage

SECTOR = 512


@dataclass(frozen=True, slots=True)
class Write:
    """``data``, whole sectors but at the end of the file, was written at ``offset``."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Punch:
    """The range was made to read as zeros; the file's length stays."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Truncate:
    """The file's length was set."""

    size: int


@dataclass(frozen=True, slots=True)
class Flush:
    """Everything before this is on stable storage."""


Event = Write | Punch | Truncate | Flush


class RecordingStorage(MemoryStorage):
    """A storage in memory whose ``log`` holds every change and every flush, in order.

    ``fail_after`` events (flushes count) every further change fails as a full disk does: for tests of what a
    verb leaves behind when it is refused half-way.
    """

    def __init__(self, base: Buffer = b"", *, name: str = "<recording>", fail_after: int | None = None) -> None:
        super().__init__(base, name=name)
        self.log: list[Event] = []
        self.fail_after = fail_after

    def write(self, offset: int, data: Buffer) -> None:
        self._refuse_when_full()
        super().write(offset, data)
        # A disk takes whole sectors, as they are in the page cache by then: what is lost of two writes to one
        # sector can never be the earlier one alone.
        start = offset - offset % SECTOR
        stop = min(offset + len(data) + -(offset + len(data)) % SECTOR, len(self.data))
        self.log.append(Write(start, bytes(self.data[start:stop])))

    def punch(self, offset: int, length: int) -> bool:
        self._record(Punch(offset, length))
        return super().punch(offset, length)

    def truncate(self, size: int) -> None:
        self._record(Truncate(size))
        super().truncate(size)

    def flush(self) -> None:
        self._record(Flush())

    def _record(self, event: Event) -> None:
        self._refuse_when_full()
        self.log.append(event)

    def _refuse_when_full(self) -> None:
        if self.fail_after is not None and len(self.log) >= self.fail_after:
            raise StorageError("write failed: No space left on device", path=self.name)


def apply(image: bytearray, event: Event) -> None:
    """Do to ``image`` what the event did to the file."""
    match event:
        case Write(offset, data):
            if offset > len(image):
                image.extend(bytes(offset - len(image)))
            image[offset : offset + len(data)] = data
        case Punch(offset, length):
            end = min(offset + length, len(image))
            if end > offset:
                image[offset:end] = bytes(end - offset)
        case Truncate(size):
            if size < len(image):
                del image[size:]
            else:
                image.extend(bytes(size - len(image)))
        case Flush():
            pass


def crash_states(log: Sequence[Event], base: bytes, rng: random.Random, limit: int) -> Iterator[bytes]:
    """Up to ``limit`` different images that a cut could leave, the untouched and the finished one among them.

    Half of them are cuts in order (a killed process: every point of the log when they are few enough, else a
    sample), each followed now and then by one whose last write is torn; the rest are power cuts: a point, all
    that was flushed before it, and some of the rest in some order, torn here and there.
    """
    seen: set[bytes] = set()
    cuts = list(range(len(log) + 1))
    in_order = max(2, limit // 2)
    if len(cuts) > in_order:
        cuts = sorted({0, len(log), *rng.sample(cuts, in_order - 2)})
    for state in _kills(log, base, cuts, rng):
        if len(seen) < limit and _is_new(state, seen):
            yield state
    for _ in range(4 * limit):
        if len(seen) >= limit:
            return
        state = _power_cut(log, base, rng)
        if _is_new(state, seen):
            yield state


def check_crash_states(
    log: Sequence[Event], base: bytes, rng: random.Random, limit: int, judge: Callable[[bytes], None]
) -> int:
    """Call ``judge`` with every state; returns how many there were."""
    count = 0
    for state in crash_states(log, base, rng, limit):
        judge(state)
        count += 1
    return count


def _kills(log: Sequence[Event], base: bytes, cuts: list[int], rng: random.Random) -> Iterator[bytes]:
    image = bytearray(base)
    position = 0
    for cut in cuts:
        for event in log[position:cut]:
            apply(image, event)
        position = cut
        yield bytes(image)
        if cut < len(log) and rng.random() < 0.25:
            torn = bytearray(image)
            for piece in _torn(log[cut], rng):
                apply(torn, piece)
            yield bytes(torn)


def _power_cut(log: Sequence[Event], base: bytes, rng: random.Random) -> bytes:
    flushes = [at for at, event in enumerate(log) if isinstance(event, Flush)]
    # Half the cuts come right before a flush: there the most is still in the air.
    cut = rng.choice(flushes) if flushes and rng.random() < 0.5 else rng.randint(0, len(log))
    flushed = max((at for at in range(cut) if isinstance(log[at], Flush)), default=0)
    image = bytearray(base)
    for event in log[:flushed]:
        apply(image, event)
    pending = [event for event in log[flushed:cut] if not isinstance(event, Flush)]
    chance = rng.choice((0.1, 0.5, 0.9))
    kept = [event for event in pending if rng.random() < chance]
    if rng.random() < 0.7:
        rng.shuffle(kept)
    for event in kept:
        for piece in _torn(event, rng) if rng.random() < 0.3 else [event]:
            apply(image, piece)
    return bytes(image)


def _torn(event: Event, rng: random.Random) -> list[Event]:
    """The sectors of a write that made it: a prefix, a suffix or a random choice."""
    if not isinstance(event, Write) or not event.data:
        return [event] if rng.random() < 0.5 else []
    bounds = [0]
    first = SECTOR - event.offset % SECTOR
    bounds += range(first, len(event.data), SECTOR)
    bounds.append(len(event.data))
    if len(bounds) == 2:
        return [event] if rng.random() < 0.5 else []  # one sector is written whole or not at all
    sectors = len(bounds) - 1
    match rng.randrange(3):
        case 0:
            chosen = range(rng.randrange(sectors))
        case 1:
            chosen = range(rng.randrange(1, sectors + 1), sectors)
        case _:
            chosen = sorted(rng.sample(range(sectors), rng.randrange(min(sectors, 64))))
    return [Write(event.offset + bounds[at], event.data[bounds[at] : bounds[at + 1]]) for at in chosen]


def _is_new(state: bytes, seen: set[bytes]) -> bool:
    key = hashlib.blake2b(state, digest_size=16).digest()
    if key in seen:
        return False
    seen.add(key)
    return True
