"""Virtual PC, Hyper-V and Azure VHD images ("vpc" in QEMU)."""

from byre.disks.vhd.opening import open_disk
from byre.disks.vhd.writer import create

__all__ = ["create", "open_disk"]
