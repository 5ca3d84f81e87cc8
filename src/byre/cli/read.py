"""``byre read``: bytes of a disk, to standard output or a file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from byre.cli.options import add_image, open_image, size_argument
from byre.cli.output import Output
from byre.errors import StorageError, UsageError

if TYPE_CHECKING:
    from byre.disks.disk import Disk
    from byre.storage.base import Storage

SUMMARY = "Read a byte range of a disk: raw bytes to stdout or a file, or a hex dump."
EXAMPLES = """
  byre read xp.qcow2 0 512 --hex
  byre read xp.qcow2@clean 1M 64K > piece.bin
  byre read xp.vmdk 0x7e00 16K -o vbr.bin
"""
VERDICTS = "   0 read"
PIECE = 1 << 20

_Read: TypeAlias = Callable[[int, int], bytes]


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument("offset", type=_number, metavar="OFFSET", help="guest offset: bytes, 1M, 0x7e00")
    parser.add_argument("length", type=_number, metavar="LENGTH", help="bytes to read")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-o", "--output", metavar="FILE", help="write to this file, which must not exist")
    where.add_argument("--hex", action="store_true", help="print a hex dump")
    parser.add_argument("--force", action="store_true", help="replace FILE")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.storage.publish import Publication

    with open_image(args, out=out) as disk:
        if args.offset + args.length > disk.size:
            raise UsageError(
                "the range leaves the disk",
                path=args.image,
                found=f"{args.offset}+{args.length}",
                expected=f"within {disk.size} bytes",
            )
        if out.json and args.output is None and args.length > PIECE:
            raise UsageError("--json holds at most 1 MiB of data", found=args.length, hint="Use -o FILE.")
        stop = args.offset + args.length
        data = b""
        if args.output is not None:
            with (
                out.progress("reading", args.length) as bar,
                Publication(args.output, force=args.force, keep_off=disk.files) as target,
            ):
                _to_file(target.storage, disk, args.offset, stop, bar.advance)
        elif out.json:
            data = disk.read(args.offset, args.length)
        elif args.hex:
            from byre.cli.hex_dump import hex_dump

            for line in hex_dump(disk, args.offset, stop):
                out.line(line)
        else:
            _to_stdout(out.bytes_stream(), disk.read, range(args.offset, stop, PIECE), stop)
    if out.json:
        payload = {
            "image": args.image,
            "offset": args.offset,
            "length": args.length,
            "output": args.output,
            "hex": data.hex() if args.output is None else None,
        }
        out.result("read", payload, lambda console: None)
    return 0


def _to_file(target: Storage, disk: Disk, start: int, stop: int, advance: Callable[[int], None]) -> None:
    """What the disk doesn't hold becomes a hole in the file, and isn't read."""
    from byre.extents import zero_runs

    at = start
    for low, high in chain(zero_runs(disk.extents(start, stop), PIECE), [(stop, stop)]):
        for piece in range(at, low, PIECE):
            data = disk.read(piece, min(PIECE, low - piece))
            target.write(piece - start, data)
            advance(len(data))
        advance(high - low)
        at = high
    target.truncate(stop - start)


def _to_stdout(stream: BinaryIO, read: _Read, pieces: range, stop: int) -> None:
    if stream.isatty():
        raise UsageError("raw bytes don't go to a terminal", hint="Use --hex, -o FILE, or a pipe.")
    try:
        for at in pieces:
            stream.write(read(at, min(PIECE, stop - at)))
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"writing to stdout failed: {error.strerror}") from error


def _number(text: str) -> int:
    """argparse type: a size as people type it, or hexadecimal."""
    if text.lower().startswith("0x"):
        try:
            return int(text, 16)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    return size_argument(text)
