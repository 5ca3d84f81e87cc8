r"""STOP 0x7B prevented: every common IDE controller named in CriticalDeviceDatabase, its services and drivers there.

Source: Microsoft KB 314082, whose registry file this writes; groups and tags as a clean Windows XP has them. Other
controllers (virtio, AHCI, SCSI) only with drivers that the owner gives: the ids are those of the audit's machines.
"""

from __future__ import annotations

from dataclasses import dataclass

from byre.errors import ByreError
from byre.lite.changes import Content, Put
from byre.lite.hive_editor import SetValue
from byre.lite.mending.plan import Patient, Plan, Refusal, Step
from byre.windows.pe import parse_pe
from byre.windows.registry.layout import ValueType
from byre.windows.services import Service

CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control\CriticalDeviceDatabase"
SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
_HDC = "{4D36E96A-E325-11CE-BFC1-08002BE10318}"
_DISK = "{4D36E967-E325-11CE-BFC1-08002BE10318}"
_SCSI = "{4D36E97B-E325-11CE-BFC1-08002BE10318}"
RULES = ("PORT-001", "PORT-002", "PORT-003", "PORT-004")


@dataclass(frozen=True, slots=True)
class Driver:
    """A service that must start at boot: its file, and those that this one imports; the ids that name it.
    ``given``: only where the owner gives its file."""

    service: str
    files: tuple[str, ...]
    group: str
    tag: int | None
    ids: tuple[str, ...]
    class_guid: str
    given: bool = False


def _pci(vendor: str, *devices: str) -> tuple[str, ...]:
    return tuple(f"pci#ven_{vendor}&dev_{device}" for device in devices)


_OTHER_IDE = (
    *_pci("0e11", "ae33"),
    *_pci("1039", "0601", "5513"),
    *_pci("1042", "1000"),
    *_pci("105a", "4d33"),
    *_pci("1095", "0640", "0646"),
    *_pci("1097", "0038"),
    *_pci("10ad", "0001", "0150"),
    *_pci("10b9", "5215", "5219", "5229"),
    *_pci("1106", "0571"),
)
DRIVERS = (
    Driver(
        "atapi",
        ("atapi.sys",),
        "SCSI miniport",
        0x19,
        ("primary_ide_channel", "secondary_ide_channel", "*pnp0600", "*azt0502"),
        _HDC,
    ),
    Driver("disk", ("disk.sys", "classpnp.sys"), "SCSI Class", None, ("gendisk",), _DISK),
    Driver(
        "intelide",
        ("intelide.sys", "pciidex.sys"),
        "System Bus Extender",
        4,
        _pci("8086", "1222", "1230", "2411", "2421", "7010", "7111", "7199"),
        _HDC,
    ),
    Driver("pciide", ("pciide.sys", "pciidex.sys"), "System Bus Extender", 3, ("pci#cc_0101", *_OTHER_IDE), _HDC),
    Driver("viostor", ("viostor.sys",), "SCSI miniport", None, _pci("1af4", "1001"), _SCSI, given=True),
    Driver("iastor", ("iastor.sys",), "SCSI miniport", None, _pci("8086", "2922", "2829"), _SCSI, given=True),
    Driver("symmpi", ("symmpi.sys",), "SCSI miniport", None, _pci("1000", "0030"), _SCSI, given=True),
    Driver("vmscsi", ("vmscsi.sys",), "SCSI miniport", None, _pci("104b", "1040"), _SCSI, given=True),
)


def plan(patient: Patient) -> Plan:
    """Keys, services and drivers; what a driver can't be had for is refused, the rest is done."""
    guest = patient.facts.guest
    if guest is None or patient.facts.kind != "nt5":
        remedy = "Vista and 7 name controllers in another way; ReactOS finds its own"
        return Plan((), (Refusal("boot controllers", "this is no Windows 2000, XP or 2003", remedy),))
    if guest.services.value is None or guest.critical_devices.value is None:
        reason = guest.services.reason or guest.critical_devices.reason or "the SYSTEM hive can't be read"
        return Plan((), (Refusal("boot controllers", reason, "put a readable SYSTEM hive in place"),))
    services = {service.name.lower(): service for service in guest.services.value}
    entries = {device.id: device.service for device in guest.critical_devices.value}
    whole, put, without = Plan(), set[str](), []
    for driver in DRIVERS:
        if driver.given and not patient.source.given(driver.files[0]):
            if driver.service not in services:
                without.append(driver.files[0])
            continue
        files = _files(patient, driver, services.get(driver.service), put)
        whole += files
        if files.refusals:
            continue
        put |= {name for name in driver.files if any(step.said.startswith(f"{name} ") for step in files.steps)}
        whole += Plan((*_service(driver, services.get(driver.service)), *_entries(driver, entries, services)))
    if without:
        said = f"controllers that aren't IDE need their makers' drivers: --drivers DIR with {', '.join(without)}"
        whole += Plan(notes=(said,))
    return whole + _remarks(patient)


def _files(patient: Patient, driver: Driver, service: Service | None, put: set[str]) -> Plan:
    """The driver's files that aren't there yet, each from a source and for this guest's processor."""
    folder = f"{patient.root}/system32/drivers"
    steps, missing = [], []
    for number, name in enumerate(driver.files):
        own = service.file if service is not None and service.file is not None and not number else None
        path = own or f"{folder}/{name}"
        if name in put or _present(patient, path):
            continue
        found = patient.source.find(name)
        if found is None:
            missing.append(f"{name} isn't there, and neither the guest's own sources nor --drivers have it")
            continue
        data, where = found
        wrong = _unfit(patient, name, data, where)
        if wrong is not None:
            missing.append(wrong)
        else:
            steps.append(Step(f"{name} into {path.rpartition('/')[0]}, from {where}", Put(path, Content.of(data))))
    if not missing:
        return Plan(tuple(steps))
    remedy = f"--drivers DIR with {' and '.join(driver.files)} of the same Windows and service pack"
    return Plan((), (Refusal(f"controllers that need {driver.service}", "; ".join(missing), remedy),))


def _present(patient: Patient, path: str) -> bool:
    try:
        entry = patient.files.lookup(path)
    except ByreError:
        return False
    return not entry.is_dir and entry.size > 0


def _unfit(patient: Patient, name: str, data: bytes, where: str) -> str | None:
    """Why a file can't be the driver: it is no program, or one for another processor than the kernel's."""
    try:
        machine = parse_pe(data, path=where).headers.machine
    except ByreError as error:
        return f"{name} from {where} is no program: {error.what}"
    kernel = patient.facts.files.get(f"{patient.root}/system32/ntoskrnl.exe".lower())
    wanted = 0x8664 if patient.facts.guest and patient.facts.guest.architecture.value == "x64" else 0x14C
    if kernel is None or machine == wanted:
        return None
    return f"{name} from {where} is for another processor ({machine:#06x})"


def dword(key: str, name: str, number: int) -> SetValue:
    return SetValue(key, name, ValueType.DWORD, number.to_bytes(4, "little"))


def text(key: str, name: str, value: str, kind: int = ValueType.SZ) -> SetValue:
    return SetValue(key, name, kind, value.encode("utf-16-le", "surrogatepass") + b"\0\0")


def _service(driver: Driver, there: Service | None) -> list[Step]:
    """A service that is there only starts at boot from now on; a new one is written whole."""
    key = f"{SERVICES}\\{driver.service}"
    if there is not None:
        if there.start == 0:
            return []
        return [Step(f"service {there.name}: Start=0 instead of {there.start}", dword(key, "Start", 0))]
    path = rf"system32\drivers\{driver.files[0]}"
    edits = [
        dword(key, "Start", 0),
        dword(key, "Type", 1),
        dword(key, "ErrorControl", 1),
        text(key, "Group", driver.group),
        text(key, "ImagePath", path, ValueType.EXPAND_SZ),
    ]
    if driver.tag is not None:
        edits.append(dword(key, "Tag", driver.tag))
    if driver.given:  # what the port drivers ask to know which bus it is: 5 is PCI
        edits.append(dword(f"{key}\\Parameters\\PnpInterface", "5", 1))
    return [Step(f"service {driver.service}: new, Start=0, group {driver.group}", edit) for edit in edits]


def _entries(driver: Driver, entries: dict[str, str | None], services: dict[str, Service]) -> list[Step]:
    """Entries that aren't there, or that name a service which doesn't start at boot."""
    steps = []
    for identifier in driver.ids:
        named = entries.get(identifier)
        if named is not None and named.lower() != driver.service:
            other = services.get(named.lower())
            if other is not None and other.start == 0:
                continue  # the maker's own driver is better than ours
        elif named is not None:
            continue
        key = f"{CONTROL}\\{identifier}"
        said = f"CriticalDeviceDatabase: {identifier} is {driver.service}'s"
        steps.append(Step(said, text(key, "Service", driver.service)))
        steps.append(Step(said, text(key, "ClassGUID", driver.class_guid)))
    return steps


def _remarks(patient: Patient) -> Plan:
    """The HAL isn't changed: say so where the audit finds that it should be."""
    file = patient.facts.files.get(f"{patient.root}/system32/hal.dll".lower())
    original = (file.pe.original_filename or "").lower() if file is not None and file.pe is not None else ""
    if original not in ("halapic.dll", "halmps.dll", "halsp.dll"):
        return Plan()
    reason = f"{original} is made for other machines than hypervisors offer; Byre exchanges no HAL"
    remedy = "hal.dll and ntoskrnl.exe of one set from the same service pack's media, with 'byre put'"
    return Plan((), (Refusal("the HAL", reason, remedy),))


def plan_intelppm(patient: Patient) -> Plan:
    """intelppm off: on a processor that isn't Intel's it ends in STOP 0x7E (Microsoft KB 953356)."""
    guest = patient.facts.guest
    for service in (guest.services.value if guest else None) or ():
        if service.name.lower() == "intelppm" and service.start <= 1:
            said = f"service intelppm: Start=4 instead of {service.start}"
            return Plan((Step(said, dword(rf"{SERVICES}\{service.name}", "Start", 4)),))
    return Plan()
