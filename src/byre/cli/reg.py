"""``byre reg``: the guest's registry, or a hive file by itself."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from byre.cli.changing import add_destination
from byre.cli.guest_paths import opened
from byre.cli.layout import table, title
from byre.cli.options import add_image
from byre.cli.output import Output, printable
from byre.cli.reg_edit import ACTIONS, TYPES, of_user, run_edit
from byre.errors import StorageError, UnsupportedError, UsageError

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.windows.reg_paths import Located, Registry
    from byre.windows.registry import Hive, Value

SUMMARY = """\
Look into the guest's registry, or into a hive file; secrets are never shown. With set, delete or import: change it.

A change goes to a new image (-o) or, for qcow2, in place behind a snapshot (--in-place); hives keep their size where
there is room in them. Passwords and activation aren't changed."""
EXAMPLES = r"""
  byre reg xp.qcow2                                       the hives
  byre reg xp.qcow2 'HKLM\SYSTEM\CurrentControlSet\Services\atapi'
  byre reg xp.qcow2 'HKU\operator\Software' --recursive --json
  byre reg xp.qcow2 'HKLM\SOFTWARE\Acme' --format reg -o acme.reg
  byre reg /recovered/SYSTEM 'Select'                     a bare hive
  byre reg xp.qcow2 set 'HKLM\SYSTEM\CurrentControlSet\Services\intelppm' Start 4 --type dword --in-place
  byre reg xp.qcow2 delete 'HKLM\SOFTWARE\Microsoft\Windows\CurrentVersion\Run' Updater --in-place
  byre reg xp.qcow2 import mergeide.reg -o movable.qcow2
  byre reg xp.qcow2 import desktop.reg --user operator --in-place
"""
VERDICTS = "   0 shown\n   1 shown as far as the hive can be read: it is damaged, and where is on stderr"
MAX_SHOWN_BYTES = 32
MAX_NOTICES = 20


def configure(parser: argparse.ArgumentParser) -> None:
    add_image(parser)
    parser.add_argument(
        "key", metavar="KEY", nargs="?", help=r"HKLM\..., HKU\USER\... or HKCR\...; in a bare hive from its root"
    )
    parser.add_argument(
        "words",
        metavar="...",
        nargs="*",
        help="after 'set': KEY NAME DATA; after 'delete': KEY [NAME]; after 'import': FILE.reg",
    )
    parser.add_argument(
        "--type",
        metavar="TYPE",
        choices=TYPES,
        default="sz",
        help=f"with set: the value's type, one of {', '.join(TYPES)}; default sz",
    )
    parser.add_argument("--user", metavar="NAME", help="whose HKEY_CURRENT_USER is meant: the profile folder's name")
    parser.add_argument(
        "--code-page",
        type=int,
        metavar="N",
        help="with import: what a file without UTF-16 or a mark is written in; default: the guest's ANSI code page "
        "(932, 1252, …; 65001 is UTF-8)",
    )
    parser.add_argument("--partition", type=int, metavar="N", help="the system on this partition")
    parser.add_argument("-r", "--recursive", action="store_true", help="with everything below the key")
    add_destination(
        parser,
        "a change: a new image there, IMAGE is only read; with '--format reg', which exports KEY and all below it as "
        "regedit does: that file, in UTF-16",
    )


def run(args: argparse.Namespace, out: Output) -> int:
    if args.key in ACTIONS and args.words:
        return run_edit(args, out)
    if args.words or args.in_place or args.dry_run or args.code_page is not None:
        what = "only set, delete and import take more words, --in-place or --code-page"
        raise UsageError(what, hint="See 'byre reg --help'.")
    regedit = _wants_export(args, out)
    hive = bare_hive(args.image)
    if hive is not None:
        return _show(args, out, _in_bare(hive, args.key or ""), regedit=regedit)
    with opened(args) as guest:
        if not guest.roots:
            raise UnsupportedError(
                "holds no installed Windows or ReactOS",
                path=args.image,
                found="; ".join(guest.unsearched()) or None,
            )
        from byre.windows.reg_paths import Registry

        volume, root = guest.roots[0]
        assert volume.filesystem is not None
        registry = Registry(volume.filesystem, root)
        if not args.key:
            if regedit:
                raise UsageError("an export needs a KEY")
            return _list_hives(args, out, registry)
        return _show(args, out, registry.locate(of_user(args.key, args.user)), regedit=regedit)


def _wants_export(args: argparse.Namespace, out: Output) -> bool:
    """Whether ``--format`` means the output: no disk has a format called ``reg``."""
    regedit: bool = args.format == "reg"
    if regedit:
        args.format = None
    if args.output and not regedit:
        raise UsageError("-o goes with --format reg")
    if regedit and out.json and not args.output:
        raise UsageError("--json and --format reg exclude each other without -o FILE")
    return regedit


def bare_hive(name: str) -> Hive | None:
    """The hive where ``name`` is a local file that begins as one, with the logs beside it; None otherwise."""
    from byre.windows.registry import open_hive
    from byre.windows.registry.hive import MAX_HIVE

    path = Path(name)
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if file.read(4) != b"regf":
                return None
            file.seek(0)
            data = file.read(MAX_HIVE + 1)
        logs = []
        for suffix in (".LOG", ".LOG1", ".LOG2", ".log", ".log1", ".log2"):
            beside = path.with_name(path.name + suffix)
            if beside.is_file():
                with beside.open("rb") as file:
                    logs.append((str(beside), file.read(MAX_HIVE)))
    except OSError as error:
        raise StorageError(f"can't be read: {error.strerror}", path=name) from error
    return open_hive(data, path=name, logs=logs)


def _in_bare(hive: Hive, key: str) -> Located:
    """A key of a hive that lies alone: what kind it is can't be trusted, so the secrets of all kinds are hidden."""
    from byre.windows.reg_paths import Located, find_key

    names = [name for name in key.split("\\") if name]
    found, relative = find_key(hive, names, system=True)
    return Located(hive, "", found, "\\".join([_usual_place(hive), *names]), relative)


def _usual_place(hive: Hive) -> str:
    """Where a running system would show the hive, told from its top keys; only for showing."""
    names = {key.name.lower() for key in hive.root.subkeys()}
    for name, mark in (("SYSTEM", "select"), ("SAM", "sam"), ("SECURITY", "policy")):
        if mark in names:
            return f"HKEY_LOCAL_MACHINE\\{name}"
    if {"microsoft", "classes"} <= names:
        return r"HKEY_LOCAL_MACHINE\SOFTWARE"
    return rf"HKEY_USERS\{Path(hive.path).stem}" if "software" in names else hive.root.name


def _show(args: argparse.Namespace, out: Output, found: Located, *, regedit: bool) -> int:
    if regedit:
        _export(args, out, found)
    elif args.recursive:
        _show_below(args, out, found)
    else:
        _show_one(args, out, found)
    for problem in found.hive.problems[:MAX_NOTICES]:
        out.notice(f"{found.hive.path}: {problem.what}")
    if len(found.hive.problems) > MAX_NOTICES:
        out.notice(f"{found.hive.path}: {len(found.hive.problems) - MAX_NOTICES} more problems")
    return 1 if found.hive.problems else 0


def walk(found: Located) -> Iterator[Located]:
    """The key and, each before those below it, all keys beneath."""
    from byre.windows.reg_paths import Located

    for path, key in found.hive.walk(found.key):
        tail = f"\\{path}" if path else ""
        relative = (found.relative + tail).lstrip("\\")
        yield Located(found.hive, found.kind, key, found.shown + tail, relative)


def _list_hives(args: argparse.Namespace, out: Output, registry: Registry) -> int:
    rows = []
    for mount in registry.mounts():
        fact = registry.hive(mount)
        rows.append(
            {
                "key": mount.shown,
                "file": mount.path,
                "state": fact.state,
                "reason": fact.reason,
                "problems": [problem.what for problem in fact.value.problems] if fact.value else [],
            }
        )

    def text(console: Printer) -> None:
        cells = [[str(row["key"]), str(row["file"]), str(row["reason"] or row["state"])] for row in rows]
        table(console, ["key", "file", "state"], cells, indent="")

    out.result("reg", {"image": args.image, "root": registry.root, "hives": rows}, text)
    return 0


def _show_one(args: argparse.Namespace, out: Output, found: Located) -> None:
    subkeys = found.key.subkeys()
    payload = {"image": args.image, **key_json(found), "subkeys": [key.name for key in subkeys]}

    def text(console: Printer) -> None:
        _print_key(console, found)
        for key in subkeys:
            console.print(printable(f"  \\{key.name}{'  (found by scanning)' if key.recovered else ''}"))

    out.result("reg", payload, text)


def _show_below(args: argparse.Namespace, out: Output, found: Located) -> None:
    if out.json:
        out.json_line({"schema": "byre/reg/1", "image": args.image, "key": found.shown})
        for place in walk(found):
            out.json_line(key_json(place))
        return
    console = out.console()
    for place in walk(found):
        _print_key(console, place)


def _print_key(console: Printer, found: Located) -> None:
    title(console, f"{found.shown}  {found.key.last_written or ''}".rstrip())
    rows = [[row["name"] or "(default)", row["type"], _data_text(row)] for row in _values_json(found)]
    if (name := _class_name(found)) is not None:
        rows.insert(0, ["", "class", name])
    if rows:
        table(console, ["value", "type", "data"], rows)


def key_json(found: Located) -> dict[str, Any]:
    """A key with its values; the data of secrets are null and ``hidden`` is true."""
    return {
        "key": found.shown,
        "hive": found.hive.path,
        "hive_key": found.relative,
        "last_written": found.key.last_written,
        "class_name": _class_name(found),
        "recovered": found.key.recovered,
        "values": _values_json(found),
    }


def _class_name(found: Located) -> str | None:
    from byre.windows.secrets import HIDDEN, is_secret_class

    if is_secret_class(found.kind, found.relative):
        return HIDDEN
    return found.key.class_name


def _values_json(found: Located) -> list[dict[str, Any]]:
    from byre.windows.secrets import HIDDEN, is_secret, is_secret_name

    rows = [_value_json(value, is_secret(found.kind, found.relative, value.name)) for value in found.key.values()]
    if is_secret_name(found.kind, found.relative):
        rows = [{**row, "name": HIDDEN} for row in rows]
    return rows


def _value_json(value: Value, hidden: bool) -> dict[str, Any]:
    data = None if hidden else value.decoded
    return {
        "name": value.name,
        "type": value.type_name,
        "data": data.hex() if isinstance(data, bytes) else data,
        "size": None if hidden else len(value.data),
        "complete": value.complete,
        "hidden": hidden,
    }


def _data_text(row: dict[str, Any]) -> str:
    from byre.windows.secrets import HIDDEN

    data = row["data"]
    if row["hidden"]:
        text = HIDDEN
    elif isinstance(data, int):
        text = f"{data:#010x} ({data})"
    elif isinstance(data, list):
        text = " | ".join(data)
    elif row["type"] in ("REG_SZ", "REG_EXPAND_SZ", "REG_LINK"):
        text = str(data)
    else:
        shown = " ".join(data[at : at + 2] for at in range(0, min(len(data), 2 * MAX_SHOWN_BYTES), 2))
        text = f"{shown} ... {row['size']} bytes" if row["size"] > MAX_SHOWN_BYTES else shown
    return text if row["complete"] else f"{text}  (cut off)"


def _export(args: argparse.Namespace, out: Output, found: Located) -> None:
    from byre.windows.reg_export import HEADER

    if args.output is None:
        out.line(HEADER)
        out.line()
        for line in _export_lines(found):
            out.line(line)
        return
    from byre.storage.publish import Publication

    at, waiting = 0, bytearray(b"\xff\xfe")
    with Publication(args.output, force=args.force) as target:
        for line in chain((HEADER, ""), _export_lines(found)):
            waiting += (line + "\r\n").encode("utf-16-le", "replace")
            if len(waiting) > 1 << 20:
                target.storage.write(at, bytes(waiting))
                at += len(waiting)
                waiting.clear()
        target.storage.write(at, bytes(waiting))
    size = at + len(waiting)
    out.result("reg", {"image": args.image, "key": found.shown, "output": args.output, "bytes": size}, lambda _: None)


def _export_lines(found: Located) -> Iterator[str]:
    from byre.windows.reg_export import export_key

    for place in walk(found):
        yield from export_key(place.key, place.shown, place.kind, place.relative)
