"""From an image's address to the disk that QEMU gets: which code reads it, and what is locked meanwhile.

QEMU itself reads raw and qcow2, with every file of the chain spelled out. Every other format, snapshots, remote
images and files that QEMU's account may not open are read by Byre and handed over on a private NBD socket: code that
expects hostile images reads them, and QEMU sees a plain disk. Byre holds the image's locks for as long as it runs.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from byre.disks.disk import Disk, SnapshotDisk, SnapshotInfo
from byre.disks.layers import layers_of
from byre.disks.opening import find_snapshot, open_disk, parse_address
from byre.errors import UnsupportedError, UsageError
from byre.machine.qemu.drive import DRIVERS, Drive, chain_drive, nbd_drive
from byre.storage.local import LocalFile
from byre.storage.urls import is_url
from byre.units import SECTOR, align_up

NBD_SOCKET = "disk.sock"
_DIRECT = frozenset({"raw", "qcow2"})


@dataclass(frozen=True, slots=True)
class Source:
    """What an address means for running. ``size`` in bytes; ``snapshot`` is set for a machine from a snapshot."""

    address: str
    path: str
    format: str
    size: int
    files: tuple[tuple[Path, str], ...]
    """(path, format) of the chain, the topmost first; empty where QEMU shouldn't read it itself."""
    why_served: str | None = None
    snapshot: SnapshotInfo | None = None


def look(address: str, disk: Disk, *, snapshot: str | None = None, shared: bool = False) -> Source:
    """What the open disk is. ``snapshot`` is what ``--snapshot`` said; ``shared``: another program may be writing it,
    and QEMU wouldn't open it."""
    where = parse_address(address, snapshot=snapshot)
    layers = layers_of(disk)
    found = None
    if where.snapshot is not None:
        with open_disk(Path(where.path), with_backing=False, force_share=True) as whole:
            if isinstance(whole, SnapshotDisk):
                found = find_snapshot(whole.snapshots(), where.snapshot, path=where.path)
        why: str | None = "it is a snapshot"
    elif is_url(where.path):
        why = "it is remote"
    elif shared:
        why = "another program may be writing it"
    else:
        why = next(
            (f"{layer.format} is read by Byre, not by QEMU" for layer in layers if layer.format not in _DIRECT), None
        )
    files: tuple[tuple[Path, str], ...] = ()
    if why is None:
        paths = [_plain_file(layer) for layer in layers]
        files = tuple((path, layer.format) for path, layer in zip(paths, layers, strict=True) if path is not None)
        if len(files) < len(layers) or any(layer.describe().data_file for layer in layers):
            why, files = "it isn't in plain files alone", ()
    return Source(address, where.path, disk.format, align_up(disk.size, SECTOR), files, why, found)


def unwritten(address: str, disk: Disk) -> Source:
    """A disk that has no file which shows it yet: a result that isn't written, what lies under one."""
    path = parse_address(address).path
    return Source(address, path, disk.format, align_up(disk.size, SECTOR), (), "it isn't written yet")


def kept(source: Source, *, has_snapshot: bool) -> Drive:
    """The image itself, to be written to. Raises where that can't be, or isn't safe without a snapshot first."""
    if source.snapshot is not None:
        raise UsageError(
            "--keep can't write to a snapshot",
            path=source.path,
            hint="Run it without --keep, or 'byre snapshot revert' first.",
        )
    if is_url(source.path):
        raise UsageError("--keep can't write to a remote image", path=source.path, hint="Download it first.")
    if source.format not in DRIVERS or (source.why_served and source.format in _DIRECT):
        raise UnsupportedError(
            f"--keep isn't done for this image: {source.why_served or source.format}",
            path=source.path,
            hint="Convert it to a plain qcow2 first: byre convert.",
        )
    if source.format != "qcow2" and has_snapshot:
        raise UsageError(
            f"--keep takes a snapshot first, and {source.format} images have none",
            path=source.path,
            hint="Say --no-snapshot if you have a copy, or convert it to qcow2 first.",
        )
    return chain_drive(source.files or ((Path(os.path.realpath(source.path)), source.format),), writable=True)


class Served:
    """A disk on a private NBD socket, read-only, on a thread of its own. Mutable: it owns server and thread."""

    def __init__(self, disk: Disk, folder: Path, *, log: Callable[[str], None], owner: int | None = None) -> None:
        from byre.serve.server import NbdServer, listen_unix

        self.socket = folder / NBD_SOCKET
        listener = listen_unix(self.socket)
        if owner is not None:
            os.chown(self.socket, owner, -1)
        self._server = NbdServer({"": disk}, listener, log=log)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()

    @property
    def drive(self) -> Drive:
        return nbd_drive(self.socket)

    def close(self) -> None:
        self._server.stop()
        self._thread.join(10)
        self._server.close()
        with contextlib.suppress(OSError):
            self.socket.unlink()


def create_overlay(path: Path, size: int) -> None:
    """A new qcow2 that holds nothing; what lies below it is said to QEMU, not written into it."""
    from byre.disks.qcow2.writer import create
    from byre.storage.publish import Publication

    with Publication(path) as target:
        options: dict[str, Any] = {}
        create(target, size, options).finish()


def _plain_file(layer: Disk) -> Path | None:
    storage = layer.files[0] if layer.files else None
    return storage.path if isinstance(storage, LocalFile) and not storage.block_device else None
