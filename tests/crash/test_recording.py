"""The crash model itself: what may be lost, and what may not."""

from __future__ import annotations

import random

import pytest

from byre.errors import StorageError
from crash.recording import RecordingStorage, crash_states


def test_flushed_writes_are_in_every_later_state() -> None:
    base = bytes(4096)
    storage = RecordingStorage(base)
    storage.write(0, b"A" * 512)
    storage.flush()
    storage.write(512, b"B" * 512)
    storage.write(1024, b"C" * 1024)
    storage.flush()
    states = set(crash_states(storage.log, base, random.Random(1), 500))
    for state in states:
        if state[512:2048].strip(b"\0"):
            assert state[:512] == b"A" * 512
    assert base in states
    assert bytes(storage.data) in states


def test_unflushed_writes_are_dropped_reordered_and_torn_at_sectors() -> None:
    base = bytes(4096)
    storage = RecordingStorage(base)
    storage.write(0, b"A" * 1024)
    storage.write(2048, b"B" * 1024)
    seen = {
        tuple(state[at : at + 1] for at in range(0, 4096, 512))
        for state in crash_states(storage.log, base, random.Random(2), 500)
    }
    zero, a, b = b"\0", b"A", b"B"
    assert (zero, zero, zero, zero, b, b, zero, zero) in seen
    assert (a, a, zero, zero, zero, zero, zero, zero) in seen
    assert (a, zero, zero, zero, zero, zero, zero, zero) in seen
    assert (zero, a, zero, zero, zero, zero, zero, zero) in seen


def test_a_write_past_the_end_and_a_truncate_change_the_length() -> None:
    base = b"x" * 512
    storage = RecordingStorage(base)
    storage.write(1024, b"y" * 512)
    storage.truncate(256)
    lengths = {len(state) for state in crash_states(storage.log, base, random.Random(3), 100)}
    assert {512, 1536, 256} <= lengths


def test_a_full_disk_refuses_every_further_change() -> None:
    storage = RecordingStorage(bytes(512), fail_after=1)
    storage.write(0, b"a")
    with pytest.raises(StorageError):
        storage.write(1, b"b")
    with pytest.raises(StorageError):
        storage.flush()
