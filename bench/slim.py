"""``byre slim`` as a user starts it: wall time by phase, and the peak memory of it and of its NTFS helper.

``python bench/slim.py --quick``. The guest is made under bench/work by mkntfs and ntfs-3g (root or FUSE): an NTFS
volume of 40 GB with the specimen's system and 100,000 more files of 1.7 GB; the profile ``safe`` takes 10,000.
Before each run the image's pages are dropped from the host's cache; a run in place gets a copy of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guest_volume import can_make, slimmed_guest
from measure import CommandError, settle
from suite import BYRE, keep, parsed, suite_parser, title

PHASES = ("look", "plan", "change", "prove", "write")
MEMORY = 400 << 20


@dataclass(frozen=True, slots=True)
class Slimmed:
    """One run: wall seconds of the process, what it says of its phases, peak resident bytes of it and its helper."""

    wall: float
    phases: dict[str, float]
    peak: int
    helper: int
    gone: int


def main() -> int:
    options = parsed(suite_parser(__doc__))
    files, gone, size = (2_000, 200, 1 << 30) if options.quick else (100_000, 10_000, 40 << 30)
    image = options.work / f"slimmed-{files}.qcow2"
    if not image.exists():
        if not can_make():
            print("slimming: not run, mkntfs and ntfs-3g are missing")
            return 0
        slimmed_guest(image, files, gone, size)
    rows = measure(image, options.work, options.runs)
    title(f"Slimming: {gone:,} of {files:,} files go, on a volume of {size >> 30} GB", options)
    print(f"| job | median | range | aim | {' | '.join(PHASES)} | memory | helper's | aim | |")
    print("|---" * (8 + len(PHASES)) + "|")
    for row in rows:
        print(shown(row))
    keep("byre/bench-slim/1", rows, options)
    return 0


def measure(image: Path, work: Path, runs: int) -> list[dict[str, Any]]:
    """Every row: name, runs, and what it may take."""
    copies, in_place = [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            copies.append(_slim(image, "-o", f"{folder}/out.qcow2"))
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=work) as folder:
            own = Path(shutil.copyfile(image, Path(folder) / "own.qcow2"))
            in_place.append(_slim(own, "--in-place"))
    return [
        _row("slim -o OUT, besides copying", copies, [run.wall - run.phases["write"] for run in copies], 10.0),
        _row("slim --in-place", in_place, [run.wall for run in in_place], 5.0),
    ]


def _slim(image: Path, *words: str) -> Slimmed:
    settle()
    with image.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    command = (BYRE, "slim", str(image), "--json", *words)
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        peaks: dict[int, int] = {}
        watch = threading.Thread(target=_watch, args=(process, peaks), daemon=True)
        watch.start()
        said, complaint = process.communicate()
        wall = time.perf_counter() - began
        watch.join()
    if process.returncode:
        raise CommandError(f"{' '.join(command)}: {process.returncode}\n{complaint.decode(errors='replace')}")
    told = json.loads(said)
    others = [peak for pid, peak in peaks.items() if pid != process.pid]
    return Slimmed(wall, told["seconds"], peaks[process.pid], max(others, default=0), told["proof"]["gone"])


def _watch(process: subprocess.Popen[bytes], peaks: dict[int, int]) -> None:
    """Note the peak memory of a process and its children, for as long as it runs."""
    while process.poll() is None:
        for pid in (process.pid, *_children(process.pid)):
            with suppress(OSError):
                if pid != process.pid and b"ntfs_helper" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                    continue  # a copy of ours that hasn't become the helper yet
                found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
                if found:
                    peaks[pid] = max(peaks.get(pid, 0), int(found[1]) << 10)
        time.sleep(0.02)


def _children(pid: int) -> Iterator[int]:
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            yield from map(int, (task / "children").read_text().split())


def _row(name: str, runs: list[Slimmed], seconds: list[float], aim: float) -> dict[str, Any]:
    return {
        "name": name,
        "seconds": statistics.median(seconds),
        "spread": (min(seconds), max(seconds)),
        "aim": aim,
        "phases": {phase: statistics.median(run.phases[phase] for run in runs) for phase in PHASES},
        "peak": max(run.peak for run in runs),
        "helper_peak": max(run.helper for run in runs),
        "peak_aim": MEMORY,
        "gone": runs[0].gone,
        "runs": [{"wall": run.wall, **run.phases} for run in runs],
    }


def shown(row: dict[str, Any]) -> str:
    """A row of the table."""
    met = row["seconds"] <= row["aim"] and max(row["peak"], row["helper_peak"]) <= row["peak_aim"]
    low, high = row["spread"]
    phases = " | ".join(f"{row['phases'][phase]:.2f} s" for phase in PHASES)
    return (
        f"| {row['name']} | {row['seconds']:.2f} s | {low:.2f} to {high:.2f} s | {row['aim']:.0f} s | {phases} | "
        f"{row['peak'] / 2**20:.0f} MiB | {row['helper_peak'] / 2**20:.0f} MiB | {row['peak_aim'] >> 20} MiB | "
        f"{'met' if met else '**missed**'} |"
    )


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # An installed program finds its modules compiled.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.exit(main())
