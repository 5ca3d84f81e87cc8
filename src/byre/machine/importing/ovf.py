"""An OVF envelope read, whoever wrote it."""

from __future__ import annotations

import re

from byre.errors import CorruptImageError, UnsupportedError
from byre.machine.export import ovf as words
from byre.machine.export import virtualbox
from byre.machine.importing.description import (
    Collected,
    Description,
    DiskReference,
    memory_setting,
    turned,
    whole_number,
)
from byre.machine.importing.tree import Node, parse_xml

_BY_NUMBER = turned({name: str(number) for name, (number, _) in words.OS_TYPES.items() if number > 1})
_BY_NAME = turned({name: word for name, (_, word) in words.OS_TYPES.items() if word != "otherGuest"})
_BY_VIRTUALBOX = turned(
    {name: word for name, word in virtualbox.OS_TYPES.items() if name not in ("reactos", "unknown")}
)
_CONTROLLERS = {
    ("5", "piix3"): "piix3-ide",
    ("5", "piix4"): "piix4-ide",
    ("5", ""): "piix4-ide",
    ("6", "lsilogic"): "lsi53c1030",
    ("6", "buslogic"): "buslogic",
    ("20", "ahci"): "ich9-ahci",
    ("20", "vmware.sata.ahci"): "ich9-ahci",
    ("20", ""): "ich9-ahci",
}
_NETWORK_CARDS = {"pcnet32": "pcnet", "e1000": "e1000", "e1000e": "e1000e", "vlance": "pcnet", "virtio": "virtio-net"}
_SOUND_CARDS = {"ensoniq1371": "es1370", "ac97": "ac97", "sb16": "sb16", "hda": "hda"}
_DISK_FORMATS = {"vmdk": "vmdk", "vdi": "vdi", "vhd": "vhd", "qcow2": "qcow2"}
_UNITS = {
    "byte * 2^20": 20,
    "megabytes": 20,
    "mb": 20,
    "byte * 2^30": 30,
    "gigabytes": 30,
    "byte * 2^10": 10,
    "byte": 0,
}
_MOVABLE = {"14": "a floppy drive", "15": "a CD drive", "16": "a DVD drive", "23": "a USB controller"}
_PASSED = {"21": "a serial port", "22": "a parallel port", "18": "a tape drive"}


def describe(data: bytes, *, path: str) -> Description:
    """The machine of an envelope. Raises CorruptImageError, UnsupportedError."""
    root = parse_xml(data, path=path)
    if root.tag != "Envelope":
        raise CorruptImageError("isn't an OVF", path=path, found=root.tag[:40], expected="Envelope")
    system = root.find("VirtualSystem")
    if system is None:
        raise UnsupportedError("has no single machine in it", path=path, found="a collection, or nothing")
    found = Collected()
    _system(system, found)
    hardware = system.find("VirtualHardwareSection")
    if hardware is None:
        raise CorruptImageError("says nothing of the machine's hardware", path=path)
    items = [*hardware.all("Item"), *hardware.all("StorageItem"), *hardware.all("EthernetPortItem")]
    _resources(items, found)
    _disks(root, items, found, path)
    if system.find("Machine") is not None:
        found.drop("VirtualBox's own settings of the machine (vbox:Machine)")
    for config in hardware.all("Config"):
        if config.get("key") == "firmware" and config.get("value") in ("bios", "efi"):
            found.settings["firmware"] = "uefi" if config.get("value") == "efi" else "bios"
    for extra in hardware.all("ExtraConfig"):
        found.drop(f"a setting of VMware's own: {extra.get('key')}")
    name = system.text_at("Name") or system.get("id") or ""
    return found.done("OVF", name, system.text_at("OperatingSystemSection/Description") or "")


def _system(system: Node, found: Collected) -> None:
    section = system.find("OperatingSystemSection")
    if section is None:
        return
    theirs = section.text_at("OSType")
    for table, word in ((_BY_NAME, section.get("osType")), (_BY_VIRTUALBOX, theirs), (_BY_NUMBER, section.get("id"))):
        if word is not None and word in table:
            found.settings["system"] = table[word]
            return


def _resources(items: list[Node], found: Collected) -> None:
    found.settings["network"] = found.settings["sound"] = "none"
    for item in items:
        kind = item.text_at("ResourceType") or ""
        quantity = whole_number(item.text_at("VirtualQuantity"), 1, 1 << 40)
        subtype = (item.text_at("ResourceSubType") or "").lower()
        if kind == "3" and quantity is not None and quantity <= 64:
            found.settings["cpus"] = quantity
        elif kind == "4" and quantity is not None:
            unit = _UNITS.get((item.text_at("AllocationUnits") or "byte * 2^20").lower())
            size = None if unit is None else memory_setting((quantity << unit) >> 20)
            if size is not None:
                found.settings["memory"] = size
        elif kind == "10" and found.settings["network"] != "none":
            found.drop(f"a further network card ({subtype or 'not named'})")
        elif kind == "10":
            found.settings["network"] = _NETWORK_CARDS.get(subtype, "pcnet")
            if subtype not in _NETWORK_CARDS:
                found.notes.append(f"the network card {subtype or 'that is not named'} becomes a PCnet")
        elif kind == "35":
            found.settings["sound"] = _SOUND_CARDS.get(subtype, "none")
        elif kind in _MOVABLE and item.text_at("HostResource"):
            found.drop(f"{_MOVABLE[kind]} with a medium")
        elif kind in _PASSED:
            found.drop(f"{_PASSED[kind]} of the host")


def _disks(root: Node, items: list[Node], found: Collected, path: str) -> None:
    files = {each.get("id"): each for each in root.all("References/File")}
    disks = {each.get("diskId"): each for each in root.all("DiskSection/Disk")}
    by_id = {item.text_at("InstanceID"): item for item in items}
    for item in items:
        if item.text_at("ResourceType") != "17":
            continue
        name = re.sub(r"^(ovf:)?/?/?disk/", "", item.text_at("HostResource") or "")
        disk = disks.get(name)
        if disk is None:
            raise CorruptImageError("names a disk that it doesn't describe", path=path, found=name[:80])
        file = files.get(disk.get("fileRef"))
        if file is None:
            found.notes.append(f"the disk {name[:40]} is empty: it has no file")
            continue
        if disk.get("parentRef"):
            raise UnsupportedError("has a disk over another one (parentRef)", path=path)
        if (file.get("compression") or "identity") != "identity" or file.get("chunkSize"):
            raise UnsupportedError(
                "has a packed or split disk", path=path, hint="Unpack it, and its name in the OVF."
            )
        if not found.disks:
            _controller(by_id.get(item.text_at("Parent")), found)
        href = file.get("href") or ""
        address = (disk.get("format") or "").lower()
        form = next((ours for word, ours in _DISK_FORMATS.items() if word in address), None)
        found.disks.append(DiskReference(href, form))


def _controller(item: Node | None, found: Collected) -> None:
    if item is None:
        return
    kind, subtype = item.text_at("ResourceType") or "", (item.text_at("ResourceSubType") or "").lower()
    ours = _CONTROLLERS.get((kind, subtype))
    if ours is not None:
        found.settings["controller"] = ours
    else:
        found.notes.append(f"the controller {subtype or kind} is none that Byre knows: the guest's own facts decide")
