"""libvirt: a domain's XML, its disk, and the XML of the disk's internal snapshots.

Source: libvirt's "Domain XML format" and its schema ``domain.rng``. The machine is ``pc`` or ``q35`` without a
version: libvirt pins it when the domain is defined, and refuses one that the host's QEMU doesn't have.
"""

from __future__ import annotations

from datetime import datetime

from byre.machine.export.plan import DiskFile, ExportPlan, Refusal, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import one_line, plain_name
from byre.machine.export.readme import PATH, readme
from byre.machine.export.words import QEMU_CARDS, Translation, described, mac_address
from byre.machine.export.xml import PREFIXES, Element, document, element
from byre.machine.hardware import Machine
from byre.units import KIB

TITLE = "libvirt"
FOLDER = "/var/lib/libvirt/images"
"""Where a system-wide libvirtd may read disks, also under SELinux and AppArmor."""
OS_IDS = {
    "nt4": "winnt/4.0",
    "win2000": "win/2k",
    "winxp": "win/xp",
    "winxp64": "win/xp",
    "win2003": "win/2k3",
    "vista": "win/vista",
    "win7": "win/7",
}
CHIPSETS = {"i440fx": "pc", "q35": "q35"}
BUSES = {
    "piix3-ide": "ide",
    "ich9-ahci": "sata",
    "lsi53c895a": "scsi",
    "virtio-blk": "virtio",
    "virtio-scsi": "scsi",
    "piix4-ide": "ide",
}
SCSI_MODELS = {"lsi53c895a": "lsilogic", "virtio-scsi": "virtio-scsi"}
DISPLAYS = {"std": "vga", "cirrus": "cirrus", "vmware": "vmvga", "virtio": "virtio"}
SOUND_CARDS = {"ac97": "ac97", "es1370": "es1370", "sb16": "sb16", "hda": "ich6", "none": ""}
_TARGETS = {"ide": "hda", "sata": "sda", "scsi": "sda", "virtio": "vda"}
_QEMU_PREFIX = "52:54:00"


def plan(subject: Subject) -> ExportPlan:
    machine = subject.machine
    words = _translated(machine)
    name = plain_name(machine.name)
    lines = [
        f"sudo install -m 0644 {name}.qcow2 {FOLDER}/{name}.qcow2",
        f"sudo virsh define {name}.xml",
        *(f"sudo virsh snapshot-create {name} {path} --redefine" for path in _snapshot_paths(subject)),
    ]
    notes = list(words.notes)
    if subject.form == "kvm":
        notes.append("on a host without KVM: export it with --form qemu, or say type='qemu' in the XML")
    if machine.network.value != "none":
        notes.append(
            f"the network cable is unplugged; to plug it in, which lets the guest reach the host's network: "
            f"virsh domif-setlink {name} {mac_address(subject.identity.mac, _QEMU_PREFIX)} up"
        )
    if any(each.vm_state_size for each in subject.snapshots):
        notes.append(
            "snapshots with a machine state come as states of the disk alone: libvirt has no use for QEMU's own"
        )
    return ExportPlan(
        target="libvirt",
        title=TITLE,
        name=f"{name}-libvirt",
        shape="folder",
        disk=DiskFile(f"{name}.qcow2", "qemu", "qcow2"),
        texts=(f"{name}.xml", *_snapshot_paths(subject), PATH),
        controller="piix3-ide" if machine.bus == "ide" else machine.controller.value,
        settings=described(machine),
        lines=tuple(lines),
        notes=tuple(notes),
        refusals=tuple(words.refusals),
    )


def texts(subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
    made = plan(subject)
    name = plain_name(subject.machine.name)
    snapshots = tuple(
        TextFile(path, document(_snapshot(subject, number))) for number, path in enumerate(_snapshot_paths(subject))
    )
    return (
        TextFile(f"{name}.xml", document(domain(subject))),
        *snapshots,
        readme(subject, TITLE, made.lines, made.notes),
    )


def _translated(machine: Machine) -> Translation:
    words = Translation(TITLE)
    words.boots_with("chipset", machine.chipset, CHIPSETS, "pc")
    words.boots_with("controller", machine.controller, BUSES, "ide")
    if machine.chipset.value == "q35" and machine.bus == "ide":
        words.refusals.append(Refusal("libvirt's q35 machine has no IDE", forceable=False))
    if machine.controller.value == "piix4-ide":
        words.notes.append("the IDE controller is a PIIX3 there, not a PIIX4")
    words.comfort("network card", machine.network, QEMU_CARDS, "rtl8139")
    words.comfort("display", machine.display, DISPLAYS, "vga")
    words.comfort("sound card", machine.sound, SOUND_CARDS, "")
    if machine.hidden.value and machine.cpu.value == "host":
        words.notes.append("a feature that the host's processor hasn't can't be hidden: libvirt may say so")
    return words


def domain(subject: Subject) -> Element:
    """The domain, as ``virsh define`` takes it."""
    machine = subject.machine
    name = plain_name(machine.name)
    os_id = OS_IDS.get(machine.system.value)
    metadata = None
    if os_id is not None:
        namespace = PREFIXES["libosinfo"]
        metadata = element(
            "metadata",
            element(f"{{{namespace}}}libosinfo", element(f"{{{namespace}}}os", id=f"http://microsoft.com/{os_id}")),
        )
    return element(
        "domain",
        element("name", name),
        element("uuid", str(subject.identity.machine)),
        element("title", one_line(subject.title, 80)),
        element("description", one_line(f"Exported by Byre from {subject.source}")),
        metadata,
        element("memory", str(machine.memory.value // KIB), unit="KiB"),
        element("vcpu", str(machine.cpus.value), placement="static"),
        _os(machine),
        _features(machine),
        _cpu(machine),
        _clock(machine),
        element("on_poweroff", "destroy"),
        element("on_reboot", "restart"),
        element("on_crash", "destroy"),
        _devices(subject),
        type=subject.form,
    )


def _os(machine: Machine) -> Element:
    chipset = CHIPSETS.get(machine.chipset.value, "pc")
    # x86_64 also for 32-bit guests: hosts have its emulator, and not always qemu-system-i386.
    made = element("os", element("type", "hvm", arch="x86_64", machine=chipset), element("boot", dev="hd"))
    if machine.firmware.value == "uefi":
        made.set("firmware", "efi")
    return made


def _features(machine: Machine) -> Element:
    return element(
        "features",
        element("acpi") if machine.acpi.value else None,
        element("apic") if machine.apic.value else None,
        element("pae"),
    )


def _cpu(machine: Machine) -> Element:
    hidden = [element("feature", policy="disable", name=one_line(each)) for each in machine.hidden.value]
    if machine.cpu.value == "host":
        return element("cpu", *hidden, mode="host-passthrough", check="none")
    model = element("model", one_line(machine.cpu.value), fallback="allow")
    return element("cpu", model, *hidden, mode="custom", match="exact", check="none")


def _clock(machine: Machine) -> Element:
    return element(
        "clock",
        element("timer", name="rtc", tickpolicy="catchup"),
        element("timer", name="pit", tickpolicy="delay"),
        element("timer", name="hpet", present="yes" if machine.hpet.value else "no"),
        offset="localtime" if machine.clock.value == "localtime" else "utc",
    )


def _devices(subject: Subject) -> Element:
    machine = subject.machine
    name = plain_name(machine.name)
    bus = BUSES.get(machine.controller.value, "ide")
    disk = element(
        "disk",
        element("driver", name="qemu", type="qcow2"),
        element("source", file=f"{FOLDER}/{name}.qcow2"),
        element("target", dev=_TARGETS[bus], bus=bus),
        type="file",
        device="disk",
    )
    made = [disk]
    if bus == "scsi":
        made.append(element("controller", type="scsi", index="0", model=SCSI_MODELS[machine.controller.value]))
    tablet = machine.pointer.value == "usb-tablet"
    made.append(element("controller", type="usb", model="piix3-uhci" if tablet else "none"))
    card = QEMU_CARDS.get(machine.network.value, "rtl8139")
    if card:
        made.append(
            element(
                "interface",
                element("mac", address=mac_address(subject.identity.mac, _QEMU_PREFIX)),
                element("model", type=card),
                element("link", state="down"),
                type="user",
            )
        )
    if tablet:
        made.append(element("input", type="tablet", bus="usb"))
    made.append(element("graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1"))
    sound = SOUND_CARDS.get(machine.sound.value, "")
    if sound:
        made.append(element("sound", model=sound))
    made.append(element("video", element("model", type=DISPLAYS.get(machine.display.value, "vga"))))
    made.append(element("memballoon", model="none"))
    return element("devices", *made)


def _snapshot_paths(subject: Subject) -> tuple[str, ...]:
    return tuple(f"snapshots/{number:02d}.xml" for number in range(1, len(subject.snapshots) + 1))


def _snapshot(subject: Subject, number: int) -> Element:
    """One internal snapshot, as ``snapshot-create --redefine`` takes it. Its domain is today's: libvirt wants one to
    go back to."""
    info = subject.snapshots[number]
    bus = BUSES.get(subject.machine.controller.value, "ide")
    parent = subject.snapshots[number - 1].name if number else None
    return element(
        "domainsnapshot",
        element("name", one_line(info.name)),
        element("state", "shutoff"),
        element("parent", element("name", one_line(parent))) if parent is not None else None,
        element("creationTime", str(_seconds(info.created))),
        element("memory", snapshot="no"),
        element("disks", element("disk", name=_TARGETS[bus], snapshot="internal")),
        domain(subject),
    )


def _seconds(moment: str | None) -> int:
    return 0 if moment is None else int(datetime.fromisoformat(moment).timestamp())
