"""Arguments of the verbs that look into a guest, and opening what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from byre.cli.options import add_image, open_image

if TYPE_CHECKING:
    from byre.cli.output import Output
    from byre.filesystems.base import Entry, FileSystem
    from byre.windows.inspection import Inspection


def add_guest(
    parser: argparse.ArgumentParser, *, path: str | None = "?", default: str = "/", wildcards: bool = False
) -> None:
    """IMAGE and a PATH inside the guest; ``path`` is the argument's nargs, None for no path at all."""
    about = r"a path inside the guest, C:\... or /...; case-insensitive" + (
        ", with * and ? (quote it)" if wildcards else ""
    )
    add_image(parser)
    if path == "":
        parser.add_argument("path", metavar="PATH", help=about)
    elif path is not None:
        parser.add_argument("path", metavar="PATH", nargs=path, default=default, help=about)
    parser.add_argument(
        "--partition", type=int, metavar="N", help="look into this partition instead of the system's drive"
    )


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Inspection]:
    """The IMAGE argument looked into."""
    from byre.windows.inspection import Inspection

    with open_image(args) as disk:
        yield Inspection(disk, name=args.image, partition=args.partition)


def tell_problems(files: FileSystem, out: Output) -> bool:
    """Say on stderr what of a file system couldn't be made sense of; whether names may be missing because of it."""
    for problem in files.problems:
        out.notice(problem.message)
    return files.problems.hide_names


def is_listing(path: str, entries: Iterable[Entry]) -> bool:
    """Whether a PATH means all that is there, by a pattern or as a folder, so that a name may be missing in it."""
    from byre.filesystems.selection import has_wildcards

    return has_wildcards(path) or any(entry.is_dir for entry in entries)
