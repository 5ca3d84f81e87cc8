"""An OVF 1.1 envelope that VirtualBox, VMware and Proxmox take: the text inside an OVA or a Vagrant box.

Source: DMTF DSP0243 and its schema DSP8023 1.1; the system type, the disk's format address and the operating
system's name are VMware's. Nothing of VirtualBox's own is in it: that breaks the schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from byre.machine.export.plan import DiskFile, Subject, TextFile, WrittenDisk
from byre.machine.export.quoting import one_line, plain_name
from byre.machine.export.words import Translation, mebibytes
from byre.machine.export.xml import PREFIXES, Element, document, element
from byre.machine.hardware import Machine
from byre.units import MIB, ceil_div

OVF, RASD, VSSD, VMW = (PREFIXES[prefix] for prefix in ("ovf", "rasd", "vssd", "vmw"))
DISK_FORMAT = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
SYSTEM_TYPE = "vmx-07"
"""The first that Workstation 7, ESX 4 and all since them take; ``virtualbox-2.2`` is refused by VMware."""
OS_TYPES = {
    "nt4": (18, "winNTGuest"),
    "win2000": (58, "win2000ProGuest"),
    "winxp": (67, "winXPProGuest"),
    "winxp64": (71, "winXPPro64Guest"),
    "win2003": (69, "winNetStandardGuest"),
    "vista": (73, "winVistaGuest"),
    "win7": (105, "windows7Guest"),
    "reactos": (1, "otherGuest"),
    "linux": (36, "otherLinuxGuest"),
    "dos": (14, "dosGuest"),
    "unknown": (1, "otherGuest"),
}
"""CIM's number (CIM_OperatingSystem.OsType) and VMware's name."""
CONTROLLERS = {
    "piix3-ide": (5, "PIIX3", "ide"),
    "piix4-ide": (5, "PIIX4", "ide"),
    "ich9-ahci": (20, "AHCI", "ide"),
    "lsi53c1030": (6, "lsilogic", "lsilogic"),
    "buslogic": (6, "buslogic", "buslogic"),
}
"""CIM's resource type, the subtype, and the adapter that the VMDK names."""
NETWORK_CARDS = {"pcnet": "PCNet32", "e1000": "E1000", "e1000e": "E1000e", "none": ""}
SOUND_CARDS = {"ac97": "ensoniq1371", "es1370": "ensoniq1371", "none": ""}


def disk_file(subject: Subject) -> DiskFile:
    """The disk inside, and beside, the envelope."""
    adapter = CONTROLLERS.get(subject.machine.controller.value, (5, "", "ide"))[2]
    options: Mapping[str, object] = {
        "subformat": "streamOptimized",
        "adapter_type": adapter,
        "uuid": str(subject.identity.disk),
    }
    return DiskFile(f"{plain_name(subject.machine.name)}-disk1.vmdk", "esxi", "vmdk", options)


def translated(subject: Subject, title: str) -> Translation:
    """What the envelope can't say of the machine, or says otherwise."""
    machine = subject.machine
    words = Translation(title)
    words.boots_with("controller", machine.controller, {name: name for name in CONTROLLERS}, "piix4-ide")
    words.boots_with("firmware", machine.firmware, {"bios": "bios"}, "bios")
    words.comfort("network card", machine.network, NETWORK_CARDS, "PCNet32")
    words.comfort("sound card", machine.sound, SOUND_CARDS, "")
    if machine.hidden.value:
        words.notes.append(f"an OVF can't hide processor features ({', '.join(machine.hidden.value)})")
    words.notes.append("an OVF says nothing of the clock: both VirtualBox and VMware give Windows local time")
    return words


def envelope(subject: Subject, disk: WrittenDisk | None, lines: Sequence[str], name: str) -> TextFile:
    """The .ovf. The import lines stand in its annotation, since an OVA has no room for a README."""
    machine = subject.machine
    file = element(f"{{{OVF}}}File", attributes={_o("href"): disk_file(subject).path, _o("id"): "file1"})
    if disk is not None:
        file.set(_o("size"), str(disk.file_size))
    stored = element(
        f"{{{OVF}}}Disk",
        attributes={
            _o("capacity"): str(ceil_div(disk.size if disk else subject.disk_size, MIB)),
            _o("capacityAllocationUnits"): "byte * 2^20",
            _o("diskId"): "vmdisk1",
            _o("fileRef"): "file1",
            _o("format"): DISK_FORMAT,
        },
    )
    card = NETWORK_CARDS.get(machine.network.value, "PCNet32")
    network = None
    if card:
        network = _section(
            "NetworkSection",
            "The networks",
            element(
                f"{{{OVF}}}Network",
                element(f"{{{OVF}}}Description", "Unplugged until somebody plugs it in"),
                attributes={_o("name"): "NAT"},
            ),
        )
    root = element(
        f"{{{OVF}}}Envelope",
        element(f"{{{OVF}}}References", file),
        _section("DiskSection", "The disks", stored),
        network,
        _system(subject, card, lines),
    )
    return TextFile(name, document(root))


def _o(name: str) -> str:
    return f"{{{OVF}}}{name}"


def _section(tag: str, info: str, *below: Element | None, attributes: Mapping[str, str] | None = None) -> Element:
    return element(_o(tag), element(_o("Info"), info), *below, attributes=attributes)


def _system(subject: Subject, card: str, lines: Sequence[str]) -> Element:
    machine = subject.machine
    number, word = OS_TYPES.get(machine.system.value, OS_TYPES["unknown"])
    system = _section(
        "OperatingSystemSection",
        "The installed system",
        element(_o("Description"), one_line(subject.title)),
        attributes={_o("id"): str(number), f"{{{VMW}}}osType": word},
    )
    settings = element(
        _o("System"),
        _vssd("ElementName", "Virtual Hardware Family"),
        _vssd("InstanceID", "0"),
        _vssd("VirtualSystemIdentifier", plain_name(machine.name)),
        _vssd("VirtualSystemType", SYSTEM_TYPE),
    )
    note = "\n".join(("Exported by Byre. To import it:", *(one_line(line, 400) for line in lines)))
    return element(
        _o("VirtualSystem"),
        element(_o("Info"), "A virtual machine"),
        element(_o("Name"), plain_name(machine.name)),
        _section("AnnotationSection", "About this machine", element(_o("Annotation"), note)),
        system,
        _section("VirtualHardwareSection", "The hardware", settings, *_items(subject, card)),
        attributes={_o("id"): plain_name(machine.name)},
    )


def _vssd(name: str, text: str) -> Element:
    return element(f"{{{VSSD}}}{name}", text)


def _items(subject: Subject, card: str) -> list[Element]:
    machine = subject.machine
    sound = SOUND_CARDS.get(machine.sound.value, "")
    items = [*_processor_and_memory(machine), *_boot_disk(machine)]
    if card:
        network = _item(
            AddressOnParent=1,
            AutomaticAllocation=False,
            Connection="NAT",
            ElementName="ethernet0",
            InstanceID=5,
            ResourceSubType=card,
            ResourceType=10,
        )
        items.append(network)
    if sound:
        audio = _item(
            required=False,
            AutomaticAllocation=False,
            ElementName="sound0",
            InstanceID=6,
            ResourceSubType=sound,
            ResourceType=35,
        )
        items.append(audio)
    return items


def _processor_and_memory(machine: Machine) -> list[Element]:
    memory = mebibytes(machine, 4)
    processor = _item(
        AllocationUnits="hertz * 10^6",
        Description="Number of virtual processors",
        ElementName=f"{machine.cpus.value} virtual processor(s)",
        InstanceID=1,
        ResourceType=3,
        VirtualQuantity=machine.cpus.value,
    )
    room = _item(
        AllocationUnits="byte * 2^20",
        Description="Memory size",
        ElementName=f"{memory} MiB of memory",
        InstanceID=2,
        ResourceType=4,
        VirtualQuantity=memory,
    )
    return [processor, room]


def _boot_disk(machine: Machine) -> list[Element]:
    """The controller and the disk on it."""
    kind, subtype, _ = CONTROLLERS.get(machine.controller.value, CONTROLLERS["piix4-ide"])
    controller = _item(
        Address=0,
        Description="Boot controller",
        ElementName="controller0",
        InstanceID=3,
        ResourceSubType=subtype,
        ResourceType=kind,
    )
    disk = _item(
        AddressOnParent=0,
        ElementName="disk1",
        HostResource="ovf:/disk/vmdisk1",
        InstanceID=4,
        Parent=3,
        ResourceType=17,
    )
    return [controller, disk]


def _item(*, required: bool = True, **values: str | int | bool) -> Element:
    """One resource; the schema wants its elements in the alphabet's order, as the arguments are given."""
    rows = [
        element(f"{{{RASD}}}{name}", str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in sorted(values.items())
    ]
    return element(_o("Item"), *rows, attributes=None if required else {_o("required"): "false"})


def manifest(files: Sequence[tuple[str, str]], digest: str) -> str:
    """The .mf: one line a file, no space before the parenthesis, since VMware takes none."""
    word = {"sha256": "SHA256", "sha1": "SHA1"}[digest]
    return "".join(f"{word}({name})= {value}\n" for name, value in files)
