"""VMware's .vmx read, and the .vmsd beside it, which names the snapshots."""

from __future__ import annotations

import re

from byre.errors import UnsupportedError
from byre.machine.export import vmware as words
from byre.machine.importing.description import (
    Collected,
    Description,
    DiskReference,
    StateName,
    memory_setting,
    turned,
    whole_number,
)

MAX_BYTES = 1 << 20
_LINE = re.compile(r'^\s*([A-Za-z0-9_.:-]{1,80})\s*=\s*"?([^"\n]*)"?\s*$')
_ESCAPE = re.compile(r"\|([0-9A-Fa-f]{2})")
_SYSTEMS = turned(
    {name: word for name, word in words.GUESTS.items() if name not in ("reactos", "unknown")},
    ("winxphome", "winxp"),
    ("win2000serv", "win2000"),
    ("win2000advserv", "win2000"),
    ("winnetenterprise", "win2003"),
    ("winnetbusiness", "win2003"),
    ("windows7-64", "win7"),
    ("winvista-64", "vista"),
)
_NETWORK_CARDS = turned(words.NETWORK_CARDS, ("vmxnet", "pcnet"), ("", "pcnet"))
_SOUND_CARDS = {"es1371": "es1370", "sb16": "sb16", "hdaudio": "hda", "": "es1370"}
_SCSI = {"lsilogic": "lsi53c1030", "buslogic": "buslogic", "": "buslogic"}
_SLOTS = [f"{bus}{number}:{unit}" for bus, units in (("ide", 2), ("sata", 30), ("scsi", 16))
          for number in range(4) for unit in range(units)]  # fmt: skip


def parse_vmx(data: bytes, *, path: str) -> dict[str, str]:
    """Keys, in lower case, and values. Lines that are none are passed over, as VMware does."""
    if len(data) > MAX_BYTES:
        raise UnsupportedError("is too large for a .vmx", path=path, expected=f"at most {MAX_BYTES} bytes")
    text = data.decode("utf-8", "replace").removeprefix("\ufeff")
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is not None and not line.lstrip().startswith("#"):
            found.setdefault(match[1].lower(), _unescaped(match[2]))
    return found


def _unescaped(text: str) -> str:
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), text)
    if raw == text:
        return text
    return raw.encode("latin-1", "replace").decode("utf-8", "replace") if raw.isascii() or _latin(raw) else raw


def _latin(text: str) -> bool:
    return all(ord(letter) < 256 for letter in text)


def describe(data: bytes, snapshots: bytes | None, *, path: str) -> Description:
    """The machine of a .vmx; ``snapshots`` is the .vmsd's content, where there is one."""
    keys = parse_vmx(data, path=path)
    if "config.version" not in keys and "guestos" not in keys:
        raise UnsupportedError("isn't a .vmx", path=path, expected="config.version and guestOS in it")
    found = Collected()
    found.say("system", _SYSTEMS, keys.get("guestos", "").lower(), "the system")
    if keys.get("guestos", "").endswith("-64"):
        found.settings["architecture"] = "x86_64"
    size = memory_setting(whole_number(keys.get("memsize"), 1, 1 << 20))
    if size is not None:
        found.settings["memory"] = size
    found.settings["cpus"] = whole_number(keys.get("numvcpus"), 1, 64) or 1
    found.settings["chipset"] = "i440fx"
    found.settings["firmware"] = "uefi" if keys.get("firmware", "").lower() == "efi" else "bios"
    found.settings["hpet"] = _true(keys, "hpet0.present")
    _devices(keys, found)
    names = _state_names(parse_vmx(snapshots, path=path) if snapshots is not None else {})
    for slot in _SLOTS:
        _disk(keys, slot, names, found)
    _dropped(keys, found)
    return found.done("VMware machine", keys.get("displayname", ""), keys.get("annotation", ""))


def _true(keys: dict[str, str], name: str) -> bool:
    return keys.get(name, "").upper() == "TRUE"


def _devices(keys: dict[str, str], found: Collected) -> None:
    if _true(keys, "ethernet0.present"):
        found.say("network", _NETWORK_CARDS, keys.get("ethernet0.virtualdev", "").lower(), "the network card")
        if keys.get("ethernet0.connectiontype", "nat").lower() not in ("nat", "hostonly"):
            found.drop(f"the host's side of the network: {keys.get('ethernet0.connectiontype')}")
    else:
        found.settings["network"] = "none"
    for number in range(1, 10):
        if _true(keys, f"ethernet{number}.present"):
            found.drop(f"a further network card ({keys.get(f'ethernet{number}.virtualdev') or 'not named'})")
    if _true(keys, "sound.present"):
        found.say("sound", _SOUND_CARDS, keys.get("sound.virtualdev", "").lower(), "the sound card")
    else:
        found.settings["sound"] = "none"
    found.settings["pointer"] = "usb-tablet" if _true(keys, "usb.present") else "ps2"


def _disk(keys: dict[str, str], slot: str, names: tuple[StateName, ...], found: Collected) -> None:
    if not _true(keys, f"{slot}.present"):
        return
    kind = keys.get(f"{slot}.devicetype", "disk").lower()
    name = keys.get(f"{slot}.filename", "")
    if (
        "cdrom" in kind
        or "atapi" in kind
        or kind in ("rawdisk", "scsi-passthru")
        or not name.lower().endswith(".vmdk")
    ):
        what = "a disk of the host" if kind in ("rawdisk", "scsi-passthru") else f"a drive ({kind})"
        found.drop(f"{what}: {name}")
        return
    if not found.disks:
        if slot.startswith("scsi"):
            found.say("controller", _SCSI, keys.get(f"{slot[:5]}.virtualdev", "").lower(), "the SCSI controller")
        else:
            found.settings["controller"] = "piix4-ide" if slot.startswith("ide") else "ich9-ahci"
    states = tuple(each for each in names if _stem(each.path) == _stem(name) and each.path != name)
    found.disks.append(DiskReference(name, "vmdk", states))


def _stem(name: str) -> str:
    """``xp-000002.vmdk`` and ``xp.vmdk`` are of one chain."""
    return re.sub(r"(-\d{6})?\.vmdk$", "", name.replace("\\", "/").rpartition("/")[2], flags=re.IGNORECASE)


def _state_names(keys: dict[str, str]) -> tuple[StateName, ...]:
    found = []
    for number in range(min(whole_number(keys.get("snapshot.numsnapshots"), 0, 64) or 0, 64)):
        name = keys.get(f"snapshot{number}.displayname", "")
        for disk in range(8):
            path = keys.get(f"snapshot{number}.disk{disk}.filename")
            if path:
                found.append(StateName(path, name))
    return tuple(found)


def _dropped(keys: dict[str, str], found: Collected) -> None:
    for number in range(8):
        if _true(keys, f"sharedfolder{number}.present"):
            found.drop(f"a folder of the host: {keys.get(f'sharedfolder{number}.hostpath', '')}")
        for port in ("serial", "parallel"):
            if _true(keys, f"{port}{number}.present"):
                found.drop(f"a {port} port of the host: {keys.get(f'{port}{number}.filename', '')}")
        if keys.get(f"usb.autoconnect.device{number}"):
            found.drop(f"a USB device of the host: {keys[f'usb.autoconnect.device{number}']}")
        if _true(keys, f"pcipassthru{number}.present"):
            found.drop("a PCI device of the host")
    if _true(keys, "floppy0.present") and keys.get("floppy0.filename"):
        found.drop(f"a floppy: {keys['floppy0.filename']}")
    if keys.get("checkpoint.vmstate"):
        found.drop("a suspended state: the machine starts cold")
    if _true(keys, "remotedisplay.vnc.enabled"):
        found.drop("remote display")
