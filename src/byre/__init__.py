"""Byre: a home for the disk images of legacy machines.

import byre
with byre.open_disk("xp.qcow2@clean") as disk:
    boot_sector = disk.read(0, 512)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byre.disks.opening import open_disk as open_disk

__version__ = "0.1.0"
__all__ = ["open_disk"]

_HOMES = {"open_disk": "byre.disks.opening"}


def __getattr__(name: str) -> Any:
    """Import on first use: ``import byre`` costs nothing that isn't asked for."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'byre' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
