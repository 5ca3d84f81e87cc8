"""``byre ps``: the machines that run."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING

from byre.cli.layout import table
from byre.cli.output import Output

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.machine.runs import Run

SUMMARY = "List the machines that 'byre run' has started and that still run."
EXAMPLES = """
  byre ps
  byre ps --json
"""
VERDICTS = "   0 listed"


def configure(parser: argparse.ArgumentParser) -> None:
    return None


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.machine.runs import clean, runs

    clean()
    found = runs()
    out.result("ps", {"machines": [as_json(each) for each in found]}, lambda console: _print(console, found))
    return 0


def as_json(run: Run) -> dict[str, object]:
    return {
        "name": run.name,
        "state": run.state,
        "image": run.image,
        "snapshot": run.snapshot,
        "pid": run.pid,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.started)) if run.started else None,
        "accelerator": run.accelerator,
        "network": run.network,
        "kept": run.keep,
        "qmp": str(run.folder / "qmp.sock"),
    }


def _print(console: Printer, found: tuple[Run, ...]) -> None:
    if not found:
        console.print("no machine runs")
        return
    now = time.time()
    rows = [
        (
            run.name,
            run.state,
            str(run.pid or "-"),
            _age(now - run.started) if run.started else "-",
            run.accelerator,
            run.network,
            "yes" if run.keep else "no",
            run.image + (f"@{run.snapshot}" if run.snapshot else ""),
        )
        for run in found
    ]
    table(
        console, ("name", "state", "pid", "since", "accel", "network", "kept", "image"), rows, right=("pid", "since")
    )


def _age(seconds: float) -> str:
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
