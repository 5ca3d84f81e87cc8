"""Services and drivers of one control set, and the storage controllers that the guest can boot from.

Source: Microsoft KB 103000 ("CurrentControlSet\\Services subkey entries") and KB 314082 (STOP 0x7B,
CriticalDeviceDatabase); what was measured is in the shared facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from byre.windows.paths import SystemPaths, command_targets, driver_path, relative_to_root
from byre.windows.redaction import redact_text
from byre.windows.registry import Hive, Key

KERNEL_DRIVER, FILE_SYSTEM_DRIVER = 0x1, 0x2
DRIVER_TYPES = KERNEL_DRIVER | FILE_SYSTEM_DRIVER | 0x4 | 0x8


class Start(IntEnum):
    """When a service starts."""

    BOOT = 0
    SYSTEM = 1
    AUTO = 2
    DEMAND = 3
    DISABLED = 4


@dataclass(frozen=True, slots=True)
class Service:
    """One key below Services that is a service or driver. ``file`` is its guest path, None where it has none that
    can be told; ``service_dll`` the DLL that a shared host loads for it."""

    name: str
    display_name: str | None
    type: int
    start: int
    error_control: int
    group: str | None
    tag: int | None
    image_path: str | None
    file: str | None
    service_dll: str | None
    account: str | None
    depends: tuple[str, ...]

    @property
    def is_driver(self) -> bool:
        return bool(self.type & DRIVER_TYPES)

    @property
    def start_name(self) -> str:
        return Start(self.start).name.lower() if self.start in Start._value2member_map_ else str(self.start)


@dataclass(frozen=True, slots=True)
class CriticalDevice:
    """One entry of CriticalDeviceDatabase: hardware or compatible id → service."""

    id: str
    service: str | None
    class_guid: str | None
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class ControlSets:
    """The numbers in ``Select``. The next boot uses ``default``; ``current`` is what the last boot used."""

    current: int | None
    default: int | None
    last_known_good: int | None
    failed: int | None

    @property
    def next_boot(self) -> str | None:
        """The name of the control set that the next boot uses."""
        return None if self.default is None else f"ControlSet{self.default:03d}"


def read_control_sets(system: Hive) -> ControlSets | None:
    """``Select``; None where the key isn't there."""
    key = system.key("Select")
    if key is None:
        return None
    current, default, good, failed = (
        value.number if (value := key.value(name)) else None
        for name in ("Current", "Default", "LastKnownGood", "Failed")
    )
    return ControlSets(current, default, good, failed)


def read_services(control_set: Key, paths: SystemPaths) -> tuple[Service, ...]:
    """Every service and driver, by name; keys that only hold parameters (no Type or no Start) are left out."""
    services = control_set.at("Services")
    found = [] if services is None else [_service(key, paths) for key in services.subkeys()]
    return tuple(sorted((each for each in found if each is not None), key=lambda each: each.name.lower()))


def _service(key: Key, paths: SystemPaths) -> Service | None:
    values = {value.name.lower(): value for value in key.values()}
    kind = values["type"].number if "type" in values else None
    start = values["start"].number if "start" in values else None
    if kind is None or start is None:
        return None
    image_path = values["imagepath"].text if "imagepath" in values else None
    if kind & DRIVER_TYPES:
        file = driver_path(key.name, image_path, paths)
    else:
        file = _program(image_path, paths) if image_path else None
    parameters = key.subkey("Parameters")
    dll = parameters.value("ServiceDll") if parameters else None
    tag = values["tag"].number if "tag" in values else None
    control = values["errorcontrol"].number if "errorcontrol" in values else None

    def text(name: str) -> str | None:
        return values[name].text if name in values else None

    return Service(
        name=key.name,
        display_name=text("displayname"),
        type=kind,
        start=start,
        error_control=0 if control is None else control,
        group=text("group"),
        tag=tag,
        image_path=None if image_path is None else redact_text(image_path),
        file=file,
        service_dll=None if dll is None or dll.text is None else paths.resolve(dll.text),
        account=text("objectname"),
        depends=tuple(values["dependonservice"].strings) if "dependonservice" in values else (),
    )


def _program(image_path: str, paths: SystemPaths) -> str | None:
    return relative_to_root(command_targets(image_path)[0], paths)


def read_critical_devices(control_set: Key) -> tuple[CriticalDevice, ...]:
    """CriticalDeviceDatabase, with ids in lower case as Windows compares them."""
    database = control_set.at(r"Control\CriticalDeviceDatabase")
    found = []
    for key in () if database is None else database.subkeys():
        service, guid = key.value("Service"), key.value("ClassGUID")
        found.append(
            CriticalDevice(
                key.name.lower(), service.text if service else None, guid.text if guid else None, key.recovered
            )
        )
    return tuple(sorted(found, key=lambda device: device.id))
