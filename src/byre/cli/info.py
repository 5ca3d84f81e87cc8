"""``byre info``: what an image is, without reading its data or needing its backing image."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from byre.cli.options import add_image, open_image
from byre.cli.output import Output, printable
from byre.disks.disk import Description
from byre.units import format_size

if TYPE_CHECKING:
    from rich.console import Console

SUMMARY = "Say what an image is: format, sizes, features, backing chain, snapshots, bitmaps, locks."
EXAMPLES = """
  byre info xp.qcow2
  byre info xp.qcow2 --json
"""
VERDICTS = "   0 told"


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    with open_image(args, with_backing=False, force_share=True) as disk:
        description = disk.describe()
        actual = disk.files[0].allocated
    payload = as_json(description, actual)
    out.result("info", payload, lambda console: _print(console, args.image, description, actual))
    return 0


def as_json(description: Description, actual_size: int) -> dict[str, object]:
    """The document's fields, sizes in bytes."""
    return {
        "format": description.format,
        "subformat": description.subformat,
        "virtual_size": description.virtual_size,
        "actual_size": actual_size,
        "sector_size": description.sector_size,
        "cluster_size": description.cluster_size,
        "compression": description.compression,
        "encrypted": description.encryption is not None,
        "encryption": description.encryption,
        "backing_file": description.backing.name if description.backing else None,
        "backing": description.backing,
        "data_file": description.data_file,
        "files": description.files,
        "snapshots": description.snapshots,
        "bitmaps": description.bitmaps,
        "in_use": None,
        "details": description.details,
    }


def _print(console: Console, image: str, description: Description, actual: int) -> None:
    console.print(printable(image))
    console.print(f"  format        {description.format}")
    console.print(f"  virtual size  {format_size(description.virtual_size)} ({description.virtual_size} bytes)")
    console.print(f"  on disk       {format_size(actual)}")
