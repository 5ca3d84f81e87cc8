"""``byre convert``: a new image of any format from any disk or snapshot."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli import drop_free
from byre.cli.options import add_image, open_image
from byre.cli.output import Output
from byre.errors import UsageError
from byre.units import format_size

if TYPE_CHECKING:
    from byre.convert.convert import Converted
    from byre.convert.target_rules import Target
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
  byre convert snapshot3.vdi whole.qcow2 --with-snapshots
  byre convert xp.qcow2 xp-chain -O vhdx --with-snapshots
  byre convert xp-chain/manifest.json xp.qcow2 --with-snapshots
  byre convert xp.qcow2 xp.vhd --for azure
"""
VERDICTS = "   0 converted (with --for: and every rule of the target holds, or can't be told here)"


_NEXT_OPTION = re.compile(r",(?=[a-z][a-z0-9_.-]*=)")
"""``-o a=1,b=2``, as qemu-img takes it; a comma in a value is left alone unless a name and = follow."""


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
    group.add_argument(
        "--preallocation",
        choices=("off", "metadata", "falloc", "full"),
        metavar="MODE",
        help="off, metadata (qcow2), falloc (space reserved) or full (written)",
    )
    group.add_argument(
        "--keep-backing", action="store_true", help="keep the backing image; write only what is on top"
    )
    group.add_argument(
        "--with-snapshots",
        action="store_true",
        help="keep every state: internal snapshots, or a differencing chain. In qcow2 they are internal "
        "snapshots, in VDI, VHD, VHDX or VMDK a folder TARGET with a chain and a manifest.json; IMAGE may be one",
    )
    group.add_argument(
        "--for",
        dest="target_name",
        metavar="PLACE",
        help="make what this place takes, and verify it ('byre targets')",
    )
    group.add_argument("--keep-uuid", action="store_true", help="the new image gets the source's UUID")
    drop_free.add_drop_free(parser)
    group.add_argument("--force", action="store_true", help="replace an existing TARGET, write to a block device")
    group.add_argument("--threads", type=int, metavar="N", help="threads that move data (default: one for each CPU)")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.storage.publish import stale_parts

    if args.threads is not None and not 1 <= args.threads <= 64:
        raise UsageError("--threads is out of range", found=args.threads, expected="1 to 64")
    if args.with_snapshots and args.keep_uuid:
        raise UsageError(
            "--with-snapshots doesn't go with --keep-uuid: each state is a disk of its own", path=args.target
        )
    place = _place(args)
    entry = target_format(args.target, args.output_format) if place is None else _format_for(place, args)
    options = collect_options(args, entry)
    drop_free.check_options(args)
    if args.drop_free:
        drop_free.refuse_machine_state(args)
    if place is not None:
        from byre.convert.delivery import options_for_target

        options = {**options_for_target(place, entry), **options}
    for left in stale_parts(args.target):
        out.notice(f"{left}: left behind by a run that was killed; it may be deleted")
    done, source_format, left_out = _convert(args, out, entry, options, place)
    payload = {
        "source": args.image,
        "source_format": source_format,
        "target": done.path,
        "format": done.format,
        "virtual_size": done.virtual_size,
        "actual_size": done.actual_size,
        "bytes_read": done.copied.read,
        "bytes_written": done.copied.written,
        "zero_bytes_found": done.copied.zeros,
        "snapshots": done.snapshots,
        "drop_free": left_out,
        "for": None if done.report is None else done.report.as_json(),
    }
    if done.report is not None:
        for result in done.report.having("unknown"):
            out.notice(f"{args.target}: {result.rule.id} can't be told here ({result.rule.says}): {result.found}")
    if out.json:
        out.json_line({"schema": "byre/convert/1", **payload}, indent=2)
    kept = f", {done.snapshots} snapshot{'s' if done.snapshots > 1 else ''} kept" if done.snapshots else ""
    fits = (
        "" if done.report is None else f"; {len(done.report.having('pass'))} rules of {done.report.target.name} hold"
    )
    out.line(
        f"{args.target}: {done.format}, {format_size(done.virtual_size)} disk, "
        f"{format_size(done.actual_size)} on the host{kept}{fits}{drop_free.proven(left_out)}"
    )
    return 0


def _convert(
    args: argparse.Namespace, out: Output, entry: Format, options: dict[str, object], place: Target | None
) -> tuple[Converted, str, dict[str, object] | None]:
    """The conversion, the source's format, and what was left out of it for ``--drop-free``."""
    if args.with_snapshots and args.format is None:
        from byre.convert.manifest import is_manifest

        if is_manifest(args.image):
            return _convert_chain(args, out, entry, options, place)
    from byre.convert.convert import convert_image
    from byre.storage.publish import Publication

    with open_image(args, out=out) as disk:
        if not args.with_snapshots:
            Publication(args.target, force=args.force, keep_off=disk.files).check()  # before anything is told of it
        _tell_what_stays_behind(disk, out, snapshots=args.with_snapshots)
        _tell_what_changes(disk, entry, place, options, out)
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
                keep_uuid=args.keep_uuid,
                for_target=place,
                left_out=[each.ranges for each in plans or ()],
                allow_paths=[Path(each) for each in (*args.allow_path, *args.parent)],
                threads=args.threads,
                advance=bar.advance,
            )
        verified = drop_free.check_hashes(hashes, args.target, plans, args) if hashes and plans else None
        if plans:
            drop_free.notice(plans, out)
        return done, disk.format, drop_free.payload(plans, verified)


def _convert_chain(
    args: argparse.Namespace, out: Output, entry: Format, options: dict[str, object], place: Target | None
) -> tuple[Converted, str, None]:
    """As ``_convert``, of the states that a manifest lists."""
    from byre.convert.convert import convert_states
    from byre.convert.manifest import open_chain

    with (
        open_chain(args.image, force_share=args.force_share) as (disk, states),
        out.progress("converting", None) as bar,
    ):
        _tell_what_changes(disk, entry, place, options, out)
        done = convert_states(
            states,
            args.target,
            entry,
            options,
            force=args.force,
            for_target=place,
            threads=args.threads,
            advance=bar.advance,
        )
        return done, disk.format, None


def _place(args: argparse.Namespace) -> Target | None:
    if args.target_name is None:
        return None
    from byre.convert.targets import target_named

    return target_named(args.target_name)


def _format_for(place: Target, args: argparse.Namespace) -> Format:
    from byre.convert.delivery import format_for_target

    return format_for_target(place, args.target, args.output_format)


def _tell_what_changes(
    disk: Disk, entry: Format, place: Target | None, options: dict[str, object], out: Output
) -> None:
    """What a guest would notice of the new image: a longer disk, other sectors."""
    if place is not None and place.round_size(disk.size) != disk.size:
        size = place.round_size(disk.size)
        out.notice(
            f"the disk grows from {disk.size} to {size} bytes, as {place.title} wants it: "
            f"{size - disk.size} bytes of zeros are added at its end"
        )
    if disk.sector_size != 512 and "sector_size" not in entry.options:
        out.notice(
            f"the disk has sectors of {disk.sector_size} bytes, which {entry.title} can't say: a machine that shows "
            "it with sectors of 512 won't find its partitions"
        )


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
    from byre.disks.qemu_options import translated

    options: dict[str, object] = {}
    for text in (part for given in args.option for part in _NEXT_OPTION.split(given)):
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{text!r} is not an option", expected="KEY=VALUE")
        meant = translated(key, value)
        if meant is not None:
            options[meant[0]] = meant[1]
    if args.compress is not None:
        options["compress"] = True
        if args.compress:
            options["compression"] = args.compress
    if getattr(args, "keep_backing", False) and args.backing_format is not None:
        options["backing_format"] = args.backing_format
    for name in ("level", "preallocation"):
        if getattr(args, name) is not None:
            options[name] = getattr(args, name)
    if args.level is not None and "compress" in entry.options and "compress" not in options:
        raise UsageError("--level says how hard to compress, and nothing is compressed", hint="Add --compress.")
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


def _tell_what_stays_behind(disk: Disk, out: Output, *, snapshots: bool) -> None:
    description = disk.describe()
    name = os.path.basename(disk.files[0].name)  # noqa: PTH119
    if description.snapshots and not snapshots:
        count = len(description.snapshots)
        which = f"{count} internal snapshot{'s' if count > 1 else ''}"
        out.notice(f"{name}: {which} will not be in the new image (--with-snapshots keeps them)")
    # With its snapshots a qcow2 image keeps its bitmaps too; from a chain of images only the disks are taken.
    kept = snapshots and (bool(description.snapshots) or description.backing is None)
    if description.bitmaps and not kept:
        out.notice(f"{name}: {len(description.bitmaps)} dirty bitmap(s) will not be in the new image")
