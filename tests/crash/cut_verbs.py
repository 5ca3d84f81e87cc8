"""Verbs that are killed, or whose writes or reads fail, at a chosen moment.

Run as a program it answers requests, one JSON line each: ``{"argv", "cut", "fault"}``. For each it forks itself,
warm, and runs the verb in the child, counting what reaches the disk (or, for faults of reading, what is read); at the
event number ``cut`` the child kills itself with SIGKILL in the middle of a write, or the system call fails with an
errno from then on. The answer: ``{"status", "events", "out", "error"}``; a negative status is a signal.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITES = ("pwrite", "pwritev", "ftruncate", "fdatasync", "fsync", "link", "rename", "unlink")
READS = ("pread", "preadv")
NEVER = 1 << 60


@dataclass(frozen=True)
class Ending:
    """How a verb ended. ``events``: how many there were to choose from."""

    status: int
    events: int
    out: str
    error: str

    @property
    def payload(self) -> dict[str, Any]:
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


class Cutter:
    """The program, asked from a test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, *argv: str | Path, cut: int = NEVER, fault: str = "kill") -> Ending:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"argv": [*map(str, argv)], "cut": cut, "fault": fault}) + "\n")
        self._process.stdin.flush()
        return Ending(**json.loads(self._process.stdout.readline()))


@contextmanager
def cutter() -> Iterator[Cutter]:
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Cutter(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


def moments(events: int, count: int) -> list[int]:
    """``count`` of the events, spread over all, and the last three, where the result is published."""
    spread = {1 + number * events // count for number in range(count)}
    return sorted(spread | set(range(max(1, events - 2), events + 1)))


def _hook(cut: int, fault: str, count: Callable[[], int]) -> None:
    """Put a counter before the system calls, and what happens at the one that is chosen."""
    for name in READS if fault == "read" else WRITES:
        real = getattr(os, name)

        def called(*arguments: Any, _real: Callable[..., Any] = real, _name: str = name) -> Any:
            number = count()
            if number >= cut and fault in ("read", "EIO", "ENOSPC") and _name not in ("unlink", "rename", "link"):
                code = errno.ENOSPC if fault == "ENOSPC" else errno.EIO
                raise OSError(code, os.strerror(code))
            if number == cut and fault == "kill":
                if _name == "pwrite":
                    _real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2], arguments[2])
                os.kill(os.getpid(), signal.SIGKILL)
            return _real(*arguments)

        setattr(os, name, called)


def _child(request: dict[str, Any], note: int) -> int:
    """Run the verb; how many events there are so far always stands in ``note``."""
    counter = itertools.count(1)
    lock = threading.Lock()
    write = os.pwrite

    def count() -> int:
        with lock:
            number = next(counter)
            write(note, number.to_bytes(8, "little"), 0)
            return number

    from byre.cli.main import main

    if request["fault"].startswith("FSIZE"):
        size = int(request["fault"].removeprefix("FSIZE"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    _hook(request["cut"], request["fault"], count)
    try:
        status = main(request["argv"])
    except SystemExit as stopped:
        status = stopped.code if isinstance(stopped.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error, tempfile.TemporaryFile() as note:
        pid = os.fork()
        if not pid:
            os.dup2(out.fileno(), 1)
            os.dup2(error.fileno(), 2)
            status = 99
            try:
                status = _child(request, note.fileno())
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        events = int.from_bytes(os.pread(note.fileno(), 8, 0), "little")
        texts = [os.pread(each.fileno(), 1 << 24, 0).decode("utf-8", "replace") for each in (out, error)]
    return {"status": status, "events": events, "out": texts[0], "error": texts[1]}


def _warm() -> None:
    """What the verbs import, once."""
    import byre.audit.gathering
    import byre.cli.main
    import byre.cli.mend
    import byre.cli.put
    import byre.cli.reg_edit
    import byre.cli.rm
    import byre.cli.slim
    import byre.convert.convert
    import byre.lite.applying
    import byre.lite.saving
    import byre.windows.inspection  # noqa: F401


def _serve(lines: Sequence[str] | Iterator[str]) -> None:
    _warm()
    for line in lines:
        print(json.dumps(_answer(json.loads(line))), flush=True)


if __name__ == "__main__":
    _serve(sys.stdin)
