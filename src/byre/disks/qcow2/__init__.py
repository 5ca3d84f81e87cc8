"""qcow2, versions 2 and 3: header and tables, reading, writing, snapshots, check and repair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byre.disks.qcow2.image import Qcow2Disk as Qcow2Disk
    from byre.disks.qcow2.image import open_disk as open_disk
    from byre.disks.qcow2.writer import create as create

__all__ = ["Qcow2Disk", "create", "open_disk"]

_HOMES = {
    "Qcow2Disk": "byre.disks.qcow2.image",
    "create": "byre.disks.qcow2.writer",
    "open_disk": "byre.disks.qcow2.image",
}


def __getattr__(name: str) -> Any:
    """Import on first use: who opens an image needs nothing of the writer, and the other way round."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'byre.disks.qcow2' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
