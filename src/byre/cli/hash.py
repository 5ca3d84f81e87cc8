"""``byre hash``: digests of files inside the guest."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from byre.cli.guest_paths import add_guest, is_listing, opened, tell_problems
from byre.cli.output import Output
from byre.errors import ByreError, UnsupportedError

if TYPE_CHECKING:
    from byre.filesystems.base import Entry, FileSystem

SUMMARY = "Digest files inside the guest; a folder means everything below it."
EXAMPLES = r"""
  byre hash xp.qcow2 'C:\WINDOWS\system32\*.dll'
  byre hash xp.qcow2 /WINDOWS --algorithm md5 > list.md5
"""
VERDICTS = "   0 all were read\n   1 some could not be read, or names may be missing: stderr says why"
MAX_FILE = 1 << 44
"""NTFS' own limit for a file: a sparse one that claims more would be hashed for ever."""
ALGORITHMS = ("sha256", "sha1", "md5", "sha512", "blake2b")


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser, wildcards=True)
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="sha256", help="default sha256")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.filesystems.selection import matching

    failed = 0
    with opened(args) as guest, out.progress("hashing") as progress:
        _, files = guest.files_for(args.path)
        if out.json:
            out.json_line({"schema": "byre/hash/1", "image": args.image, "algorithm": args.algorithm})
        top = list(matching(files, args.path))
        for entry in _below(files, top):
            digest = hashlib.new(args.algorithm, usedforsecurity=False)
            try:
                if entry.size > MAX_FILE:
                    raise UnsupportedError(f"says that it holds {entry.size} bytes, more than any real file")
                for chunk in files.chunks(entry):
                    digest.update(chunk)
                    progress.advance(len(chunk))
            except ByreError as error:
                failed += 1
                out.notice(f"{entry.path}: {error}")
                continue
            if out.json:
                out.json_line({"path": entry.path, "size": entry.size, "digest": digest.hexdigest()})
            else:
                out.line(f"{digest.hexdigest()}  {entry.path}")
        incomplete = is_listing(args.path, top) and tell_problems(files, out)
    return 1 if failed or incomplete else 0


def _below(files: FileSystem, top: list[Entry]) -> Iterator[Entry]:
    for entry in top:
        if entry.is_dir:
            yield from (below for below in files.walk(entry) if not below.is_dir)
        else:
            yield entry
