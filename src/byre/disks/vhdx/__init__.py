"""VHDX, the disk format of Hyper-V since 2012 ([MS-VHDX])."""

from byre.disks.vhdx.create import create
from byre.disks.vhdx.image import open_disk

__all__ = ["create", "open_disk"]
