"""``byre stop``: ask a running machine to shut down, and end it where it doesn't."""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import TYPE_CHECKING

from byre.cli.options import patience_argument
from byre.cli.output import Output
from byre.errors import ByreError, StorageError

if TYPE_CHECKING:
    from byre.machine.runs import Run

SUMMARY = """\
Ask a running machine to shut down (ACPI), and end it where it hasn't done so in time.

A machine that is kept (byre run --keep) is ended only with --now: its file systems might suffer."""
EXAMPLES = """
  byre stop xp
  byre stop xp --patience 300
  byre stop xp --now             pulls the plug
"""
START_SECONDS = 120.0
"""How long a machine that is being started may take to be in its owner's hands."""
END_SECONDS = 60.0
"""How long a machine that was ended may take to write what it has to."""
VERDICTS = """\
   0 it has shut down
   1 it was ended
   2 it is kept, hasn't shut down in time, and still runs"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the machine's name as 'byre ps' shows it, or its image")
    group = parser.add_argument_group("stopping")
    group.add_argument("--now", action="store_true", help="don't ask: end it")
    group.add_argument(
        "--patience",
        type=patience_argument,
        default=60.0,
        metavar="SECONDS",
        help="how long it may take to shut down (default 60)",
    )


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.machine.qemu.process import monitor

    found = _started(args.name)
    how = "quit"
    with monitor(found.folder) as qmp:
        if not args.now and found.acpi:
            qmp.execute("system_powerdown")
            how = "asked"
        elif not args.now and found.keep:
            how = "left"
    if how == "asked" and not _gone(found, args.patience):
        how = "left" if found.keep else "quit"
    if how == "quit":
        with contextlib.suppress(ByreError), monitor(found.folder) as qmp:  # it may have ended just now
            qmp.execute("quit")
        if not _gone(found, END_SECONDS):
            raise StorageError(f"{found.name} doesn't end", hint=f"Its process is {found.pid}: kill {found.pid}.")
    sentence = {
        "asked": "has shut down",
        "quit": "was ended",
        "left": "is kept and hasn't shut down; it still runs. To pull its plug: --now",
    }[how]
    payload = {"name": found.name, "ended": how}
    out.result("stop", payload, lambda console: console.print(f"{found.name} {sentence}"))
    return {"asked": 0, "quit": 1, "left": 2}[how]


def _started(name: str) -> Run:
    """The machine, once its owner has it in hand: one that quits before looks to its owner as if it had died, or as
    if it couldn't take the state that it was to resume from."""
    from byre.machine.runs import find

    until = time.monotonic() + START_SECONDS
    while (found := find(name)).state == "starting" and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _gone(run: Run, patience: float) -> bool:
    from byre.machine.runs import start_of

    until = time.monotonic() + patience
    while start_of(run.pid) == run.begun:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
