"""The machines that an image may go to, as a guest sees them: the boot controller and what hangs on it.

Ids: measured on QEMU 7.2 for ``qemu`` and ``qemu:q35``, which alone have been seen running; every other platform
says in ``source`` where its own are from.
"""

from __future__ import annotations

from dataclasses import dataclass

from byre.errors import UsageError

_AHCI_NOTE = "newer machine versions stop at 0x000000A5 before that"


@dataclass(frozen=True, slots=True)
class Platform:
    """One target. ``vendor`` and ``device`` are the boot controller's PCI ids; ``class_code`` its class, subclass and
    programming interface as six hexadecimal digits; ``chain`` the ids below it that must name a service as well."""

    name: str
    title: str
    controller: str
    vendor: str
    device: str
    class_code: str
    chain: tuple[str, ...]
    advice: str
    note: str = ""
    source: str = "measured on QEMU 7.2"

    @property
    def ids(self) -> tuple[str, ...]:
        """Hardware, then compatible ids, as CriticalDeviceDatabase writes them, the most telling first."""
        own = f"pci#ven_{self.vendor}&dev_{self.device}"
        full, short = self.class_code, self.class_code[:4]
        maker = f"pci#ven_{self.vendor}"
        return (
            own,
            f"{own}&cc_{full}",
            f"{own}&cc_{short}",
            f"{maker}&cc_{full}",
            f"{maker}&cc_{short}",
            maker,
            f"pci#cc_{full}",
            f"pci#cc_{short}",
        )


_IDE = ("primary_ide_channel", "gendisk")
_SCSI = ("gendisk",)
_USE_IDE = "attach the disk to an IDE controller, or install the controller's driver in the guest before it moves"
_ENABLE_IDE = "enable the standard IDE drivers in the guest before it moves (Microsoft KB 314082)"

_VMX = "VMware's .vmx keys and PCI ids; a real Windows XP hive from VMware names 8086:7111"
_AZURE = (
    "Microsoft's list of guests that Azure supports: nothing before Windows Server 2003, and that without support"
)
_AZURE_NOTE = "Azure starts no guest without Hyper-V's integration drivers"
_AWS = "Amazon's documentation of VM Import: Xen guests see emulated IDE (unchecked)"
_KUBEVIRT = "KubeVirt's admission rules: IDE isn't supported, machine types are q35 only"
_UTM = "UTM's Swift configuration code: interface IDE on QEMU's pc machine"

PLATFORMS = (
    Platform("qemu", "QEMU's default machine", "PIIX3 IDE", "8086", "7010", "010180", _IDE, _ENABLE_IDE),
    Platform("qemu:q35", "QEMU's q35 machine", "ICH9 AHCI", "8086", "2922", "010601", _SCSI, _USE_IDE, _AHCI_NOTE),
    Platform(
        "proxmox",
        "Proxmox VE with an IDE disk",
        "PIIX3 IDE",
        "8086",
        "7010",
        "010180",
        _IDE,
        _ENABLE_IDE,
        source="Proxmox runs QEMU's pc machine for ostype wxp",
    ),
    Platform(
        "virtualbox",
        "VirtualBox with a PIIX4 disk",
        "PIIX4 IDE",
        "8086",
        "7111",
        "01018a",
        _IDE,
        _ENABLE_IDE,
        source="a real Windows XP image made on VirtualBox names 8086:7111",
    ),
    Platform(
        "vmware:ide", "VMware with an IDE disk", "PIIX4 IDE", "8086", "7111", "01018a", _IDE, _ENABLE_IDE, source=_VMX
    ),
    Platform(
        "vmware:lsi", "VMware with LSI Logic", "LSI 53c1030", "1000", "0030", "010000", _SCSI, _USE_IDE, source=_VMX
    ),
    Platform(
        "vmware:buslogic", "VMware with BusLogic", "BusLogic", "104b", "1040", "010000", _SCSI, _USE_IDE, source=_VMX
    ),
    Platform("esxi", "ESXi with an IDE disk", "PIIX4 IDE", "8086", "7111", "01018a", _IDE, _ENABLE_IDE, source=_VMX),
    Platform(
        "esxi:lsi", "ESXi with LSI Logic", "LSI 53c1030", "1000", "0030", "010000", _SCSI, _USE_IDE, source=_VMX
    ),
    Platform(
        "esxi:buslogic", "ESXi with BusLogic", "BusLogic", "104b", "1040", "010000", _SCSI, _USE_IDE, source=_VMX
    ),
    Platform(
        "hyperv",
        "Hyper-V, generation 1",
        "PIIX4 IDE",
        "8086",
        "7111",
        "010180",
        _IDE,
        _ENABLE_IDE,
        source="Microsoft's documentation of generation 1 machines; the PCI id is unchecked",
    ),
    Platform(
        "azure",
        "Azure, generation 1",
        "PIIX4 IDE",
        "8086",
        "7111",
        "010180",
        _IDE,
        _ENABLE_IDE,
        _AZURE_NOTE,
        _AZURE,
    ),
    Platform("aws", "AWS, a Xen instance", "PIIX3 IDE", "8086", "7010", "010180", _IDE, _ENABLE_IDE, source=_AWS),
    Platform("utm", "UTM with an IDE disk", "PIIX3 IDE", "8086", "7010", "010180", _IDE, _ENABLE_IDE, source=_UTM),
    Platform(
        "kubevirt",
        "KubeVirt",
        "ICH9 AHCI",
        "8086",
        "2922",
        "010601",
        _SCSI,
        "install an AHCI driver in the guest before it moves: there is no IDE",
        _AHCI_NOTE,
        _KUBEVIRT,
    ),
)
ALIASES = {
    "qemu:pc": "qemu",
    "libvirt": "qemu",
    "vmware": "vmware:ide",
    "virtualbox:ide": "virtualbox",
    "virtualbox:piix4": "virtualbox",
    "proxmox:ide": "proxmox",
    "esxi:ide": "esxi",
    "hyperv:gen1": "hyperv",
}
DEFAULT = PLATFORMS[0]


def platform_named(name: str) -> Platform:
    """The machine of this name; UsageError where there is none."""
    wanted = ALIASES.get(name.lower(), name.lower())
    for platform in PLATFORMS:
        if platform.name == wanted:
            return platform
    known = ", ".join(platform.name for platform in PLATFORMS)
    raise UsageError(f"there is no machine {name!r} to audit for", hint=f"There are: {known}.")
