"""Portable: will the boot disk be found on the machine that was chosen, and what else differs there."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit.facts import Facts
from byre.audit.finding import Finding, Stage, Unread
from byre.audit.platforms import Platform
from byre.audit.rule import Rule
from byre.windows.guest import Guest
from byre.windows.services import Service

_KB = "Microsoft KB 314082 (STOP 0x7B, CriticalDeviceDatabase); measured on a real Windows XP hive"
_STOP = "STOP 0x0000007B"

RULES = (
    Rule(
        "PORT-001",
        "portable",
        "The machine's boot controller is known to the guest",
        "critical",
        True,
        "CriticalDeviceDatabase for the controller's hardware and compatible ids, and controllers configured before",
        "a controller that is new to the guest gets its driver at boot only from there",
        _KB,
        _STOP,
        "byre mend IMAGE portable before the move (KB 314082), or choose a machine that the guest knows",
        ("nt5", "nt6", "reactos"),
    ),
    Rule(
        "PORT-002",
        "portable",
        "The boot controller's service starts at boot",
        "critical",
        True,
        "Start of the service that the controller's id names",
        "only drivers with Start=0 are in memory when the boot disk is looked for",
        _KB,
        _STOP,
        "byre mend IMAGE portable, or set Start=0 for the service",
        ("nt5", "nt6", "reactos"),
    ),
    Rule(
        "PORT-003",
        "portable",
        "The boot controller's driver is on disk",
        "critical",
        True,
        "the file of the service that the controller's id names",
        "an id and a service without the file start nothing",
        _KB,
        _STOP,
        "byre mend IMAGE portable, or take it from Driver Cache\\i386\\driver.cab or from the media",
        ("nt5", "nt6", "reactos"),
    ),
    Rule(
        "PORT-004",
        "portable",
        "What hangs on the boot controller is known to the guest",
        "critical",
        True,
        "primary_ide_channel and gendisk in CriticalDeviceDatabase, atapi and disk behind them",
        "channel and disk are new devices too when the controller is new",
        _KB,
        _STOP,
        "byre mend IMAGE portable, or write the keys that KB 314082 lists",
        ("nt5",),
    ),
    Rule(
        "PORT-005",
        "portable",
        "The HAL suits a machine with ACPI",
        "medium",
        False,
        "OriginalFilename of hal.dll",
        "a HAL made for other hardware hangs or stops; HALs can't be changed by switching ACPI off",
        "Microsoft KB 309283 (unchecked: HAL options after Windows XP or Server 2003 Setup)",
        "a hang at the start, or STOP 0x00000079",
        "install hal.dll for the machine from the same service pack's media",
        ("nt5",),
    ),
    Rule(
        "PORT-006",
        "portable",
        "No processor driver is bound to another maker's processor",
        "low",
        False,
        "intelppm with Start 0 or 1 and its file",
        "on a processor that isn't Intel's it stops some systems; which processor the host has isn't in the image",
        "Microsoft KB 953356",
        "STOP 0x0000007E",
        "byre mend IMAGE intelppm, or set Start=4 for it where the host's processor isn't Intel's",
        ("nt5",),
    ),
    Rule(
        "PORT-007",
        "portable",
        "The kernel for NX and PAE is there where boot.ini asks for it",
        "low",
        False,
        "/pae and /noexecute in boot.ini, ntkrnlpa.exe",
        "a processor with NX makes the loader choose that kernel",
        "Microsoft KB 900524 (unchecked: keeping the PAE kernel from loading): DEP needs the PAE "
        "kernel from XP SP2 on",
        "the loader's 'missing or corrupt', where the machine offers NX and it isn't alwaysoff",
        "hide NX from the guest (QEMU: -cpu ...,nx=off), or put ntkrnlpa.exe in place",
        ("nt5",),
    ),
    Rule(
        "PORT-008",
        "portable",
        "The guest runs on a 32-bit processor",
        "low",
        False,
        "the kernel's machine field",
        "a 64-bit guest needs a 64-bit virtual processor",
        "Microsoft's PE format specification",
        "the loader says that the processor isn't 64-bit capable",
        "choose a 64-bit processor model",
    ),
    Rule(
        "PORT-009",
        "portable",
        "Windows won't ask to be activated after the move",
        "low",
        False,
        "product activation's own state (SYSTEM\\WPA), by version: Windows XP, Server 2003, Vista and 7",
        "Windows XP compares ten parts of the machine with those that it was activated on, and asks again where more "
        "than three have changed; another hypervisor changes nearly all of them",
        "'Inside Windows Product Activation' (Fully Licensed, 2001) on which parts count",
        "'A problem is preventing Windows from accurately checking the license', or a request within three days",
        "have the licence's key at hand, or keep network card, disk serial and memory as they were; "
        "a volume licence isn't asked",
        ("nt5", "nt6"),
    ),
    Rule(
        "PORT-010",
        "portable",
        "Kernel and HAL are both for one processor, or both for several",
        "high",
        False,
        "OriginalFilename of ntoskrnl.exe and hal.dll",
        "the kernel stops at once when the HAL was built for the other kind",
        "Microsoft's Bug Check 0x79 MISMATCHED_HAL",
        "STOP 0x00000079",
        "take both from the same set on the service pack's media",
        ("nt5",),
    ),
    Rule(
        "PORT-011",
        "portable",
        "The kernel doesn't need PAE",
        "low",
        False,
        "OriginalFilename of ntoskrnl.exe",
        "the PAE kernel stops where the virtual processor lacks PAE",
        "Microsoft KB 900524 (unchecked: preventing the PAE kernel from loading); the file's name is unchecked there",
        "a message of the loader, or a restart",
        "leave PAE on in the virtual processor (QEMU's models from pentium2 on have it; VirtualBox has a switch)",
        ("nt5",),
    ),
)
_SINGLE = (("ntoskrnl.exe", "ntkrnlpa.exe"), ("halacpi.dll", "halaacpi.dll", "hal.dll", "halapic.dll"))
_MULTI = (("ntkrnlmp.exe", "ntkrpamp.exe"), ("halmacpi.dll", "halmps.dll"))
"""(kernels, HALs) for one processor and for several, by the names that they were built under."""
_ACTIVATED = ("5.1", "5.2", "6.0", "6.1")
_GOOD_HALS = ("halacpi.dll", "halaacpi.dll", "halmacpi.dll", "hal.dll")


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """Every breach of this module's rules for one machine."""
    guest = facts.guest
    if guest is None:
        yield Unread("PORT-001", "no installed system was found", platform.name)
        return
    yield from _controller(facts, guest, platform)
    if facts.kind == "nt5":
        yield from _hal(facts, guest, platform)
        yield from _processor(facts, guest)
        yield from _kernel(facts, guest)
    yield from _activation(facts, guest)
    if guest.architecture.value == "x64":
        said = "the kernel is for x64"
        yield Finding("PORT-008", f"{guest.root}/system32/ntoskrnl.exe", said, "needs a 64-bit virtual processor")


def _controller(facts: Facts, guest: Guest, platform: Platform) -> Iterator[Finding | Unread]:
    if guest.critical_devices.value is None or guest.services.value is None:
        reason = guest.critical_devices.reason or guest.services.reason or "services can't be read"
        yield Unread("PORT-001", reason, platform.name)
        return
    if facts.kind not in ("nt5", "nt6", "reactos"):
        yield Unread("PORT-001", "Byre knows no rule for this kind of system", platform.name)
        return
    services = {service.name.lower(): service for service in guest.services.value}
    entries = {device.id: device.service for device in guest.critical_devices.value if device.service}
    own = platform.ids[0]
    before = [each for each in facts.system.value.pci if _same(each.id, own)] if facts.system.value else []
    if any(_works(facts, services.get(each.service.lower())) for each in before):
        return
    name = f"{platform.controller} ({own.replace('pci#', '')})"
    found = next((identifier for identifier in platform.ids if identifier in entries), None)
    if found is None:
        narrow = [each for each in entries if _same(each, own)]
        if narrow:
            yield Unread("PORT-001", f"only {', '.join(narrow)} is known: it depends on the revision", platform.name)
            return
        has = ", ".join(sorted(each for each in entries if each.startswith("pci#ven_"))[:6]) or "none"
        note = f"; {platform.note}" if platform.note else ""
        yield Finding(
            "PORT-001",
            f"{_key(facts)}\\Control\\CriticalDeviceDatabase",
            f"no entry for {name}; it has: {has}",
            f"{_STOP}, because the boot controller has no driver{note}",
            Stage.BOOT_DISK,
            target=platform.name,
        )
        return
    yield from _service(facts, platform, services.get(entries[found].lower()), entries[found], name)
    if facts.kind == "nt5":
        yield from _chain(facts, platform, services, entries)


def _service(
    facts: Facts, platform: Platform, service: Service | None, name: str, controller: str
) -> Iterator[Finding | Unread]:
    where = f"{_key(facts)}\\Services\\{name}"
    if service is None or service.start != 0:
        said = f"{controller} needs {name}, " + (
            "which isn't a service here" if service is None else f"whose Start is {service.start}, not 0"
        )
        because = f"{_STOP}, because the boot controller's driver isn't loaded"
        yield Finding("PORT-002", where, said, because, Stage.BOOT_DISK, target=platform.name)
        return
    file = facts.file(service.file) if service.file else None
    if file is None:
        yield Unread("PORT-003", f"where the driver of {name} lies can't be told", platform.name)
    elif file.state == "missing":
        said = f"{controller} needs {name}, and its driver isn't there"
        because = f"{_STOP}, because the boot controller's driver is missing"
        yield Finding("PORT-003", file.path, said, because, Stage.BOOT_DISK, target=platform.name)
    elif file.state == "unread" and not file.corrupt:
        yield Unread("PORT-003", f"{file.path}: {file.reason}", platform.name)


def _chain(
    facts: Facts, platform: Platform, services: dict[str, Service], entries: dict[str, str]
) -> Iterator[Finding]:
    for identifier in platform.chain:
        name = entries.get(identifier)
        service = services.get(name.lower()) if name is not None else None
        if _works(facts, service):
            continue
        if name is None:
            said = f"no entry for {identifier}"
        elif service is None or service.start != 0:
            said = f"{identifier} names {name}, which doesn't start at boot"
        else:
            said = f"{identifier} names {name}, whose driver isn't there"
        because = f"{_STOP}, because the disk behind the controller has no driver"
        where = f"{_key(facts)}\\Control\\CriticalDeviceDatabase\\{identifier}"
        yield Finding("PORT-004", where, said, because, Stage.BOOT_DISK, target=platform.name)


def _works(facts: Facts, service: Service | None) -> bool:
    if service is None or service.start != 0 or service.file is None:
        return False
    file = facts.file(service.file)
    return file is not None and file.state != "missing"


def _same(identifier: str, own: str) -> bool:
    """Whether an id is this vendor's and device's, whatever its subsystem and revision."""
    return identifier == own or identifier.startswith(own + "&")


def _key(facts: Facts) -> str:
    return f"SYSTEM\\{facts.system.value.control_set}" if facts.system.value else "SYSTEM"


def _hal(facts: Facts, guest: Guest, platform: Platform) -> Iterator[Finding | Unread]:
    path = f"{guest.root}/system32/hal.dll"
    file = facts.file(path)
    original = file.pe.original_filename if file is not None and file.pe is not None else None
    if file is None or file.state == "missing":
        return  # the complete question says so
    if original is None:
        yield Unread("PORT-005", f"{path} doesn't say which HAL it is")
    elif original.lower() in ("halapic.dll", "halmps.dll"):
        said = f"{original}: made for machines with MPS tables"
        yield Finding("PORT-005", path, said, "it starts only where the firmware has MPS tables", severity="low")
    elif original.lower() not in _GOOD_HALS:
        said = f"{original}: not one that Windows installs on these machines"
        yield Finding("PORT-005", path, said, "a hang at the start, or STOP 0x00000079")


def _processor(facts: Facts, guest: Guest) -> Iterator[Finding]:
    for service in guest.services.value or ():
        if service.name.lower() == "intelppm" and service.start <= 1 and _present(facts, service.file):
            said = f"Start is {service.start}"
            what = "on a processor that isn't Intel's: STOP 0x0000007E on some systems"
            yield Finding("PORT-006", f"{_key(facts)}\\Services\\intelppm", said, what)
    chosen = guest.boot_ini.value.chosen if guest.boot_ini.value else None
    if chosen is None:
        return
    execute = chosen.switch("NOEXECUTE")
    asks = chosen.switch("PAE") is not None or (execute is not None and execute.lower() != "alwaysoff")
    path = f"{guest.root}/system32/ntkrnlpa.exe"
    file = facts.file(path)
    if asks and file is not None and file.state == "missing":
        said = f"boot.ini says {' '.join(chosen.switches)}, and it isn't there"
        yield Finding("PORT-007", path, said, "where the machine offers NX, the loader may look for it in vain")


def _kernel(facts: Facts, guest: Guest) -> Iterator[Finding]:
    path, hal_path = f"{guest.root}/system32/ntoskrnl.exe", f"{guest.root}/system32/hal.dll"
    kernel, hal = _original(facts, path), _original(facts, hal_path)
    for one, other in ((_SINGLE, _MULTI), (_MULTI, _SINGLE)):
        if kernel in one[0] and hal in other[1]:
            said = f"the kernel is {kernel}, the HAL {hal}"
            yield Finding("PORT-010", hal_path, said, "STOP 0x00000079: the HAL isn't the kernel's", Stage.KERNEL)
    if kernel in ("ntkrnlpa.exe", "ntkrpamp.exe"):
        said = f"it is {kernel}"
        yield Finding("PORT-011", path, said, "where the virtual processor lacks PAE, the start ends here")


def _original(facts: Facts, path: str) -> str:
    file = facts.file(path)
    return (file.pe.original_filename or "").lower() if file is not None and file.pe is not None else ""


def _activation(facts: Facts, guest: Guest) -> Iterator[Finding]:
    told = facts.provenance.value
    if told is None or not told.activation or guest.version.value not in _ACTIVATED:
        return
    said = "product activation keeps its state here" + (f"; the licence is {told.licence}" if told.licence else "")
    yield Finding("PORT-009", "SYSTEM\\WPA", said, "Windows is likely to ask for activation after the move")


def _present(facts: Facts, path: str | None) -> bool:
    file = facts.file(path) if path is not None else None
    return file is not None and file.state == "present"
