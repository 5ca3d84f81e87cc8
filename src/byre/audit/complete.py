"""Complete: will it boot and reach the shell? The start in the machine's order."""

from __future__ import annotations

from collections.abc import Iterator

from byre.audit import boot_path
from byre.audit.boot_path import Step
from byre.audit.complete_rules import RULES as RULES
from byre.audit.facts import BrokenImport, Facts, FileFacts
from byre.audit.finding import Finding, Stage, Unread
from byre.audit.platforms import Platform
from byre.windows.boot_ini import arc_number, other_disk
from byre.windows.guest import Guest
from byre.windows.services import Service

LEFTOVERS = frozenset(
    (
        "changer",
        "i2omgmt",
        "lbrtfdc",
        "pcidump",
        "pdcomp",
        "pdframe",
        "pdreli",
        "pdrframe",
        "wdica",
        "simbad",
        "abiosdsk",
    )
)
"""Drivers whose keys a clean Windows XP has without their files, in lower case."""
_LOADER = {
    "nt5": (
        ("/NTLDR", "'NTLDR is missing'"),
        ("/NTDETECT.COM", "'NTDETECT failed', and the machine starts again and again"),
    ),
    "nt6": (("/bootmgr", "'BOOTMGR is missing'"), ("/Boot/BCD", "the boot manager stops with 0xc000000f")),
    "reactos": (("/freeldr.sys", "the boot sector finds no loader"), ("/freeldr.ini", "the loader shows no system")),
}


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """Every breach of this module's rules, in the order of the start."""
    yield from _disk(facts)
    guest = facts.guest
    if guest is None:
        yield from _no_system(facts)
        return
    if facts.kind == "unknown":
        yield Unread("BOOT-006", "which kind of system this is can't be told")
    yield from _loader_files(facts)
    if facts.kind == "nt5":
        yield from _boot_ini(facts, guest)
    yield from _system_hive(facts)
    volume = facts.volume(guest.volume)
    kind = volume.facts.type if volume and volume.facts else volume.type if volume else None
    for step in boot_path.steps(guest, facts.kind, kind, facts.system.value, facts.logon.value):
        yield from _step(facts, guest, step)
    yield from _settings(facts)
    yield from _imports(facts)
    yield from _services(facts, guest)


_OTHER_LOADERS = ("GRUB", "SYSLINUX", "MS-DOS")
"""As ``volumes.boot_code`` names them."""


def _disk(facts: Facts) -> Iterator[Finding | Unread]:
    if facts.mbr.value is None:
        yield Unread("BOOT-001", facts.mbr.reason or "the disk has no sector 0")
        return
    if not facts.mbr.value.signature:
        said = "55 AA is missing at offset 510"
        yield Finding("BOOT-001", "sector 0", said, "the firmware finds no bootable device", Stage.FIRMWARE)
    elif facts.table.scheme == "superfloppy":
        said = "a file system without a partition table: the image of a partition"
        yield Finding("BOOT-001", "sector 0", said, "no machine starts it as a hard disk", Stage.FIRMWARE)
    elif not facts.mbr.value.code:
        yield Finding("BOOT-001", "sector 0", "the boot code is all zeros", "a black screen", Stage.FIRMWARE)
    if facts.table.scheme == "gpt" and facts.kind != "unknown":
        said = "a GPT, which these systems don't start from under a BIOS"
        yield Finding("BOOT-002", "partition table", said, "the firmware finds nothing to start", Stage.FIRMWARE)
    if facts.table.scheme != "mbr":
        return
    active = [part for part in facts.table.partitions if part.active and part.role == "primary"]
    if len(active) != 1:
        said = "no partition is active" if not active else f"{len(active)} partitions are active"
        what = "'Missing operating system'" if not active else "'Invalid partition table'"
        yield Finding("BOOT-002", "partition table", said, what, Stage.FIRMWARE)
        return
    volume = facts.volume(active[0].index)
    if volume is not None:
        yield from _boot_sector(facts, volume.index)


def _boot_sector(facts: Facts, index: int) -> Iterator[Finding | Unread]:
    volume = facts.volume(index)
    assert volume is not None
    where = f"boot sector of partition {index}"
    sector = volume.boot.value
    if sector is None:
        yield Unread("BOOT-003", volume.boot.reason or f"{where} lies outside the disk")
        return
    expected = volume.start // max(1, facts.table.sector_size)
    if not sector.signature or not sector.code:
        said = "55 AA is missing" if not sector.signature else "the boot code is all zeros"
        yield Finding("BOOT-003", where, said, "'Missing operating system' or a black screen", Stage.FIRMWARE)
    elif sector.hidden != expected:
        said = f"hidden sectors are {sector.hidden}, the partition starts at {expected}"
        yield Finding("BOOT-003", where, said, "'A disk read error occurred' or a black screen", Stage.FIRMWARE)
    elif sector.boot_code is not None and sector.boot_code.idle:
        said = f"its code starts nothing: {sector.boot_code.loader}"
        yield Finding("BOOT-003", where, said, "a message, or a black screen", Stage.FIRMWARE)
    if facts.kind == "nt5" and sector.signature and not (sector.heads and sector.sectors_per_track):
        said = f"{sector.heads} heads, {sector.sectors_per_track} sectors for each track"
        yield Finding("BOOT-004", where, said, "'A disk read error occurred' where the firmware is old")
    elif facts.kind == "nt5" and sector.signature and sector.geometry is not None:
        right = "{} and {}".format(*sector.geometry)
        said = f"{sector.heads} heads, {sector.sectors_per_track} sectors for each track, where a BIOS has {right}"
        yield Finding("BOOT-004", where, said, "'A disk read error occurred', or a black screen")


def _no_system(facts: Facts) -> Iterator[Finding | Unread]:
    closed = [volume for volume in facts.volumes if volume.facts is None and volume.type is not None]
    if closed:
        said = "; ".join(f"partition {volume.index}: {volume.reason}" for volume in closed)
        yield Unread("BOOT-005", f"a partition can't be read: {said}")
        return
    other = _other_loader(facts)
    if other is not None:
        said = f"{other} starts a system that Byre has no rules for: it judges Windows NT and ReactOS"
        yield Unread("BOOT-005", said)
        return
    said = "no Windows folder with system32\\config was found"
    yield Finding("BOOT-005", "the disk", said, "there is nothing to start", Stage.LOADER)


def _other_loader(facts: Facts) -> str | None:
    """The loader in a boot sector that is known to start other systems than Windows NT and ReactOS."""
    sectors = [facts.mbr.value, *(volume.boot.value for volume in facts.volumes)]
    names = [
        sector.boot_code.loader or "" for sector in sectors if sector is not None and sector.boot_code is not None
    ]
    return next((name for name in names if name.startswith(_OTHER_LOADERS)), None)


def _loader_files(facts: Facts) -> Iterator[Finding | Unread]:
    for path, said in _LOADER.get(facts.kind, ()):
        file = facts.loader.get(path.lower())
        if file is None or file.state == "unread":
            reason = file.reason if file is not None else "wasn't looked for"
            yield Unread("BOOT-006", f"{path}: {reason}")
        elif file.state == "missing":
            yield Finding("BOOT-006", path, "isn't there", said, Stage.LOADER)
        elif not file.size:
            yield Finding("BOOT-006", path, "is empty", said, Stage.LOADER)


def _boot_ini(facts: Facts, guest: Guest) -> Iterator[Finding | Unread]:
    file = facts.loader.get("/boot.ini")
    if file is not None and file.state == "missing":
        usual = guest.root.lower() == "/windows" and arc_number(facts.table, guest.volume) == 1
        said = "'Invalid BOOT.INI file', and then C:\\WINDOWS is tried" + ("" if usual else ", which isn't here")
        stage = None if usual else Stage.LOADER
        yield Finding("BOOT-007", "/boot.ini", "isn't there", said, stage, None if usual else "critical")
        return
    ini = guest.boot_ini.value
    if ini is None:
        if guest.boot_ini.state == "unknown":
            yield Unread("BOOT-008", f"/boot.ini: {guest.boot_ini.reason}")
        return
    chosen = ini.chosen
    said = f"'{guest.root}\\system32\\hal.dll missing or corrupt', or the kernel in its place"
    if chosen is None:
        yield Finding("BOOT-008", "/boot.ini", "it names no system", said, Stage.LOADER)
        return
    if chosen.arc is None:
        return
    folder = "/" + chosen.arc.folder.replace("\\", "/").strip("/")
    number = arc_number(facts.table, guest.volume)
    if folder.lower() != guest.root.lower():
        yield Finding("BOOT-008", "/boot.ini", f"{chosen.path}: there is no such system", said, Stage.LOADER)
    elif number is not None and chosen.arc.partition != number:
        evidence = f"{chosen.path}: the system is on partition({number})"
        yield Finding("BOOT-008", "/boot.ini", evidence, said, Stage.LOADER)
    elif (reason := other_disk(chosen.arc, facts.table.id, scsi_driver=has_scsi_driver(facts))) is not None:
        yield Finding("BOOT-008", "/boot.ini", f"{chosen.path}: {reason}", said, Stage.LOADER)


def has_scsi_driver(facts: Facts) -> bool:
    """Whether NTBOOTDD.SYS may be in the root."""
    file = facts.loader.get("/ntbootdd.sys")
    return file is None or file.state != "missing"


def _system_hive(facts: Facts) -> Iterator[Finding | Unread]:
    for hive in facts.hives:
        if hive.state == "known":
            continue
        said = hive.reason or "isn't there"
        if hive.name == "SYSTEM":
            yield Finding(
                "BOOT-009", hive.path, said, "'\\system32\\config\\system missing or corrupt'", Stage.KERNEL
            )
        else:
            yield Finding("BOOT-019", hive.path, said, "STOP 0xC0000218", Stage.SESSION)
    hive_read = any(hive.name == "SYSTEM" and hive.state == "known" for hive in facts.hives)
    if hive_read and facts.system.value is None:
        said = facts.system.reason or "the control set can't be read"
        yield Finding("BOOT-010", "SYSTEM\\Select", said, "STOP 0x00000074", Stage.KERNEL)
    if facts.system.value is None:
        for rule in ("BOOT-012", "BOOT-014", "BOOT-017", "BOOT-018"):
            yield Unread(rule, facts.system.reason or "the SYSTEM hive can't be read")
    if facts.logon.value is None:
        yield Unread("BOOT-022", facts.logon.reason or "the SOFTWARE hive can't be read")


def _step(facts: Facts, guest: Guest, step: Step) -> Iterator[Finding | Unread]:
    files = [file for path in step.paths if (file := facts.file(path)) is not None]
    there = [file for file in files if file.state != "missing"]
    if not files:
        yield Unread(step.rule, f"{step.paths[0] if step.paths else step.what} wasn't looked for")
    elif not there:
        said = f"{step.what} isn't there"
        yield Finding(step.rule, step.paths[0], said, step.consequence, step.stage, step.severity)
    elif there[0].state == "unread" and not there[0].corrupt:
        yield Unread(step.rule, f"{there[0].path}: {there[0].reason}")
    else:
        yield from _architecture(guest, step, there[0])


def _architecture(guest: Guest, step: Step, file: FileFacts) -> Iterator[Finding]:
    wanted = guest.architecture.value
    if not step.pe or wanted is None or file.pe is None or file.pe.problem or file.pe.machine == wanted:
        return
    said = f"{step.what} is for {file.pe.machine}, the kernel for {wanted}"
    yield Finding("BOOT-013", file.path, said, step.consequence, step.stage, step.severity)


def _settings(facts: Facts) -> Iterator[Finding | Unread]:
    system, guest = facts.system.value, facts.guest
    if system is None or guest is None:
        return
    key = f"SYSTEM\\{system.control_set}"
    if facts.kind == "nt5":
        for value in system.nls_missing:
            said = "names no file"
            yield Finding("BOOT-012", f"{key}\\{value}", said, "the loader stops: a table is missing", Stage.KERNEL)
    if facts.kind in ("nt4", "nt5", "reactos"):
        required = {name.lower() for name in system.required}
        where = f"{key}\\Control\\Session Manager\\SubSystems"
        said = "STOP 0xC000021A: the session manager starts no Win32"
        if "windows" not in required:
            yield Finding("BOOT-017", f"{where}\\Required", "Windows isn't among them", said, Stage.SESSION)
        elif not system.windows:
            yield Finding("BOOT-017", f"{where}\\Windows", "is missing", said, Stage.SESSION)
        if not system.kmode:
            yield Finding("BOOT-017", f"{where}\\Kmode", "is missing", said, Stage.SESSION)
    yield from _shell_values(facts)
    yield from _drive(facts, guest)
    sets = guest.control_sets.value
    if sets is not None and (sets.failed or sets.current not in (None, sets.default)):
        said = f"Current {sets.current}, Default {sets.default}, Failed {sets.failed}"
        yield Finding("BOOT-024", "SYSTEM\\Select", said, "settings as they were at another time")


def _shell_values(facts: Facts) -> Iterator[Finding]:
    logon = facts.logon.value
    if logon is None:
        return
    where = "SOFTWARE\\Microsoft\\Windows NT\\CurrentVersion\\Winlogon"
    if not (logon.userinit or "").strip(" ,"):
        said = "logging on ends at once: logged off again"
        yield Finding("BOOT-022", f"{where}\\Userinit", "is missing or empty", said, Stage.SHELL)


def _drive(facts: Facts, guest: Guest) -> Iterator[Finding]:
    system, volume = facts.system.value, facts.volume(guest.volume)
    letter = facts.logon.value.drive if facts.logon.value else "C"
    known = [row for row in system.mounted if row[0] == letter] if system else []
    if facts.kind != "nt5" or not known or volume is None or facts.table.scheme != "mbr" or facts.table.id is None:
        return
    _, signature, start = known[0]
    if signature != int(facts.table.id, 16) or start != volume.start:
        said = (
            f"{letter}: is {signature:#010x} from byte {start}; here it is {facts.table.id} from byte {volume.start}"
        )
        yield Finding("BOOT-023", "SYSTEM\\MountedDevices", said, "the drive may get another letter")


def _services(facts: Facts, guest: Guest) -> Iterator[Finding | Unread]:
    if guest.services.value is None:
        yield Unread("SVC-001", guest.services.reason or "services can't be read")
        yield Unread("SVC-002", guest.services.reason or "services can't be read")
        return
    for service in guest.services.value:
        if service.start in (1, 2, 3) and service.name.lower() not in LEFTOVERS:
            yield from _service(facts, service)


def _service(facts: Facts, service: Service) -> Iterator[Finding | Unread]:
    rule = f"SVC-00{service.start}"
    for path in dict.fromkeys((service.file, service.service_dll)):
        file = facts.file(path) if path is not None else None
        if file is None:
            continue
        if file.state == "missing":
            quiet = service.start == 1 and service.error_control == 0
            said = f"the service {service.name} ({service.start_name}) names it, and it isn't there"
            yield Finding(rule, file.path, said, f"{service.name} doesn't start", severity="low" if quiet else None)
        elif file.state == "unread" and service.start < 3:
            yield Unread(rule, f"{file.path}: {file.reason}")


def _imports(facts: Facts) -> Iterator[Finding | Unread]:
    if facts.imports.value is None:
        for rule in ("BOOT-025", "SVC-004"):
            yield Unread(rule, facts.imports.reason or "the import closure wasn't followed")
        return
    for broken in facts.imports.value:
        where = broken.path or broken.library
        more = "" if broken.programs == 1 else f"; {broken.programs} programs of the start need it"
        said = f"{broken.reason}; {broken.importer} imports it, for {broken.start}{more}"
        yield Finding(broken.rule, where, said, _unresolved(broken), broken.stage, broken.severity)


def _unresolved(broken: BrokenImport) -> str:
    entry = "doesn't export" in broken.reason
    if broken.rule == "SVC-004":
        return f"{broken.start.rpartition('/')[2]} doesn't start"
    if broken.stage == Stage.KERNEL:
        return f"the loader stops at {broken.importer.rpartition('/')[2]}, or STOP 0x0000007B where the disk needs it"
    if broken.stage == Stage.SESSION:
        return "STOP 0xC0000139 or 0xC000021A" if entry else "STOP 0xC0000135"
    what = "an entry point that can't be located" if entry else f"{broken.library}, which was not found"
    return f"a message about {what}, and {'no logon' if broken.stage == Stage.LOGON else 'a program less'}"
