"""``byre known``: lists of known hashes, good and bad, that audits ask."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from byre.cli.layout import facts, table
from byre.cli.options import add_actions
from byre.cli.output import Output

if TYPE_CHECKING:
    from byre.audit.known_hashes import KnownList

SUMMARY = """\
Keep lists of known hashes: NIST's NSRL, or any text or CSV with a digest in each line.

An audit takes a program that a list knows as known; a program on a list of bad ones is a finding."""
EXAMPLES = """
  byre known import RDS_2024.03.1_legacy_minimal.db
  byre known import malware-sha1.txt --bad --name malware
  byre known list
  byre known remove malware
"""
VERDICTS = "   0 done"


def configure(parser: argparse.ArgumentParser) -> None:
    action = add_actions(parser)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        entry = action(name, summary)
        entry.add_argument(
            "--db", metavar="FILE", type=Path, help="the database; default byre/known.sqlite in XDG_DATA_HOME"
        )
        return entry

    entry = add("import", "read a source as a list")
    entry.add_argument("file", metavar="FILE", type=Path, help="an RDS (SQLite), or text or CSV with digests")
    entry.add_argument("--bad", action="store_true", help="what it lists is malicious")
    entry.add_argument("--name", help="the list's name; default the file's")
    add("list", "all lists")
    for name, summary in (("info", "one list"), ("remove", "take a list out")):
        add(name, summary).add_argument("name", metavar="NAME", help="the list's name")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.audit.known_hashes import default_path, open_known

    path = args.db or default_path()
    if args.action == "list" and not path.exists():
        found: tuple[KnownList, ...] = ()
    else:
        new = not path.exists()
        done = False
        database = open_known(path, create=args.action == "import")
        try:
            if args.action == "import":
                with out.progress("import") as bar:
                    name = args.name or args.file.name
                    found = (database.add(args.file, name=name, bad=args.bad, progress=lambda count: bar.advance(0)),)
            elif args.action == "list":
                found = database.lists()
            elif args.action == "info":
                found = (database.named(args.name),)
            else:
                found = (database.remove(args.name),)
            done = True
        finally:
            database.close()
            if new and not done:  # an empty one would stand in audits as a list that was asked
                path.unlink(missing_ok=True)
    payload = {"action": args.action, "database": str(path), "lists": [_as_json(each) for each in found]}
    if args.action == "list":
        rows = [(each.name, _kind(each), f"{each.digests:,}", each.dated or "", each.imported) for each in found]
        columns = ("list", "kind", "digests", "dated", "imported")
        out.result("known", payload, lambda console: table(console, columns, rows, right=("digests",)))
    else:
        out.result("known", payload, lambda console: facts(console, _rows(args.action, found[0])))
    return 0


def _kind(each: KnownList) -> str:
    return "bad" if each.bad else "good"


def _rows(action: str, each: KnownList) -> list[tuple[str, str]]:
    done = {"import": "imported", "remove": "removed"}.get(action, "list")
    return [
        (done, each.name),
        ("kind", _kind(each)),
        ("digests", f"{each.digests:,}"),
        ("source", each.source),
        ("dated", each.dated or "the source doesn't say"),
        ("read", each.imported),
    ]


def _as_json(each: KnownList) -> dict[str, object]:
    return {
        "name": each.name,
        "kind": _kind(each),
        "digests": each.digests,
        "source": each.source,
        "dated": each.dated,
        "imported": each.imported,
    }
