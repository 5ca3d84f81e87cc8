"""``--drop-free`` and ``--verify`` of compact and convert: what the guest's file systems don't need is left out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from byre.cli.options import open_options
from byre.cli.output import Output
from byre.errors import CorruptImageError, UnsupportedError, UsageError
from byre.units import format_size

if TYPE_CHECKING:
    from byre.disks.disk import Disk
    from byre.filesystems.unneeded import FileId, Unneeded

    Hashes = list[dict[FileId, str]]

HELP = (
    "leave out the guest's free clusters and the contents of pagefile.sys and of an unused hiberfil.sys: "
    "deleted files become unrecoverable. Refused where a volume is dirty, hibernated or its log isn't clean"
)


def add_drop_free(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--drop-free", action="store_true", help=HELP)
    parser.add_argument(
        "--verify",
        action="store_true",
        help="with --drop-free: hash every file of the guest before and after, but for those two",
    )


def check_options(args: argparse.Namespace) -> None:
    if args.verify and not args.drop_free:
        raise UsageError("--verify belongs to --drop-free")


@contextmanager
def states(disk: Disk, *, snapshots: bool) -> Iterator[list[tuple[str, Disk]]]:
    """Today's disk, and with ``snapshots`` each of them, with what errors call it."""
    from byre.disks.disk import SnapshotDisk

    found: list[tuple[str, Disk]] = [("", disk)]
    if snapshots and isinstance(disk, SnapshotDisk):
        for entry in disk.snapshots():
            _refuse_machine_state(entry.name, entry.vm_state_size, disk.files[0].name)
            found.append((f"snapshot {entry.name!r}: ", disk.open_snapshot(entry.id)))
    yield found


def plan(disk: Disk, *, snapshots: bool = False) -> list[Unneeded]:
    """What each state doesn't need; raises where one of them can't be trusted to say."""
    from byre.filesystems.unneeded import find_unneeded

    with states(disk, snapshots=snapshots) as found:
        return [find_unneeded(state, what=what) for what, state in found]


def hashes(disk: Disk, plans: list[Unneeded], *, snapshots: bool = False) -> Hashes:
    from byre.filesystems.unneeded import hash_files

    with states(disk, snapshots=snapshots) as found:
        return [hash_files(state, each.files) for (_, state), each in zip(found, plans, strict=True)]


def refuse_machine_state(args: argparse.Namespace) -> None:
    """A snapshot that was taken of a running machine: what its memory holds isn't on the disk yet."""
    from byre.disks.disk import SnapshotDisk
    from byre.disks.opening import find_snapshot, open_disk, parse_address

    where = parse_address(args.image, snapshot=args.snapshot)
    if where.snapshot is None:
        return
    with open_disk(where.path, **{**open_options(args), "snapshot": None}) as disk:
        if isinstance(disk, SnapshotDisk):
            entry = find_snapshot(disk.snapshots(), where.snapshot, path=where.path)
            _refuse_machine_state(entry.name, entry.vm_state_size, where.path)


def _refuse_machine_state(name: str, size: int, path: str) -> None:
    if size:
        raise UnsupportedError(
            f"snapshot {name!r} holds a running machine, whose memory knows more of its files than the disk",
            path=path,
            found=f"{size} bytes of machine state",
            hint="Delete that snapshot, or leave out --drop-free.",
        )


def check_hashes(before: Hashes, path: str, plans: list[Unneeded], args: argparse.Namespace) -> int:
    """Hash the files of the finished image; raise where one differs. Returns how many were compared."""
    from byre.disks.opening import open_disk

    with open_disk(path, snapshot=None, allow_paths=args.allow_path) as disk:
        after = hashes(disk, plans, snapshots=len(plans) > 1)
    for old, new in zip(before, after, strict=True):
        differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if differing:
            partition, name, _ = differing[0]
            raise CorruptImageError(
                f"{len(differing)} files are not what they were, the first is {name!r} on partition {partition}",
                path=path,
                hint="Don't use this image; please report this.",
            )
    return sum(len(each) for each in after)


def payload(plans: list[Unneeded] | None, verified: int | None) -> dict[str, Any] | None:
    """The field ``drop_free`` of both verbs; sums over all states."""
    if plans is None:
        return None
    return {
        "free": sum(each.free for each in plans),
        "emptied": sum(each.emptied for each in plans),
        "states": len(plans),
        "emptied_files": [
            {"state": state, "partition": partition, "path": path}
            for state, each in enumerate(plans)
            for partition, path in each.files
        ],
        "verified_files": verified,
    }


def notice(plans: list[Unneeded], out: Output) -> None:
    free = format_size(sum(each.free for each in plans))
    names = sorted({path.strip("/") for each in plans for _, path in each.files})
    contents = f" and the contents of {', '.join(names)}" if names else ""
    out.notice(f"left out: {free} of free clusters{contents}")


def proven(told: dict[str, Any] | None) -> str:
    """What ``--verify`` adds to the line about a new image."""
    count = None if told is None else told["verified_files"]
    return "" if count is None else f", {count} files verified"
