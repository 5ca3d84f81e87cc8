"""``byre commit``: what an overlay holds goes into its backing image."""

from __future__ import annotations

import argparse
from pathlib import Path

from byre.cli.options import add_image, add_write_options, open_image
from byre.cli.output import Output, printable
from byre.disks.disk import Disk, ResizableDisk, WritableDisk
from byre.disks.qcow2.image import Qcow2Disk
from byre.errors import MissingError, UnsupportedError
from byre.units import format_size

SUMMARY = """\
Write what an overlay holds into its backing image, then empty the overlay.

The overlay reads the same at every moment, also if the power goes: its clusters hide what is being written below.
Every other overlay over the same backing image becomes worthless: Byre can't see those."""
EXAMPLES = """
  byre commit changes.qcow2
  byre commit changes.qcow2 --keep
"""
VERDICTS = "   0 done"


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser, snapshot=False)
    parser.add_argument("--keep", action="store_true", help="leave the overlay as it is")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be written, and where")
    add_write_options(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.disks.qcow2.commit import commit_overlay, commit_size, refuse_snapshots

    overlay = open_image(args, writable=not args.dry_run, with_backing=False)
    try:
        if not isinstance(overlay, Qcow2Disk):
            raise UnsupportedError(f"{overlay.format} images are not committed", path=args.image)
        refuse_snapshots(overlay, "committing")
        path, format = _backing_of(overlay, args)
        total = commit_size(overlay)
        if not args.dry_run:
            backing = _open_backing(path, format, overlay.size, args)
            try:
                with out.progress(f"committing into {path.name}", total) as progress:
                    commit_overlay(overlay, backing, keep=args.keep, advance=progress.advance)
            finally:
                backing.close()
    finally:
        overlay.close()
    payload = {
        "image": args.image,
        "backing": str(path),
        "bytes": total,
        "emptied": not args.keep and not args.dry_run,
        "dry_run": args.dry_run,
    }
    said = "would write" if args.dry_run else "wrote"
    out.result(
        "commit",
        payload,
        lambda console: console.print(f"{said} {format_size(total)} into {printable(str(path))}"),
    )
    return 0


def _backing_of(overlay: Qcow2Disk, args: argparse.Namespace) -> tuple[Path, str]:
    backing = overlay.describe().backing
    if backing is None:
        raise MissingError("has no backing image to commit to", path=args.image)
    if backing.resolved is None:
        # Once more, for the error of its own class: missing, refused or not followed.
        overlay.context.resolve(backing.name, "backing image", image=args.image)
        raise MissingError(f"its backing image {backing.name!r} can't be opened", path=args.image)
    format = backing.format or args.backing_format
    if format is None:
        raise UnsupportedError(
            f"doesn't state the format of its backing image {backing.name!r}",
            path=args.image,
            hint="Say it: --backing-format raw, or --backing-format qcow2.",
        )
    return Path(backing.resolved), format


def _open_backing(path: Path, format: str, size: int, args: argparse.Namespace) -> WritableDisk:
    disk = _open_writable(path, format, args)
    if disk.size >= size:
        return disk
    try:
        _grow(disk, size, path)
    finally:
        disk.close()
    return _open_writable(path, format, args)


def _open_writable(path: Path, format: str, args: argparse.Namespace) -> WritableDisk:
    from byre.disks.opening import open_disk

    disk = open_disk(
        path,
        format=format,
        writable=True,
        allow_paths=args.allow_path,
        backing_format=args.backing_format,
        force_unlocked=args.force_unlocked,
    )
    if not isinstance(disk, WritableDisk):
        disk.close()
        raise UnsupportedError(f"{disk.format} images are not written to", path=path)
    return disk


def _grow(disk: Disk, size: int, path: Path) -> None:
    """The overlay is longer: the backing image gets zeros at its end, which is what the overlay shows there."""
    if isinstance(disk, Qcow2Disk):
        from byre.disks.qcow2.resize import resize_image

        resize_image(disk, size)
    elif disk.format == "raw":
        disk.files[0].truncate(size)
        disk.files[0].flush()
    elif isinstance(disk, ResizableDisk):
        disk.resize(size)
        disk.flush()
    else:
        raise UnsupportedError(f"{disk.format} images can't be made longer", path=path)
