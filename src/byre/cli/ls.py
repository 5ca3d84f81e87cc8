"""``byre ls``: the entries of a folder inside the guest."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from byre.cli.guest_paths import add_guest, is_listing, opened, tell_problems
from byre.cli.layout import table
from byre.cli.output import Output, Printer
from byre.reports.entries import entry_json, letters, time_text

if TYPE_CHECKING:
    from byre.filesystems.base import Entry

SUMMARY = "List a folder, or the files that a pattern means, inside the guest."
EXAMPLES = r"""
  byre ls xp.qcow2 'C:\WINDOWS'
  byre ls xp.qcow2@clean '/WINDOWS/system32/*.exe' --json
"""
VERDICTS = "   0 listed\n   1 listed as far as the volume can be read: stderr says what can't"


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser, wildcards=True)
    parser.add_argument("-1", "--names", action="store_true", help="names only, one a line")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.filesystems.selection import has_wildcards, matching

    with opened(args) as guest:
        volume, files = guest.files_for(args.path)
        rows = named = list(matching(files, args.path))
        if not has_wildcards(args.path) and named[0].is_dir:
            rows = files.listdir(named[0])
        incomplete = files.problems.hide_names and is_listing(args.path, named)
        payload = {
            "image": args.image,
            "path": args.path,
            "partition": volume.partition.index,
            "complete": not incomplete,
        }
        if args.names:
            for row in rows:
                out.line(row.name)
        if out.json or not args.names:
            out.result(
                "ls", {**payload, "entries": [entry_json(row) for row in rows]}, lambda console: _print(console, rows)
            )
        tell_problems(files, out)
    return 1 if incomplete else 0


def _print(console: Printer, rows: list[Entry]) -> None:
    cells = [
        [letters(row), f"{row.size:,}" if not row.is_dir else "", time_text(row.modified) or "", shown(row)]
        for row in rows
    ]
    table(console, ["attributes", "size", "modified", "name"], cells, right=["size"], indent="")


def shown(entry: Entry) -> str:
    """The name with its streams and, for a link, what it says it points to."""
    text = entry.name + "".join(f" :{stream.name}" for stream in entry.streams)
    return f"{text} -> {entry.reparse.target}" if entry.reparse and entry.reparse.target else text
