"""``byre find``: files inside the guest by name, size and time."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from byre.cli.guest_paths import add_guest, opened, tell_problems
from byre.cli.options import size_argument
from byre.cli.output import Output
from byre.reports.entries import entry_json, time_text

if TYPE_CHECKING:
    from byre.filesystems.base import Entry, FileSystem

SUMMARY = "Find files inside the guest by name, kind, size and time."
EXAMPLES = r"""
  byre find xp.qcow2 '*.sys'
  byre find xp.qcow2 '*.exe' --in 'C:\Documents and Settings' --larger 1M
  byre find xp.qcow2 --streams --json
"""
VERDICTS = """   0 something was found
   1 nothing was
   2 there may be more: a part of the volume can't be read, stderr says which"""


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser, path=None)
    parser.add_argument(
        "pattern", nargs="?", default="*", help="of the name, or of the whole path where it has a separator"
    )
    parser.add_argument("--in", dest="folder", default="/", metavar="PATH", help="look below this folder only")
    parser.add_argument("--type", choices=("f", "d"), help="files or directories only")
    parser.add_argument("--larger", type=size_argument, metavar="SIZE", help="files of more than SIZE")
    parser.add_argument("--smaller", type=size_argument, metavar="SIZE", help="files of less than SIZE")
    parser.add_argument("--newer", metavar="TIME", help="modified after this, as RFC 3339 or a date")
    parser.add_argument("--streams", action="store_true", help="only what has alternate streams")
    parser.add_argument("--deleted", action="store_true", help="also what was deleted and can still be seen")


def run(args: argparse.Namespace, out: Output) -> int:
    with opened(args) as guest:
        _, files = guest.files_for(args.folder)
        found = 0
        if out.json:
            out.json_line({"schema": "byre/find/1", "image": args.image, "pattern": args.pattern})
        for entry in _matches(args, files):
            found += 1
            if out.json:
                out.json_line(entry_json(entry))
            else:
                out.line(entry.path + ("  (deleted)" if entry.deleted else ""))
        incomplete = tell_problems(files, out)
    return 2 if incomplete else 0 if found else 1


def _matches(args: argparse.Namespace, files: FileSystem) -> Iterator[Entry]:
    from byre.filesystems.selection import name_filter

    fits = name_filter(args.pattern)
    whole = "/" in args.pattern or "\\" in args.pattern
    newer = _moment(args.newer)
    for entry in files.walk(args.folder, deleted=args.deleted):
        if not fits.match(entry.path if whole else entry.name):
            continue
        if args.type and entry.is_dir != (args.type == "d"):
            continue
        if args.larger is not None and (entry.is_dir or entry.size <= args.larger):
            continue
        if args.smaller is not None and (entry.is_dir or entry.size >= args.smaller):
            continue
        if newer is not None and (time_text(entry.modified) or "") <= newer:
            continue
        if args.streams and not entry.streams:
            continue
        yield entry


def _moment(text: str | None) -> str | None:
    """A time in the form that ``time_text`` gives."""
    if text is None:
        return None
    from datetime import UTC, datetime

    from byre.errors import UsageError

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a time", expected="2008-04-15 or 2008-04-15T12:00:00Z") from error
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
