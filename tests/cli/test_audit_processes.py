"""Several images on processes of their own: interrupted, or one of them ended from outside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import byre as package
from byre.machine.runs import start_of
from programs import COMMAND

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
SLOW = """
import os, pathlib, time
from byre.audit.catalogue import Check
from byre.audit.rule import Rule

def check(facts, platform):
    (pathlib.Path(__file__).parent / f"worker-{os.getpid()}").touch()
    time.sleep(600)
    return []

CHECK = Check("slow", (Rule("SLOW-001", "lean", "t", "low", False, "l", "w", "s", "y", "r"),), check)
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """An audit of two images whose two processes are in the middle of it: a check of another package sleeps."""
    about = tmp_path / "slow-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[byre.checks]\nslow = slow_check:CHECK\n")
    (tmp_path / "slow_check.py").write_text(SLOW)
    for name in ("a.qcow2", "b.qcow2"):
        shutil.copyfile(SPECIMEN, tmp_path / name)
    process = subprocess.Popen(
        [*COMMAND, "audit", "a.qcow2", "b.qcow2", "--jobs", "2", "--only", "lean"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    until = time.monotonic() + 240
    while len(found := list(tmp_path.glob("worker-*"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    yield process, [int(path.name.partition("-")[2]) for path in found]
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def gone(processes: list[int]) -> bool:
    """Whether they end; one that nobody has asked after has ended too, whoever should have asked."""
    until = time.monotonic() + 120
    while any(start_of(each) for each in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_audit_leaves_no_process_behind(
    running: tuple[subprocess.Popen[str], list[int]], number: signal.Signals
) -> None:
    process, workers = running
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said
    assert gone(workers)


def test_a_process_that_is_ended_from_outside_is_told(running: tuple[subprocess.Popen[str], list[int]]) -> None:
    process, workers = running
    os.kill(workers[0], signal.SIGKILL)
    text, said = process.communicate(timeout=240)
    assert process.returncode == 74
    assert "ended from outside" in said
    assert "Traceback" not in said
    assert "not audited: io" in text
    assert gone(workers)
