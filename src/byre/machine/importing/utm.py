"""UTM's ``config.plist`` read: a bundle of version 4, of its QEMU backend."""

from __future__ import annotations

import plistlib
from typing import Any
from xml.parsers.expat import ExpatError

from byre.errors import CorruptImageError, UnsupportedError
from byre.machine.export import utm as words
from byre.machine.importing.description import (
    MAX_DISKS,
    Collected,
    Description,
    DiskReference,
    clip,
    memory_setting,
    turned,
)
from byre.machine.qemu.devices import NETWORK_DEVICES, SOUND_DEVICES

MAX_BYTES = 1 << 20
_NETWORK_CARDS = turned(NETWORK_DEVICES, ("virtio-net", "virtio-net"))
_DISPLAYS = turned(words.DISPLAYS, ("qxl-vga", "std"), ("virtio-vga-gl", "virtio"))
_SOUND_CARDS = turned(SOUND_DEVICES, ("ich9-intel-hda", "hda"))
_INTERFACES = {"SCSI": "lsi53c895a", "VirtIO": "virtio-blk"}


def describe(data: bytes, *, path: str) -> Description:
    """The machine of a property list. Raises CorruptImageError, UnsupportedError."""
    plist = _read(data, path)
    version = plist.get("ConfigurationVersion")
    if version != words.VERSION or plist.get("Backend", "QEMU") != "QEMU":
        raise UnsupportedError(
            "is no bundle of UTM's QEMU backend, version 4",
            path=path,
            found=clip(f"{_shown(plist.get('Backend'))} {_shown(version)}"),
            hint="Open it once in today's UTM, which writes version 4.",
        )
    found = Collected()
    system, qemu = _table(plist, "System"), _table(plist, "QEMU")
    _system(system, qemu, found)
    drives = _rows(plist, "Drive")
    for drive in drives[:MAX_DISKS]:
        _drive(drive, found)
    _cards(plist, found)
    for argument in (
        qemu.get("AdditionalArguments") or () if isinstance(qemu.get("AdditionalArguments"), list) else ()
    ):
        found.drop(f"an argument for QEMU: {_shown(argument)}")
    if qemu.get("MachinePropertyOverride"):
        found.drop(f"properties of QEMU's machine: {_shown(qemu['MachinePropertyOverride'])}")
    sharing = _table(plist, "Sharing")
    if sharing.get("DirectoryShareMode", "None") != "None":
        found.drop("a folder of the host")
    if sharing.get("ClipboardSharing"):
        found.drop("the shared clipboard")
    if _rows(plist, "Serial"):
        found.drop("a serial port of the host")
    information = _table(plist, "Information")
    return found.done("UTM bundle", _text(information, "Name") or "", _text(information, "Notes") or "")


def _read(data: bytes, path: str) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise UnsupportedError("is too large for a config.plist", path=path, expected=f"at most {MAX_BYTES} bytes")
    try:
        # XML only: plistlib refuses entities in it, and UTM writes no other.
        plist = plistlib.loads(data, fmt=plistlib.FMT_XML)
    except (ExpatError, ValueError, TypeError, KeyError, IndexError, AttributeError, LookupError, RecursionError,
            OverflowError, AssertionError) as error:  # fmt: skip
        raise CorruptImageError("isn't a property list", path=path, found=clip(str(error))) from error
    if not isinstance(plist, dict):
        raise CorruptImageError("isn't a property list with a dictionary", path=path)
    return plist


def _table(plist: dict[str, Any], name: str) -> dict[str, Any]:
    value = plist.get(name)
    return value if isinstance(value, dict) else {}


def _rows(plist: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = plist.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _shown(value: object) -> str:
    """A plain value; of a structure, which may be deep, only that it is one."""
    return str(value) if isinstance(value, str | bool | float) or _is_small(value) else type(value).__name__


def _is_small(value: object) -> bool:
    return isinstance(value, int) and abs(value) < 1 << 64


def _text(table: dict[str, Any], name: str) -> str | None:
    value = table.get(name)
    return value if isinstance(value, str) else None


def _number(table: dict[str, Any], name: str) -> int | None:
    value = table.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _system(system: dict[str, Any], qemu: dict[str, Any], found: Collected) -> None:
    architectures = {"i386": "i386", "x86_64": "x86_64"}
    found.say("architecture", architectures, _text(system, "Architecture"), "the architecture")
    target = _text(system, "Target") or "pc"
    found.settings["chipset"] = "q35" if "q35" in target else "i440fx"
    cpu = _text(system, "CPU")
    if cpu is not None and cpu != "default":
        found.settings["cpu"] = clip(cpu)
    hidden = system.get("CPUFlagsRemove")
    if isinstance(hidden, list):
        found.settings["hidden"] = [clip(each) for each in hidden[:64] if isinstance(each, str)]
    cpus = _number(system, "CPUCount")
    if cpus is not None and 1 <= cpus <= 64:
        found.settings["cpus"] = cpus
    size = memory_setting(_number(system, "MemorySize"))
    if size is not None:
        found.settings["memory"] = size
    found.settings["firmware"] = "uefi" if qemu.get("UEFIBoot") is True else "bios"
    found.settings["clock"] = "localtime" if qemu.get("RTCLocalTime") is True else "utc"
    found.settings["pointer"] = "ps2" if qemu.get("PS2Controller") is True else "usb-tablet"


def _drive(drive: dict[str, Any], found: Collected) -> None:
    name, kind = _text(drive, "ImageName"), _text(drive, "ImageType")
    if kind != "Disk" or name is None:
        found.drop(f"a drive ({kind or 'of no kind'}){f': {name}' if name else ''}")
        return
    if not found.disks:
        interface = _text(drive, "Interface") or ""
        q35 = found.settings["chipset"] == "q35"
        found.say(
            "controller", {**_INTERFACES, "IDE": "ich9-ahci" if q35 else "piix3-ide"}, interface, "the interface"
        )
    found.disks.append(DiskReference(f"Data/{name}"))


def _cards(plist: dict[str, Any], found: Collected) -> None:
    for field, key, table in (
        ("network", "Network", _NETWORK_CARDS),
        ("display", "Display", _DISPLAYS),
        ("sound", "Sound", _SOUND_CARDS),
    ):
        rows = _rows(plist, key)
        word = _text(rows[0], "Hardware") if rows else None
        found.say(field, table, word if word or field == "display" else "", f"the {field} card")
    for row in _rows(plist, "Network")[1:]:
        found.drop(f"a further network card ({_text(row, 'Hardware') or 'not named'})")
    for row in _rows(plist, "Network"):
        if _text(row, "Mode") == "Bridged":
            found.drop(f"the host's side of the network: {_text(row, 'BridgeInterface')}")
        for port in _rows(row, "PortForward"):
            found.drop(f"a forwarded port: {_shown(port.get('HostPort'))} of the host")
