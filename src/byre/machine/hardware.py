"""The machine that a guest runs on, as one frozen value: what ``profile`` decides, and ``run``, ``boot`` and
``export`` put into a hypervisor's own words.

The words here are neutral: a name says what the guest sees (``piix3-ide``), never how a hypervisor spells it. Each
hypervisor's module maps them, and refuses one that it can't give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

SYSTEMS = (
    "nt4",
    "win2000",
    "winxp",
    "winxp64",
    "win2003",
    "vista",
    "win7",
    "reactos",
    "linux",
    "dos",
    "unknown",
)
"""What the guest is, as far as hypervisors ask."""
ARCHITECTURES = ("i386", "x86_64")
FIRMWARES = ("bios", "uefi")
CHIPSETS = ("i440fx", "q35")
CONTROLLERS = {
    "piix3-ide": "ide",
    "piix4-ide": "ide",
    "ich9-ahci": "sata",
    "lsi53c895a": "scsi",
    "lsi53c1030": "scsi",
    "buslogic": "scsi",
    "virtio-blk": "virtio",
    "virtio-scsi": "scsi",
}
"""Boot controllers, and the bus that their disks sit on."""
NETWORK_CARDS = ("rtl8139", "pcnet", "e1000", "e1000e", "ne2k_pci", "virtio-net", "none")
DISPLAYS = ("std", "cirrus", "vmware", "virtio")
SOUND_CARDS = ("ac97", "es1370", "sb16", "hda", "none")
POINTERS = ("ps2", "usb-tablet")
CLOCKS = ("localtime", "utc")


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    """One setting, and why it is this one: ``reason`` is a clause for people. It may hold names from the guest."""

    value: T
    reason: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware of one machine. ``name`` is the machine's, safe in every target's file names (letters, digits,
    ``-``); ``memory`` counts bytes; ``hidden`` are CPU features that the guest must not see, in QEMU's names."""

    name: str
    system: Choice[str]
    architecture: Choice[str]
    firmware: Choice[str]
    chipset: Choice[str]
    cpu: Choice[str]
    """A model in QEMU's names (``qemu32``, ``pentium3``, ``qemu64``), or ``host``."""
    hidden: Choice[tuple[str, ...]]
    cpus: Choice[int]
    memory: Choice[int]
    controller: Choice[str]
    network: Choice[str]
    display: Choice[str]
    sound: Choice[str]
    pointer: Choice[str]
    clock: Choice[str]
    acpi: Choice[bool]
    apic: Choice[bool]
    hpet: Choice[bool]

    @property
    def bus(self) -> str:
        """The bus of the boot disk: ``ide``, ``sata``, ``scsi`` or ``virtio``."""
        return CONTROLLERS[self.controller.value]
