"""QEMU: a shell script beside the disk. It asks QEMU for the pinned machine, and takes today's where that is gone."""

from __future__ import annotations

from byre.machine.export.plan import DiskFile, ExportPlan, Refusal, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import one_line, plain_name, shell
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import Translation, described, mac_address, mebibytes
from byre.machine.hardware import Machine
from byre.machine.qemu.devices import NETWORK_DEVICES, SOUND_DEVICES

TITLE = "QEMU"
MACHINES = {"i440fx": ("pc-i440fx-7.2", "pc"), "q35": ("pc-q35-7.2", "q35")}
"""Pinned, so that a newer QEMU doesn't change the guest's hardware; and what stands in for it."""
CONTROLLERS = {
    "piix3-ide": (),
    "piix4-ide": ("-device", "piix4-ide,id=disks"),
    "ich9-ahci": (),
    "lsi53c895a": ("-device", "lsi53c895a,id=disks"),
    "virtio-blk": (),
    "virtio-scsi": ("-device", "virtio-scsi-pci,id=disks"),
}
_DISKS = {
    "piix3-ide": "ide-hd,bus=ide.0",
    "piix4-ide": "ide-hd,bus=disks.0",
    "lsi53c895a": "scsi-hd,bus=disks.0",
    "virtio-blk": "virtio-blk-pci",
    "virtio-scsi": "scsi-hd,bus=disks.0",
}


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    name = plain_name(machine.name)
    words = Translation(TITLE)
    words.boots_with("controller", machine.controller, {each: each for each in CONTROLLERS}, "piix3-ide")
    if machine.firmware.value == "uefi":
        words.refusals.append(Refusal("the script starts no UEFI guests: where the firmware lies differs by host"))
    if machine.chipset.value == "q35" and machine.controller.value == "piix3-ide":
        words.refusals.append(Refusal("QEMU's q35 has no PIIX3", forceable=False))
    if machine.network.value != "none":
        words.notes.append("the network is cut off (restrict=on): edit the script to plug it in")
    if any(each.vm_state_size for each in subject.snapshots):
        words.notes.append("a snapshot with a machine state starts with -loadvm only on the machine that saved it")
    return ExportPlan(
        target="qemu",
        title=TITLE,
        name=f"{name}-qemu",
        shape="folder",
        disk=DiskFile(f"{name}.qcow2", "qemu", "qcow2"),
        texts=(f"run-{name}.sh", PATH),
        controller=machine.controller.value,
        settings=described(machine),
        lines=(f"./run-{name}.sh", f"./run-{name}.sh -snapshot   # nothing lasts"),
        notes=tuple(words.notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    name = plain_name(subject.machine.name)
    return (
        TextFile(f"run-{name}.sh", script(subject), executable=True),
        readme(subject, TITLE, made.lines, made.notes),
    )


def script(subject: Subject) -> str:
    """The script. Words from outside are quoted; what it is started with goes to QEMU at the end."""
    machine = subject.machine
    name = plain_name(machine.name)
    pinned, newest = MACHINES.get(machine.chipset.value, MACHINES["i440fx"])
    board = f"accel=$accel,acpi={_on(machine.acpi.value)},hpet={_on(machine.hpet.value)},vmport=off"
    words = "".join(f" \\\n    {line}" for line in _lines(subject))
    return f"""\
#!/bin/sh
# Starts {name} from the folder that this script lies in. What it is given goes to QEMU: -snapshot, -display none.
# ACCEL=tcg does without KVM, QEMU=/path/to/qemu-system-x86_64 takes another QEMU.
set -eu
cd -- "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)"
qemu=${{QEMU:-qemu-system-x86_64}}
command -v "$qemu" >/dev/null || {{ echo "$qemu is missing: install qemu-system-x86" >&2; exit 69; }}
accel=${{ACCEL:-kvm:tcg}}
machine={pinned}
"$qemu" -machine help | grep -q "^$machine " || machine={newest}
exec "$qemu" -name {name} -nodefaults \\
    -machine "$machine,{board}"{words} \\
    "$@"
"""


def _on(value: bool) -> str:
    return "on" if value else "off"


def _lines(subject: Subject) -> list[str]:
    """The options, one or two a line, each word quoted."""
    machine = subject.machine
    name = plain_name(machine.name)
    cpu = "max" if machine.cpu.value == "host" else machine.cpu.value
    features = [f"{each}=off" for each in machine.hidden.value] + ([] if machine.apic.value else ["apic=off"])
    options: list[tuple[str, ...]] = [
        ("-cpu", ",".join((cpu, *features))),
        ("-smp", str(machine.cpus.value)),
        ("-m", f"{mebibytes(machine)}M"),
        ("-rtc", f"base={machine.clock.value},driftfix=slew"),
        ("-drive", f"file={name}.qcow2,if=none,id=boot,format=qcow2"),
        *_disk(machine),
        ("-vga", machine.display.value),
    ]
    card = NETWORK_DEVICES.get(machine.network.value, "rtl8139")
    if card:
        mac = mac_address(subject.identity.mac, "52:54:00")
        options += [("-netdev", "user,id=net0,restrict=on"), ("-device", f"{card},netdev=net0,mac={mac}")]
    sound = SOUND_DEVICES.get(machine.sound.value, "")
    if sound == "intel-hda":
        options += [("-audiodev", "none,id=sound"), ("-device", sound), ("-device", "hda-duplex,audiodev=sound")]
    elif sound:
        options += [("-audiodev", "none,id=sound"), ("-device", f"{sound},audiodev=sound")]
    if machine.pointer.value == "usb-tablet":
        options += [("-device", "piix3-usb-uhci,id=usb"), ("-device", "usb-tablet,bus=usb.0")]
    return [" ".join((option, *(shell(one_line(word)) for word in rest))) for option, *rest in options]


def _disk(machine: Machine) -> list[tuple[str, ...]]:
    name = machine.controller.value
    made: list[tuple[str, ...]] = []
    if name == "ich9-ahci" and machine.chipset.value != "q35":
        made.append(("-device", "ich9-ahci,id=disks"))
    bus = "ide.0" if machine.chipset.value == "q35" else "disks.0"
    device = f"ide-hd,bus={bus}" if name == "ich9-ahci" else _DISKS.get(name, _DISKS["piix3-ide"])
    made += [CONTROLLERS[name]] if CONTROLLERS.get(name) else []
    return [*made, ("-device", f"{device},drive=boot,bootindex=1")]
