"""VirtualBox: an .ova, or a settings file (.vbox) beside a VDI.

Source: VirtualBox's settings schema. Version 1.12 registers in 7.2 (ran); a later one that the program doesn't know
is refused. The disk's UUID in the settings must be that of the VDI's header.
"""

from __future__ import annotations

import re
from uuid import uuid5

from byre.machine.export import ovf
from byre.machine.export.plan import DiskFile, DiskPart, ExportPlan, Refusal, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import one_line, plain_name
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import Translation, described, mac_address, mebibytes
from byre.machine.export.xml import Element, document, element
from byre.machine.hardware import Machine

TITLE = "VirtualBox"
NAMESPACE = "http://www.virtualbox.org/"
VERSION = "1.12-linux"
OS_TYPES = {
    "nt4": "WindowsNT4",
    "win2000": "Windows2000",
    "winxp": "WindowsXP",
    "winxp64": "WindowsXP_64",
    "win2003": "Windows2003",
    "vista": "WindowsVista",
    "win7": "Windows7",
    "reactos": "WindowsXP",
    "linux": "Linux26",
    "dos": "DOS",
    "unknown": "Other",
}
CONTROLLERS = {
    "piix3-ide": ("IDE", "PIIX3", 2),
    "piix4-ide": ("IDE", "PIIX4", 2),
    "ich9-ahci": ("SATA", "AHCI", 1),
    "lsi53c1030": ("SCSI", "LsiLogic", 16),
    "buslogic": ("SCSI", "BusLogic", 16),
}
NETWORK_CARDS = {"pcnet": "Am79C973", "e1000": "82540EM", "virtio-net": "virtio", "none": ""}
DISPLAYS = {"std": "VBoxVGA", "vmware": "VMSVGA"}
SOUND_CARDS = {"ac97": "AC97", "sb16": "SB16", "hda": "HDA", "none": ""}
POINTERS = {"ps2": "PS2Mouse", "usb-tablet": "USBTablet"}
_PREFIX = "08:00:27"


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name)
    words = ovf.translated(subject, TITLE) if subject.form == "ova" else _translated(machine)
    if any(each.vm_state_size for each in subject.snapshots):
        words.notes.append("machine states stay behind: VirtualBox has no use for QEMU's")
    if machine.network.value != "none":
        words.notes.append("the network cable is unplugged: Settings, Network, 'Cable connected' plugs it in")
    lines = (
        (f"VBoxManage import {name}.ova", f"VBoxManage startvm {name}")
        if subject.form == "ova"
        else (f'VBoxManage registervm "$PWD/{name}.vbox"', f"VBoxManage startvm {name}")
    )
    return ExportPlan(
        target="virtualbox",
        title=TITLE,
        name=f"{name}.ova" if subject.form == "ova" else f"{name}-virtualbox",
        shape="ova" if subject.form == "ova" else "folder",
        disk=ovf.disk_file(subject) if subject.form == "ova" else _disk(subject),
        texts=(f"{name}.ovf",) if subject.form == "ova" else (f"{name}.vbox", PATH),
        controller=machine.controller.value if machine.controller.value in CONTROLLERS else "piix4-ide",
        settings=described(machine),
        lines=lines,
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    name = plain_name(subject.machine.name)
    if subject.form == "ova":
        return (ovf.envelope(subject, disk, made.lines, f"{name}.ovf"),)
    return (
        TextFile(f"{name}.vbox", document(settings(subject, disk))),
        readme(subject, TITLE, made.lines, made.notes),
    )


def _disk(subject: Subject) -> DiskFile:
    if subject.snapshots:
        return DiskFile("disks", "virtualbox", "vdi", chain=True)
    options = {"subformat": "dynamic", "uuid": str(subject.identity.disk)}
    return DiskFile(f"{plain_name(subject.machine.name)}.vdi", "virtualbox", "vdi", options)


def _translated(machine: Machine) -> Translation:
    words = Translation(TITLE)
    words.boots_with("controller", machine.controller, {name: name for name in CONTROLLERS}, "piix4-ide")
    words.comfort("network card", machine.network, NETWORK_CARDS, "Am79C973")
    words.comfort("display", machine.display, DISPLAYS, "VBoxVGA")
    words.comfort("sound card", machine.sound, SOUND_CARDS, "")
    if machine.hidden.value:
        words.notes.append(f"VirtualBox can't hide processor features ({', '.join(machine.hidden.value)})")
    words.only("a processor other than the host's,", machine.cpu.value, "host")
    if machine.chipset.value == "q35":
        words.notes.append("the chipset is VirtualBox's ICH9, which is not QEMU's q35 in every device")
    if machine.system.value in ("winxp", "win2000", "win2003", "nt4") and not machine.apic.value:
        words.notes.append("don't switch the I/O APIC on: a guest installed without one stops")
    if machine.architecture.value == "x86_64" and machine.system.value == "winxp":
        words.refusals.append(Refusal("a 64-bit guest can't be a 32-bit Windows XP", forceable=False))
    return words


def _parts(subject: Subject, disk: WrittenDisk | None) -> tuple[DiskPart, ...]:
    """The media, the oldest first. Before they are written their UUIDs are stand-ins."""
    if disk is not None and disk.parts:
        return disk.parts
    if not subject.snapshots:
        return (DiskPart(f"{plain_name(subject.machine.name)}.vdi", str(subject.identity.disk)),)
    return tuple(
        DiskPart(f"disks/{number:02d}.vdi", str(uuid5(subject.identity.disk, str(number))))
        for number in range(1, len(subject.snapshots) + 2)
    )


def _media(parts: tuple[DiskPart, ...]) -> Element:
    """The media inside one another, each in its parent."""
    made: Element | None = None
    for number, part in reversed(list(enumerate(parts))):
        made = element("HardDisk", made, uuid=f"{{{part.uuid}}}", location=part.path, format="VDI")
        if number == 0:
            made.set("type", "Normal")
    assert made is not None
    return made


def _snapshots(subject: Subject, parts: tuple[DiskPart, ...]) -> Element | None:
    """The snapshots inside one another, the oldest outermost, each with the machine and the disk as it was then."""
    made: Element | None = None
    for number, info in reversed(list(enumerate(subject.snapshots))):
        made = element(
            "Snapshot",
            _hardware(subject),
            element("StorageControllers", _controller(subject.machine, f"{{{parts[number].uuid}}}")),
            element("Snapshots", made) if made is not None else None,
            uuid=_snapshot_uuid(subject, number),
            name=one_line(info.name),
            timeStamp=_whole_second(info.created or subject.identity.moment),
        )
    return made


def _snapshot_uuid(subject: Subject, number: int) -> str:
    return f"{{{uuid5(subject.identity.machine, str(number))}}}"


def _whole_second(moment: str) -> str:
    """VirtualBox reads no fractions."""
    return re.sub(r"\.[0-9]+", "", moment)


def settings(subject: Subject, disk: WrittenDisk | None = None) -> Element:
    """The settings file."""
    machine = subject.machine
    parts = _parts(subject, disk)
    medium = f"{{{parts[-1].uuid}}}"
    name = plain_name(machine.name)
    current = {"currentSnapshot": _snapshot_uuid(subject, len(subject.snapshots) - 1)} if subject.snapshots else {}
    described_as = one_line(f"{subject.title}. Exported by Byre from {subject.source}.")
    return element(
        "VirtualBox",
        element(
            "Machine",
            element("Description", described_as),
            element("MediaRegistry", element("HardDisks", _media(parts))),
            element("ExtraData"),
            _snapshots(subject, parts),
            _hardware(subject),
            element("StorageControllers", _controller(machine, medium)),
            uuid=f"{{{subject.identity.machine}}}",
            name=name,
            OSType=OS_TYPES.get(machine.system.value, "Other"),
            snapshotFolder="Snapshots",
            lastStateChange=subject.identity.moment,
            attributes=current,
        ),
        attributes={"xmlns": NAMESPACE, "version": VERSION},
    )


def _hardware(subject: Subject) -> Element:
    machine = subject.machine
    tablet = machine.pointer.value == "usb-tablet"
    return element(
        "Hardware",
        element(
            "CPU",
            element("PAE", enabled=True),
            element("LongMode", enabled=machine.architecture.value == "x86_64"),
            count=machine.cpus.value,
        ),
        element("Memory", RAMSize=mebibytes(machine)),
        element("HID", Pointing=POINTERS.get(machine.pointer.value, "PS2Mouse"), Keyboard="PS2Keyboard"),
        element("HPET", enabled=machine.hpet.value),
        element("Chipset", type="ICH9" if machine.chipset.value == "q35" else "PIIX3"),
        element(
            "Boot",
            element("Order", position="1", device="HardDisk"),
            *(element("Order", position=number, device="None") for number in (2, 3, 4)),
        ),
        element("Display", controller=DISPLAYS.get(machine.display.value, "VBoxVGA"), VRAMSize="16"),
        element("Firmware", type="EFI") if machine.firmware.value == "uefi" else None,
        element(
            "BIOS",
            element("ACPI", enabled=machine.acpi.value),
            element("IOAPIC", enabled=machine.apic.value),
        ),
        element("USB", element("Controllers", element("Controller", name="OHCI", type="OHCI"))) if tablet else None,
        element("Network", _adapter(subject)),
        _sound(machine),
        element("RTC", localOrUTC="local" if machine.clock.value == "localtime" else "UTC"),
        element("SharedFolders"),
        element("Clipboard", mode="Disabled"),
        element("DragAndDrop", mode="Disabled"),
    )


def _adapter(subject: Subject) -> Element:
    card = NETWORK_CARDS.get(subject.machine.network.value, "Am79C973")
    if not card:
        return element("Adapter", slot="0", enabled=False)
    return element(
        "Adapter",
        element("NAT"),
        slot="0",
        enabled=True,
        MACAddress=mac_address(subject.identity.mac, _PREFIX, "").upper(),
        cable=False,
        type=card,
    )


def _sound(machine: Machine) -> Element:
    card = SOUND_CARDS.get(machine.sound.value, "")
    if not card:
        return element("AudioAdapter", driver="Null", enabled=False)
    return element("AudioAdapter", controller=card, driver="Null", enabled=True, enabledOut=True)


def _controller(machine: Machine, medium: str) -> Element:
    name, kind, ports = CONTROLLERS.get(machine.controller.value, CONTROLLERS["piix4-ide"])
    return element(
        "StorageController",
        element(
            "AttachedDevice", element("Image", uuid=medium), type="HardDisk", hotpluggable=False, port="0", device="0"
        ),
        name=name,
        type=kind,
        PortCount=ports,
        useHostIOCache=name == "IDE",
        Bootable=True,
    )
