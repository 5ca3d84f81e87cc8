"""``byre compare``: whether two disks hold the same bytes, and every place where they don't."""

from __future__ import annotations

import argparse
import json

from byre.cli.options import add_image, open_image, open_options
from byre.cli.output import Output
from byre.units import format_size

SUMMARY = "Compare two disks and list every range that differs."
EXAMPLES = """
  byre compare xp.vmdk xp.qcow2
  byre compare xp.qcow2@clean xp.qcow2
  byre compare a.raw b.qcow2 --strict --json
"""
VERDICTS = """   0 the same
   1 different"""
SHOWN = 20
"""Differences listed on a terminal; --all and --json list every one."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("other", metavar="OTHER", help="path of the second image, or IMAGE@SNAPSHOT")
    parser.add_argument("-F", "--other-format", metavar="FORMAT", help="read OTHER as this format")
    parser.add_argument("--strict", action="store_true", help="sizes and allocated ranges must be the same too")
    parser.add_argument("--all", action="store_true", help=f"list every difference, not only the first {SHOWN}")
    parser.add_argument("--threads", type=int, metavar="N", help="threads that read (default: one for each CPU)")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.cli.convert import live_bytes
    from byre.convert.compare import compare_disks
    from byre.disks.opening import open_disk

    other_options = {**open_options(args), "format": args.other_format, "snapshot": None}
    with open_image(args, out=out) as first, open_disk(args.other, **other_options) as second:
        total = max(live_bytes(first), live_bytes(second))
        sizes = (first.size, second.size)
        count = different = 0
        if out.json:
            _begin_json(args, sizes)
        with out.progress("comparing", total) as bar:
            found = compare_disks(first, second, strict=args.strict, threads=args.threads, advance=bar.advance)
            for piece in found:
                count += 1
                different += piece.length
                if out.json:
                    item = {"start": piece.start, "length": piece.length, "kind": piece.kind}
                    print(f"{',' if count > 1 else ''}\n    {json.dumps(item)}", end="")
                elif count <= SHOWN or args.all:
                    out.line(f"  {piece.start:#14x}  {piece.length:>14}  {piece.kind}")
    if out.json:
        _end_json(count, different)
    else:
        _summary(out, count, different, sizes, listed=count if args.all else min(count, SHOWN))
    return 1 if count else 0


def _begin_json(args: argparse.Namespace, sizes: tuple[int, int]) -> None:
    # Written as it comes: two disks may differ in millions of places.
    head = {
        "schema": "byre/compare/1",
        "image": args.image,
        "other": args.other,
        "strict": args.strict,
        "virtual_sizes": list(sizes),
    }
    print(json.dumps(head, indent=2, ensure_ascii=False)[:-2] + ',\n  "differences": [', end="")


def _end_json(count: int, different: int) -> None:
    end = "\n  ]" if count else "]"
    same = json.dumps(count == 0)
    print(f'{end},\n  "same": {same},\n  "difference_count": {count},\n  "different_bytes": {different}\n}}')


def _summary(out: Output, count: int, different: int, sizes: tuple[int, int], *, listed: int) -> None:
    if listed < count:
        out.line(f"  ... and {count - listed} more; --all lists them")
    if count:
        out.line(f"different in {count} range{'s' if count > 1 else ''}, {format_size(different)}")
    elif sizes[0] != sizes[1]:
        out.line(f"the same, but for zeros at the end: {sizes[0]} and {sizes[1]} bytes")
    else:
        out.line("the same")
