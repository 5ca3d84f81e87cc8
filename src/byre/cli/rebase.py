"""``byre rebase``: an overlay over another backing image, or over none."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from byre.cli.options import add_image, add_write_options, open_image, tell_outside
from byre.cli.output import Output, printable
from byre.disks.disk import Disk
from byre.errors import ByreError, MissingError, UnsupportedError, UsageError
from byre.units import format_size

SUMMARY = """\
Put an overlay onto another backing image without changing what it shows: what differs is copied into it first.

With -b '' it stands alone afterwards. --unsafe only changes the name and the format in the header, for a backing
image that was moved or renamed; what the overlay shows then depends on what the new one holds."""
EXAMPLES = """
  byre rebase changes.qcow2 -b base2.qcow2 -F qcow2
  byre rebase changes.qcow2 -b ''
  byre rebase changes.qcow2 -b ../moved/base.qcow2 -F qcow2 --unsafe
"""
VERDICTS = "   0 done"


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser, snapshot=False)
    parser.add_argument(
        "-b",
        "--backing",
        metavar="NAME",
        required=True,
        help="the new backing image as it will stand in the header, seen from the image's folder; '' for none",
    )
    parser.add_argument("-F", "--new-format", metavar="FORMAT", help="format of the new backing image")
    parser.add_argument("--unsafe", action="store_true", help="only change the name; nothing is read or compared")
    add_write_options(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    name = args.backing or None
    if name is not None and args.new_format is None:
        raise UsageError("-b needs the format of the new backing image", hint="Add -F qcow2, or -F raw.")
    if name is not None:
        _refuse_loop(args, name)
    copied = _rename(args, name) if args.unsafe else _rebase(args, name, out)
    if name:
        tell_outside(args.image, name, out)
    payload = {
        "image": args.image,
        "backing_file": name,
        "backing_format": args.new_format if name else None,
        "unsafe": args.unsafe,
        "copied": copied,
    }
    now = f"now lies over {printable(name)}" if name else "now stands alone"
    out.result("rebase", payload, lambda console: console.print(f"{now}; {format_size(copied)} copied into it"))
    return 0


def _refuse_loop(args: argparse.Namespace, name: str) -> None:
    """The image must not come to lie over itself, also not --unsafe: nothing could open it any more."""
    from byre.disks.chain import describe_chain
    from byre.disks.opening import open_disk

    image = Path(args.image)
    path = Path(os.path.realpath(image)).parent / name
    if not path.exists() or not image.exists():
        return  # the verb itself says so, where it matters
    if path.samefile(image):
        raise UsageError("the new backing image is the image itself", path=path)
    try:
        disk = open_disk(path, format=args.new_format, with_backing=False, force_share=True)
    except ByreError:
        return
    with disk:
        description = disk.describe()
        if description.backing is None:
            return
        for link in describe_chain(
            description, allow_paths=[path.resolve().parent, *args.allow_path], backing_format=args.backing_format
        ):
            if link.resolved is not None and Path(link.resolved).exists() and image.samefile(link.resolved):
                raise UsageError(
                    "the new backing image lies over the image itself",
                    path=path,
                    found=f"{link.name!r} in its backing chain",
                    hint="A chain that loops can't be opened.",
                )


def _rename(args: argparse.Namespace, name: str | None) -> int:
    from byre.disks.formats import format_named
    from byre.disks.opening import open_bare
    from byre.disks.qcow2.backing_name import change_backing

    storage, format = open_bare(args.image, format=args.format, writable=True, force_unlocked=args.force_unlocked)
    try:
        if format.name != "qcow2":
            raise UnsupportedError(f"{format.title} images are not rebased", path=args.image)
        change_backing(storage, name, _qemu_format(format_named(args.new_format).name) if name else None)
    finally:
        storage.close()
    return 0


def _rebase(args: argparse.Namespace, name: str | None, out: Output) -> int:
    from byre.disks.qcow2.commit import refuse_snapshots
    from byre.disks.qcow2.rebase import rebase_image
    from byre.disks.qcow2.writing import WritableQcow2Disk

    disk = open_image(args, out=out, writable=True)
    target: Disk | None = None
    try:
        if not isinstance(disk, WritableQcow2Disk):
            raise UnsupportedError(f"{disk.format} images are not rebased", path=args.image)
        refuse_snapshots(disk, "rebasing")
        stated = None
        if name is not None:
            target = _open_target(args, name)
            stated = _qemu_format(target.format)
        with out.progress("comparing with the new backing image", None) as progress:
            return rebase_image(disk, target, name, stated, advance=progress.advance)
    finally:
        if target is not None:
            target.close()
        disk.close()


def _open_target(args: argparse.Namespace, name: str) -> Disk:
    from byre.disks.opening import open_disk

    folder = Path(os.path.realpath(args.image)).parent
    path = folder / name
    if not path.exists():
        raise MissingError("there is no such new backing image", path=path, hint="Names start at the image's folder.")
    return open_disk(
        path, format=args.new_format, allow_paths=[folder, *args.allow_path], backing_format=args.backing_format
    )


def _qemu_format(name: str) -> str:
    """What QEMU calls the format in a header."""
    return {"vhd": "vpc"}.get(name, name)
