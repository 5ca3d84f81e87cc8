"""``byre put``: a file or a folder of the host into the guest."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli.changing import CHANGE_VERDICTS, add_destination, run_change
from byre.cli.options import add_image
from byre.cli.output import Output
from byre.errors import MissingError, StorageError, UsageError

if TYPE_CHECKING:
    from byre.filesystems.opening import OpenVolume
    from byre.lite.changes import Change, Content
    from byre.windows.inspection import Inspection

SUMMARY = """\
Put a file, or a folder with all in it, into the guest: on NTFS and FAT, without mounting anything.

A dirty, hibernated or damaged volume is refused: shut the guest down cleanly first. All of it is written, or
nothing. What guards a logon or a licence isn't changed."""
EXAMPLES = r"""
  byre put xp.qcow2 driver.sys 'C:\WINDOWS\system32\drivers\driver.sys' -o new.qcow2
  byre put xp.qcow2 tools 'C:\Tools' --in-place
  byre put xp.qcow2 hosts 'C:\WINDOWS\system32\drivers\etc\hosts' --in-place --keep-as 'before hosts'
"""
VERDICTS = CHANGE_VERDICTS
MAX_FILES = 100_000


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser, snapshot=False)
    parser.add_argument("source", metavar="SRC", help="a file or folder of the host")
    parser.add_argument("path", metavar="PATH", help=r"where it goes, C:\... or /...: the name itself, or a folder")
    parser.add_argument("--partition", type=int, metavar="N", help="this partition instead of the system's drive")
    parser.add_argument("--parents", action="store_true", help="make the folders above PATH that aren't there")
    add_destination(parser)


def run(args: argparse.Namespace, out: Output) -> int:
    if not args.source:
        raise UsageError("SRC is empty")  # as a path that would be the folder that one is in

    def plan(guest: Inspection) -> list[tuple[OpenVolume, list[Change]]]:
        from byre.lite.guards import refuse_files

        volume, files = guest.files_for(args.path)
        changes = list(_changes(args, guest, out))
        refuse_files(changes, files, image=args.image)
        return [(volume, changes)]

    return run_change(args, out, "put", plan)


def _changes(args: argparse.Namespace, guest: Inspection, out: Output) -> Iterator[Change]:
    from byre.filesystems.paths import split_path
    from byre.lite.changes import MakeFolder, Put

    _, files = guest.files_for(args.path)
    names = list(split_path(args.path))
    try:
        there = files.lookup(args.path)
    except MissingError:
        there = None
    source = Path(args.source)
    if there is not None and there.is_dir and (source.is_file() or not names):
        names = [*names, source.name]
    if args.parents:
        for depth in range(1, len(names)):
            yield MakeFolder("/" + "/".join(names[:depth]))
    target = "/" + "/".join(names)
    if source.is_symlink():
        raise UsageError("is a link, which is never followed", path=source, hint="Name what it points to.")
    if not source.exists():
        raise MissingError("there is no such file or folder", path=source)
    if source.is_file():
        yield Put(target, _content(source))
        return
    if not source.is_dir():
        raise StorageError("is neither a file nor a folder", path=source)
    yield MakeFolder(target)
    for count, (path, below) in enumerate(_walk(source, out)):
        if count >= MAX_FILES:
            raise UsageError(f"holds more than {MAX_FILES} files", path=source)
        if path.is_dir():
            yield MakeFolder(f"{target}/{below}")
        else:
            yield Put(f"{target}/{below}", _content(path))


def _walk(source: Path, out: Output) -> Iterator[tuple[Path, str]]:
    """Files and folders below, folders first; links are never followed and never copied, and told."""
    try:
        entries = sorted(source.rglob("*"))
    except OSError as error:
        raise StorageError(f"can't be read: {error.strerror}", path=source) from error
    for path in entries:
        if not path.is_symlink() and (path.is_dir() or path.is_file()):
            yield path, path.relative_to(source).as_posix()
        else:
            what = "a link" if path.is_symlink() else "neither a file nor a folder"
            out.notice(f"{path} is {what}: left out")


def _content(path: Path) -> Content:
    """The file as it is now. What changes it before all is read ends the verb: half of each is neither."""
    from byre.lite.changes import Content

    def state(status: os.stat_result) -> tuple[int, int, int, int]:
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def read(offset: int, length: int) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
                unchanged = state(os.fstat(file.fileno())) == before
        except OSError as error:
            raise StorageError(f"can't be read: {error.strerror}", path=path) from error
        if not unchanged or len(data) != length:
            raise StorageError("changed while it was read", path=path, hint="Try again when nothing writes to it.")
        return data

    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise StorageError(f"can't be read: {error.strerror}", path=path) from error
    before = state(status)
    return Content(status.st_size, read)
