"""``byre compact``: unused space goes back to the host."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from byre.cli import drop_free
from byre.cli.options import add_image, add_write_options, open_image
from byre.cli.output import Output, printable
from byre.disks.disk import CompactableDisk, Disk, SnapshotDisk, WritableDisk
from byre.errors import UnsupportedError, UsageError
from byre.units import format_size

if TYPE_CHECKING:
    from byre.filesystems.unneeded import Unneeded

SUMMARY = """\
Pack an image and shorten its file. Snapshots, their VM state and persistent bitmaps stay.

In place: clusters move down into free ones, zero clusters and leaks lose theirs, the end is cut off; crash-safe,
no second copy is needed. Compressed clusters stay where they are; -o OUT writes a fresh copy without gaps."""
EXAMPLES = """
  byre compact xp.qcow2 --dry-run
  byre compact xp.qcow2
  byre compact xp.qcow2 -o lean.qcow2
  byre compact xp.qcow2 --drop-free --verify          also what the guest has deleted
"""
VERDICTS = "   0 done"


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser, snapshot=False)
    parser.add_argument("-o", "--output", metavar="OUT", help="write a fresh copy there and leave IMAGE alone")
    parser.add_argument("--force", action="store_true", help="with -o: replace an existing file")
    drop_free.add_drop_free(parser)
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what it would give back")
    add_write_options(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    if args.force and not args.output:
        raise UsageError("--force belongs to -o")
    drop_free.check_options(args)
    if args.output and not args.dry_run:
        return _copy(args, out)
    if args.drop_free:
        return _drop_free(args, out)
    return _pack(args, out)


def _pack(args: argparse.Namespace, out: Output, plans: list[Unneeded] | None = None) -> int:
    """Pack in place; ``plans`` tells what was left out before."""
    from byre.disks.opening import open_bare

    storage, format = open_bare(
        args.image,
        format=args.format,
        writable=not args.dry_run,
        force_share=args.force_share and args.dry_run,
        force_unlocked=args.force_unlocked,
    )
    try:
        if format.name == "qcow2":
            return _qcow2(storage, args, out, plans) if not args.dry_run else _dry_run(storage, args, out)
    finally:
        storage.close()
    return _other(args, out, plans)


def _drop_free(args: argparse.Namespace, out: Output) -> int:
    """In place: today's disk gives up what its file systems don't need, then it is packed as always."""
    with open_image(args, writable=not args.dry_run) as disk:
        if not args.output and isinstance(disk, SnapshotDisk) and disk.snapshots():
            raise UnsupportedError(
                "has snapshots, which hold on to what today's disk would give up",
                path=args.image,
                hint="Write a copy: --drop-free -o OUT judges each snapshot by its own bitmap.",
            )
        plans = drop_free.plan(disk, snapshots=bool(args.output))
        if args.dry_run:
            payload = {"image": args.image, "dry_run": True, "drop_free": drop_free.payload(plans, None)}
            total = format_size(sum(each.free + each.emptied for each in plans))
            text = f"would leave out {total} that the guest doesn't need"
            out.result("compact", payload, lambda console: console.print(text))
            return 0
        if not isinstance(disk, WritableDisk) or not (isinstance(disk, CompactableDisk) or disk.format == "qcow2"):
            raise UnsupportedError(
                f"{disk.format} images can't be packed in place",
                path=args.image,
                hint="Convert it: byre convert --drop-free.",
            )
        before = drop_free.hashes(disk, plans) if args.verify else None
        for start, stop in plans[0].ranges.tolist():
            disk.discard(start, stop - start)
        disk.flush()
    drop_free.notice(plans, out)
    status = _pack(args, out, plans)
    if before is not None:
        count = drop_free.check_hashes(before, args.image, plans, args)
        out.notice(f"{count} files verified")
    return status


def _dry_run(storage: object, args: argparse.Namespace, out: Output) -> int:
    from byre.disks.qcow2.compact import plan_compact
    from byre.storage.base import Storage

    assert isinstance(storage, Storage)
    plan = plan_compact(storage)
    payload = {
        "image": args.image,
        "dry_run": True,
        "old_size": plan.file_size,
        "shorter": plan.shorter,
        "unused": plan.unused,
        "moved_clusters": plan.moved_clusters,
        "zero_clusters": plan.zero_clusters,
    }
    text = (
        f"would make the file about {format_size(plan.shorter)} shorter (it is {format_size(plan.file_size)} long), "
        f"moving {plan.moved_clusters} clusters and dropping {plan.zero_clusters} that are all zeros"
    )
    out.result("compact", payload, lambda console: console.print(text))
    return 0


def _qcow2(storage: object, args: argparse.Namespace, out: Output, plans: list[Unneeded] | None) -> int:
    from byre.disks.qcow2.compact import compact_image
    from byre.storage.base import Storage

    assert isinstance(storage, Storage)
    before = storage.size
    with out.progress("compacting", None) as progress:
        saved = compact_image(storage, advance=progress.advance)
    return _say(args, out, before, saved, plans)


def _other(args: argparse.Namespace, out: Output, plans: list[Unneeded] | None) -> int:
    disk: Disk = open_image(args, writable=True)
    try:
        if not isinstance(disk, CompactableDisk):
            kind = " ".join(word for word in (disk.describe().subformat, disk.format) if word)
            raise UnsupportedError(
                f"{kind} images can't be packed in place", path=args.image, hint="Convert it: byre convert."
            )
        if args.dry_run:
            raise UnsupportedError(f"{disk.format} images have no --dry-run here", path=args.image)
        before = sum(storage.size for storage in getattr(disk, "own_files", disk.files[:1]))
        saved = disk.compact()
    finally:
        disk.close()
    return _say(args, out, before, saved, plans)


def _copy(args: argparse.Namespace, out: Output) -> int:
    from byre.convert.convert import convert_image
    from byre.disks.qcow2.image import Qcow2Disk

    with open_image(args) as disk:
        if not isinstance(disk, Qcow2Disk):
            raise UnsupportedError(
                f"{disk.format} images are not copied by compact", path=args.image, hint="Use byre convert."
            )
        before = disk.storage.size
        backed = disk.header.backing_file is not None
        plans = drop_free.plan(disk, snapshots=True) if args.drop_free else None
        hashes = drop_free.hashes(disk, plans, snapshots=True) if plans and args.verify else None
        with out.progress("compacting", None) as progress:
            done = convert_image(
                disk,
                args.output,
                "qcow2",
                force=args.force,
                keep_backing=backed,
                with_snapshots=True,
                left_out=[each.ranges for each in plans or ()],
                advance=progress.advance,
            )
        verified = drop_free.check_hashes(hashes, args.output, plans, args) if hashes and plans else None
        if plans:
            drop_free.notice(plans, out)
    payload = {
        "image": args.image,
        "output": args.output,
        "old_size": before,
        "actual_size": done.actual_size,
        "drop_free": drop_free.payload(plans, verified),
    }
    text = f"wrote {printable(args.output)}: {format_size(done.actual_size)}, the file was {format_size(before)} long"
    out.result("compact", payload, lambda console: console.print(text))
    return 0


def _say(args: argparse.Namespace, out: Output, before: int, saved: int, plans: list[Unneeded] | None) -> int:
    payload = {
        "image": args.image,
        "dry_run": False,
        "old_size": before,
        "new_size": before - saved,
        "saved": saved,
        "drop_free": drop_free.payload(plans, None),
    }
    text = f"{format_size(before)} -> {format_size(before - saved)}: {format_size(saved)} shorter"
    out.result("compact", payload, lambda console: console.print(text))
    return 0
