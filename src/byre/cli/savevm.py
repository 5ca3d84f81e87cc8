"""``byre savevm``: an internal snapshot of a running machine, its memory and devices included."""

from __future__ import annotations

import argparse
import re
import shlex
import uuid
from typing import TYPE_CHECKING

from byre.cli.output import Output
from byre.errors import ByreError, ExistsError, MissingError, UnsupportedError

if TYPE_CHECKING:
    from byre.machine.runs import Run

SUMMARY = """\
Save a running machine, disk and memory, as an internal snapshot of its image. It needs 'byre run --keep'.

'byre loadvm' goes back to it, and 'byre run IMAGE@SNAPSHOT' starts another machine from it."""
EXAMPLES = """
  byre savevm xp before-update
  byre loadvm xp before-update
"""
VERDICTS = "   0 saved"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the machine's name as 'byre ps' shows it, or its image")
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="the snapshot's name, 1 to 255 bytes")


def run(args: argparse.Namespace, out: Output) -> int:
    return work(args, out, "savevm", "snapshot-save", "saved as")


def work(args: argparse.Namespace, out: Output, verb: str, command: str, did: str) -> int:
    """Run one of QEMU's snapshot jobs on the machine's disk and say that it is done."""
    from byre.machine.qemu.process import monitor
    from byre.machine.runs import find

    found = find(args.name)
    _check(found, verb)
    job = f"byre-{uuid.uuid4().hex[:12]}"
    with monitor(found.folder) as qmp, out.progress(f"{verb} {args.snapshot}"):
        try:
            qmp.execute(command, job_id=job, tag=args.snapshot, vmstate=found.disk, devices=[found.disk])
            qmp.wait_job(job)
        except UnsupportedError as error:
            named = _named(found, args.snapshot, error)
            if isinstance(named, MissingError):
                qmp.execute("cont")  # QEMU stops the guest before it looks for the snapshot, and leaves it so
            raise named from error
    payload = {"name": found.name, "snapshot": args.snapshot, "image": found.image}
    out.result(verb, payload, lambda console: console.print(f"{found.name} {did} {args.snapshot!r}"))
    return 0


def _named(run: Run, snapshot: str, error: UnsupportedError) -> ByreError:
    """QEMU's refusal in our words, where it is one of the two that are a matter of names."""
    if re.search(r"Snapshot '.*' already exists", str(error)):
        what = f"has a snapshot {snapshot!r} already"
        return ExistsError(what, path=run.image, hint="Choose another name, or delete that one when it is off.")
    if re.search(r"Snapshot '.*' does not exist", str(error)):
        hint = f"'byre snapshot list -U {shlex.quote(run.image)}' lists those that it has."
        return MissingError(f"has no snapshot {snapshot!r}", path=run.image, hint=hint)
    return error


def _check(run: Run, verb: str) -> None:
    if not run.keep:
        raise UnsupportedError(
            f"{verb} needs a machine that writes to its image, and {run.name} doesn't",
            hint="Start it with 'byre run --keep'.",
        )
    if not run.disk:
        raise UnsupportedError(
            "only qcow2 images have internal snapshots", path=run.image, hint="Convert the image to qcow2 first."
        )
