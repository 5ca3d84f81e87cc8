"""Arguments of the verbs that look into a guest, and opening what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from byre.cli.options import add_image, open_image

if TYPE_CHECKING:
    from byre.cli.output import Output
    from byre.filesystems.base import Entry, FileSystem
    from byre.windows.inspection import Inspection

ATTRIBUTES = (
    (0x1, "R"),
    (0x2, "H"),
    (0x4, "S"),
    (0x20, "A"),
    (0x400, "L"),
    (0x800, "C"),
    (0x4000, "E"),
    (0x200, "P"),
)
"""Windows' attributes by their letters: read-only, hidden, system, archive, link (reparse point), compressed,
encrypted, sparse."""


def add_guest(parser: argparse.ArgumentParser, *, path: str | None = "?", default: str = "/") -> None:
    """IMAGE and a PATH inside the guest; ``path`` is the argument's nargs, None for no path at all."""
    add_image(parser)
    if path == "":
        parser.add_argument("path", metavar="PATH", help=_PATH_HELP)
    elif path is not None:
        parser.add_argument("path", metavar="PATH", nargs=path, default=default, help=_PATH_HELP)
    parser.add_argument(
        "--partition", type=int, metavar="N", help="look into this partition instead of the system's drive"
    )


_PATH_HELP = r"a path inside the guest, C:\... or /...; case-insensitive, with * and ? (quote it)"


@contextmanager
def opened(args: argparse.Namespace) -> Iterator[Inspection]:
    """The IMAGE argument looked into."""
    from byre.windows.inspection import Inspection

    with open_image(args) as disk:
        yield Inspection(disk, name=args.image, partition=args.partition)


def tell_problems(files: FileSystem, out: Output) -> bool:
    """Say on stderr what of a file system couldn't be made sense of; whether names may be missing because of it."""
    problems = list(files.problems)
    for problem in problems:
        out.notice(problem.message)
    return any(problem.code.endswith("-unreadable") for problem in problems)


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry's fields for JSON: times as RFC 3339 in UTC, attributes also as letters."""
    return {
        "path": entry.path,
        "name": entry.name,
        "short_name": entry.short_name,
        "type": "directory" if entry.is_dir else "file",
        "size": entry.size,
        "allocated": entry.allocated,
        "attributes": entry.attributes,
        "attribute_letters": letters(entry),
        "created": time_text(entry.created),
        "modified": time_text(entry.modified),
        "accessed": time_text(entry.accessed),
        "changed": time_text(entry.changed),
        "links": entry.links,
        "id": entry.id,
        "deleted": entry.deleted,
        "streams": entry.streams,
        "reparse": entry.reparse,
    }


def letters(entry: Entry) -> str:
    return ("D" if entry.is_dir else "") + "".join(letter for bit, letter in ATTRIBUTES if entry.attributes & bit)


def time_text(nanoseconds: int | None) -> str | None:
    """Nanoseconds since 1970 as RFC 3339 to the second; None for none and for years that don't exist."""
    if nanoseconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment.year >= 1601 else None
