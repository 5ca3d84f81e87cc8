"""From an address to an open disk: storage, format, chain, snapshot."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from byre.disks.context import OpenContext, OpenOptions
from byre.disks.disk import Disk, SnapshotDisk, SnapshotInfo
from byre.disks.formats import Format, format_named, probe
from byre.errors import MissingError, UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.storage.local import open_file
from byre.storage.urls import is_url, redact, split_snapshot


@dataclass(frozen=True, slots=True)
class Address:
    """``IMAGE`` or ``IMAGE@SNAPSHOT``, taken apart."""

    path: str
    snapshot: str | None = None


def parse_address(text: str, *, snapshot: str | None = None) -> Address:
    """Split ``IMAGE@SNAPSHOT`` at its last ``@``, or at the last one that has a file before it: a snapshot's name
    may hold an ``@`` too.

    A file of exactly that name wins; in a URL only an ``@`` after the last ``/`` and before ``?`` counts; a
    ``snapshot`` said apart leaves the text whole.
    """
    if snapshot is not None:
        return Address(text, snapshot)
    if is_url(text):
        return Address(*split_snapshot(text))
    if "@" not in text or os.path.lexists(text):
        return Address(text)
    path, _, name = text.rpartition("@")
    head, tail = path, name
    while "@" in head and not os.path.lexists(head):
        head, _, before = head.rpartition("@")
        tail = f"{before}@{tail}"
    if os.path.lexists(head):
        path, name = head, tail
    if not path or not name or "/" in name:
        return Address(text)
    return Address(path, name)


def open_disk(
    address: str | os.PathLike[str],
    *,
    snapshot: str | None = None,
    format: str | None = None,
    writable: bool = False,
    allow_paths: Iterable[str | os.PathLike[str]] = (),
    backing_format: str | None = None,
    parents: Iterable[str | os.PathLike[str]] = (),
    with_backing: bool = True,
    metadata_only: bool = False,
    force_share: bool = False,
    force_unlocked: bool = False,
) -> Disk:
    """Open ``IMAGE`` or ``IMAGE@SNAPSHOT`` as a disk.

    ``format`` None recognises it by its bytes. A snapshot is named by its exact name or else its exact id,
    and is read-only. ``writable=True`` gives a ``WritableDisk``; with ``metadata_only`` of an encrypted
    image too, whose data then can't be read or written. Raises any ByreError.
    """
    _refuse_names_of_no_file(address)
    if isinstance(address, str):
        where = parse_address(address, snapshot=snapshot)
    else:
        where = Address(os.fspath(address), snapshot)
    options = OpenOptions(
        writable=writable,
        allow_paths=tuple(Path(os.path.realpath(path)) for path in allow_paths),
        backing_format=backing_format,
        parents=tuple(Path(os.path.realpath(path)) for path in parents),
        with_backing=with_backing,
        metadata_only=metadata_only,
        force_share=force_share,
        force_unlocked=force_unlocked,
    )
    if where.snapshot is not None and writable:
        raise UsageError("a snapshot can't be written to", path=where.path, hint="Revert to it first.")
    context = OpenContext(options=options, folder=None, open_path=_open_path, open_storage=_open_storage)
    if is_url(where.path):
        disk = _open_url(where.path, format, context)
    else:
        disk = _open_path(Path(where.path), format, context)
    if where.snapshot is None:
        return disk
    try:
        if not isinstance(disk, SnapshotDisk):
            raise UnsupportedError(f"{disk.format} has no internal snapshots", path=where.path)
        found = find_snapshot(disk.snapshots(), where.snapshot, path=where.path)
        return _OwningSnapshot.attach(disk, disk.open_snapshot(found.id))
    except BaseException:
        disk.close()
        raise


def open_bare(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    writable: bool = False,
    force_share: bool = False,
    force_unlocked: bool = False,
) -> tuple[Storage, Format]:
    """Open an image's own file and say its format, without reading its tables or what it refers to.

    For whoever works on metadata itself: snapshots, check, repair. Locks are taken as for ``open_disk``.
    """
    _refuse_names_of_no_file(path)
    options = OpenOptions(writable=writable, force_share=force_share, force_unlocked=force_unlocked)
    if isinstance(path, str) and is_url(path):
        storage = _open_remote(path, options)
    else:
        storage = _open_storage(Path(path), options)
    try:
        return storage, probe(storage) if format is None else format_named(format)
    except BaseException:
        storage.close()
        raise


_QEMU_PROTOCOL = re.compile(
    r"(json|nbd(\+\w+)?|ssh|rbd|iscsi|gluster(\+\w+)?|ftps?|tftp|fuse|vxhs|blkdebug|nvme|sheepdog):", re.IGNORECASE
)


def _refuse_names_of_no_file(address: str | os.PathLike[str]) -> None:
    """Say what is wrong with a name that no file can have or has: an empty one, one of QEMU's protocols."""
    name = os.fspath(address)
    if not name:
        raise UsageError("the name of the image is empty")
    protocol = _QEMU_PROTOCOL.match(name)
    if protocol and not os.path.lexists(name):
        raise UnsupportedError(
            f"{protocol[0]} names of QEMU's are not followed",
            path=redact(name) if "//" in name else name,
            hint="Byre opens files, block devices, https:// and s3://.",
        )


def find_snapshot(
    snapshots: tuple[SnapshotInfo, ...], wanted: str, *, path: str, by_id: bool = False
) -> SnapshotInfo:
    """The one snapshot called ``wanted``: exact name, then exact id. A name that several have, or that is
    another one's id, is a UsageError; none is a MissingError."""
    # A name that isn't UTF-8 comes from the command line with lone surrogates, and out of an image with escapes.
    wanted = re.sub(r"[\udc80-\udcff]", lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", wanted)
    named = [] if by_id else [entry for entry in snapshots if entry.name == wanted]
    numbered = [entry for entry in snapshots if entry.id == wanted]
    hits = {entry.id: entry for entry in (*named, *numbered)}
    if len(named) > 1 or len(hits) > 1:
        ids = ", ".join(hits)
        raise UsageError(
            f"several snapshots answer to {wanted!r}",
            path=path,
            found=f"ids {ids}",
            hint="Say which with --id.",
        )
    if not hits:
        known = ", ".join(repr(entry.name) for entry in snapshots[:10]) or "none"
        raise MissingError(f"has no snapshot {wanted!r}", path=path, found=f"snapshots: {known}")
    return next(iter(hits.values()))


class _OwningSnapshot:
    """Lets a snapshot's disk close the image that it was opened for."""

    @staticmethod
    def attach(owner: Disk, view: Disk) -> Disk:
        close_view = view.close

        def close() -> None:
            close_view()
            owner.close()

        view.close = close  # type: ignore[method-assign]
        return view


def _open_path(path: Path, format: str | None, context: OpenContext) -> Disk:
    storage = _open_storage(path, context.options)
    try:
        entry = probe(storage) if format is None else format_named(format)
        status = path.stat()
        module = entry.load(storage.name)
    except BaseException:
        storage.close()
        raise
    here = OpenContext(
        options=context.options,
        folder=Path(os.path.realpath(path)).parent,
        open_path=_open_path,
        open_storage=_open_storage,
        chain=(*context.chain, (status.st_dev, status.st_ino)),
    )
    return module.open_disk(storage, here)


def _open_url(url: str, format: str | None, context: OpenContext) -> Disk:
    storage = _open_remote(url, context.options)
    try:
        module = (probe(storage) if format is None else format_named(format)).load()
    except BaseException:
        storage.close()
        raise
    return module.open_disk(storage, context)


def _open_remote(url: str, options: OpenOptions) -> Storage:
    from byre.storage.remote import open_remote

    if options.writable:
        raise UsageError("a remote image can't be written to", path=redact(url), hint="Download it first.")
    return open_remote(url)


def _open_storage(path: Path, options: OpenOptions) -> Storage:
    return open_file(
        path,
        writable=options.writable,
        force_share=options.force_share,
        force_unlocked=options.force_unlocked,
    )
