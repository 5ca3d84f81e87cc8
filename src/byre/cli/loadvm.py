"""``byre loadvm``: a running machine goes back to one of its internal snapshots."""

from __future__ import annotations

import argparse

from byre.cli.output import Output
from byre.cli.savevm import work

SUMMARY = """\
Take a running machine back to an internal snapshot that 'byre savevm' made. It needs 'byre run --keep'.

Disk and memory are what they were then; what was written since is gone."""
EXAMPLES = """
  byre loadvm xp before-update
  byre snapshot list xp.qcow2 -U    which there are
"""
VERDICTS = "   0 back at the snapshot"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the machine's name as 'byre ps' shows it, or its image")
    parser.add_argument("snapshot", metavar="SNAPSHOT", help="the snapshot's exact name")


def run(args: argparse.Namespace, out: Output) -> int:
    return work(args, out, "loadvm", "snapshot-load", "is back at")
