"""VMDK: VMware's disks, in all the shapes that people hold."""

from byre.disks.vmdk.creating import create
from byre.disks.vmdk.opening import open_disk

__all__ = ["create", "open_disk"]
