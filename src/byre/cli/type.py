"""``byre type``: keys pressed in a running machine."""

from __future__ import annotations

import argparse
import time

from byre.cli.output import Output
from byre.errors import UsageError

SUMMARY = """\
Type into a running machine, as on a US keyboard: whatever layout the guest has set decides what arrives.

The text is in the shell's history and in the process list: type no secrets this way, or pass - to read stdin."""
EXAMPLES = """
  byre type xp 'dir C:\\' --enter
  byre type xp --keys ctrl-alt-delete
  byre type xp --keys win-r --pause 1
  byre type xp -                       the text comes from stdin
"""
VERDICTS = "   0 typed"
HOLD_MS = 30
"""Shorter presses are lost by BIOSes and by DOS; longer ones repeat."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the machine's name as 'byre ps' shows it, or its image")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="what to type; - reads it from stdin")
    group = parser.add_argument_group("typing")
    group.add_argument(
        "--keys",
        metavar="KEYS",
        action="append",
        default=[],
        help="keys held together, after the text: ctrl-alt-delete, f8; may be repeated",
    )
    group.add_argument("--enter", action="store_true", help="press Enter at the end")
    group.add_argument("--pause", type=float, default=0.05, metavar="SECONDS", help="between keys (default 0.05)")


def run(args: argparse.Namespace, out: Output) -> int:
    import sys

    from byre.machine.keys import MAX_TEXT, chord, keys_of
    from byre.machine.qemu.process import monitor
    from byre.machine.runs import find

    text = sys.stdin.read(MAX_TEXT + 1) if args.text == "-" else args.text or ""
    presses = [*keys_of(text), *(chord(each) for each in args.keys), *([("ret",)] if args.enter else [])]
    if not presses:
        raise UsageError("there is nothing to type", hint="Say a TEXT, --keys or --enter.")
    if not 0 <= args.pause <= 60:
        raise UsageError("the pause is 0 to 60 seconds", found=args.pause)
    found = find(args.name)
    with monitor(found.folder) as qmp:
        for keys in presses:
            qmp.execute("send-key", keys=[{"type": "qcode", "data": key} for key in keys], hold_time=HOLD_MS)
            time.sleep(HOLD_MS / 1000 + args.pause)
    payload = {"name": found.name, "keys": len(presses)}
    out.result("type", payload, lambda console: console.print(f"{found.name}: {len(presses)} keys pressed"))
    return 0
