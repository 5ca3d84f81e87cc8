"""``byre resize``: another virtual size, in place."""

from __future__ import annotations

import argparse

from byre.cli.options import add_image, add_write_options, open_image, size_argument
from byre.cli.output import Output
from byre.disks.disk import Disk, ResizableDisk
from byre.errors import UnsupportedError, UsageError
from byre.extents import Kind
from byre.units import SECTOR, align_up, format_size

SUMMARY = """\
Change the virtual size of an image in place. The guest's partitions and file systems stay as they are.

Growing adds zeros at the end. Shrinking needs --shrink, and is refused where it would cut off anything but zeros,
unless --force says that it may. Internal snapshots keep their size; persistent bitmaps are marked inconsistent."""
EXAMPLES = """
  byre resize xp.qcow2 40G
  byre resize xp.qcow2 +8G
  byre resize xp.qcow2 10G --shrink
"""
VERDICTS = "   0 done (also where it has that size already)"
_PIECE = 4 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser, snapshot=False)
    parser.add_argument("size", metavar="SIZE", help="new size: 40G, 1.5T, 512MiB; +8G adds")
    parser.add_argument("--shrink", action="store_true", help="allow a smaller size")
    parser.add_argument("--force", action="store_true", help="with --shrink: also where data is cut off")
    add_write_options(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    disk = open_image(args, out=out, writable=True, metadata_only=True)
    try:
        old = disk.size
        size = align_up(_wanted(args.size, old), SECTOR)
        if size < old:
            _allow_shrink(disk, size, args, out)
        if size != old:
            _resize(disk, size, args.image)
    finally:
        disk.close()
    payload = {"image": args.image, "old_size": old, "new_size": size}
    out.result(
        "resize", payload, lambda console: console.print(f"{format_size(old)} -> {format_size(size)} ({size} bytes)")
    )
    return 0


def _wanted(text: str, old: int) -> int:
    try:
        return old + size_argument(text[1:]) if text.startswith("+") else size_argument(text)
    except argparse.ArgumentTypeError as error:
        raise UsageError(str(error)) from error


def _allow_shrink(disk: Disk, size: int, args: argparse.Namespace, out: Output) -> None:
    if not args.shrink:
        raise UsageError(
            "is larger than that already",
            path=args.image,
            found=f"{disk.size} bytes",
            expected=f"at most {size}",
            hint="To cut it, say --shrink.",
        )
    if args.force or disk.describe().encryption is not None:
        return  # an encrypted image isn't shrunk, and says so itself
    data = _first_data(disk, size, out)
    if data is not None:
        raise UsageError(
            "there is data past the new end",
            path=args.image,
            found=f"guest offset {data:#x}",
            expected=f"only zeros from {size:#x} on",
            hint="Shrink the guest's partitions first, or say --force to cut it off.",
        )


def _first_data(disk: Disk, start: int, out: Output) -> int | None:
    """The guest offset of the first piece from ``start`` on that isn't all zeros."""
    import numpy as np

    with out.progress("looking for data past the new end", disk.size - start) as progress:
        for table in disk.extents(start):
            for row in table:
                first, length = int(row["start"]), int(row["length"])
                if row["kind"] in (Kind.DATA, Kind.COMPRESSED):
                    for position in range(first, first + length, _PIECE):
                        piece = disk.read(position, min(_PIECE, first + length - position))
                        if np.frombuffer(piece, dtype=np.uint8).any():
                            return position
                progress.advance(length)
    return None


def _resize(disk: Disk, size: int, image: str) -> None:
    if disk.format == "qcow2":
        from byre.disks.qcow2.image import Qcow2Disk
        from byre.disks.qcow2.resize import resize_image

        assert isinstance(disk, Qcow2Disk)
        resize_image(disk, size)
    elif disk.format == "raw":
        storage = disk.files[0]
        if getattr(storage, "block_device", False):
            raise UnsupportedError("a block device has the size that it has", path=image)
        storage.truncate(size)
        storage.flush()
    elif isinstance(disk, ResizableDisk):
        disk.resize(size)
        disk.flush()
    else:
        raise UnsupportedError(
            f"{disk.format} images can't be resized in place", path=image, hint="Convert it to qcow2 first."
        )
