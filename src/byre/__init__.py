"""Byre: a home for the disk images of legacy machines.

import byre
with byre.open_disk("xp.qcow2@clean") as disk:
    boot_sector = disk.read(0, 512)
print(byre.audit("xp.qcow2").grade)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byre.audit.running import audit as audit
    from byre.disks.opening import open_disk as open_disk

__version__ = "0.1.0"
__all__ = ["audit", "open_disk"]

_HOMES = {"open_disk": "byre.disks.opening"}
_PACKAGES = ("audit",)
"""Packages that are callable by themselves."""


def __getattr__(name: str) -> Any:
    """Import on first use: ``import byre`` costs nothing that isn't asked for."""
    from importlib import import_module

    if name in _PACKAGES:
        return import_module(f"byre.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'byre' has no attribute {name!r}")
    return getattr(import_module(home), name)
