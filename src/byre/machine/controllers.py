"""Boot controllers as a guest sees them, and which of them each target has. Neutral names: ``hardware.CONTROLLERS``.

Ids: those of ``audit.platforms`` with their sources; LSI 53C895A and virtio from QEMU's ``docs/specs/pci-ids.rst``.
What targets have: their own documentation; what QEMU has was tried on 7.2 with a boot sector that reads its disk.
"""

from __future__ import annotations

from dataclasses import replace

from byre.audit.platforms import Platform, platform_named
from byre.errors import UsageError

_SCSI = ("gendisk",)
_DRIVER = "install the controller's driver in the guest before it moves, or attach the disk to an IDE controller"


def _own(name: str, title: str, vendor: str, device: str, class_code: str) -> Platform:
    return Platform(name, title, title, vendor, device, class_code, _SCSI, _DRIVER)


PLATFORMS: dict[str, Platform] = {
    "piix3-ide": replace(platform_named("qemu"), name="piix3-ide"),
    "piix4-ide": replace(platform_named("virtualbox"), name="piix4-ide"),
    "ich9-ahci": replace(platform_named("qemu:q35"), name="ich9-ahci", note=""),
    "lsi53c895a": _own("lsi53c895a", "LSI 53C895A", "1000", "0012", "010000"),
    "lsi53c1030": replace(platform_named("vmware:lsi"), name="lsi53c1030"),
    "buslogic": replace(platform_named("vmware:buslogic"), name="buslogic"),
    "virtio-blk": _own("virtio-blk", "virtio-blk", "1af4", "1001", "010000"),
    "virtio-scsi": _own("virtio-scsi", "virtio-scsi", "1af4", "1004", "010000"),
}
"""How each controller shows itself on PCI: what the audit's rules on controllers ask for."""

_QEMU = ("piix3-ide", "piix4-ide", "ich9-ahci", "lsi53c895a", "virtio-blk", "virtio-scsi")
_QEMU_BASED = ("piix3-ide", "ich9-ahci", "lsi53c895a", "virtio-blk", "virtio-scsi")
OFFERED: dict[str, tuple[str, ...]] = {
    "qemu": _QEMU,
    "libvirt": _QEMU_BASED,
    "proxmox": _QEMU_BASED,
    "utm": _QEMU_BASED,
    "vagrant": _QEMU_BASED,
    "virtualbox": ("piix4-ide", "piix3-ide", "ich9-ahci", "lsi53c1030", "buslogic"),
    "vmware": ("piix4-ide", "lsi53c1030", "buslogic"),
    "esxi": ("piix4-ide", "lsi53c1030", "buslogic"),
    "hyperv": ("piix4-ide",),
    "kubevirt": ("ich9-ahci", "virtio-blk"),
}
"""What each target can put the boot disk on, its usual one first."""
_ONE = {
    "qemu:pc": ("piix3-ide",),
    "qemu:q35": ("ich9-ahci",),
    "vmware:ide": ("piix4-ide",),
    "vmware:lsi": ("lsi53c1030",),
    "vmware:buslogic": ("buslogic",),
}
TARGETS = (*OFFERED, *_ONE)


def offered(target: str) -> tuple[str, ...]:
    """The controllers of a target, its usual one first; UsageError where there is no such target."""
    found = OFFERED.get(target) or _ONE.get(target)
    if found is None:
        known = ", ".join(TARGETS)
        raise UsageError(f"there is no target {target!r} to make a machine for", hint=f"There are: {known}.")
    return found
