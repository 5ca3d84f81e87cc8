"""``byre rm``: files and folders of the guest, removed."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from byre.cli.changing import CHANGE_VERDICTS, add_destination, run_change
from byre.cli.options import add_image
from byre.cli.output import Output
from byre.errors import UsageError

if TYPE_CHECKING:
    from byre.filesystems.opening import OpenVolume
    from byre.lite.changes import Change
    from byre.windows.inspection import Inspection

SUMMARY = """\
Remove files and folders of the guest: on NTFS and FAT, without mounting anything.

A dirty, hibernated or damaged volume is refused: shut the guest down cleanly first. All of it goes, or nothing.
Nothing is asked about what needs the files: 'byre slim' does that."""
EXAMPLES = r"""
  byre rm xp.qcow2 'C:\WINDOWS\Temp\*' -o lean.qcow2
  byre rm xp.qcow2 'C:\pagefile.sys' --in-place
  byre rm xp.qcow2 'C:\Documents and Settings\operator\Recent' -r --in-place --dry-run
"""
VERDICTS = CHANGE_VERDICTS


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser, snapshot=False)
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help=r"C:\... or /..., case-insensitive, with * and ? (quote it)"
    )
    parser.add_argument("-r", "--recursive", action="store_true", help="folders too, with all in them")
    parser.add_argument("--partition", type=int, metavar="N", help="this partition instead of the system's drive")
    add_destination(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    def plan(guest: Inspection) -> list[tuple[OpenVolume, list[Change]]]:
        from byre.filesystems.selection import matching
        from byre.lite.changes import Remove
        from byre.lite.guards import refuse_files

        by_volume: dict[int, tuple[OpenVolume, list[Change]]] = {}
        for path in args.paths:
            volume, files = guest.files_for(path)
            _, changes = by_volume.setdefault(volume.partition.index, (volume, []))
            for entry in matching(files, path):
                if entry.is_dir and entry.reparse is None and not args.recursive:
                    raise UsageError("is a folder", path=args.image, found=entry.path, hint="Say -r to remove it.")
                changes.append(Remove(entry.path))
        for volume, changes in by_volume.values():
            assert volume.filesystem is not None
            refuse_files(changes, volume.filesystem, image=args.image)
        return list(by_volume.values())

    return run_change(args, out, "rm", plan)
