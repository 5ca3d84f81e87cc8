"""What an installed system is: ``Guest``, frozen facts read from its files and hives. Nothing is booted.

Secrets are never among the facts: a product key, a stored password or a hash is *present* or *absent*.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from byre.errors import ByreError, CorruptImageError
from byre.filesystems.base import Entry, FileSystem, VolumeFacts
from byre.windows.accounts import Account, read_accounts
from byre.windows.autostarts import Autostart, read_autostarts
from byre.windows.bcd import Bcd, read_bcd
from byre.windows.boot_ini import BootIni, FreeldrIni, parse_boot_ini, parse_freeldr_ini
from byre.windows.fact import Fact, absent, attempt, known, known_or_absent, unknown
from byre.windows.hives import Hives, open_hives, own_drive, read_hive
from byre.windows.pe import PeFile, parse_pe
from byre.windows.registry import Hive, Key
from byre.windows.registry.layout import filetime_to_rfc3339
from byre.windows.roots import name_exists
from byre.windows.services import (
    ControlSets,
    CriticalDevice,
    Service,
    read_control_sets,
    read_critical_devices,
    read_services,
)
from byre.windows.software import Hotfix, Program, read_hotfixes, read_programs
from byre.windows.system_paths import system_paths

T = TypeVar("T")

_CURRENT = r"Microsoft\Windows NT\CurrentVersion"
_HALS = {
    "hal.dll": "Standard PC",
    "halacpi.dll": "ACPI PC",
    "halaacpi.dll": "ACPI uniprocessor",
    "halmacpi.dll": "ACPI multiprocessor",
    "halapic.dll": "MPS uniprocessor",
    "halmps.dll": "MPS multiprocessor",
    "halsp.dll": "Compaq SystemPro",
    "halx86": "x86",
}
_KERNELS = {
    "ntoskrnl.exe": "uniprocessor",
    "ntkrnlmp.exe": "multiprocessor",
    "ntkrnlpa.exe": "uniprocessor, PAE",
    "ntkrpamp.exe": "multiprocessor, PAE",
}
_PRODUCT_TYPES = {"winnt": "workstation", "servernt": "server", "lanmannt": "domain controller"}
_STORAGE_CLASSES = ("{4D36E96A-E325-11CE-BFC1-08002BE10318}", "{4D36E97B-E325-11CE-BFC1-08002BE10318}")
"""Device setup classes: IDE controllers, SCSI and RAID controllers."""
MAX_PE = 64 << 20


@dataclass(frozen=True, slots=True)
class BootController:
    """A storage controller's id with everything that booting from it needs: the entry, its service at Start=0
    and the driver's file."""

    id: str
    service: str
    start: int | None
    file: str | None
    file_present: bool

    @property
    def bootable(self) -> bool:
        return self.start == 0 and self.file_present


@dataclass(frozen=True, slots=True)
class DiskFile:
    """A page or hibernation file. Sizes in bytes."""

    path: str
    size: int
    in_use: bool | None = None
    """hiberfil.sys: whether a session lies in it."""


@dataclass(frozen=True, slots=True)
class Secrets:
    """Which secrets are there, each known to be present (True) or not; never what they are."""

    product_key: bool | None = None
    default_password: bool | None = None
    password_hashes: bool | None = None
    lsa_secrets: bool | None = None
    wireless_keys: bool | None = None


@dataclass(frozen=True, slots=True)
class Guest:
    """An installed Windows NT (4 to 7) or ReactOS on one volume."""

    family: str
    root: str
    volume: int
    product: Fact[str]
    version: Fact[str]
    build: Fact[str]
    service_pack: Fact[str]
    edition: Fact[str]
    architecture: Fact[str]
    language: Fact[str]
    hal: Fact[str]
    kernel: Fact[str]
    installed: Fact[str]
    owner: Fact[str]
    organization: Fact[str]
    computer_name: Fact[str]
    time_zone: Fact[str]
    control_sets: Fact[ControlSets]
    boot_ini: Fact[BootIni]
    freeldr: Fact[FreeldrIni]
    bcd: Fact[Bcd]
    users: Fact[tuple[Account, ...]]
    services: Fact[tuple[Service, ...]]
    critical_devices: Fact[tuple[CriticalDevice, ...]]
    boot_controllers: Fact[tuple[BootController, ...]]
    network_adapters: Fact[tuple[str, ...]]
    display_adapters: Fact[tuple[str, ...]]
    programs: Fact[tuple[Program, ...]]
    hotfixes: Fact[tuple[Hotfix, ...]]
    autostarts: Fact[tuple[Autostart, ...]]
    page_files: tuple[DiskFile, ...] = ()
    hibernation: DiskFile | None = None
    event_logs: tuple[str, ...] = ()
    prefetched: tuple[str, ...] = ()
    catalogs: int = 0
    free_space: int | None = None
    secrets: Secrets = field(default_factory=Secrets)
    problems: tuple[str, ...] = ()


def read_guest(
    files: FileSystem,
    root: str,
    *,
    volume: int = 0,
    facts: VolumeFacts | None = None,
    with_programs: bool = True,
) -> Guest:
    """The facts of the system below ``root`` (a guest path). What can't be read is an unknown fact.

    ``with_programs`` False leaves the kernel and the HAL unread, and unknown what only they tell.
    """
    return _Reader(files, root, volume, facts or files.facts(), with_programs).read()


class _Reader:
    """Reads one guest. Mutable while it works: it keeps the hives and the kernel's PE."""

    def __init__(
        self, files: FileSystem, root: str, volume: int, facts: VolumeFacts, with_programs: bool = True
    ) -> None:
        self.with_programs = with_programs
        self.files = files
        self.root = root
        self.volume = volume
        self.facts = facts
        self.hives: Hives = open_hives(files, root)
        self.system = self.hives.get("SYSTEM")
        self.software = self.hives.get("SOFTWARE")
        self.paths = system_paths(root, own_drive(self.software), self.software)
        self.control_sets: Fact[ControlSets] = self._from("SYSTEM", read_control_sets)
        self.control_set = self._control_set()

    def read(self) -> Guest:
        kernel = self._pe(f"{self.root}/system32/ntoskrnl.exe")
        services = self._of_control_set(lambda key: read_services(key, self.paths))
        devices = self._of_control_set(read_critical_devices)
        product = self._text("ProductName")
        return Guest(
            family="reactos" if "reactos" in (product.value or self.root).lower() else "windows",
            root=self.root,
            volume=self.volume,
            product=product,
            version=self._text("CurrentVersion"),
            build=self._build(kernel),
            service_pack=self._text("CSDVersion"),
            edition=self._edition(product),
            architecture=kernel.map(lambda pe: pe.headers.machine_name),
            language=self._language(),
            hal=self._hal(),
            kernel=kernel.map(_kernel_variant),
            installed=self._installed(),
            owner=self._text("RegisteredOwner"),
            organization=self._text("RegisteredOrganization"),
            computer_name=self._control(r"Control\ComputerName\ComputerName", "ComputerName"),
            time_zone=self._time_zone(),
            control_sets=self.control_sets,
            boot_ini=self._parsed("/boot.ini", parse_boot_ini),
            freeldr=self._parsed("/freeldr.ini", parse_freeldr_ini),
            bcd=self._bcd(),
            users=self._from("SAM", read_accounts),
            services=services,
            critical_devices=devices,
            boot_controllers=self._boot_controllers(services, devices),
            network_adapters=self._adapters("{4d36e972-e325-11ce-bfc1-08002be10318}"),
            display_adapters=self._adapters("{4d36e968-e325-11ce-bfc1-08002be10318}"),
            programs=self._from("SOFTWARE", read_programs),
            hotfixes=self._from("SOFTWARE", read_hotfixes),
            autostarts=attempt(lambda: read_autostarts(self.files, self.hives, self.control_set, self.paths)),
            page_files=self._page_files(),
            hibernation=self._hibernation(),
            event_logs=self._names(f"{self.root}/system32/config", ".evt")
            + self._names(f"{self.root}/system32/winevt/Logs", ".evtx"),
            prefetched=self._names(f"{self.root}/Prefetch", ".pf"),
            catalogs=self._count_catalogs(),
            free_space=self.facts.free,
            secrets=self._secrets(),
            problems=self._problems(),
        )

    def _from(self, name: str, read: Callable[[Hive], T | None]) -> Fact[T]:
        fact = self.hives.machine[name]
        if fact.value is None:
            return absent() if fact.state == "absent" else unknown(fact.reason or f"{name} can't be read")
        hive = fact.value
        return attempt(lambda: read(hive))

    def _control_set(self) -> Key | None:
        if self.system is None:
            return None
        sets = self.control_sets.value
        wanted = [sets.next_boot] if sets and sets.next_boot else []
        try:
            for name in (*wanted, "ControlSet001"):
                key = self.system.key(name)
                if key is not None:
                    return key
        except CorruptImageError:
            return None
        return None

    def _of_control_set(self, read: Callable[[Key], T]) -> Fact[T]:
        key = self.control_set
        if key is None:
            fact = self.hives.machine["SYSTEM"]
            return unknown(fact.reason or "the SYSTEM hive has no control set that can be read")
        return attempt(lambda: read(key))

    def _text(self, name: str) -> Fact[str]:
        def read(software: Hive) -> str | None:
            key = software.key(_CURRENT)
            value = key.value(name) if key else None
            return value.text if value else None

        return self._from("SOFTWARE", read)

    def _control(self, path: str, name: str) -> Fact[str]:
        def read(control_set: Key) -> str | None:
            key = control_set.at(path)
            value = key.value(name) if key else None
            return value.text if value else None

        fact = self._of_control_set(read)
        return known_or_absent(fact.value) if fact.is_known else Fact(fact.state, None, fact.reason)

    def _build(self, kernel: Fact[PeFile]) -> Fact[str]:
        """CurrentBuildNumber; on XP CurrentBuild says something else."""
        stated = self._text("CurrentBuildNumber")
        if stated.is_known or kernel.value is None or kernel.value.version is None:
            return stated
        return known(str(kernel.value.version.file_version[2]))

    def _edition(self, product: Fact[str]) -> Fact[str]:
        stated = self._text("EditionID")
        if stated.is_known:
            return stated
        suite = self._control(r"Control\ProductOptions", "ProductType")
        return suite.map(lambda text: _PRODUCT_TYPES.get(text.lower(), text))

    def _language(self) -> Fact[str]:
        return self._control(r"Control\Nls\Language", "InstallLanguage").map(_language_name)

    def _hal(self) -> Fact[str]:
        def name(pe: PeFile) -> str:
            original = (pe.version.original_filename or "") if pe.version else ""
            return f"{_HALS.get(original.lower(), 'unknown')} ({original or 'no version resource'})"

        return self._pe(f"{self.root}/system32/hal.dll").map(name)

    def _installed(self) -> Fact[str]:
        def read(software: Hive) -> str | None:
            key = software.key(_CURRENT)
            value = key.value("InstallDate") if key else None
            seconds = value.number if value else None
            return filetime_to_rfc3339(seconds * 10_000_000 + 116_444_736_000_000_000) if seconds else None

        return self._from("SOFTWARE", read)

    def _time_zone(self) -> Fact[str]:
        path = r"Control\TimeZoneInformation"
        named = self._control(path, "TimeZoneKeyName")
        return named if named.is_known else self._control(path, "StandardName")

    def _boot_controllers(
        self, services: Fact[tuple[Service, ...]], devices: Fact[tuple[CriticalDevice, ...]]
    ) -> Fact[tuple[BootController, ...]]:
        if services.value is None or devices.value is None:
            return unknown(services.reason or devices.reason or "services can't be read")
        by_name = {service.name.lower(): service for service in services.value}
        found = []
        for device in devices.value:
            storage = device.class_guid is None or device.class_guid.upper() in _STORAGE_CLASSES
            if not device.id.startswith("pci#") or not device.service or not storage:
                continue
            service = by_name.get(device.service.lower())
            file = service.file if service else None
            present = file is not None and name_exists(self.files, file)
            found.append(BootController(device.id, device.service, service.start if service else None, file, present))
        return known(tuple(found))

    def _adapters(self, guid: str) -> Fact[tuple[str, ...]]:
        def read(control_set: Key) -> tuple[str, ...]:
            key = control_set.at(rf"Control\Class\{guid}")
            found = []
            for child in () if key is None else key.subkeys():
                value = child.value("DriverDesc")
                if value is not None and value.text and child.name.isdigit():
                    found.append(value.text)
            return tuple(dict.fromkeys(found))

        return self._of_control_set(read)

    def _parsed(self, path: str, parse: Callable[[bytes], T]) -> Fact[T]:
        try:
            entry = self.files.lookup(path)
        except ByreError:
            return absent()
        return attempt(lambda: parse(self.files.read(entry, length=1 << 20)))

    def _bcd(self) -> Fact[Bcd]:
        """The boot configuration of Vista and later, beside its boot manager."""
        fact = read_hive(self.files, "/Boot/BCD")
        if fact.value is None:
            return Fact(fact.state, None, fact.reason)
        hive = fact.value
        return attempt(lambda: read_bcd(hive))

    def _pe(self, path: str) -> Fact[PeFile]:
        if not self.with_programs:
            return unknown("not read")
        try:
            entry = self.files.lookup(path)
        except ByreError:
            return absent()
        return attempt(lambda: parse_pe(self.files.read(entry, length=MAX_PE), path=path))

    def _page_files(self) -> tuple[DiskFile, ...]:
        entry = self._entry("/pagefile.sys")
        return (DiskFile(entry.path, entry.size),) if entry else ()

    def _hibernation(self) -> DiskFile | None:
        entry = self._entry("/hiberfil.sys")
        return DiskFile(entry.path, entry.size, self.facts.hibernated) if entry else None

    def _entry(self, path: str) -> Entry | None:
        try:
            return self.files.lookup(path)
        except ByreError:
            return None

    def _names(self, folder: str, suffix: str) -> tuple[str, ...]:
        try:
            rows = self.files.listdir(folder)
        except ByreError:
            return ()
        return tuple(row.name for row in rows if not row.is_dir and row.name.lower().endswith(suffix))

    def _count_catalogs(self) -> int:
        return len(self._names(f"{self.root}/system32/CatRoot/{{F750E6C3-38EE-11D1-85E5-00C04FC295EE}}", ".cat"))

    def _secrets(self) -> Secrets:
        winlogon = self._key(self.software, rf"{_CURRENT}\Winlogon")
        current = self._key(self.software, _CURRENT)
        security = self.hives.get("SECURITY")
        lsa = self._key(security, r"Policy\Secrets")
        sam = self.hives.get("SAM")
        return Secrets(
            product_key=None if current is None else current.value("DigitalProductId") is not None,
            default_password=None if winlogon is None else winlogon.value("DefaultPassword") is not None,
            password_hashes=attempt(lambda: None if sam is None else _any_hash(sam)).value,
            lsa_secrets=None if security is None else bool(lsa and lsa.subkeys()),
            wireless_keys=self._wireless(),
        )

    def _wireless(self) -> bool | None:
        key = self._key(self.software, r"Microsoft\WZCSVC\Parameters\Interfaces")
        if self.software is None:
            return None
        return any(
            v.name.lower().startswith("static#") for child in (key.subkeys() if key else ()) for v in child.values()
        )

    def _key(self, hive: Hive | None, path: str) -> Key | None:
        try:
            return hive.key(path) if hive is not None else None
        except ByreError:
            return None

    def _problems(self) -> tuple[str, ...]:
        found = []
        for name, fact in self.hives.machine.items():
            if fact.state == "unknown":
                found.append(f"{name}: {fact.reason}")
            elif fact.value is not None:
                found += [f"{name}: {problem.what}" for problem in fact.value.problems[:20]]
        for user in self.hives.users:
            if user.hive.state == "unknown":
                found.append(f"{user.path}: {user.hive.reason}")
            elif user.hive.value is not None:
                found += [f"{user.path}: {problem.what}" for problem in user.hive.value.problems[:20]]
        return tuple(found)


def _any_hash(sam: Hive) -> bool:
    return any(account.blank_password is False for account in read_accounts(sam))


def _kernel_variant(pe: PeFile) -> str:
    original = (pe.version.original_filename or "").lower() if pe.version else ""
    return f"{_KERNELS.get(original, 'unknown')} ({original or 'no version resource'})"


def _language_name(code: str) -> str:
    """A language id in hexadecimal with its locale name, where Python knows it."""
    from locale import windows_locale

    try:
        return f"{windows_locale.get(int(code, 16), 'unknown')} ({code})"
    except ValueError:
        return code
