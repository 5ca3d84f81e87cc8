"""What the verbs that change a guest share: where the result goes, and doing it all or not at all."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from byre.cli.options import add_write_options, open_image
from byre.cli.output import Output, printable
from byre.errors import ExistsError, UsageError
from byre.reports.printable import shell_command
from byre.units import format_size

if TYPE_CHECKING:
    from byre.disks.disk import Disk, SnapshotInfo
    from byre.disks.formats import Format
    from byre.disks.scratch import ScratchDisk
    from byre.disks.writer import Int64Array
    from byre.filesystems.opening import OpenVolume
    from byre.lite.changes import Applied, Change
    from byre.windows.inspection import Inspection

CHANGE_VERDICTS = "   0 done"


def add_destination(
    parser: argparse.ArgumentParser, output_help: str = "a new image there; IMAGE is only read"
) -> None:
    """``-o OUT`` or ``--in-place``, and ``--dry-run``."""
    group = parser.add_argument_group("where the result goes")
    group.add_argument("-o", "--output", metavar="OUT", help=output_help)
    group.add_argument(
        "--in-place",
        action="store_true",
        help="IMAGE itself (qcow2 only): a snapshot of it is taken first, and the change shows all at once",
    )
    group.add_argument("--keep-as", metavar="NAME", help="with --in-place: the snapshot's name")
    group.add_argument("--force", action="store_true", help="replace what is at OUT")
    group.add_argument("-n", "--dry-run", action="store_true", help="only say what would change")
    add_write_options(group)  # type: ignore[arg-type]


def check_destination(args: argparse.Namespace) -> None:
    """UsageError, or ExistsError, before any work."""
    if bool(args.output) == args.in_place and not (args.dry_run and not args.output):
        raise UsageError(
            "say where the result goes",
            hint="-o OUT.qcow2 writes a new image; --in-place changes IMAGE behind a snapshot.",
        )
    if args.keep_as and not args.in_place:
        raise UsageError("--keep-as belongs to --in-place")
    if args.force and not args.output:
        raise UsageError("--force belongs to -o")
    if args.output:
        output_format(args.output)
    if args.output and not args.force and not args.dry_run and os.path.lexists(args.output):
        raise ExistsError("exists already", path=args.output, hint="Choose another name, or say --force.")
    if args.output and os.path.isdir(args.output):  # noqa: PTH112
        raise ExistsError("the target is a folder", path=args.output, hint="Name a file in it.")
    if args.output and args.image and _is_one_file(args.output, args.image):
        raise UsageError(
            "the target is the source itself", path=args.output, hint="Write to another name, or say --in-place."
        )


def _is_one_file(output: str, image: str) -> bool:
    """Whether OUT is IMAGE, with or without ``@SNAPSHOT``. Found before any work; its backing images later."""
    for name in (image, image.rpartition("@")[0]):
        with suppress(OSError, ValueError):
            if name and os.path.samefile(output, name):  # noqa: PTH121
                return True
    return False


def output_format(path: str) -> Format:
    """The format of a new image at ``path``: by its suffix, qcow2 where it has none. UsageError for a suffix that
    promises what isn't written."""
    from byre.disks.formats import FORMATS, format_for_suffix, format_named

    found = format_for_suffix(path)
    suffix = os.path.splitext(path)[1]  # noqa: PTH122
    if found is None and suffix and not suffix[1:].isdecimal():
        raise UsageError(
            f"{suffix} is no suffix of a format that is written",
            path=path,
            expected=", ".join(each.suffixes[0] for each in FORMATS if each.writes and each.suffixes),
        )
    return found or format_named("qcow2")


@dataclass(frozen=True, slots=True)
class Saved:
    """Where the result went. ``snapshot`` names what the image was before, where it was changed in place."""

    path: str | None
    snapshot: str | None
    applied: tuple[Applied, ...]

    def payload(self) -> dict[str, Any]:
        return {
            "output": self.path,
            "snapshot": self.snapshot,
            "removed": [path for each in self.applied for path in each.removed],
            "written": [path for each in self.applied for path in each.written],
            "freed": sum(each.freed for each in self.applied),
            "confined": next((each.confined for each in self.applied if each.confined), None),
        }


@contextmanager
def changing(args: argparse.Namespace) -> Iterator[tuple[Disk, ScratchDisk, Inspection]]:
    """The image, a scratch disk over it, and a look inside. Nothing of the scratch disk stays."""
    from byre.disks.scratch import open_scratch
    from byre.windows.inspection import Inspection

    with open_image(args, writable=args.in_place and not args.dry_run) as disk:
        if args.in_place:
            from byre.lite.saving import refuse_in_place

            if not args.dry_run:
                refuse_in_place(disk, args.keep_as)
        work = open_scratch(disk, scratch_folder(args.image, args.output))
        try:
            yield disk, work, Inspection(disk, name=args.image, partition=getattr(args, "partition", None))
        finally:
            work.close()


def scratch_folder(image: str, output: str | None) -> str:
    """Where the changes lie until they are published: beside the result, where room for it is needed anyhow. Without
    one beside the image, or where that has no folder that can be written to, in the system's own for such files."""
    import tempfile

    beside = os.path.dirname(os.path.abspath(output or image))  # noqa: PTH100, PTH120
    return beside if output or os.access(beside, os.W_OK | os.X_OK) else tempfile.gettempdir()


def apply_plan(
    work: ScratchDisk, plan: Sequence[tuple[OpenVolume, Sequence[Change]]], out: Output
) -> tuple[Applied, ...]:
    """Make every volume's changes on the scratch disk."""
    from byre.lite.applying import apply_changes

    # A folder is one change and may be a thousand names: how many isn't known before.
    with out.progress("changing", unit="names") as bar:
        return tuple(apply_changes(work, volume, changes, advance=bar.advance) for volume, changes in plan)


def save(
    args: argparse.Namespace,
    disk: Disk,
    work: ScratchDisk,
    applied: tuple[Applied, ...],
    out: Output,
    *,
    verb: str,
    left_out: Int64Array | None = None,
) -> Saved:
    """Publish the scratch disk as OUT, or as the image's new state; there, what nobody needs may be left out."""
    if args.output:
        from byre.convert.convert import convert_image

        entry = output_format(args.output)
        with out.progress("writing", work.size) as bar:
            convert_image(work, args.output, entry, force=args.force, advance=bar.advance)
        return Saved(args.output, None, applied)
    from byre.lite.saving import refuse_in_place, save_in_place

    image = refuse_in_place(disk)
    name = args.keep_as or _unused(f"before {verb} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}", image.snapshots())
    total = sum(stop - start for start, stop in work.changes())
    with out.progress("writing", total) as bar:
        kept = save_in_place(image, work, name, left_out=left_out, advance=bar.advance)
    return Saved(args.image, kept.name, applied)


def _unused(name: str, snapshots: Sequence[SnapshotInfo]) -> str:
    """A snapshot's name that isn't taken: two changes may fall into one second."""
    taken = {each.name for each in snapshots}
    return next(each for each in chain([name], (f"{name} ({number})" for number in count(2))) if each not in taken)


def run_change(
    args: argparse.Namespace,
    out: Output,
    verb: str,
    plan: Callable[[Inspection], list[tuple[OpenVolume, list[Change]]]],
    *,
    details: Sequence[str] = (),
) -> int:
    """The whole of a simple verb: plan, apply, save, tell. ``details``, which ``plan`` may add to, are what a dry run
    says besides: it knows files only."""
    from byre.lite.applying import check_changes, refuse_sleeping
    from byre.lite.outcome import prove_outcome

    check_destination(args)
    with changing(args) as (disk, work, guest):
        steps = plan(guest)
        refuse_sleeping(guest.volumes)
        if args.dry_run:
            for volume, changes in steps:
                check_changes(volume, changes)
            rows = [_said(change, _drive(guest, volume)) for volume, changes in steps for change in changes]
            payload = {"image": args.image, "dry_run": True, "changes": rows}
            if details:
                payload["edits"] = list(details)
            said = [*details, *rows] or ["change nothing"]
            out.result(verb, payload, lambda console: console.print("\n".join(f"would {row}" for row in said)))
            return 0
        done = apply_plan(work, steps, out)
        prove_outcome(work, steps)
        applied = tuple(_placed(each, _drive(guest, volume)) for (volume, _), each in zip(steps, done, strict=True))
        saved = save(args, disk, work, applied, out, verb=verb)
        folders = {
            _drive(guest, volume) + change.path
            for volume, changes in steps
            for change in changes
            if _is_folder(change)
        }
    tell(args, out, verb, saved, folders)
    return 0


def undo(image: str, snapshot: str) -> str:
    """What was kept, and the command that goes back, as a shell takes it."""
    command = byre_command("snapshot revert", image, snapshot)
    return f"the image as it was is the snapshot {snapshot!r}; go back with: {command}"


def byre_command(verb: str, *words: str) -> str:
    """A command of our own (``verb`` may be two words), ready to be pasted, whatever the names in it are."""
    dashes = ("--",) if any(word.startswith("-") for word in words) else ()
    return shell_command(("byre", *verb.split(), *dashes, *words))


def tell(args: argparse.Namespace, out: Output, verb: str, saved: Saved, folders: Collection[str]) -> None:
    """``folders``: which of what was written are folders."""
    payload = {"image": args.image, "dry_run": False, **saved.payload()}
    removed, made = len(payload["removed"]), sum(path in folders for path in payload["written"])
    written = len(payload["written"]) - made
    parts = []
    if removed:
        gone = f"{removed} files and folders" if verb == "rm" and args.recursive else _count(removed, "file")
        parts.append(f"removed {gone}, {format_size(payload['freed'])}")
    if made:
        parts.append(f"made {_count(made, 'folder')}")
    if written:
        parts.append(f"wrote {_count(written, 'file')}")
    text = "; ".join(parts) or "nothing to change"
    if saved.snapshot is not None:
        out.notice(undo(args.image, saved.snapshot))
    out.result(verb, payload, lambda console: console.print(printable(f"{text}: {saved.path}")))


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"


def _is_folder(change: Change) -> bool:
    from byre.lite.changes import MakeFolder

    return isinstance(change, MakeFolder)


def _drive(guest: Inspection, volume: OpenVolume) -> str:
    """What goes before a path that isn't on the system's own drive: its letter, or its partition."""
    if not guest.roots or any(volume is each for each, _ in guest.roots[:1]):
        return ""
    letter = next((each for each, where in guest.drives.items() if where is volume), None)
    return f"{letter}:" if letter is not None else f"partition {volume.partition.index}:"


def _placed(applied: Applied, drive: str) -> Applied:
    removed, written = (tuple(drive + path for path in paths) for paths in (applied.removed, applied.written))
    return replace(applied, removed=removed, written=written)


def _said(change: Change, drive: str) -> str:
    from byre.lite.changes import MakeFolder, Move, Put, Remove

    path = drive + change.path
    if isinstance(change, Remove):
        return printable(f"remove {path}")
    if isinstance(change, MakeFolder):
        return printable(f"make the folder {path}")
    if isinstance(change, Put):
        return printable(f"write {path}, {format_size(change.content.size)}")
    if isinstance(change, Move):
        return printable(f"move {path} to {drive}{change.target}")
    return printable(f"change {path} in place, {format_size(len(change.data))}")
