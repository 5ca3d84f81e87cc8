"""``byre info``: what an image is, without reading its data or needing its backing image."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from byre.cli.options import add_image, open_image, open_options
from byre.cli.output import Output
from byre.disks.disk import Description
from byre.errors import ByreError
from byre.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from byre.cli.output import Printer
    from byre.disks.chain import ChainLink
    from byre.disks.disk import Disk, SnapshotInfo

SUMMARY = """\
Say what an image is: format, sizes, features, backing chain, snapshots, bitmaps, and whether a running machine \
has it open.

Reads only metadata, needs neither the backing image nor a lock, and changes nothing."""
EXAMPLES = """
  byre info xp.qcow2
  byre info xp.qcow2@clean            # the disk as it was in a snapshot
  byre info xp.qcow2 --json
"""
VERDICTS = "   0 told"

_TOLD_ELSEWHERE = {"version", "dirty", "corrupt"}
"""Details of a format that have a line of their own."""


@dataclass(frozen=True, slots=True)
class Report:
    """What info found: the image's own description, and what its surroundings say."""

    image: str
    description: Description
    actual_size: int | None
    file_size: int | None
    chain: tuple[ChainLink, ...]
    in_use: bool | None


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    report = look(args, out)
    out.result("info", as_json(report), lambda console: _print(console, report))
    return 0


def look(args: argparse.Namespace, out: Output | None = None) -> Report:
    """Open the image without what it refers to, and describe it and the chain below."""
    from byre.disks.chain import describe_chain

    with open_image(args, out=out, with_backing=False, force_share=True) as disk:
        description = disk.describe()
        actual, length = _sizes(disk)
    options = open_options(args)
    chain = describe_chain(
        description,
        allow_paths=options["allow_paths"],
        backing_format=options["backing_format"],
        parents=options["parents"],
    )
    return Report(args.image, description, actual, length, chain, _in_use(args))


def _sizes(disk: Disk) -> tuple[int | None, int | None]:
    """(space taken on the host, length) of the image's own files together; None where one isn't there."""
    try:
        return sum(file.allocated for file in disk.files), sum(file.size for file in disk.files)
    except ByreError:
        return None, None


def _in_use(args: argparse.Namespace) -> bool | None:
    from byre.disks.opening import parse_address
    from byre.storage.locks import in_use

    return in_use(parse_address(args.image, snapshot=args.snapshot).path)


def as_json(report: Report) -> dict[str, object]:
    """The object's fields; sizes in bytes, what doesn't apply is None."""
    description = report.description
    return {
        "image": report.image,
        "format": description.format,
        "subformat": description.subformat,
        "virtual_size": description.virtual_size,
        "actual_size": report.actual_size,
        "file_size": report.file_size,
        "sector_size": description.sector_size,
        "cluster_size": description.cluster_size,
        "compression": description.compression,
        "encrypted": description.encryption is not None,
        "encryption": description.encryption,
        "backing_file": description.backing.name if description.backing else None,
        "backing": description.backing,
        "backing_chain": report.chain,
        "data_file": description.data_file,
        "files": description.files,
        "snapshots": description.snapshots,
        "bitmaps": description.bitmaps,
        "in_use": report.in_use,
        "details": description.details,
    }


def _print(console: Printer, report: Report) -> None:
    from byre.cli import layout

    layout.title(console, report.image)
    layout.facts(console, _facts(report))
    description = report.description
    if description.snapshots:
        console.print(f"  snapshots ({len(description.snapshots)})")
        _print_snapshots(console, description.snapshots)
    if description.bitmaps:
        console.print(f"  dirty bitmaps ({len(description.bitmaps)})")
        layout.table(
            console,
            ("NAME", "GRANULARITY", "ENABLED", "CONSISTENT"),
            [
                (bitmap.name, format_size(bitmap.granularity), _yes(bitmap.enabled), _yes(bitmap.consistent))
                for bitmap in description.bitmaps
            ],
            indent="    ",
        )


def _print_snapshots(console: Printer, snapshots: Sequence[SnapshotInfo]) -> None:
    from byre.cli import layout

    columns = {
        "ID": [entry.id for entry in snapshots],
        "NAME": [entry.name for entry in snapshots],
        "CREATED": [_to_the_second(entry.created) for entry in snapshots],
        "VM STATE": [format_size(entry.vm_state_size) if entry.vm_state_size else "-" for entry in snapshots],
        "DISK": [format_size(entry.virtual_size) for entry in snapshots],
        "ICOUNT": [str(entry.icount) if entry.icount else "-" for entry in snapshots],
    }
    if not any(entry.icount for entry in snapshots):
        del columns["ICOUNT"]  # only record and replay count instructions
    right = ("ID", "VM STATE", "DISK", "ICOUNT")
    layout.table(console, list(columns), zip(*columns.values(), strict=True), right=right, indent="    ")


def _to_the_second(created: str | None) -> str:
    return re.sub(r"\.\d+", "", created) if created else "-"


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    description = report.description
    details = description.details
    yield "format", description.format + (f", {description.subformat}" if description.subformat else "")
    yield "virtual size", _exact(description.virtual_size)
    yield "space used", _used(report)
    if description.sector_size != 512:
        yield "sector size", f"{description.sector_size} bytes"
    if description.cluster_size:
        yield "cluster size", format_size(description.cluster_size)
    if description.compression:
        yield "compression", description.compression
    features, values = _sort_details(details)
    if features:
        yield "features", ", ".join(features)
    yield from values
    if description.encryption:
        yield "encryption", f"{description.encryption} (its contents can't be read here)"
    if details.get("corrupt"):
        yield "marked corrupt", f"by whoever wrote it last; run 'byre check {report.image}'"
    if details.get("dirty"):
        yield "not closed", "its refcounts may be stale; the next writer, or 'byre check --repair', puts them right"
    if description.data_file:
        yield "data file", description.data_file
    for depth, link in enumerate(report.chain):
        yield ("backing image" if depth == 0 else f"{'  ' * depth}below it"), _told(link, report.image)
    yield "in use", {True: "yes: another program has it open", False: "no", None: "can't be told here"}[report.in_use]


def _sort_details(details: object) -> tuple[list[str], list[tuple[str, str]]]:
    """The format's own facts: what is switched on as features, what has a value as lines, the rest unsaid."""
    features: list[str] = []
    values: list[tuple[str, str]] = []
    if not isinstance(details, dict):
        return features, values
    for key, value in details.items():
        label = str(key).replace("_", " ").replace(" l2", " L2")
        if key in _TOLD_ELSEWHERE or value is None or value is False or value == "":
            continue
        if value is True:
            features.append(label)
        elif isinstance(value, (list, tuple, set, dict)):
            if value:
                pairs = [f"{name} = {item}" for name, item in value.items()] if isinstance(value, dict) else value
                values.append((label, ", ".join(map(str, pairs))))
        elif value != 0 or not str(key).startswith("unknown"):
            values.append((label, str(value)))
    return features, values


def _told(link: ChainLink, image: str) -> str:
    text = link.name
    if link.format:
        text += f" ({link.format}"
        text += f", {format_size(link.virtual_size)})" if link.virtual_size is not None else ")"
    return f"{text}: {link.reason.removeprefix(image + ': ')}" if link.reason else text


def _used(report: Report) -> str:
    if report.actual_size is None or report.file_size is None:
        return "not known: a file of it is missing"
    text = _exact(report.actual_size)
    if abs(report.file_size - report.actual_size) > 1 << 20:
        text += f" of a file of {format_size(report.file_size)}"
    return text


def _exact(size: int) -> str:
    return f"{format_size(size)} ({size:,} bytes)" if size >= 1024 else f"{size} bytes"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
