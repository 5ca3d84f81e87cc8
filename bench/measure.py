"""Run a command and say what it took."""

from __future__ import annotations

import compileall
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One run: wall seconds, CPU seconds, peak resident bytes."""

    wall: float
    cpu: float
    peak: int


class CommandError(Exception):
    """The command failed; the text is its output."""


def run(command: Sequence[str], *, ok: tuple[int, ...] = (0,)) -> Run:
    """Run it with its output kept for an error. Raises CommandError."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode not in ok:
        raise CommandError(f"{' '.join(command)}: exit status {process.returncode}\n{said.decode(errors='replace')}")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def compile_byre() -> None:
    """Do what pip does when it installs: a checkout under PYTHONDONTWRITEBYTECODE compiles itself in every run."""
    compileall.compile_dir(Path(__file__).resolve().parents[1] / "src", quiet=1)


def settle() -> None:
    """Let earlier writes reach the disk, so that they aren't on the next one's bill."""
    os.sync()


def median(runs: Sequence[Run]) -> float:
    return statistics.median(entry.wall for entry in runs)


def peak(runs: Sequence[Run]) -> int:
    return max((entry.peak for entry in runs), default=0)


def spread(runs: Sequence[Run]) -> tuple[float, float]:
    """The fastest and the slowest."""
    walls = [entry.wall for entry in runs]
    return min(walls), max(walls)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
