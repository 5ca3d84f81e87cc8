"""qcow2, versions 2 and 3: header and tables, reading, writing, snapshots, check and repair."""

from byre.disks.qcow2.image import Qcow2Disk, open_disk
from byre.disks.qcow2.writer import create

__all__ = ["Qcow2Disk", "create", "open_disk"]
