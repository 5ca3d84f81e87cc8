"""``byre convert``: a new image of any format from any disk or snapshot."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from byre.cli import drop_free
from byre.cli.options import add_image, open_image
from byre.cli.output import Output
from byre.errors import UsageError
from byre.units import format_size

if TYPE_CHECKING:
    from byre.disks.disk import Disk
    from byre.disks.formats import Format

SUMMARY = "Write a disk, or a snapshot of it, as a new image: another format, compressed, flattened or sparse."
EXAMPLES = """
  byre convert xp.vmdk xp.qcow2
  byre convert xp.qcow2 xp-small.qcow2 --compress zstd
  byre convert xp.qcow2@clean clean.raw
  byre convert xp.qcow2 copy.qcow2 --with-snapshots
  byre convert overlay.qcow2 new.qcow2 --keep-backing
  byre convert xp.vmdk lean.qcow2 --drop-free --verify
  byre convert xp.raw xp.qcow2 -o cluster_size=128K -o preallocation=falloc
"""
VERDICTS = "   0 converted"


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("target", metavar="TARGET", help="path of the new image; never split at an @")
    group = parser.add_argument_group("the new image")
    group.add_argument("-O", "--output-format", metavar="FORMAT", help="its format (default: from TARGET's suffix)")
    group.add_argument(
        "-o", "--option", metavar="KEY=VALUE", action="append", default=[], help="an option of the format"
    )
    group.add_argument(
        "-c",
        "--compress",
        nargs="?",
        const="",
        choices=("", "zlib", "zstd"),
        metavar="zlib|zstd",
        help="compress the data (with zlib where nothing is said)",
    )
    group.add_argument(
        "--level", type=int, help="compression level: zlib 0-9 (default 2, 6 has the size of qemu-img's), zstd 1-22"
    )
    group.add_argument("--preallocation", choices=("off", "metadata", "falloc", "full"))
    group.add_argument(
        "--keep-backing", action="store_true", help="keep the backing image; write only what is on top"
    )
    group.add_argument("--with-snapshots", action="store_true", help="qcow2 to qcow2: keep every internal snapshot")
    drop_free.add_drop_free(parser)
    group.add_argument("--force", action="store_true", help="replace an existing TARGET, write to a block device")
    group.add_argument("--threads", type=int, metavar="N", help="threads that move data (default: one for each CPU)")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.convert.convert import convert_image
    from byre.storage.publish import stale_parts

    if args.threads is not None and not 1 <= args.threads <= 64:
        raise UsageError("--threads is out of range", found=args.threads, expected="1 to 64")
    entry = target_format(args.target, args.output_format)
    options = collect_options(args, entry)
    drop_free.check_options(args)
    if args.drop_free:
        drop_free.refuse_machine_state(args)
    for left in stale_parts(args.target):
        out.notice(f"{left}: left behind by a run that was killed; it may be deleted")
    with open_image(args) as disk:
        if not args.with_snapshots:
            _tell_what_stays_behind(disk, out)
        plans = drop_free.plan(disk, snapshots=args.with_snapshots) if args.drop_free else None
        hashes = drop_free.hashes(disk, plans, snapshots=args.with_snapshots) if plans and args.verify else None
        total = None if args.with_snapshots or plans else live_bytes(disk, own=args.keep_backing)
        with out.progress("converting", total) as bar:
            done = convert_image(
                disk,
                args.target,
                entry,
                options,
                force=args.force,
                keep_backing=args.keep_backing,
                with_snapshots=args.with_snapshots,
                left_out=[each.ranges for each in plans or ()],
                threads=args.threads,
                advance=bar.advance,
            )
        verified = drop_free.check_hashes(hashes, args.target, plans, args) if hashes and plans else None
        if plans:
            drop_free.notice(plans, out)
        payload = {
            "source": args.image,
            "source_format": disk.format,
            "target": done.path,
            "format": done.format,
            "virtual_size": done.virtual_size,
            "actual_size": done.actual_size,
            "bytes_read": done.copied.read,
            "bytes_written": done.copied.written,
            "zero_bytes_found": done.copied.zeros,
            "snapshots": done.snapshots,
            "drop_free": drop_free.payload(plans, verified),
        }
    proven = f", {verified} files verified" if verified is not None else ""
    kept = f", {done.snapshots} snapshots kept" if done.snapshots else ""
    if out.json:
        out.json_line({"schema": "byre/convert/1", **payload}, indent=2)
    out.line(
        f"{args.target}: {done.format}, {format_size(done.virtual_size)} disk, "
        f"{format_size(done.actual_size)} on the host{kept}{proven}"
    )
    return 0


def target_format(target: str, named: str | None) -> Format:
    """The format to write: as named, else from the suffix."""
    from byre.disks.formats import FORMATS, format_for_suffix, format_named

    found = format_named(named) if named is not None else format_for_suffix(target)
    if found is None:
        known = ", ".join(entry.name for entry in FORMATS if entry.writes)
        raise UsageError(
            "the target's name doesn't say which format is meant", path=target, hint=f"Say it with -O: {known}."
        )
    return found


def collect_options(args: argparse.Namespace, entry: Format) -> dict[str, object]:
    """The format's options from ``-o key=value`` and the plain flags."""
    options: dict[str, object] = {}
    for text in args.option:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{text!r} is not an option", expected="KEY=VALUE")
        options[key.replace("-", "_")] = value
    if args.compress is not None:
        options["compress"] = True
        if args.compress:
            options["compression"] = args.compress
    if getattr(args, "keep_backing", False) and args.backing_format is not None:
        options["backing_format"] = args.backing_format
    for name in ("level", "preallocation"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    unknown = next((name for name in options if name not in entry.options), None)
    if unknown is not None:
        raise UsageError(
            f"{entry.title} images have no option {unknown!r}",
            expected=f"one of {', '.join(entry.options)}" if entry.options else "none",
        )
    return options


def live_bytes(disk: Disk, *, own: bool = False) -> int:
    """Bytes of the disk that have to be read; with ``own`` only what the top image holds."""
    from byre.convert.plan import is_live

    total = 0
    for table in disk.extents(0, disk.size):
        live = is_live(table)
        if own:
            live &= table["depth"] == 0
        total += int(table["length"][live].sum())
    return total


def _tell_what_stays_behind(disk: Disk, out: Output) -> None:
    description = disk.describe()
    name = os.path.basename(disk.files[0].name)  # noqa: PTH119
    if description.snapshots:
        count = len(description.snapshots)
        which = f"{count} internal snapshot{'s' if count > 1 else ''}"
        hint = " (--with-snapshots keeps them)" if disk.format == "qcow2" else ""
        out.notice(f"{name}: {which} will not be in the new image{hint}")
    if description.bitmaps:
        out.notice(f"{name}: {len(description.bitmaps)} dirty bitmap(s) will not be in the new image")
