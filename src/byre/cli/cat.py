"""``byre cat``: the bytes of a file inside the guest, on stdout."""

from __future__ import annotations

import argparse

from byre.cli.guest_paths import add_guest, opened
from byre.cli.output import Output
from byre.errors import UsageError

SUMMARY = "Write a file inside the guest to stdout, byte for byte."
EXAMPLES = r"""
  byre cat xp.qcow2 'C:\boot.ini'
  byre cat xp.qcow2 '/download.exe:Zone.Identifier'     an alternate stream
"""
VERDICTS = "   0 written"
MAX_JSON = 64 << 20
"""Bytes of a file that are put into one JSON string: it takes several times as much memory."""


def configure(parser: argparse.ArgumentParser) -> None:
    add_guest(parser, path="")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.filesystems.selection import split_stream

    path, stream = split_stream(args.path)
    with opened(args) as guest:
        place = guest.locate(path)
        if place.entry.is_dir and not stream:
            raise UsageError("is a folder", path=args.path, hint="'byre ls' lists it, 'byre cp' copies it out.")
        if out.json:
            import base64

            size = place.entry.size
            if stream:
                size = next((each.size for each in place.entry.streams if each.name.lower() == stream.lower()), size)
            if size > MAX_JSON:
                raise UsageError(
                    f"--json holds at most {MAX_JSON >> 20} MiB of a file",
                    path=args.path,
                    found=size,
                    hint="Without --json it goes to stdout, and 'byre cp' writes it to a file.",
                )
            content = b"".join(place.files.chunks(place.entry, stream))
            encoded = base64.b64encode(content).decode()
            out.json_line({"schema": "byre/cat/1", "path": place.entry.path, "size": len(content), "base64": encoded})
            return 0
        written = out.bytes_stream()
        for chunk in place.files.chunks(place.entry, stream):
            written.write(chunk)
    return 0
