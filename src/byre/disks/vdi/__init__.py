"""VirtualBox disk images."""

from byre.disks.vdi.disk import open_disk
from byre.disks.vdi.writer import create

__all__ = ["create", "open_disk"]
