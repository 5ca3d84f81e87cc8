"""libvirt's domain XML read."""

from __future__ import annotations

from byre.machine.export import libvirt as words
from byre.machine.export.words import QEMU_CARDS
from byre.machine.importing.description import (
    Collected,
    Description,
    DiskReference,
    clip,
    memory_setting,
    turned,
    whole_number,
)
from byre.machine.importing.tree import Node, parse_xml

_SYSTEMS = turned(
    {system: f"http://microsoft.com/{name}" for system, name in words.OS_IDS.items()},
    ("http://microsoft.com/win/xp", "winxp"),
)
_UNITS = {"b": 0, "bytes": 0, "kib": 10, "k": 10, "mib": 20, "m": 20, "gib": 30, "g": 30}
_FORMATS = {
    "qcow2": "qcow2",
    "raw": "raw",
    "vmdk": "vmdk",
    "vdi": "vdi",
    "vpc": "vhd",
    "vhdx": "vhdx",
    "qcow": "qcow",
}
_NETWORK_CARDS = turned(QEMU_CARDS, ("virtio-net", "virtio-net"), ("virtio-non-transitional", "virtio-net"))
_DISPLAYS = turned(words.DISPLAYS, ("qxl", "std"), ("bochs", "std"))
_SOUND_CARDS = turned(words.SOUND_CARDS, ("ich9", "hda"))
_CPUS_OF_32_BITS = ("qemu32", "kvm32", "486", "pentium", "pentium2", "pentium3", "pentiumpro", "coreduo", "n270")
_HOST = {
    "hostdev": "a device of the host",
    "filesystem": "a folder of the host",
    "redirdev": "USB redirection",
    "shmem": "memory shared with the host",
    "tpm": "a TPM",
    "channel": "a channel to the host",
    "serial": "a serial port of the host",
    "parallel": "a parallel port of the host",
    "smartcard": "a smart card of the host",
    "lease": "a lease",
}


def describe(data: bytes, *, path: str) -> Description:
    """The machine of a domain's XML. Raises CorruptImageError, UnsupportedError."""
    root = parse_xml(data, path=path)
    found = Collected()
    found.say("system", _SYSTEMS, root.attribute_at("metadata/libosinfo/os", "id"), "the system")
    found.say("architecture", {"i686": "i386"}, _only(root.attribute_at("os/type", "arch"), "i686"), "")
    machine = root.attribute_at("os/type", "machine") or "pc"
    found.settings["chipset"] = "q35" if "q35" in machine else "i440fx"
    uefi = root.attribute_at("os", "firmware") == "efi" or root.attribute_at("os/loader", "type") == "pflash"
    found.settings["firmware"] = "uefi" if uefi else "bios"
    _resources(root, found)
    _processor(root, found)
    _clock(root, found)
    _devices(root, found)
    for tag, what in (
        ("kernel", "a kernel"),
        ("initrd", "an initial RAM disk"),
        ("cmdline", "a kernel command line"),
    ):
        if root.find(f"os/{tag}") is not None:
            found.drop(f"{what} of the host's: {root.text_at(f'os/{tag}')}")
    for command in root.all("commandline"):
        said = " ".join(each.get("value") or "" for each in command.all("arg"))
        found.drop(f"arguments for QEMU: {said}")
    return found.done("libvirt domain", root.text_at("name") or "", root.text_at("title") or "")


def _only(text: str | None, wanted: str) -> str | None:
    return text if text == wanted else None


def _resources(root: Node, found: Collected) -> None:
    memory = root.find("memory")
    if memory is not None:
        unit = _UNITS.get((memory.get("unit") or "KiB").lower())
        number = whole_number(memory.text.strip(), 1, 1 << 50)
        size = None if unit is None or number is None else memory_setting((number << unit) >> 20)
        if size is not None:
            found.settings["memory"] = size
    cpus = whole_number(root.text_at("vcpu"), 1, 64)
    if cpus is not None:
        found.settings["cpus"] = cpus
    for field in ("acpi", "apic"):
        found.settings[field] = root.find(f"features/{field}") is not None


def _processor(root: Node, found: Collected) -> None:
    cpu = root.find("cpu")
    if cpu is None:
        return
    model = cpu.text_at("model")
    if cpu.get("mode") in ("host-passthrough", "host-model", "maximum"):
        found.settings["cpu"] = "host"
    elif model:
        found.settings["cpu"] = clip(model)
        if model in _CPUS_OF_32_BITS:
            found.settings["architecture"] = "i386"
    hidden = [each.get("name") or "" for each in cpu.all("feature") if each.get("policy") in ("disable", "forbid")]
    found.settings["hidden"] = [clip(each) for each in hidden[:64]]


def _clock(root: Node, found: Collected) -> None:
    clock = root.find("clock")
    if clock is None:
        return
    found.say("clock", {"localtime": "localtime", "utc": "utc"}, clock.get("offset"), "the clock")
    for timer in clock.all("timer"):
        if timer.get("name") == "hpet":
            found.settings["hpet"] = timer.get("present") != "no"


def _devices(root: Node, found: Collected) -> None:
    devices = root.find("devices")
    if devices is None:
        return
    for disk in sorted(devices.all("disk"), key=_boot_order):
        _disk(root, disk, found)
    card, *further = [*devices.all("interface"), None][:64]
    for each in further:
        if each is not None:
            found.drop(f"a further network card ({each.attribute_at('model', 'type') or 'not named'})")
    if card is None:
        found.settings["network"] = "none"
    else:
        found.say("network", _NETWORK_CARDS, card.attribute_at("model", "type"), "the network card")
        if card.get("type") not in ("user", "network"):
            found.drop(f"the host's side of the network: {card.get('type')}")
    found.say("display", _DISPLAYS, devices.attribute_at("video/model", "type"), "the display")
    sound = devices.find("sound")
    found.say("sound", _SOUND_CARDS, "" if sound is None else sound.get("model"), "the sound card")
    tablet = any(each.get("type") == "tablet" and each.get("bus") == "usb" for each in devices.all("input"))
    found.settings["pointer"] = "usb-tablet" if tablet else "ps2"
    for each in devices.children:
        if each.tag in _HOST:
            found.drop(
                f"{_HOST[each.tag]} ({each.tag} {each.get('type') or each.get('mode') or ''})".replace(" )", ")")
            )


def _boot_order(disk: Node) -> int:
    """Devices that say no order come after those that do, as they stand in the file."""
    return whole_number(disk.attribute_at("boot", "order"), 1, 1 << 20) or 1 << 30


def _disk(root: Node, disk: Node, found: Collected) -> None:
    device = disk.get("device") or "disk"
    source = disk.find("source")
    file = None if source is None else source.get("file")
    if device != "disk":
        found.drop(f"a {device}" + (f": {file}" if file else ""))
        return
    if disk.get("type") != "file" or file is None:
        found.drop(f"a disk that is no file ({disk.get('type')})")
        return
    if not found.disks:
        _controller(root, disk.attribute_at("target", "bus") or "ide", found)
    form = disk.attribute_at("driver", "type")
    found.disks.append(DiskReference(file, _FORMATS.get(form) if form else None))


def _controller(root: Node, bus: str, found: Collected) -> None:
    controllers = root.all("devices/controller")
    model = next((each.get("model") for each in controllers if each.get("type") == "scsi"), None)
    if bus == "scsi":
        models = {theirs: ours for ours, theirs in words.SCSI_MODELS.items()}
        found.say("controller", {**models, "lsi": "lsi53c895a"}, model or "lsilogic", "the SCSI controller")
        return
    buses = {"ide": "piix3-ide", "sata": "ich9-ahci", "virtio": "virtio-blk"}
    found.say("controller", buses, bus, "the disk's bus")
