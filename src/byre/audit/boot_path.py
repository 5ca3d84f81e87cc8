"""The files that a start needs, in the order in which the machine needs them. Pure: from settings to paths.

Measured on real Windows XP hives and on ReactOS runs; see the rules' sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from byre.audit.facts import LogonSettings, SystemSettings
from byre.audit.finding import Stage
from byre.windows.guest import Guest
from byre.windows.paths import SystemPaths, command_program

_NO_SESSION = "STOP 0xC000021A: the session manager's first programs can't be started"
_NO_LOGON = "STOP 0xC000021A, or a message in place of the logon screen"

MAX_SERVERS = 64
DISK_PATH = frozenset(("acpi", "pci", "atapi", "intelide", "pciide", "disk", "partmgr", "mountmgr", "ftdisk"))
"""Boot drivers without which no disk appears, whatever their ErrorControl says; lower case."""


@dataclass(frozen=True, slots=True)
class Step:
    """One file of the start. ``paths``: where it may lie, the first that is there counts; ``pe``: it is a program;
    ``stage``: None where the start goes on without it."""

    rule: str
    what: str
    paths: tuple[str, ...]
    stage: Stage | None
    consequence: str
    pe: bool = True
    severity: str | None = None


def steps(
    guest: Guest, kind: str, file_system: str | None, system: SystemSettings | None, logon: LogonSettings | None
) -> tuple[Step, ...]:
    """Every file from the kernel to the shell; what can't be known without a hive is left out."""
    paths = SystemPaths(guest.root, logon.drive if logon else "C")
    found = [*_kernel(guest, kind, file_system)]
    if system is not None:
        found += _nls(guest, system)
    found += _boot_drivers(guest)
    found += _session(guest, paths, system)
    found += _logon(guest, paths, system, logon)
    return tuple(found)


def _kernel(guest: Guest, kind: str, file_system: str | None) -> Iterator[Step]:
    folder = f"{guest.root}/system32"
    chosen = guest.boot_ini.value.chosen if guest.boot_ini.value else None
    for what, switch, usual in (("the kernel", "KERNEL", "ntoskrnl.exe"), ("the HAL", "HAL", "hal.dll")):
        name = (chosen.switch(switch) if chosen else None) or usual
        said = f"the loader stops: '{guest.root}\\system32\\{name}' is missing or corrupt"
        yield Step("BOOT-011", what, (f"{folder}/{_base(name)}",), Stage.KERNEL, said)
    if kind == "nt5":
        for name in ("bootvid.dll", "kdcom.dll"):
            said = f"the loader stops: the kernel imports {name}, and it is missing or corrupt"
            yield Step("BOOT-011", "what the kernel imports", (f"{folder}/{name}",), Stage.KERNEL, said)
    driver = {"ntfs": "ntfs.sys", "fat12": "fastfat.sys", "fat16": "fastfat.sys", "fat32": "fastfat.sys"}.get(
        file_system or ""
    )
    if driver is not None and kind != "unknown":
        said = f"the loader stops: {driver} is missing or corrupt"
        yield Step(
            "BOOT-015", "the boot volume's file system driver", (f"{folder}/drivers/{driver}",), Stage.KERNEL, said
        )


def _nls(guest: Guest, system: SystemSettings) -> Iterator[Step]:
    for value, name in system.nls_files:
        yield Step(
            "BOOT-012",
            f"the table that Nls names as {value}",
            (f"{guest.root}/system32/{_base(name)}",),
            Stage.KERNEL,
            f"the loader stops: {name} is missing or corrupt",
            pe=False,
        )


def _boot_drivers(guest: Guest) -> Iterator[Step]:
    for service in guest.services.value or ():
        if service.start != 0 or not service.is_driver or service.file is None:
            continue
        name = service.file.rpartition("/")[2]
        ends = service.name.lower() in DISK_PATH or service.error_control >= 2
        if ends:
            said = f"the loader stops at {name}, or STOP 0x0000007B where the disk needs it"
        else:
            said = f"the loader may complain of {name}; what it drives doesn't work"
        stage, severity = (Stage.KERNEL, None) if ends else (None, "high")
        yield Step("BOOT-014", f"the boot driver {service.name}", (service.file,), stage, said, severity=severity)


def _session(guest: Guest, paths: SystemPaths, system: SystemSettings | None) -> Iterator[Step]:
    folder = f"{guest.root}/system32"
    yield Step("BOOT-016", "ntdll", (f"{folder}/ntdll.dll",), Stage.SESSION, "STOP 0x0000006B")
    yield Step("BOOT-016", "the session manager", (f"{folder}/smss.exe",), Stage.SESSION, "STOP 0x0000006F")
    if system is None:
        return
    for command in system.boot_execute:
        words = command.split()
        program = words[1] if len(words) > 1 and words[0].lower() == "autocheck" else (words or [""])[0]
        if program and program != "*":
            where = tuple(f"{folder}/{name}" for name in _with_extension(_base(program), ".exe"))
            said = f"'{_base(program)} program not found' for a moment, and the start goes on without it"
            yield Step("BOOT-020", "a program of BootExecute", where, None, said)
    if system.kmode:
        path = paths.resolve(system.kmode)
        if path:
            yield Step("BOOT-017", "the kernel's part of Win32", (path,), Stage.SESSION, _NO_SESSION)
    if system.windows and "windows" in {name.lower() for name in system.required}:
        path = paths.resolve(command_program(system.windows)) or f"{folder}/csrss.exe"
        yield Step("BOOT-017", "the Win32 subsystem", (path,), Stage.SESSION, _NO_SESSION)
        servers = re.findall(r"ServerDll=([^,:\s]+)", system.windows, re.IGNORECASE)
        for name in dict.fromkeys(each.lower() for each in servers[:MAX_SERVERS]):
            where = tuple(f"{folder}/{each}" for each in _with_extension(_base(name), ".dll"))
            yield Step("BOOT-017", "a server DLL of the Win32 subsystem", where, Stage.SESSION, _NO_SESSION)
    for name in system.known_dlls:
        said = f"STOP 0xC0000135 as soon as a program of the start needs it: {name} was not found"
        yield Step("BOOT-018", "a KnownDLL", (f"{folder}/{_base(name)}",), None, said)


def _logon(
    guest: Guest, paths: SystemPaths, system: SystemSettings | None, logon: LogonSettings | None
) -> Iterator[Step]:
    folder = f"{guest.root}/system32"
    yield Step("BOOT-021", "winlogon", (f"{folder}/winlogon.exe",), Stage.LOGON, "STOP 0xC000021A")
    for name in ("services.exe", "lsass.exe"):
        said = "a message that a system process can't be started, and no logon"
        yield Step("BOOT-021", "a system process", (f"{folder}/{name}",), Stage.LOGON, said)
    if logon is None:
        return
    if not _is_vista(guest):
        gina = logon.gina or "msgina.dll"
        yield Step(
            "BOOT-021",
            "the logon screen",
            (paths.resolve(gina) or f"{folder}/{_base(gina)}",),
            Stage.LOGON,
            "a message that the logon user interface DLL failed to load",
        )
    for name in system.lsa_packages if system else ():
        where = tuple(f"{folder}/{each}" for each in _with_extension(_base(name), ".dll"))
        yield Step("BOOT-021", "a package of LSA", where, None, _NO_LOGON, severity="high")
    for rule, what, text, said in (
        ("BOOT-022", "userinit", logon.userinit or "", "logging on ends at once: logged off again"),
        ("BOOT-022", "the shell", logon.shell or "", "an empty screen after logging on"),
    ):
        first = text.split(",")[0].strip()
        if first:
            program = command_program(first)
            path = paths.resolve(program)
            yield Step(rule, what, (path,) if path else paths.search(_base(program)), Stage.SHELL, said)


def _is_vista(guest: Guest) -> bool:
    return (guest.version.value or "").startswith("6")


def _with_extension(name: str, extension: str) -> tuple[str, ...]:
    return (name,) if "." in name else (name + extension,)


def _base(name: str) -> str:
    """The last part of a name from the registry: nothing in it may lead elsewhere."""
    return re.split(r"[\\/]", name.strip().strip('"'))[-1]
