"""Arguments that several verbs share, and opening an image as they say."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byre.disks.disk import Disk
from byre.units import parse_size

if TYPE_CHECKING:
    from byre.cli.output import Output


def add_image(parser: argparse.ArgumentParser, *, snapshot: bool = True, name: str = "image") -> None:
    """IMAGE and what is needed to open it."""
    what = "path of an image, or IMAGE@SNAPSHOT" if snapshot else "path of an image"
    parser.add_argument(name, metavar=name.upper(), help=what)
    add_open_options(parser, snapshot=snapshot)


def add_open_options(parser: argparse.ArgumentParser, *, snapshot: bool = True) -> None:
    group = parser.add_argument_group("opening")
    group.add_argument("-f", "--format", metavar="FORMAT", help="read it as this format instead of recognising it")
    if snapshot:
        group.add_argument(
            "--snapshot", metavar="NAME", help="open this internal snapshot (IMAGE is then only a path)"
        )
    group.add_argument(
        "--allow-path",
        metavar="DIR",
        action="append",
        default=[],
        help="references inside the image may also point beneath DIR; may be repeated",
    )
    group.add_argument("--backing-format", metavar="FORMAT", help="format of a backing image that doesn't state one")
    group.add_argument(
        "--parent",
        metavar="PATH",
        action="append",
        default=[],
        help="where the parent of a differencing image may be found; may be repeated",
    )
    group.add_argument("-U", "--force-share", action="store_true", help="read though a running machine has it open")


def add_write_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--force-unlocked",
        action="store_true",
        help="write in place where the file system can't lock the image",
    )


def open_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments for ``open_disk`` that the shared options mean."""
    return {
        "format": args.format,
        "snapshot": getattr(args, "snapshot", None),
        "allow_paths": args.allow_path,
        "backing_format": args.backing_format,
        "parents": args.parent,
        "force_share": args.force_share,
        "force_unlocked": getattr(args, "force_unlocked", False),
    }


def open_image(args: argparse.Namespace, *, name: str = "image", out: Output | None = None, **overrides: Any) -> Disk:
    """Open the IMAGE argument as the shared options say; ``out`` is told where bytes and names disagree."""
    from byre.disks.opening import open_disk

    disk = open_disk(getattr(args, name), **{**open_options(args), **overrides})
    if out is not None:
        from byre.disks.ambiguity import ambiguities

        for sentence in ambiguities(disk, format=overrides.get("format", args.format)):
            out.notice(sentence)
    return disk


def tell_outside(image: str, name: str, out: Output) -> None:
    """Say at once that a backing image outside the image's folder will be opened only by leave."""
    folder = Path(os.path.realpath(image)).parent
    target = Path(os.path.realpath(folder / name))
    if not target.is_relative_to(folder):
        out.notice(f"{name} lies outside the image's folder: to read it takes --allow-path {target.parent}")


def add_actions(parser: argparse.ArgumentParser) -> Callable[[str, str], argparse.ArgumentParser]:
    """Make the verb one of several actions, of which one must be said; the function adds one: name, summary."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title="actions")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        return actions.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=parser.epilog,
            formatter_class=parser.formatter_class,
            allow_abbrev=False,
        )

    return add


def whole_number(text: str) -> int:
    """argparse type for counts: 0 and up."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def size_argument(text: str) -> int:
    """argparse type for sizes: UsageError becomes the parser's own complaint."""
    from byre.errors import UsageError

    try:
        return parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def patience_argument(text: str) -> float:
    """argparse type for how long is waited, 0 for not at all."""
    return seconds_argument(text, least=0)


def seconds_argument(text: str, *, least: int = 1) -> float:
    """argparse type for a time limit, of ``least`` seconds to a day."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None
    if not least <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"between {least} and 86400 seconds")
    return value
