"""``byre audit`` as a user starts it: wall time and peak memory of the whole process.

``python bench/audit.py --quick``. The large guest is made under bench/work by mkntfs and ntfs-3g (root or FUSE): an
MBR disk with the specimen's system and 20,000 more files of 1.5 GB, a third of them programs. *Cold*: no facts are
kept from an earlier audit, and the image's pages are dropped from the host's cache before each run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

import byre as package  # noqa: E402
from measure import Run, compile_byre, median, peak, run, settle, spread  # noqa: E402

BYRE = str(Path(sys.executable).with_name("byre"))
SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
SIZES = (4_000, 20_000, 60_000, 120_000, 171_000)
"""Bytes of a file: 75,000 on average, so that 20,000 of them are 1.5 GB."""
PROGRAMS = 3
"""One file in so many is a program."""
STALE = 5
"""Seconds after which an image may be kept in the cache of facts."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small guest, one run: does it run at all?")
    parser.add_argument("--runs", type=int, help="runs of each (default 5, quick 1)")
    parser.add_argument("--work", type=Path, default=HERE / "work")
    parser.add_argument("--output", type=Path, help="write the rows there as JSON too")
    options = parser.parse_args()
    compile_byre()
    options.work.mkdir(parents=True, exist_ok=True)
    runs = options.runs or (1 if options.quick else 5)
    rows = measure(options.work, runs, 1_000 if options.quick else 20_000)
    print("# Auditing\n")
    if options.quick:
        print("**A smoke run on a small guest: the aims don't apply.**\n")
    print("| job | median | range | aim | peak memory | aim | |\n|---|---|---|---|---|---|---|")
    for row in rows:
        print(shown(row))
    if options.output:
        options.output.write_text(json.dumps({"schema": "byre/bench-audit/1", "rows": rows}, indent=2))
    return 0


def measure(work: Path, runs: int, files: int) -> list[dict[str, Any]]:
    """Every row: name, runs, and what it may take."""
    specimen = work / "specimen.qcow2"
    shutil.copyfile(SPECIMEN, specimen)
    rows = [_row("specimen, all questions", [_audit(specimen, work) for _ in range(runs)], 3.0, None)]
    image = work / f"audited-{files}.qcow2"
    if not image.exists():
        if not all(shutil.which(tool) for tool in ("mkntfs", "ntfs-3g")):
            return [*rows, {"name": "a large guest", "skipped": "mkntfs and ntfs-3g are missing"}]
        make_guest(image, files)
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


def make_guest(image: Path, count: int) -> None:
    """The large guest, as a plain qcow2."""
    from builders import xp
    from builders.ntfs_volumes import mkntfs, mounted
    from builders.pe import PeSpec, build_pe
    from make_specimen import HEADS, SECTORS_PER_TRACK, START_LBA, wrap

    source = random.Random(11)
    volume, disk = image.with_suffix(".volume"), image.with_suffix(".raw")
    geometry = ("-p", str(START_LBA), "-S", str(SECTORS_PER_TRACK), "-H", str(HEADS))
    mkntfs(volume, 255 << 20 if count < 2_000 else 3 << 30, *geometry)
    with mounted(volume) as root:
        files = xp.clean_files()
        for name in xp.folders(files):
            (root / name.lstrip("/")).mkdir(exist_ok=True)
        for name, data in files.items():
            (root / name.lstrip("/")).write_bytes(data)
        for number in range(count):
            folder = root / "Program Files" / f"package {number // 200}"
            if number % 200 == 0:
                folder.mkdir()
            data = source.randbytes(source.choice(SIZES))
            if number % PROGRAMS == 0:
                spec = PeSpec(name=f"part{number}.dll", imports={"kernel32.dll": ["CreateFileW"]}, timestamp=number)
                # What follows the sections is an overlay, as installers have it: digests are taken of all of it.
                data = build_pe(spec) + data
            (folder / f"part{number}.{'dll' if number % PROGRAMS == 0 else 'dat'}").write_bytes(data)
    _wrap(wrap, volume, disk)
    volume.unlink()
    made = image.with_suffix(".part")
    subprocess.run([BYRE, "convert", "--force", disk, made, "-O", "qcow2"], check=True, stdout=subprocess.DEVNULL)
    disk.unlink()
    made.replace(image)


def _wrap(wrap: Any, volume: Path, disk: Path) -> None:
    """The volume behind an MBR, on a disk that is large enough for it."""
    import make_specimen

    make_specimen.DISK_SIZE = volume.stat().st_size + (2 << 20)
    wrap(volume, disk)


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
