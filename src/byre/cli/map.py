"""``byre map``: where the bytes of a disk lie, as extents."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from byre.cli.options import add_image, open_image, size_argument
from byre.cli.output import Output, error_object
from byre.errors import ByreError
from byre.extents import ExtentTable, Kind

SUMMARY = "List the extents of a disk: data, zeros, compressed or unallocated, and in which file at which offset."
EXAMPLES = """
  byre map xp.qcow2
  byre map xp.qcow2@clean --json
  byre map xp.vmdk --start 1M --length 64K
"""
VERDICTS = "   0 listed"


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("--start", type=size_argument, default=0, metavar="OFFSET", help="begin at this guest offset")
    parser.add_argument("--length", type=size_argument, metavar="BYTES", help="stop after so many bytes")
    parser.add_argument("--data", action="store_true", help="only what is stored: data and compressed")


def run(args: argparse.Namespace, out: Output) -> int:
    with open_image(args, out=out) as disk:
        stop = disk.size if args.length is None else min(disk.size, args.start + args.length)
        names = [storage.name for storage in disk.files]
        rows = _rows(disk.extents(args.start, stop) if args.start < stop else iter(()), only_data=args.data)
        if out.json:
            return _print_json(args, disk.size, names, rows)
        _print_table(out, names, rows)
    return 0


_Row = tuple[int, int, int, int, int, int, int]


def _rows(slices: Iterator[ExtentTable], *, only_data: bool) -> Iterator[_Row]:
    for table in slices:
        if only_data:
            table = table[(table["kind"] == Kind.DATA) | (table["kind"] == Kind.COMPRESSED)]
        yield from table.tolist()


def _print_json(args: argparse.Namespace, size: int, names: list[str], rows: Iterator[_Row]) -> int:
    # Written as it comes, a line for each extent: the list of a large disk would not fit into memory.
    head = {"schema": "byre/map/1", "image": args.image, "virtual_size": size, "files": names}
    print(json.dumps(head, indent=2)[:-2] + ',\n  "extents": [', end="")
    separator, status, tail = "", 0, ""
    try:
        for row in rows:
            print(f"{separator}\n    {json.dumps(_extent_json(row))}", end="")
            separator = ","
    except ByreError as error:  # a part of an object is out: it is ended as one, with why there is no more of it
        status, tail = error.exit_code, f',\n  "error": {json.dumps(error_object(error))}'
    print(("\n  ]" if separator else "]") + tail + "\n}")
    return status


def _extent_json(row: _Row) -> dict[str, object]:
    start, length, kind, host, stored, file, depth = row
    return {
        "start": start,
        "length": length,
        "kind": Kind(kind).name.lower(),
        "host_offset": host if host >= 0 else None,
        "stored": stored,
        "file": file if file >= 0 else None,
        "depth": depth if depth >= 0 else None,
    }


def _print_table(out: Output, names: list[str], rows: Iterator[_Row]) -> None:
    out.line(f"{'guest offset':>16} {'length':>14}  {'kind':<11} {'host offset':>16}  file")
    for start, length, kind, host, _, file, _ in rows:
        where = f"{host:#16x}" if host >= 0 else f"{'-':>16}"
        name = names[file] if file >= 0 else "-"
        out.line(f"{start:#16x} {length:>14}  {Kind(kind).name.lower():<11} {where}  {name}")
