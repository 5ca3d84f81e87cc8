"""``byre tree``: a folder inside the guest with everything below it."""

from __future__ import annotations

import argparse

from byre.cli.guest_paths import add_guest, opened, tell_problems
from byre.cli.ls import shown
from byre.cli.options import whole_number
from byre.cli.output import Output
from byre.reports.entries import entry_json
from byre.units import format_count, format_size

SUMMARY = "Show a folder inside the guest as a tree."
EXAMPLES = r"""
  byre tree xp.qcow2 'C:\Documents and Settings' --depth 2
  byre tree xp.qcow2 / --json          one object a line
"""
VERDICTS = "   0 shown\n   1 shown as far as the volume can be read: stderr says what can't"


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser)
    parser.add_argument("--depth", type=whole_number, default=None, metavar="N", help="go this many levels down")
    parser.add_argument("--deleted", action="store_true", help="also what was deleted and can still be seen")


def run(args: argparse.Namespace, out: Output) -> int:
    with opened(args) as guest:
        _, files = guest.files_for(args.path)
        top = files.lookup(args.path)
        base = 0 if top.path == "/" else top.path.count("/")
        folders = documents = 0
        if out.json:
            out.json_line({"schema": "byre/tree/1", "image": args.image, "path": top.path})
        else:
            out.line(top.path)
        for entry in files.walk(top, deleted=args.deleted):
            level = entry.path.count("/") - base
            if args.depth is not None and level > args.depth:
                continue
            folders += entry.is_dir
            documents += not entry.is_dir
            if out.json:
                out.json_line(entry_json(entry))
            else:
                size = "" if entry.is_dir else f"  {format_size(entry.size)}"
                gone = "  (deleted)" if entry.deleted else ""
                out.line(f"{'  ' * level}{shown(entry)}{'/' if entry.is_dir else ''}{size}{gone}")
        out.line(f"{format_count(folders, 'folder')}, {format_count(documents, 'file')}")
        incomplete = tell_problems(files, out)
    return 1 if incomplete else 0
