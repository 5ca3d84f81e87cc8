r"""STOP 0x7B prevented: every common IDE controller named in CriticalDeviceDatabase, its services and drivers there.

Source: for Windows 2000 to 2003 Microsoft KB 314082, whose registry file this writes (its list of ids was compared
with five public copies of it); for Vista and 7 KB 922976 (AHCI); for ReactOS [HardwareIdsDatabase] of its own
txtsetup.sif. Other controllers (virtio, AHCI on XP, SCSI) only with drivers that the owner gives: what is written for
virtio-blk is what virt-v2v writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from byre.lite.changes import Content, Put
from byre.lite.hive_editor import SetValue
from byre.lite.mending.driver_files import Placed, place
from byre.lite.mending.given_drivers import IDE_CLASS, SCSI_CLASS, Setting, read_given
from byre.lite.mending.plan import Patient, Plan, Refusal, Step
from byre.windows.registry.layout import ValueType
from byre.windows.services import Service

CONTROL = r"HKLM\SYSTEM\CurrentControlSet\Control\CriticalDeviceDatabase"
SERVICES = r"HKLM\SYSTEM\CurrentControlSet\Services"
_DISK = "{4D36E967-E325-11CE-BFC1-08002BE10318}"
RULES = ("PORT-001", "PORT-002", "PORT-003", "PORT-004")
_PNP = Setting(r"Parameters\PnpInterface", "5", ValueType.DWORD, b"\1\0\0\0")
"""What port drivers ask to know which bus it is: 5 is PCI."""


@dataclass(frozen=True, slots=True)
class Driver:
    """A service that must start at boot: its file, and those that belong to it; the ids that name it. ``given``: only
    where the owner gives its file; ``there``: only where the service is there already."""

    service: str
    files: tuple[str, ...]
    group: str
    tag: int | None
    ids: tuple[str, ...]
    class_guid: str
    given: bool = False
    there: bool = False
    settings: tuple[Setting, ...] = ()


def _pci(vendor: str, *devices: str) -> tuple[str, ...]:
    return tuple(f"pci#ven_{vendor}&dev_{device}" for device in devices)


_OTHER_IDE = (
    *_pci("0e11", "ae33"),
    *_pci("1039", "0601", "5513"),
    *_pci("1042", "1000"),
    *_pci("105a", "4d33"),
    *_pci("1095", "0640", "0646", "0646&rev_05", "0646&rev_07", "0648", "0649"),
    *_pci("1097", "0038"),
    *_pci("10ad", "0001", "0150"),
    *_pci("10b9", "5215", "5219", "5229"),
    *_pci("1106", "0571"),
)
_BUS, _MINIPORT = "System Bus Extender", "SCSI miniport"
_INTEL = _pci("8086", "1222", "1230", "2411", "2421", "7010", "7111", "7199")
_CHANNELS = ("primary_ide_channel", "secondary_ide_channel", "*pnp0600")
DRIVERS = (
    Driver("atapi", ("atapi.sys",), _MINIPORT, 0x19, (*_CHANNELS, "*azt0502"), IDE_CLASS),
    Driver("disk", ("disk.sys", "classpnp.sys"), "SCSI Class", None, ("gendisk",), _DISK),
    Driver("intelide", ("intelide.sys", "pciidex.sys"), _BUS, 4, _INTEL, IDE_CLASS),
    Driver("pciide", ("pciide.sys", "pciidex.sys"), _BUS, 3, ("pci#cc_0101", *_OTHER_IDE), IDE_CLASS),
)
"""What Windows 2000, XP and 2003 have for every IDE controller."""
_NT6 = (
    Driver("atapi", ("atapi.sys", "ataport.sys"), _MINIPORT, 0x19, _CHANNELS, IDE_CLASS),
    Driver("disk", ("disk.sys", "classpnp.sys"), "SCSI Class", None, ("gendisk",), _DISK),
    Driver("intelide", ("intelide.sys", "pciidex.sys"), _BUS, 4, _INTEL, IDE_CLASS),
    Driver("pciide", ("pciide.sys", "pciidex.sys"), _BUS, 3, ("pci#cc_0101",), IDE_CLASS),
    Driver("msahci", ("msahci.sys", "ataport.sys"), _MINIPORT, None, ("pci#cc_0106",), IDE_CLASS, there=True),
    Driver("iastorv", ("iastorv.sys",), _MINIPORT, None, (), SCSI_CLASS, there=True),
    Driver("lsi_scsi", ("lsi_scsi.sys",), _MINIPORT, None, _pci("1000", "0030"), SCSI_CLASS, there=True),
    Driver("lsi_sas", ("lsi_sas.sys",), _MINIPORT, None, _pci("1000", "0054"), SCSI_CLASS, there=True),
)
"""What Vista and 7 have in the box; what they didn't need at Setup doesn't start at boot."""
_ATA_CLASSES = ("pci#cc_0101", "pci#cc_0104", "pci#cc_0105", "pci#cc_0106")
_REACTOS = (
    Driver("uniata", ("uniata.sys",), _MINIPORT, None, (*_ATA_CLASSES, "*pnp0600"), IDE_CLASS, there=True),
    Driver("pciide", ("pciide.sys", "pciidex.sys"), _BUS, None, _ATA_CLASSES, IDE_CLASS, there=True),
    Driver("atapi", ("atapi.sys",), _MINIPORT, None, ("*pnp0600",), IDE_CLASS, there=True),
    Driver("buslogic", ("buslogic.sys",), _MINIPORT, None, ("pci#ven_104b&cc_0100",), SCSI_CLASS, there=True),
    Driver("disk", ("disk.sys", "classpnp.sys"), "SCSI Class", None, ("gendisk",), _DISK, there=True),
)
"""Older ones have uniata for all of it, newer ones pciide and atapi."""
_VIRTIO_BLOCK = (
    *_pci("1af4", "1001", "1001&subsys_00021af4", "1001&subsys_00021af4&rev_00", "1001&rev_00"),
    *_pci("1af4", "1042", "1042&subsys_11001af4&rev_01"),
)
_GIVEN = tuple(
    Driver(name, (f"{name}.sys",), _MINIPORT, None, ids, SCSI_CLASS, given=True, settings=(_PNP,))
    for name, ids in (
        ("viostor", _VIRTIO_BLOCK),
        ("vioscsi", _pci("1af4", "1004", "1004&subsys_00081af4&rev_00", "1048", "1048&subsys_11001af4&rev_01")),
        ("iastor", _pci("8086", "2922", "2829")),
        ("symmpi", _pci("1000", "0030")),
        ("vmscsi", _pci("104b", "1040")),
        ("sym_hi", _pci("1000", "0012")),
    )
)
_TABLES = {"nt5": DRIVERS, "nt6": _NT6, "reactos": _REACTOS}


def plan(patient: Patient) -> Plan:
    """Keys, services and drivers; what a driver can't be had for is refused, the rest is done."""
    guest = patient.facts.guest
    version = _version(patient)
    if guest is None or patient.facts.kind not in _TABLES or not (5, 0) <= version <= (6, 1):
        reason, remedy = _unmendable(version)
        return Plan((), (Refusal("boot controllers", reason, remedy),))
    if guest.services.value is None or guest.critical_devices.value is None:
        reason = guest.services.reason or guest.critical_devices.reason or "the SYSTEM hive can't be read"
        return Plan((), (Refusal("boot controllers", reason, "put a readable SYSTEM hive in place"),))
    services = {service.name.lower(): service for service in guest.services.value}
    entries = {device.id: device.service for device in guest.critical_devices.value}
    described, whole = _described(patient, version)
    known = {driver.service.lower() for driver in described}
    drivers = (
        *_boxed(patient.facts.kind, services),
        *described,
        *(each for each in _GIVEN if each.service not in known),
    )
    staged: dict[str, Placed] = {}
    without = []
    for driver in drivers:
        there = services.get(driver.service.lower())
        if driver.there and there is None:
            continue
        if driver.given and not patient.source.given(driver.files[0]):
            without.append(driver.files[0])
            continue
        whole += _one(patient, driver, there, entries, services, staged)
    if without and not described and patient.facts.kind == "nt5":
        said = f"controllers that aren't IDE need their makers' drivers: --drivers DIR with {', '.join(without)}"
        whole += Plan(notes=(f"{said}, and their .inf",))
    return whole


def _boxed(kind: str, services: dict[str, Service]) -> tuple[Driver, ...]:
    """The drivers that a system of this kind has in the box."""
    if kind != "reactos":
        return _TABLES[kind]
    older = "uniata" in services and services["uniata"].start != 4
    left_out = ("pciide", "atapi") if older else ("uniata",)
    return tuple(driver for driver in _REACTOS if driver.service not in left_out)


def _unmendable(version: tuple[int, int]) -> tuple[str, str]:
    if version >= (6, 2):
        remedy = "its drivers find common controllers by themselves; virt-v2v enters those for virtio"
        return "Windows 8 and later keep controllers in a DriverDatabase that Byre doesn't write", remedy
    if (4, 0) <= version < (5, 0):
        return (
            "Windows NT 4 has no plug and play: its driver is chosen by name",
            "Start=0 by 'byre reg', if it is there",
        )
    return "this is no Windows or ReactOS whose version can be read", "see 'byre inspect' for what can't be read"


def _version(patient: Patient) -> tuple[int, int]:
    guest = patient.facts.guest
    stated = (guest.version.value or "" if guest is not None else "").split(".")
    if len(stated) >= 2 and stated[0].isdigit() and stated[1].isdigit():
        return int(stated[0]), int(stated[1])
    return {"nt5": (5, 1), "nt6": (6, 1), "reactos": (5, 2)}.get(patient.facts.kind, (0, 0))


def _described(patient: Patient, version: tuple[int, int]) -> tuple[tuple[Driver, ...], Plan]:
    """The owner's drivers that an .inf describes, and what is wrong with those of other Windows."""
    guest = patient.facts.guest
    architecture = (guest.architecture.value if guest is not None else None) or "x86"
    fixed = {driver.service: driver for driver in _GIVEN}
    found: dict[str, Driver] = {}
    wrong: list[str] = []
    for name, data in patient.source.descriptions():
        read = read_given(name, data, version=version, architecture=architecture)
        if isinstance(read, str):
            wrong.append(read)
            continue
        for each in read:
            own = fixed.get(each.service.lower())
            ids = tuple(dict.fromkeys((*each.ids, *(own.ids if own is not None else ()))))
            settings = each.settings or (_PNP,)
            row = Driver(each.service, (each.file,), each.group, None, ids, each.class_guid, True, False, settings)
            found.setdefault(each.service.lower(), row)
    refusals = tuple(
        Refusal("a driver that was given", each, "the folder of the driver that is for this Windows")
        for each in wrong
    )
    return tuple(found.values()), Plan((), refusals if not found else ())


def _one(
    patient: Patient,
    driver: Driver,
    there: Service | None,
    entries: dict[str, str | None],
    services: dict[str, Service],
    staged: dict[str, Placed],
) -> Plan:
    """Files, service and entries of one driver, or a refusal. ``staged``: what earlier ones put there; added to."""
    own = there.file if there is not None else None
    placed = place(patient, driver.files, own, staged, fresh=driver.given)
    if isinstance(placed, str):
        remedy = f"--drivers DIR with {' and '.join(driver.files)} of the same Windows and service pack"
        return Plan((), (Refusal(f"controllers that need {driver.service}", placed, remedy),))
    steps = []
    for each in placed:
        staged[each.path.lower()] = each
        said = f"{each.name} into {each.path.rpartition('/')[0]}, from {each.where}"
        steps.append(Step(said, Put(each.path, Content.of(each.data))))
    return Plan((*steps, *_service(driver, there), *_entries(driver, entries, services)))


def dword(key: str, name: str, number: int) -> SetValue:
    return SetValue(key, name, ValueType.DWORD, number.to_bytes(4, "little"))


def text(key: str, name: str, value: str, kind: int = ValueType.SZ) -> SetValue:
    return SetValue(key, name, kind, value.encode("utf-16-le", "surrogatepass") + b"\0\0")


def _service(driver: Driver, there: Service | None) -> list[Step]:
    """A service that is there only starts at boot from now on; a new one is written whole."""
    key = f"{SERVICES}\\{there.name if there is not None else driver.service}"
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
    edits += [SetValue(f"{key}\\{each.key}", each.name, each.type, each.data) for each in driver.settings]
    return [Step(f"service {driver.service}: new, Start=0, group {driver.group}", edit) for edit in edits]


def _entries(driver: Driver, entries: dict[str, str | None], services: dict[str, Service]) -> list[Step]:
    """Entries that aren't there, or that name a service which doesn't start at boot."""
    steps = []
    for identifier in driver.ids:
        named = entries.get(identifier)
        if named is not None and named.lower() != driver.service.lower():
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


def plan_intelppm(patient: Patient) -> Plan:
    """intelppm off: on a processor that isn't Intel's it ends in STOP 0x7E (Microsoft KB 953356)."""
    guest = patient.facts.guest
    for service in (guest.services.value if guest else None) or ():
        if service.name.lower() == "intelppm" and service.start <= 1:
            said = f"service intelppm: Start=4 instead of {service.start}"
            return Plan((Step(said, dword(rf"{SERVICES}\{service.name}", "Start", 4)),))
    return Plan()
