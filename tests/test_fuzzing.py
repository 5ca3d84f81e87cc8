"""The bounds of the fuzz suites catch what passes them."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import pytest

import fuzzing
from fuzzing import MEMORY, SECONDS, fuzz

LINUX = Path("/proc/self/clear_refs").exists()


def test_each_case_has_random_numbers_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BYRE_FUZZ_CASES", raising=False)
    seen: list[float] = []
    assert fuzz("a", 3, lambda rng: seen.append(rng.random())) == 0
    assert seen == [random.Random(f"a {number}").random() for number in range(3)]


def test_the_environment_says_how_many_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYRE_FUZZ_CASES", "7")
    assert fuzz("b", 300, lambda rng: True) == 7


def test_a_slow_case_fails_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((0.0, 0.1, 1.0, 1.0 + SECONDS))
    monkeypatch.setattr(time, "process_time", lambda: next(clock))
    monkeypatch.setattr(fuzzing, "slowness", lambda: 1.0)
    with pytest.raises(AssertionError, match="took") as caught:
        fuzz("slow", 2, lambda rng: None)
    assert caught.value.__notes__ == ["fuzz case 'slow 1'"]


@pytest.mark.skipif(not LINUX, reason="only Linux tells the peak of one case")
def test_a_case_that_takes_too_much_memory_fails_though_it_gives_it_back() -> None:
    def hungry(rng: random.Random) -> None:
        bytearray(b"\1") * (MEMORY + (16 << 20))

    for _ in range(2):  # the process's peak of the first run doesn't hide the second's
        with pytest.raises(AssertionError, match="MiB"):
            fuzz("hungry", 1, hungry)


@pytest.mark.skipif(not LINUX, reason="only Linux tells the address space in use")
def test_a_case_without_any_bound_gets_a_memory_error() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(MemoryError):
        fuzz("bomb", 1, lambda rng: bytes(64 << 30))
    assert resource.getrlimit(resource.RLIMIT_AS) == before
