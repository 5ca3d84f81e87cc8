"""``byre diff``: what changed between two images, or two snapshots of one, as a machine's owner would tell it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from byre.cli.layout import facts, table, title
from byre.cli.options import add_open_options, open_options
from byre.cli.output import Output
from byre.units import format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.disks.disk import Disk

SUMMARY = """\
Say what changed from A to B: files, registry, what starts by itself, services, accounts, programs.

What both take from the same place of one file, as snapshots do, is never read. Last-access times, event logs,
prefetch, page files and keys with only another last-written time are folded away; --all tells them too."""
EXAMPLES = """
  byre diff xp.qcow2@clean xp.qcow2@infected
  byre diff xp.qcow2@clean xp.qcow2                 since the snapshot
  byre diff golden.vhd field-copy.vmdk --html report.html
"""
VERDICTS = """   0 the same, but for what is folded away
   1 different
   2 not all could be compared: what may be the same or different is told as a problem"""
SHOWN = 12
"""Rows of each section on the one screen; --all and --json have every one."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="A", help="path of an image, or IMAGE@SNAPSHOT: the state before")
    parser.add_argument("other", metavar="B", help="path of an image, or IMAGE@SNAPSHOT: the state after")
    add_open_options(parser, snapshot=False)
    parser.add_argument("-F", "--other-format", metavar="FORMAT", help="read B as this format")
    parser.add_argument("--all", action="store_true", help="tell also what is folded away, and lists whole")
    parser.add_argument("--html", metavar="FILE", help="also write a page that stands by itself")
    parser.add_argument("--force", action="store_true", help="with --html: replace an existing FILE")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.differences.compare import diff_disks
    from byre.reports.diff_json import diff_json
    from byre.windows.inspection import inspect

    with opened_pair(args) as (first, second), out.progress("comparing"):
        found = diff_disks(inspect(first, name=args.image), inspect(second, name=args.other), everything=args.all)
        payload = diff_json(found, args.image, args.other, everything=args.all)
        if args.html:
            _write_page(args, payload, (first, second))
    out.result("diff", payload, lambda console: _print(console, payload, whole=args.all))
    return 2 if not payload["complete"] else 0 if payload["same"] else 1


@contextmanager
def opened_pair(args: argparse.Namespace) -> Iterator[tuple[Disk, Disk]]:
    """Both disks; two states of one image share its file, its tables and its cache."""
    from byre.disks.disk import SnapshotDisk
    from byre.disks.opening import find_snapshot, open_disk, parse_address

    one, other = parse_address(args.image), parse_address(args.other)
    options = open_options(args)
    with ExitStack() as stack:
        if one.path == other.path and args.other_format in (None, args.format) and (one.snapshot or other.snapshot):
            disk = stack.enter_context(open_disk(one.path, **{**options, "snapshot": None}))
            if isinstance(disk, SnapshotDisk):
                known = disk.snapshots()
                pair = [
                    disk
                    if each.snapshot is None
                    else disk.open_snapshot(find_snapshot(known, each.snapshot, path=each.path).id)
                    for each in (one, other)
                ]
                yield pair[0], pair[1]
                return
        first = stack.enter_context(open_disk(args.image, **options))
        second = stack.enter_context(open_disk(args.other, **{**options, "format": args.other_format}))
        yield first, second


def _write_page(args: argparse.Namespace, payload: dict[str, Any], disks: tuple[Disk, Disk]) -> None:
    from byre.reports.html.diff_page import diff_page
    from byre.storage.publish import Publication

    keep_off = (*disks[0].files, *disks[1].files)
    with Publication(args.html, force=args.force, keep_off=keep_off) as target:
        target.storage.write(0, diff_page(payload).encode())
        target.storage.flush()


def _print(console: Printer, payload: dict[str, Any], *, whole: bool) -> None:
    from byre.reports.diff_rows import SECTIONS, fact_row, file_row, key_rows, range_row

    title(console, f"{payload['image']} -> {payload['other']}")
    blocks = payload["blocks"]
    facts(
        console,
        [
            ("stored apart", f"{format_size(blocks.apart)} in {blocks.ranges} ranges"),
            ("compared", format_size(blocks.compared)),
        ],
    )
    ranges = [range_row(each) for each in payload["disk"]]
    _section(console, "disk", ranges, ["", "offset", "size", "where"], whole)
    for system in payload["systems"]:
        for section in SECTIONS:
            rows = [fact_row(row) for row in system["facts"] if row.section == section]
            _section(console, SECTIONS[section], rows, ["", "name", "what"], whole)
    for volume in payload["volumes"]:
        rows = [file_row(row) for row in volume["files"]]
        _section(console, f"files of partition {volume['partition']}", rows, ["", "size", "path", "what"], whole)
    for system in payload["systems"]:
        rows = [row for change in system["registry"] if not change["below"] or whole for row in key_rows(change)]
        _section(console, f"registry of {system['root']}", rows, ["", "key, value", "data"], whole)
    for problem in payload["problems"][: None if whole else SHOWN]:
        facts(console, [("problem", problem.message)])
    if payload["folded"]:
        console.print()
        folded = ", ".join(f"{count} {reason}" for reason, count in payload["folded"].items())
        facts(console, [("folded away", f"{folded} (--all tells them)")])
    if not payload["complete"]:
        console.print("not all could be compared: see the problems")
    elif payload["same"]:
        console.print("nothing else differs" if payload["folded"] else "the same")


def _section(console: Printer, name: str, rows: list[list[str]], columns: list[str], whole: bool) -> None:
    if not rows:
        return
    console.print()
    title(console, f"{name}: {len(rows)}")
    cut = rows if whole else rows[:SHOWN]
    table(console, columns, [[_short(cell, whole) for cell in row] for row in cut], right=["size"])
    if len(cut) < len(rows):
        console.print(f"  ... {len(rows) - len(cut)} more: --all")


def _short(text: str, whole: bool) -> str:
    return text if whole or len(text) <= 160 else f"{text[:157]}..."
