"""Looking inside guests: Byre's library against other readers, each in a process of its own, peers in a venv of
their own. ``python bench/guests.py --quick``; ``make bench`` runs it after bench/run.py.

Inputs are made under bench/work by mkntfs and ntfs-3g (root or FUSE). The hive comes from ``--shared``.
"""

from __future__ import annotations

import json
import lzma
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import CommandError, compile_byre, median, peak, run
from suite import BYRE, HERE, keep, parsed, suite_parser, title

PEERS = ("libfsntfs-python", "pytsk3", "dissect.ntfs", "libregf-python", "lief")
ROWS: tuple[tuple[str, str, tuple[str, ...], float], ...] = (
    ("list every file", "list", ("pyfsntfs", "pytsk3", "dissect"), 1.5),
    ("list, and hash 500 files", "hash", ("pyfsntfs", "pytsk3", "dissect"), 1.0),
    ("walk an 11.8 MB hive", "hive", ("pyregf",), 0.5),
    ("imports and exports of 500 DLLs", "pe", ("lief",), 0.5),
)
"""Name, job, peers, the most that Byre may take of the fastest of them."""


def main() -> int:
    parser = suite_parser(__doc__)
    parser.add_argument("--shared", type=Path, default=HERE.parents[1] / "shared" / "data", help="the field hives")
    options = parsed(parser)
    compile_byre()
    peers = _peer_python(options.work)
    inputs = _inputs(options.work, options.shared, 2_000 if options.quick else 20_000)
    rows = [_row(row, inputs, peers, options.runs) for row in ROWS]
    rows += _verbs(inputs, options.runs)
    title("Looking inside guests", options)
    print("| job | Byre | fastest peer | ratio | aim | |\n|---|---|---|---|---|---|")
    for row in rows:
        print(_shown(row))
    keep("byre/bench-guests/1", rows, options)
    return 0


def _peer_python(work: Path) -> str:
    """The interpreter of the peers' own environment, made on first need; a peer that can't be had is left out."""
    folder = work / "peers"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for package in PEERS:
            subprocess.run([python, "-m", "pip", "install", "-q", package], check=False, stderr=subprocess.DEVNULL)
    return str(python)


def _inputs(work: Path, shared: Path, files: int) -> dict[str, Path | None]:
    volume, image, hive = work / f"guest-{files}.raw", work / f"guest-{files}.qcow2", work / "SYSTEM"
    if not image.exists() and all(shutil.which(tool) for tool in ("mkntfs", "ntfs-3g")):
        subprocess.run([sys.executable, HERE / "guest_volume.py", volume, image, str(files)], check=True)
    packed = shared / "SYSTEM.xz"
    if not hive.exists() and packed.exists():
        hive.write_bytes(lzma.decompress(packed.read_bytes()))
    libraries = sorted(Path("/usr/lib").glob("*/wine/*-windows/*.dll"))
    listed = work / "dlls.txt"
    listed.write_text("\n".join(map(str, libraries[:500])))
    return {
        "list": volume if volume.exists() else None,
        "hash": volume if volume.exists() else None,
        "image": image if image.exists() else None,
        "hive": hive if hive.exists() else None,
        "pe": listed if libraries else None,
    }


def _row(
    row: tuple[str, str, tuple[str, ...], float], inputs: dict[str, Path | None], peers: str, runs: int
) -> dict[str, Any]:
    name, job, rivals, aim = row
    path = inputs[job]
    if path is None:
        return {"name": name, "aim": aim, "skipped": "its input isn't there"}
    worker = str(HERE / "guest_workers.py")
    ours: list[float] = []
    theirs: dict[str, list[float]] = {}
    counted: dict[str, object] = {}
    # In turn, so that what else the machine does falls on all alike.
    for _ in range(runs):
        for python, reader in ((sys.executable, "byre"), *((peers, each) for each in rivals)):
            told = _work([python, worker, reader, job, str(path)])
            if told is None:
                continue
            (ours if reader == "byre" else theirs.setdefault(reader, [])).append(told["seconds"])
            counted[reader] = told["count"]
    if not ours or not theirs:
        return {"name": name, "aim": aim, "skipped": "a reader failed", "found": counted}
    medians = {reader: sorted(times)[len(times) // 2] for reader, times in theirs.items()}
    fastest = min(medians, key=lambda reader: medians[reader])
    mine = sorted(ours)[len(ours) // 2]
    return {
        "name": name,
        "aim": aim,
        "ours": mine,
        "theirs": medians,
        "fastest": fastest,
        "ratio": mine / medians[fastest],
        "found": counted,
    }


def _work(command: Sequence[str]) -> dict[str, Any] | None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{' '.join(command[1:4])}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


def _verbs(inputs: dict[str, Path | None], runs: int) -> list[dict[str, Any]]:
    """The verbs as a user starts them: wall time and peak memory of the whole process."""
    image = inputs["image"]
    rows: list[dict[str, Any]] = []
    for name, words, aim in (
        ("byre inspect, s", ("inspect", f"{image}", "--json"), 2.0),
        ("byre diff of two snapshots, s", ("diff", f"{image}@before", f"{image}"), None),
    ):
        if image is None:
            rows.append({"name": name, "aim": aim, "skipped": "its input isn't there"})
            continue
        try:
            taken = [run((BYRE, *words), ok=(0, 1)) for _ in range(runs)]
        except CommandError as error:
            rows.append({"name": name, "aim": aim, "skipped": str(error).splitlines()[0]})
            continue
        rows.append({"name": name, "aim": aim, "ours": median(taken), "peak": peak(taken)})
    return rows


def _shown(row: dict[str, Any]) -> str:
    if "skipped" in row:
        return f"| {row['name']} | | | | {row['aim']} | not run: {row['skipped']} |"
    if "ratio" not in row:
        memory = f"{row['peak'] / 2**20:.0f} MiB" + (", aim 300" if row["aim"] else "")
        return f"| {row['name']} | {row['ours']:.2f} s | | | {row['aim'] or ''} | {memory} |"
    met = "met" if row["ratio"] <= row["aim"] else "**missed**"
    peer = f"{row['fastest']} {row['theirs'][row['fastest']]:.2f} s"
    return f"| {row['name']} | {row['ours']:.2f} s | {peer} | {row['ratio']:.2f} | {row['aim']} | {met} |"


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main())
