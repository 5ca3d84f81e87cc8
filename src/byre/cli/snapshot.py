"""``byre snapshot``: internal snapshots of an image that no machine is using."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from byre.cli.options import add_actions, add_write_options
from byre.cli.output import Output, printable
from byre.disks.disk import SnapshotInfo
from byre.errors import UnsupportedError
from byre.units import format_size

if TYPE_CHECKING:
    from byre.cli.output import Printer
    from byre.disks.qcow2.snapshot_tree import TreeNode
    from byre.storage.base import Storage

SUMMARY = """\
List, create, revert to, delete and rename the internal snapshots of a qcow2 image.

SNAPSHOT is an exact name, or else an exact id; where several answer to it, say --id. Everything is crash-safe:
the image is as it was or as it was meant to be, whenever the power goes."""
EXAMPLES = """
  byre snapshot create xp.qcow2 clean
  byre snapshot list xp.qcow2
  byre snapshot revert xp.qcow2 clean
  byre snapshot delete xp.qcow2 clean --compact
  byre snapshot rename xp.qcow2 --id 3 before-sp3
  byre snapshot tree xp.qcow2 --json
"""
VERDICTS = "   0 done"

_Action: TypeAlias = Callable[["Storage", argparse.Namespace, Output], None]


def configure(parser: argparse.ArgumentParser) -> None:
    action = add_actions(parser)

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        entry = action(name, summary)
        entry.add_argument("image", metavar="IMAGE", help="path of a qcow2 image")
        return entry

    for name, summary in (("list", "all snapshots, or those that fit"), ("tree", "which seems to come from which")):
        entry = add(name, summary)
        if name == "list":
            entry.add_argument("name", metavar="PREFIX", nargs="?", help="only names or ids that begin so")
        entry.add_argument("-U", "--force-share", action="store_true", help="read though a machine has it open")
    entry = add("create", "keep the disk as it is now, under a name")
    entry.add_argument("name", metavar="NAME", help="1 to 255 bytes, unlike every other name and id")
    add_write_options(entry)
    entry = add("revert", "make the disk what it was in a snapshot; what was written since is gone")
    _add_snapshot(entry)
    add_write_options(entry)
    entry = add("delete", "remove a snapshot and give the space that only it used back to the host")
    _add_snapshot(entry)
    entry.add_argument("--compact", action="store_true", help="also shorten the file")
    add_write_options(entry)
    entry = add("rename", "give a snapshot another name")
    _add_snapshot(entry)
    entry.add_argument("new_name", metavar="NEW_NAME")
    add_write_options(entry)


def _add_snapshot(parser: argparse.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("name", metavar="SNAPSHOT", nargs="?", help="exact name, or else exact id")
    which.add_argument("--id", help="exact id, for names that several snapshots have")


def run(args: argparse.Namespace, out: Output) -> int:
    from byre.disks.opening import open_bare

    changes = args.action not in ("list", "tree")
    storage, format = open_bare(
        args.image,
        writable=changes,
        force_share=getattr(args, "force_share", False),
        force_unlocked=getattr(args, "force_unlocked", False),
    )
    try:
        if format.name != "qcow2":
            raise UnsupportedError(
                f"{format.title} images have no internal snapshots",
                path=args.image,
                hint="Convert it to qcow2 first.",
            )
        _ACTIONS[args.action](storage, args, out)
    finally:
        storage.close()
    return 0


def _snapshots(storage: Storage) -> tuple[SnapshotInfo, ...]:
    from byre.disks.qcow2.header import read_header
    from byre.disks.qcow2.snapshot_table import read_snapshot_table

    header = read_header(storage)
    infos = (entry.info for entry in read_snapshot_table(storage, header))
    return tuple(info if info.virtual_size else replace(info, virtual_size=header.size) for info in infos)


def _found(storage: Storage, args: argparse.Namespace) -> SnapshotInfo:
    from byre.disks.opening import find_snapshot

    by_id = args.id is not None
    return find_snapshot(_snapshots(storage), args.id if by_id else args.name, path=args.image, by_id=by_id)


def _list(storage: Storage, args: argparse.Namespace, out: Output) -> None:
    snapshots = _snapshots(storage)
    if args.name is not None:
        snapshots = tuple(entry for entry in snapshots if entry.name.startswith(args.name) or entry.id == args.name)
    payload = {"action": "list", "image": args.image, "snapshots": snapshots}
    out.result("snapshot", payload, lambda console: _print_list(console, args, snapshots))


def _print_list(console: Printer, args: argparse.Namespace, snapshots: tuple[SnapshotInfo, ...]) -> None:
    if not snapshots:
        wanted = "" if args.name is None else f" that begin with {printable(args.name)!r}"
        console.print(f"{printable(args.image)} has no snapshots{wanted}")
        return
    rows = [("ID", "NAME", "CREATED", "DISK", "VM STATE")]
    rows += [
        (
            printable(entry.id),
            printable(entry.name),
            entry.created or "unknown",
            format_size(entry.virtual_size),
            format_size(entry.vm_state_size) if entry.vm_state_size else "none",
        )
        for entry in snapshots
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        console.print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _tree(storage: Storage, args: argparse.Namespace, out: Output) -> None:
    from byre.disks.qcow2.snapshot_tree import snapshot_tree

    nodes = snapshot_tree(storage)
    payload = {
        "action": "tree",
        "image": args.image,
        "inferred": True,
        "basis": "shared clusters and dates; qcow2 records no parent",
        "nodes": [
            {
                "id": node.snapshot.id if node.snapshot else None,
                "name": node.snapshot.name if node.snapshot else None,
                "created": node.snapshot.created if node.snapshot else None,
                "active": node.snapshot is None,
                "parent_id": _snapshot_id(nodes, node.parent),
                "shared_clusters": node.shared,
            }
            for node in nodes
        ],
    }
    out.result("snapshot", payload, lambda console: _print_tree(console, args.image, nodes))


def _snapshot_id(nodes: tuple[TreeNode, ...], index: int | None) -> str | None:
    parent = None if index is None else nodes[index].snapshot
    return parent.id if parent else None


def _print_tree(console: Printer, image: str, nodes: tuple[TreeNode, ...]) -> None:
    children: dict[int | None, list[int]] = {}
    for index, node in enumerate(nodes):
        children.setdefault(node.parent, []).append(index)
    console.print(printable(image))
    waiting: list[tuple[int, str, bool]] = []

    def push(parent: int | None, indent: str) -> None:
        entries = children.get(parent, [])
        for position, index in reversed(list(enumerate(entries))):
            waiting.append((index, indent, position == len(entries) - 1))

    push(None, "")
    while waiting:
        index, indent, last = waiting.pop()
        snapshot = nodes[index].snapshot
        text = (
            "(the disk as it is now)"
            if snapshot is None
            else f"{printable(snapshot.name)}  (id {printable(snapshot.id)}, {snapshot.created or 'date unknown'})"
        )
        console.print(f"{indent}{'└── ' if last else '├── '}{text}")
        push(index, indent + ("    " if last else "│   "))
    console.print("Inferred from shared clusters and dates: qcow2 records no parent.")


def _create(storage: Storage, args: argparse.Namespace, out: Output) -> None:
    from byre.disks.qcow2.snapshots import create_snapshot

    made = create_snapshot(storage, args.name).snapshot
    payload = {"action": "create", "image": args.image, "snapshot": made}
    out.result("snapshot", payload, lambda console: console.print(f"created {_shown(made)}"))


def _revert(storage: Storage, args: argparse.Namespace, out: Output) -> None:
    from byre.disks.qcow2.snapshots import revert_to_snapshot

    change = revert_to_snapshot(storage, _found(storage, args).id)
    payload = {"action": "revert", "image": args.image, "snapshot": change.snapshot, "freed": change.freed}
    out.result(
        "snapshot",
        payload,
        lambda console: console.print(f"reverted to {_shown(change.snapshot)}; {format_size(change.freed)} freed"),
    )


def _delete(storage: Storage, args: argparse.Namespace, out: Output) -> None:
    from byre.disks.qcow2.snapshots import delete_snapshot, shorten

    before = storage.size
    change = delete_snapshot(storage, _found(storage, args).id)
    if args.compact:
        shorten(storage)
    payload = {
        "action": "delete",
        "image": args.image,
        "snapshot": change.snapshot,
        "freed": change.freed,
        "shortened": before - storage.size if args.compact else 0,
    }

    def show(console: Printer) -> None:
        console.print(f"deleted {_shown(change.snapshot)}; {format_size(change.freed)} freed")
        if args.compact:
            console.print(f"the file is {format_size(max(0, before - storage.size))} shorter")

    out.result("snapshot", payload, show)


def _rename(storage: Storage, args: argparse.Namespace, out: Output) -> None:
    from byre.disks.qcow2.snapshots import rename_snapshot

    old = _found(storage, args)
    renamed = rename_snapshot(storage, old.id, args.new_name).snapshot
    payload = {"action": "rename", "image": args.image, "snapshot": renamed, "old_name": old.name}
    out.result("snapshot", payload, lambda console: console.print(f"{printable(old.name)} is now {_shown(renamed)}"))


def _shown(snapshot: SnapshotInfo) -> str:
    return f"{printable(snapshot.name)} (id {printable(snapshot.id)})"


_ACTIONS: dict[str, _Action] = {
    "list": _list,
    "tree": _tree,
    "create": _create,
    "revert": _revert,
    "delete": _delete,
    "rename": _rename,
}
