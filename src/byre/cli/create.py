"""``byre create``: a new, empty image."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli.convert import collect_options, target_format
from byre.cli.options import size_argument, tell_outside
from byre.cli.output import Output
from byre.errors import UsageError
from byre.units import SECTOR, align_up, format_size

if TYPE_CHECKING:
    from byre.disks.disk import Disk

SUMMARY = "Make a new, empty image, or an overlay over a backing image."
EXAMPLES = """
  byre create xp.qcow2 40G
  byre create big.qcow2 1.5T -o cluster_size=2M -o extended_l2=on
  byre create overlay.qcow2 --backing xp.qcow2 --backing-format qcow2
  byre create flat.raw 512MiB --preallocation full
"""
VERDICTS = "   0 created"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", help="path of the new image")
    parser.add_argument(
        "size",
        metavar="SIZE",
        type=size_argument,
        nargs="?",
        help="40G, 1.5T, 512MiB; an overlay's default is its backing's",
    )
    group = parser.add_argument_group("the new image")
    group.add_argument("-O", "--output-format", metavar="FORMAT", help="its format (default: from IMAGE's suffix)")
    group.add_argument(
        "-o", "--option", metavar="KEY=VALUE", action="append", default=[], help="an option of the format"
    )
    group.add_argument("--cluster-size", metavar="SIZE", help="qcow2: 512 to 2M, a power of two (default 64K)")
    group.add_argument(
        "--version", dest="image_version", metavar="2|3", help="qcow2: version of the format (default 3)"
    )
    group.add_argument("--refcount-bits", metavar="N", help="qcow2: 1, 2, 4, 8, 16, 32 or 64 (default 16)")
    group.add_argument("--extended-l2", action="store_true", help="qcow2: 32 subclusters in each cluster")
    group.add_argument("--compression-type", choices=("zlib", "zstd"), help="qcow2: for clusters compressed later")
    group.add_argument("--lazy-refcounts", action="store_true", help="qcow2: refcounts may be written late")
    group.add_argument(
        "--preallocation",
        choices=("off", "metadata", "falloc", "full"),
        metavar="MODE",
        help="off, metadata (qcow2), falloc (space reserved) or full (written)",
    )
    group.add_argument("-b", "--backing", metavar="PATH", help="backing image, as it is to stand in the image")
    group.add_argument("-F", "--backing-format", metavar="FORMAT", help="format of the backing image")
    group.add_argument("--force", action="store_true", help="replace an existing IMAGE, write to a block device")
    parser.set_defaults(compress=None, level=None)


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.storage.publish import Publication

    entry = target_format(args.image, args.output_format)
    options = {**_flags(args), **collect_options(args, entry)}
    unknown = next((name for name in options if name not in entry.options), None)
    if unknown is not None:
        raise UsageError(
            f"{entry.title} images have no option {unknown!r}", expected=", ".join(entry.options) or "none"
        )
    size = args.size
    with contextlib.ExitStack() as stack:
        backing = stack.enter_context(_open_backing(args)) if args.backing is not None else None
        if size is None:
            if backing is None:
                raise UsageError("a new image needs a SIZE", hint="For example: byre create xp.qcow2 40G")
            size = backing.size
        size = align_up(size, SECTOR)
        chain = backing.files if backing is not None else ()
        with Publication(args.image, force=args.force, keep_off=chain) as target:
            entry.load().create(target, size, options).finish()
            actual = target.storage.allocated
    if args.backing is not None:
        tell_outside(args.image, args.backing, out)
    payload = {
        "image": args.image,
        "format": entry.name,
        "virtual_size": size,
        "actual_size": actual,
        "backing_file": args.backing,
        "options": {name: str(value) for name, value in options.items()},
    }
    if out.json:
        out.json_line({"schema": "byre/create/1", **payload}, indent=2)
    out.line(f"{args.image}: {entry.name}, {format_size(size)} disk, {format_size(actual)} on the host")
    return 0


def _flags(args: argparse.Namespace) -> dict[str, object]:
    flags = {
        "cluster_size": args.cluster_size,
        "version": args.image_version,
        "refcount_bits": args.refcount_bits,
        "extended_l2": args.extended_l2 or None,
        "compression": args.compression_type,
        "lazy_refcounts": args.lazy_refcounts or None,
        "backing_file": args.backing,
        "backing_format": args.backing_format,
    }
    return {name: value for name, value in flags.items() if value is not None}


def _open_backing(args: argparse.Namespace) -> Disk:
    """The backing image, opened as the new image will open it; no guess at its format."""
    from byre.disks.opening import open_disk

    if args.backing_format is None:
        raise UsageError(
            "the format of the backing image must be said", path=args.backing, hint="For example: -F qcow2, -F raw."
        )
    path = Path(args.image).resolve().parent / args.backing
    return open_disk(path, format=args.backing_format, allow_paths=[path.resolve().parent])
