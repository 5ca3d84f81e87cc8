"""VirtualBox's settings file (.vbox) read, with its tree of media and snapshots."""

from __future__ import annotations

from byre.errors import CorruptImageError, UnsupportedError
from byre.machine.export import virtualbox as words
from byre.machine.importing.description import (
    MAX_DISKS,
    Collected,
    Description,
    DiskReference,
    StateName,
    memory_setting,
    turned,
    whole_number,
)
from byre.machine.importing.tree import Node, parse_xml

_SYSTEMS = turned(
    {name: word for name, word in words.OS_TYPES.items() if name not in ("reactos", "unknown")},
    ("Windows7_64", "win7"),
    ("WindowsVista_64", "vista"),
    ("Windows2003_64", "win2003"),
    ("Linux", "linux"),
)
_CONTROLLERS = {kind: ours for ours, (_, kind, _) in words.CONTROLLERS.items()} | {"ICH6": "piix4-ide"}
_NETWORK_CARDS = turned(
    words.NETWORK_CARDS, ("Am79C970A", "pcnet"), ("82543GC", "e1000"), ("82545EM", "e1000"), ("", "none")
)
_DISPLAYS = turned(words.DISPLAYS, ("VBoxSVGA", "std"), ("None", "std"))
_FORMATS = {"VDI": "vdi", "VMDK": "vmdk", "VHD": "vhd", "QCOW": "qcow", "Parallels": None}
_MAX_CHAIN = 64


def describe(data: bytes, *, path: str) -> Description:
    """The machine of a settings file. Raises CorruptImageError, UnsupportedError."""
    root = parse_xml(data, path=path)
    machine = root.find("Machine")
    if root.tag != "VirtualBox" or machine is None:
        if root.tag == "VirtualBox" and root.find("MachineEncrypted") is not None:
            raise UnsupportedError("the machine is encrypted", path=path, hint="Decrypt it in VirtualBox first.")
        raise CorruptImageError("isn't a machine of VirtualBox's", path=path, found=root.tag[:40])
    hardware = machine.find("Hardware") or Node("", "", {})
    found = Collected()
    found.say("system", _SYSTEMS, machine.get("OSType"), "the system")
    if (machine.get("OSType") or "").endswith("_64"):
        found.settings["architecture"] = "x86_64"
    _hardware(hardware, found)
    _devices(hardware, found)
    _disks(machine, hardware, found, path)
    _dropped(machine, hardware, found)
    return found.done("VirtualBox machine", machine.get("name") or "", machine.text_at("Description") or "")


def _flag(text: str | None) -> bool:
    return text in ("true", "1")


def _hardware(hardware: Node, found: Collected) -> None:
    cpus = whole_number(hardware.attribute_at("CPU", "count"), 1, 64)
    if cpus is not None:
        found.settings["cpus"] = cpus
    size = memory_setting(whole_number(hardware.attribute_at("Memory", "RAMSize"), 1, 1 << 20))
    if size is not None:
        found.settings["memory"] = size
    found.settings["chipset"] = "q35" if hardware.attribute_at("Chipset", "type") == "ICH9" else "i440fx"
    firmware = hardware.attribute_at("Firmware", "type") or "BIOS"
    found.settings["firmware"] = "bios" if firmware == "BIOS" else "uefi"
    found.settings["hpet"] = _flag(hardware.attribute_at("HPET", "enabled"))
    for field, path in (("acpi", "BIOS/ACPI"), ("apic", "BIOS/IOAPIC")):
        said = hardware.attribute_at(path, "enabled")
        if said is not None:
            found.settings[field] = _flag(said)
    clock = hardware.attribute_at("RTC", "localOrUTC")
    found.say("clock", {"local": "localtime", "UTC": "utc"}, clock, "the clock")


def _devices(hardware: Node, found: Collected) -> None:
    found.say("display", _DISPLAYS, hardware.attribute_at("Display", "controller"), "the display")
    pointer = hardware.attribute_at("HID", "Pointing")
    pointers = {"USBTablet": "usb-tablet", "USBMouse": "usb-tablet", "ComboMouse": "usb-tablet", "PS2Mouse": "ps2"}
    found.say("pointer", pointers, pointer, "the pointer")
    cards = [each for each in hardware.all("Network/Adapter") if _flag(each.get("enabled"))]
    # A type that isn't said is the default of VirtualBox.
    found.say("network", _NETWORK_CARDS, (cards[0].get("type") or "Am79C973") if cards else "", "the network card")
    for card in cards[1:]:
        found.drop(f"a further network card ({card.get('type') or 'not named'})")
    for card in cards:
        for side in ("BridgedInterface", "HostOnlyInterface", "GenericInterface"):
            if card.find(side) is not None:
                found.drop(f"the host's side of the network: {side} {card.attribute_at(side, 'name') or ''}".rstrip())
    sound = hardware.find("AudioAdapter")
    if sound is None or not _flag(sound.get("enabled")):
        found.settings["sound"] = "none"
    else:
        cards_of_sound = {"AC97": "ac97", "SB16": "sb16", "HDA": "hda"}
        found.say("sound", cards_of_sound, sound.get("controller") or "AC97", "the sound card")


def _disks(machine: Node, hardware: Node, found: Collected, path: str) -> None:
    media = _media(machine, path)
    names = _snapshots(machine)
    for controller in _controllers(machine, hardware):
        for device in controller.all("AttachedDevice"):
            medium = device.attribute_at("Image", "uuid")
            if device.get("type") != "HardDisk":
                if medium is not None or device.find("HostDrive") is not None:
                    found.drop(f"a {device.get('type') or 'drive'} with a medium")
                continue
            if medium is None or len(found.disks) >= MAX_DISKS:
                continue
            chain = media.get(medium)
            if chain is None:
                raise CorruptImageError("attaches a disk that it doesn't list", path=path, found=medium[:60])
            if not found.disks:
                found.say("controller", _CONTROLLERS, controller.get("type"), "the controller")
            found.disks.append(_reference(chain, names))


def _controllers(machine: Node, hardware: Node) -> list[Node]:
    """Since version 1.17 or so they stand in the hardware."""
    return [
        *machine.all("StorageControllers/StorageController"),
        *hardware.all("StorageControllers/StorageController"),
    ]


def _media(machine: Node, path: str) -> dict[str, list[Node]]:
    """Every medium with its ancestors, the oldest first, by UUID."""
    found: dict[str, list[Node]] = {}
    waiting = [[each] for each in machine.all("MediaRegistry/HardDisks/HardDisk")]
    while waiting:
        chain = waiting.pop()
        if len(chain) > _MAX_CHAIN:
            raise UnsupportedError(f"a disk has more than {_MAX_CHAIN} ancestors", path=path)
        uuid = chain[-1].get("uuid")
        if uuid is not None:
            found[uuid] = chain
        waiting += [[*chain, child] for child in chain[-1].all("HardDisk")]
    return found


def _snapshots(machine: Node) -> dict[str, Node]:
    """The snapshot that each medium holds the disk of, by the medium's UUID."""
    found: dict[str, Node] = {}
    waiting = list(machine.all("Snapshot"))
    while waiting:
        snapshot = waiting.pop()
        hardware = snapshot.find("Hardware") or Node("", "", {})
        for controller in _controllers(snapshot, hardware):
            for device in controller.all("AttachedDevice"):
                medium = device.attribute_at("Image", "uuid")
                if medium is not None:
                    found.setdefault(medium, snapshot)
        waiting += snapshot.all("Snapshots/Snapshot")
    return found


def _reference(chain: list[Node], names: dict[str, Node]) -> DiskReference:
    states = []
    for medium in chain[:-1]:
        snapshot = names.get(medium.get("uuid") or "")
        if snapshot is not None:
            name = snapshot.get("name") or ""
            states.append(StateName(medium.get("location") or "", name, snapshot.get("timeStamp")))
    form = _FORMATS.get(chain[-1].get("format") or "")
    parents = tuple(each.get("location") or "" for each in chain[:-1])
    return DiskReference(chain[-1].get("location") or "", form, tuple(states), parents)


def _dropped(machine: Node, hardware: Node, found: Collected) -> None:
    for share in hardware.all("SharedFolders/SharedFolder"):
        found.drop(f"a folder of the host: {share.get('hostPath')}")
    for device in hardware.all("USB/DeviceFilters/DeviceFilter"):
        found.drop(f"a USB device of the host: {device.get('name')}")
    for tag, what in (("UART/Port", "a serial port"), ("LPT/Port", "a parallel port")):
        for port in hardware.all(tag):
            if _flag(port.get("enabled")):
                found.drop(f"{what} of the host: {port.get('path') or port.get('hostMode')}")
    for item in machine.all("ExtraData/ExtraDataItem"):
        if (item.get("name") or "").startswith("VBoxInternal"):
            found.drop(f"a setting of VirtualBox's own: {item.get('name')}")
    if _flag(hardware.attribute_at("RemoteDisplay", "enabled")):
        found.drop("remote display")
    if (hardware.attribute_at("Clipboard", "mode") or "Disabled") != "Disabled":
        found.drop("the shared clipboard")
    if machine.get("stateFile"):
        found.drop("a saved state: the machine starts cold")
    if _branches(machine):
        found.notes.append("of a tree of snapshots the branch that leads to today's disk is taken")


def _branches(machine: Node) -> bool:
    """Whether a snapshot has several that follow it."""
    waiting = list(machine.all("Snapshot"))
    while waiting:
        below = list(waiting.pop().all("Snapshots/Snapshot"))
        if len(below) > 1:
            return True
        waiting += below
    return False
