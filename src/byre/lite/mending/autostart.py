"""Something that starts by itself, kept from starting and kept: registry values move to a key of Byre's, files to a
folder of Byre's, services get Start=4 with the old number beside."""

from __future__ import annotations

from byre.errors import ByreError
from byre.lite.changes import Content, MakeFolder, Put, Remove
from byre.lite.hive_editor import DeleteValue, SetValue
from byre.lite.mending.plan import Patient, Plan, Refusal, Step
from byre.lite.mending.portable import SERVICES, dword
from byre.windows.autostarts import Autostart
from byre.windows.reg_paths import Registry
from byre.windows.services import Service

FOLDER = "/Byre-disabled"
KEY = "Byre-disabled"
_LIST = "'byre inspect IMAGE' lists what starts by itself"
_VALUE_OF = {"image-debugger": "Debugger", "winlogon-notify": "DLLName", "active-setup": "StubPath"}
"""Kinds whose row is named by its key: the value that counts there."""
_MOVED = {
    "run-key",
    "appinit",
    "shell-delay-load",
    "shared-task",
    "shell-execute-hook",
    "browser-toolbar",
    "command-processor",
    "policy-shell",
    "screen-saver",
    "appcert",
    *_VALUE_OF,
}
_FILES = {"startup-folder", "task"}
MAX_MOVED = 16 << 20


def plan(patient: Patient) -> Plan:
    """Each entry that was named, found by its name (``updater``), kind and name (``run-key:updater``), or as
    ``service:NAME``."""
    whole = Plan()
    for wanted in patient.options.autostarts:
        kind, colon, name = wanted.partition(":")
        if colon and kind.lower() == "service":
            whole += _service(patient, name)
        else:
            whole += _entry(patient, wanted)
    return whole


def _entry(patient: Patient, wanted: str) -> Plan:
    guest = patient.facts.guest
    rows = (guest.autostarts.value if guest else None) or ()
    lower = wanted.lower()
    hits = [row for row in rows if lower in (row.name.lower(), f"{row.kind}:{row.name}".lower())]
    if not hits:
        return Plan((), (Refusal(wanted, "nothing of that name starts by itself", _LIST),))
    whole = Plan()
    for row in dict.fromkeys(hits):
        whole += _disabled(patient, row)
    return whole


def _disabled(patient: Patient, row: Autostart) -> Plan:
    shown = f"{row.kind}:{row.name}"
    if row.kind in _FILES:
        return _moved_file(patient, f"{row.location}/{row.name}", shown)
    if row.kind not in _MOVED:
        reason = f"Windows counts on what is at {row.location}: to take it away may keep it from starting"
        return Plan((), (Refusal(shown, reason, "set the value that belongs there: byre reg IMAGE set"),))
    name = _VALUE_OF.get(row.kind, row.name)
    registry = Registry(patient.files, patient.root)
    try:
        value = registry.locate(row.location).key.value(name)
    except ByreError as error:
        return Plan((), (Refusal(shown, f"it can't be read: {error.what}", _LIST),))
    if value is None:
        return Plan((), (Refusal(shown, f"{row.location} has no value {name!r}", _LIST),))
    head, rest = _split(row.location)
    kept = f"{head}\\{KEY}\\{rest}"
    said = f"{row.location}\\{name}: moved to {kept}"
    return Plan(
        (Step(said, SetValue(kept, name, value.type, value.data)), Step(said, DeleteValue(row.location, name)))
    )


def _split(location: str) -> tuple[str, str]:
    r"""Where a hive's own part begins: ``HKLM\SOFTWARE``, ``HKU\name``; the rest of the path."""
    parts = location.split("\\")
    depth = 3 if parts[1].upper() == "SYSTEM" else 2  # SYSTEM's keys lie below a control set
    return "\\".join(parts[:depth]), "\\".join(parts[depth:])


def _moved_file(patient: Patient, path: str, shown: str) -> Plan:
    try:
        entry = patient.files.lookup(path)
        data = patient.files.read(entry, length=MAX_MOVED + 1)
    except ByreError as error:
        return Plan((), (Refusal(shown, f"it can't be read: {error.what}", _LIST),))
    if len(data) > MAX_MOVED:
        remedy = "copy it out (byre cp) and remove it (byre rm)"
        return Plan((), (Refusal(shown, f"it is larger than {MAX_MOVED} bytes", remedy),))
    kept = f"{FOLDER}/{entry.path.rpartition('/')[0].strip('/').replace('/', '-')} {entry.name}"
    said = f"{entry.path}: moved to {kept}"
    steps = (MakeFolder(FOLDER), Put(kept, Content.of(data)), Remove(entry.path))
    return Plan(tuple(Step(said, step) for step in steps))


def _service(patient: Patient, name: str) -> Plan:
    guest = patient.facts.guest
    found = next(
        (each for each in (guest.services.value if guest else None) or () if each.name.lower() == name.lower()), None
    )
    if found is None:
        return Plan((), (Refusal(f"service:{name}", "there is no such service", _LIST),))
    reason = _needed(found)
    if reason is not None:
        return Plan((), (Refusal(f"service:{found.name}", reason, "byre reg IMAGE set, if you are sure"),))
    if found.start == 4:
        return Plan()
    kept = rf"HKLM\SYSTEM\CurrentControlSet\{KEY}\Services\{found.name}"
    said = f"service {found.name}: Start=4 instead of {found.start}, which is kept in {kept}"
    changed = dword(rf"{SERVICES}\{found.name}", "Start", 4)
    return Plan((Step(said, dword(kept, "Start", found.start)), Step(said, changed)))


def _needed(service: Service) -> str | None:
    """Why a service isn't switched off: the start goes through it."""
    if service.start == 0:
        return "it is a boot driver: without it the system may not start"
    if service.error_control >= 2:
        return "Windows says that it doesn't start without it (ErrorControl)"
    if service.name.lower() in ("rpcss", "plugplay", "eventlog", "samss", "dcomlaunch", "profsvc"):
        return "logging on needs it"
    return None
