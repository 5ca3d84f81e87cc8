"""UTM on macOS: a bundle, ``NAME.utm`` with ``config.plist`` and the disk in ``Data``.

Source: UTM's own configuration code (``Configuration/*.swift``): version 4 exactly, every key that it decodes without
a default. Not run: it needs macOS.
"""

from __future__ import annotations

import plistlib
from typing import Any

from byre.machine.export.plan import DiskFile, ExportPlan, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import one_line, plain_name, xml_text
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import Translation, described, mac_address, mebibytes
from byre.machine.hardware import Machine
from byre.machine.qemu.devices import NETWORK_DEVICES, SOUND_DEVICES

TITLE = "UTM"
VERSION = 4
CHIPSETS = {"i440fx": "pc", "q35": "q35"}
INTERFACES = {
    "piix3-ide": "IDE",
    "piix4-ide": "IDE",
    "ich9-ahci": "IDE",
    "lsi53c895a": "SCSI",
    "virtio-blk": "VirtIO",
}
"""An IDE disk of a q35 machine hangs on its AHCI controller."""
DISPLAYS = {"std": "VGA", "cirrus": "cirrus-vga", "vmware": "vmware-svga", "virtio": "virtio-vga"}


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name)
    words = _translated(machine)
    if machine.network.value != "none":
        words.notes.append("the network card is in UTM's emulated network, cut off from the Mac: 'IsolateFromHost'")
    if subject.snapshots:
        words.notes.append("the snapshots are in the disk; UTM shows none, 'qemu-img snapshot -l' does")
    return ExportPlan(
        target="utm",
        title=TITLE,
        name=f"{name}-utm",
        shape="folder",
        disk=DiskFile(f"{name}.utm/Data/{name}.qcow2", "utm", "qcow2"),
        texts=(f"{name}.utm/config.plist", PATH),
        controller="piix3-ide" if machine.bus == "ide" else machine.controller.value,
        settings=described(machine),
        lines=(f"open -a UTM {name}.utm", f"utmctl start {name}"),
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    name = plain_name(subject.machine.name)
    return (
        TextFile(f"{name}.utm/config.plist", plistlib.dumps(configuration(subject)).decode()),
        readme(subject, TITLE, made.lines, made.notes),
    )


def _translated(machine: Machine) -> Translation:
    words = Translation(TITLE)
    words.boots_with("chipset", machine.chipset, CHIPSETS, "pc")
    words.boots_with("controller", machine.controller, INTERFACES, "IDE")
    if machine.controller.value == "ich9-ahci" and machine.chipset.value != "q35":
        words.boots_with("AHCI outside of q35: the controller", machine.controller, {}, "IDE")
    words.comfort("network card", machine.network, NETWORK_DEVICES, "rtl8139")
    words.comfort("display", machine.display, DISPLAYS, "VGA")
    words.comfort("sound card", machine.sound, SOUND_DEVICES, "")
    if not (machine.acpi.value and machine.apic.value):
        words.notes.append("ACPI stays on: UTM has no switch for it")
    return words


def configuration(subject: Subject) -> dict[str, Any]:
    """The property list."""
    machine = subject.machine
    local = machine.pointer.value == "ps2"
    sound = SOUND_DEVICES.get(machine.sound.value, "")
    return {
        "Backend": "QEMU",
        "ConfigurationVersion": VERSION,
        "Information": _information(subject),
        "System": _system(machine),
        "QEMU": {
            "DebugLog": False,
            "UEFIBoot": machine.firmware.value == "uefi",
            "RNGDevice": False,
            "BalloonDevice": False,
            "TPMDevice": False,
            "Hypervisor": False,
            "RTCLocalTime": machine.clock.value == "localtime",
            "PS2Controller": local,
            "AdditionalArguments": [],
        },
        "Input": {"UsbBusSupport": "Disabled" if local else "2.0", "UsbSharing": False, "MaximumUsbShare": 0},
        "Sharing": {"DirectoryShareMode": "None", "DirectoryShareReadOnly": True, "ClipboardSharing": False},
        "Display": [_display(machine)],
        "Drive": [_drive(subject)],
        "Network": _network(subject),
        "Serial": [],
        "Sound": [{"Hardware": sound}] if sound else [],
    }


def _information(subject: Subject) -> dict[str, Any]:
    machine = subject.machine
    icon = {"Icon": "windows-xp"} if machine.system.value.startswith("winxp") else {}
    return {
        "Name": plain_name(machine.name),
        "IconCustom": False,
        **icon,
        "Notes": xml_text(one_line(f"{subject.title}. Exported by Byre from {subject.source}.")),
        "UUID": str(subject.identity.machine).upper(),
    }


def _system(machine: Machine) -> dict[str, Any]:
    host = machine.cpu.value == "host"
    return {
        "Architecture": machine.architecture.value,
        "Target": CHIPSETS.get(machine.chipset.value, "pc"),
        "CPU": "default" if host else xml_text(one_line(machine.cpu.value)),
        "CPUFlagsAdd": [],
        "CPUFlagsRemove": [xml_text(one_line(each)) for each in machine.hidden.value],
        "CPUCount": machine.cpus.value,
        "ForceMulticore": False,
        "MemorySize": mebibytes(machine),
        "JITCacheSize": 0,
    }


def _display(machine: Machine) -> dict[str, Any]:
    return {
        "Hardware": DISPLAYS.get(machine.display.value, "VGA"),
        "DynamicResolution": False,
        "NativeResolution": False,
        "UpscalingFilter": "Nearest",
        "DownscalingFilter": "Linear",
    }


def _drive(subject: Subject) -> dict[str, Any]:
    return {
        "Identifier": str(subject.identity.disk).upper(),
        "ImageName": f"{plain_name(subject.machine.name)}.qcow2",
        "ImageType": "Disk",
        "Interface": INTERFACES.get(subject.machine.controller.value, "IDE"),
        "InterfaceVersion": 1,
        "ReadOnly": False,
    }


def _network(subject: Subject) -> list[dict[str, Any]]:
    card = NETWORK_DEVICES.get(subject.machine.network.value, "rtl8139")
    if not card:
        return []
    return [
        {
            "Mode": "Emulated",
            "Hardware": card,
            "MacAddress": mac_address(subject.identity.mac, "52:54:00").upper(),
            "IsolateFromHost": True,
            "PortForward": [],
        }
    ]
