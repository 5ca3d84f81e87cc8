"""``byre audit`` as a user starts it: wall time and peak memory of the whole process.

``python bench/audit.py --quick``. The large guest is made under bench/work by mkntfs and ntfs-3g (root or FUSE): an
MBR disk with the specimen's system and 20,000 more files of 1.5 GB, a third of them programs. *Cold*: no facts are
kept from an earlier audit, and the image's pages are dropped from the host's cache before each run.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import byre as package
from guest_volume import audited_guest, can_make
from measure import Run, compile_byre, median, peak, run, settle, spread
from suite import BYRE, keep, parsed, suite_parser, title

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
STALE = 5
"""Seconds after which an image may be kept in the cache of facts."""


def main() -> int:
    options = parsed(suite_parser(__doc__))
    compile_byre()
    rows = measure(options.work, options.runs, 1_000 if options.quick else 20_000)
    title("Auditing", options)
    print("| job | median | range | aim | peak memory | aim | |\n|---|---|---|---|---|---|---|")
    for row in rows:
        print(shown(row))
    keep("byre/bench-audit/1", rows, options)
    return 0


def measure(work: Path, runs: int, files: int) -> list[dict[str, Any]]:
    """Every row: name, runs, and what it may take."""
    specimen = work / "specimen.qcow2"
    shutil.copyfile(SPECIMEN, specimen)
    rows = [_row("specimen, all questions", [_audit(specimen, work) for _ in range(runs)], 3.0, None)]
    image = work / f"audited-{files}.qcow2"
    if not image.exists():
        if not can_make():
            return [*rows, {"name": "a large guest", "skipped": "mkntfs and ntfs-3g are missing"}]
        audited_guest(image, files)
    about = f"{files:,} files"
    settle()
    cold = [_audit(image, work) for _ in range(runs)]
    rows.append(_row(f"{about}, all questions, cold", cold, 15.0, 500 << 20))
    no_census = ("--only", "sound", "--only", "complete", "--only", "portable")
    rows.append(
        _row(f"{about}, will it boot, cold", [_audit(image, work, *no_census) for _ in range(runs)], None, None)
    )
    time.sleep(STALE)
    _audit(image, work, kept=True)
    rows.append(
        _row(f"{about}, again from the cache", [_audit(image, work, kept=True) for _ in range(runs)], None, None)
    )
    return rows


def _audit(image: Path, work: Path, *more: str, kept: bool = False) -> Run:
    """One audit; findings are no failure."""
    os.environ["XDG_CACHE_HOME"] = str(work / "cache")
    with image.open("rb") as file:
        if not kept:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    words = (BYRE, "audit", str(image), "--json", *(() if kept else ("--no-cache",)), *more)
    return run(words, ok=(0, 2))


def _row(name: str, taken: list[Run], seconds: float | None, memory: int | None) -> dict[str, Any]:
    return {
        "name": name,
        "seconds": median(taken),
        "spread": spread(taken),
        "aim": seconds,
        "peak": peak(taken),
        "peak_aim": memory,
    }


def shown(row: dict[str, Any]) -> str:
    """A row of the table."""
    if "skipped" in row:
        return f"| {row['name']} | | | | | | not run: {row['skipped']} |"
    aims = [(row["seconds"], row["aim"]), (row["peak"], row["peak_aim"])]
    met = "met" if all(aim is None or value <= aim for value, aim in aims) else "**missed**"
    low, high = row["spread"]
    asked = f"{row['peak_aim'] >> 20} MiB" if row["peak_aim"] else ""
    return (
        f"| {row['name']} | {row['seconds']:.2f} s | {low:.2f} to {high:.2f} s | {row['aim'] or ''} | "
        f"{row['peak'] / 2**20:.0f} MiB | {asked} | {met if row['aim'] else ''} |"
    )


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
