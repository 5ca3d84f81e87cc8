"""``byre du``: where the space went, inside the guest and in the image."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from byre.cli.guest_paths import add_guest, opened, tell_problems
from byre.cli.layout import facts, table, title
from byre.cli.output import Output
from byre.units import format_count, format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.windows.space import Usage

SUMMARY = "Say where the space went: by folder, by known kind of waste, and what the image stores of free clusters."
EXAMPLES = r"""
  byre du xp.qcow2
  byre du xp.qcow2 'C:\WINDOWS' --depth 2 --top 20
  byre du xp.qcow2@clean --json
"""
VERDICTS = "   0 told\n   1 told as far as the volume can be read: stderr says what can't"


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser)
    parser.add_argument("--depth", type=int, default=1, metavar="N", help="folders down to this depth (default 1)")
    parser.add_argument("--top", type=int, default=12, metavar="N", help="this many folders (default 12; 0 for all)")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.windows.space import free_space, measure

    with opened(args) as guest:
        volume, files = guest.files_for(args.path)
        top = files.lookup(args.path)
        root = next((root for place, root in guest.roots if place is volume), None)
        usage = measure(files, top, depth=max(0, args.depth), root=root)
        about = files.facts()
        payload: dict[str, Any] = {
            "image": args.image,
            "partition": volume.partition.index,
            "path": top.path,
            "complete": not (top.is_dir and files.problems.hide_names),
            "total": usage.top,
            "folders": usage.folders[: args.top or None],
            "waste": [
                {
                    "kind": row.waste.kind,
                    "title": row.waste.title,
                    "allocated": row.allocated,
                    "files": row.files,
                    "largest": row.largest,
                    "what": row.waste.what,
                    "cost": row.waste.cost,
                    "safe": row.waste.safe,
                }
                for row in usage.wastes
            ],
            "volume": None,
        }
        if top.path == "/":
            free = free_space(guest.disk, files)
            payload["volume"] = {
                "size": about.size,
                "cluster_size": about.cluster_size,
                "free": free.free,
                "free_but_stored": free.stored,
                "free_but_stored_in_file": free.taken,
                "metadata": max(0, about.size - free.free - usage.top.allocated),
            }
        out.result("du", payload, lambda console: _print(console, usage, payload, args.top))
        tell_problems(files, out)
    return 0 if payload["complete"] else 1


def _print(console: Printer, usage: Usage, payload: dict[str, Any], top: int) -> None:
    title(console, f"{usage.top.path}  {format_size(usage.top.allocated)} in {format_count(usage.top.files, 'file')}")
    if usage.folders:
        shown = usage.folders[: top or None]
        cells = [[format_size(row.allocated), str(row.files), row.path] for row in shown]
        table(console, ["takes", "files", "folder"], cells, right=["takes", "files"])
        if len(shown) < len(usage.folders):
            console.print(f"  ... {len(usage.folders) - len(shown)} more: --top 0")
    if usage.wastes:
        cells = [
            [format_size(row.allocated), str(row.files), row.waste.title, row.waste.cost] for row in usage.wastes
        ]
        console.print()
        table(console, ["takes", "files", "kind", "removing it costs"], cells, right=["takes", "files"])
    volume = payload["volume"]
    if volume is not None:
        rows = [
            ("volume", f"{format_size(volume['size'])}, {format_size(volume['free'])} of it free"),
            ("free but stored", _stored(volume)),
            ("rest", f"{format_size(volume['metadata'])} is the file system's own"),
        ]
        console.print()
        facts(console, rows)


def _stored(volume: dict[str, Any]) -> str:
    if not volume["free_but_stored"]:
        return "nothing: the image holds no free cluster"
    return (
        f"{format_size(volume['free_but_stored'])} of free clusters lie in the image, "
        f"taking {format_size(volume['free_but_stored_in_file'])} there"
    )
