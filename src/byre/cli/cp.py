"""``byre cp``: files and trees out of the guest into a folder of the host."""

from __future__ import annotations

import argparse
from pathlib import Path

from byre.cli.guest_paths import add_guest, is_listing, opened, tell_problems
from byre.cli.output import Output
from byre.units import format_count

SUMMARY = "Copy files and trees out of the guest, safely: nothing is written outside the target folder."
EXAMPLES = r"""
  byre cp xp.qcow2 'C:\boot.ini' .
  byre cp xp.qcow2@infected 'C:\Documents and Settings\*' rescued/
"""
VERDICTS = "   0 all were copied\n   1 some could not be read, or names may be missing: stderr says why"


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser, path="", wildcards=True)
    parser.add_argument("target", metavar="FOLDER", help="an existing folder, or one to be made")
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    parser.add_argument(
        "--streams", action="store_true", help="also alternate streams, as NAME..STREAM beside the file"
    )


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.filesystems.copying import copy_out
    from byre.filesystems.selection import matching

    with opened(args) as guest, out.progress("copying") as progress:
        _, files = guest.files_for(args.path)
        entries = list(matching(files, args.path))
        report = copy_out(
            files, entries, Path(args.target), force=args.force, streams=args.streams, advance=progress.advance
        )
        # In a folder or by a pattern, what a damaged file system doesn't name isn't copied either.
        incomplete = is_listing(args.path, entries) and tell_problems(files, out)
    for path, name in report.renamed:
        out.notice(f"{path} is called {name} here")
    for path, reason in report.failed:
        out.notice(f"{path}: {reason}")
    payload = {
        "image": args.image,
        "target": args.target,
        "files": report.files,
        "folders": report.folders,
        "bytes": report.bytes,
        "complete": not (report.failed or incomplete),
        "renamed": [{"path": path, "name": name} for path, name in report.renamed],
        "failed": [{"path": path, "reason": reason} for path, reason in report.failed],
    }
    done = (
        f"{format_count(report.files, 'file')} and {format_count(report.folders, 'folder')}, {report.bytes:,} bytes"
    )
    out.result("cp", payload, lambda console: console.print(done))
    return 1 if report.failed or incomplete else 0
