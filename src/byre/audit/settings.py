"""What the start reads from the registry, and which kind of guest it is."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from byre.audit.facts import FileFacts, LogonSettings, PciInstance, SystemSettings
from byre.errors import ByreError
from byre.windows.fact import Fact, attempt, unknown
from byre.windows.guest import Guest
from byre.windows.hives import Hives, own_drive
from byre.windows.registry import Hive, Key
from byre.windows.registry.hive import Value

_WINLOGON = r"Microsoft\Windows NT\CurrentVersion\Winlogon"
MAX_INSTANCES = 4096
MAX_NAMES = 1024
"""Of KnownDLLs and the like; real systems have a few dozen."""


def read_system(hives: Hives, guest: Guest) -> Fact[SystemSettings]:
    """What the next boot reads from SYSTEM: unknown without the hive or without the control set that it names."""
    hive = hives.get("SYSTEM")
    if hive is None:
        return unknown(hives.machine["SYSTEM"].reason or "the SYSTEM hive isn't there")
    sets = guest.control_sets.value
    name = sets.next_boot if sets else None
    if name is None:
        return unknown("SYSTEM doesn't say which control set the next boot uses")
    try:
        key = hive.key(name)
        if key is None:
            return unknown(f"SYSTEM has no {name}, which the next boot uses")
        return attempt(lambda: _system(hive, key, name))
    except ByreError as error:
        return unknown(str(error))


def _system(hive: Hive, key: Key, name: str) -> SystemSettings:
    manager = r"Control\Session Manager"
    known_dlls = tuple(
        value.text
        for value in _values(key, rf"{manager}\KnownDLLs")
        if value.name.lower() not in ("dlldirectory", "dlldirectory32") and value.text
    )
    nls, missing = _nls(key)
    lsa = key.at(r"Control\Lsa")
    packages = _strings(lsa, "Authentication Packages") + _strings(lsa, "Security Packages")
    return SystemSettings(
        control_set=name,
        known_dlls=known_dlls[:MAX_NAMES],
        required=_strings(key.at(rf"{manager}\SubSystems"), "Required"),
        kmode=_text(key, rf"{manager}\SubSystems", "Kmode"),
        windows=_text(key, rf"{manager}\SubSystems", "Windows"),
        boot_execute=_strings(key.at(manager), "BootExecute"),
        nls_files=nls,
        nls_missing=missing,
        lsa_packages=tuple(dict.fromkeys(each.lower() for each in packages if each.strip('" '))),
        mounted=_mounted(hive),
        pci=_instances(key),
    )


def _values(key: Key, path: str) -> tuple[Value, ...]:
    below = key.at(path)
    return below.values() if below is not None else ()


def _text(key: Key, path: str, name: str) -> str | None:
    below = key.at(path)
    value = below.value(name) if below is not None else None
    return value.text if value is not None else None


def _strings(key: Key | None, name: str) -> tuple[str, ...]:
    value = key.value(name) if key is not None else None
    return tuple(text for text in value.strings if text)[:MAX_NAMES] if value is not None else ()


def _nls(key: Key) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """The files that the code pages and the language name, and the values that name none."""
    found, missing = [], []
    for folder, value in (("CodePage", "ACP"), ("CodePage", "OEMCP"), ("Language", "Default")):
        path = rf"Control\Nls\{folder}"
        number = _text(key, path, value)
        file = _text(key, path, number) if number else None
        if file:
            found.append((value, file))
        else:
            missing.append(rf"{path}\{value}")
    return tuple(found), tuple(missing)


def _mounted(hive: Hive) -> tuple[tuple[str, int, int], ...]:
    key = hive.key("MountedDevices")
    found = []
    for value in key.values() if key is not None else ():
        name = value.name.upper()
        if name.startswith("\\DOSDEVICES\\") and len(name) == 14 and len(value.data) == 12:
            signature, start = struct.unpack("<IQ", value.data)
            found.append((name[12], signature, start))
    return tuple(found)


def _instances(key: Key) -> tuple[PciInstance, ...]:
    """Devices on PCI that were configured before, with the service that drives them."""
    pci = key.at(r"Enum\PCI")
    found: list[PciInstance] = []
    for device in pci.subkeys() if pci is not None else ():
        for instance in device.subkeys():
            service = instance.value("Service")
            if service is not None and service.text and len(found) < MAX_INSTANCES:
                found.append(PciInstance("pci#" + device.name.lower(), service.text))
    return tuple(found)


def read_logon(hives: Hives) -> Fact[LogonSettings]:
    """What winlogon reads from SOFTWARE."""
    hive = hives.get("SOFTWARE")
    if hive is None:
        return unknown(hives.machine["SOFTWARE"].reason or "the SOFTWARE hive isn't there")

    def read() -> LogonSettings:
        root = hive.root
        return LogonSettings(
            shell=_text(root, _WINLOGON, "Shell"),
            userinit=_text(root, _WINLOGON, "Userinit"),
            gina=_text(root, _WINLOGON, "GinaDLL"),
            drive=own_drive(hive),
        )

    return attempt(read)


def guest_kind(guest: Guest, kernel: FileFacts, loader: Mapping[str, FileFacts]) -> str:
    """A key of ``rule.GUESTS``: by what the system says of itself, else by its kernel, else by its loader."""
    if guest.family == "reactos":
        return "reactos"
    stated = (guest.version.value or "").split(".")[0]
    if not stated.isdigit() and kernel.pe is not None and kernel.pe.file_version is not None:
        stated = str(kernel.pe.file_version[0])
    if stated in ("4", "5", "6"):
        return f"nt{stated}"
    for path, kind in (("/ntldr", "nt5"), ("/bootmgr", "nt6"), ("/freeldr.sys", "reactos")):
        if path in loader and loader[path].state == "present":
            return kind
    return "unknown"
