"""``byre stat``: everything that the file system says of one file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from byre.cli.guest_paths import add_guest, opened
from byre.cli.layout import facts, table, title
from byre.cli.output import Output
from byre.extents import Kind
from byre.reports.entries import entry_json, letters, time_text

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.filesystems.base import Entry, FileExtents

SUMMARY = "Say all of one file or folder inside the guest: times, sizes, streams, where its bytes lie on the disk."
EXAMPLES = r"""
  byre stat xp.qcow2 'C:\boot.ini'
  byre stat xp.qcow2 /WINDOWS/system32/hal.dll --json
"""
VERDICTS = "   0 told"


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser, path="")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.filesystems.selection import split_stream

    path, stream = split_stream(args.path)
    with opened(args) as guest:
        place = guest.locate(path)
        extents = None if place.entry.is_dir and not stream else place.files.extents(place.entry, stream)
        payload = {
            "image": args.image,
            "partition": place.volume.partition.index,
            **entry_json(place.entry),
            "stream": stream or None,
            "extents": None if extents is None else [_extent_json(row) for row in extents.tolist()],
        }
        out.result("stat", payload, lambda console: _print(console, place.entry, extents))
    return 0


def _extent_json(row: tuple[int, int, int, int, int]) -> dict[str, object]:
    start, length, kind, disk, stored = row
    return {
        "start": start,
        "length": length,
        "kind": Kind(kind).name.lower(),
        "disk_offset": None if disk < 0 else disk,
        "stored": stored,
    }


def _print(console: Printer, entry: Entry, extents: FileExtents | None) -> None:
    title(console, entry.path)
    rows = [
        ("size", f"{entry.size:,} bytes, {entry.allocated:,} allocated"),
        ("attributes", f"{letters(entry)} ({entry.attributes:#x})"),
        ("created", time_text(entry.created) or ""),
        ("modified", time_text(entry.modified) or ""),
        ("accessed", time_text(entry.accessed) or ""),
        ("changed", time_text(entry.changed) or ""),
        ("short name", entry.short_name or ""),
        ("links", str(entry.links)),
        ("id", str(entry.id)),
        *((f"stream :{stream.name}", f"{stream.size:,} bytes") for stream in entry.streams),
    ]
    if entry.reparse:
        rows.append(("points to", f"{entry.reparse.kind} {entry.reparse.target or ''}"))
    facts(console, [(label, value) for label, value in rows if value])
    if extents is not None and len(extents):
        cells = [
            [f"{start:,}", f"{length:,}", Kind(kind).name.lower(), "" if disk < 0 else f"{disk:#x}"]
            for start, length, kind, disk, _ in extents.tolist()[:100]
        ]
        table(console, ["from", "bytes", "kind", "offset on the disk"], cells, right=["from", "bytes"])
        if len(extents) > 100:
            console.print(f"  ... {len(extents) - 100} more: --json")
