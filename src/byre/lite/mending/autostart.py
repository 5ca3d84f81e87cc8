"""Something that starts by itself, kept from starting and kept: registry values move to a key of Byre's, files to a
folder of Byre's, services get Start=4 with the old number beside. ``kept`` finds all of it again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from byre.errors import ByreError
from byre.filesystems.base import Entry, FileSystem
from byre.filesystems.capitals import capitals
from byre.filesystems.paths import split_path
from byre.lite.changes import Change, MakeFolder, Move, Remove
from byre.lite.hive_editor import DeleteKey, DeleteValue, SetValue
from byre.lite.mending.plan import Patient, Plan, Refusal, Step
from byre.lite.mending.portable import SERVICES, dword, text
from byre.windows.autostarts import Autostart
from byre.windows.reg_paths import Registry
from byre.windows.registry import Key, Value
from byre.windows.registry.layout import ValueType
from byre.windows.services import Service

FOLDER = "/Byre-disabled"
KEY = "Byre-disabled"
DEFAULT = "(default)"
_LIST = "'byre inspect IMAGE' lists what starts by itself"
_LIST_KEPT = "'byre mend IMAGE autostart' lists what was disabled"
_VALUE_OF = {
    "image-debugger": "Debugger",
    "winlogon-notify": "DLLName",
    "active-setup": "StubPath",
    "context-menu": "",
    "print-monitor": "Driver",
}
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
_NAMED_BY_KEY = {name.lower() for name in _VALUE_OF.values()}
_OWN_KEYS = {"browser-helper"}
"""Kinds whose row is a key of its own."""
_HELPERS = "browser helper objects"
_FILES = {"startup-folder", "task"}
_WINLOGON = r"hklm\software\microsoft\windows nt\currentversion\winlogon"
_SESSION = r"hklm\system\currentcontrolset\control\session manager"
_LOGON = ("shell", "userinit", "uihost")
_MONITORS = ("bj language monitor", "local port", "pjl language monitor", "standard tcp/ip port", "usb monitor")
"""What a clean Windows XP prints through."""
_TASK_CACHE = r"HKLM\SOFTWARE\Microsoft\Windows NT\CurrentVersion\Schedule\TaskCache"
MAX_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that Byre disabled. ``place`` is where it was: a key, or a folder of the guest. ``value`` is the one
    value that it is; None for a whole key, a service and a file."""

    name: str
    place: str
    kept: str
    is_file: bool
    is_service: bool = False
    value: str | None = None

    @property
    def shown(self) -> str:
        return f"service:{self.name}" if self.is_service else self.name

    def is_called(self, wanted: str) -> bool:
        separator = "/" if self.is_file else "\\"
        names = [self.shown, self.name, f"{self.place}{separator}{self.name}"]
        if self.value is not None:
            names += [self.value, f"{self.place}{separator}{self.value}"] if self.value else [self.place]
        return capitals(wanted) in {capitals(each) for each in names}


def plan(patient: Patient) -> Plan:
    """Each entry that was named, found by its name (``updater``), kind and name (``run-key:updater``), the whole
    place, or as ``service:NAME``; and what was disabled and is wanted again."""
    whole = Plan()
    done: set[tuple[str, str, str]] = set()
    for wanted in patient.options.autostarts:
        kind, colon, name = wanted.partition(":")
        if colon and kind.lower() == "service":
            whole += _service(patient, name, done)
        else:
            whole += _entry(patient, wanted, done)
    rows = tuple(kept(patient.files, patient.root))
    if patient.options.enables:
        whole += _enabled(patient, rows)
    elif not patient.options.autostarts:
        notes = tuple(f"disabled: {row.shown}, which was in {row.place}" for row in rows)
        whole += Plan(notes=notes or ("nothing that Byre disabled is kept here",))
    return whole


def _entry(patient: Patient, wanted: str, done: set[tuple[str, str, str]]) -> Plan:
    guest = patient.facts.guest
    rows = (guest.autostarts.value if guest else None) or ()
    lower = wanted.lower()
    hits = [row for row in rows if lower in _names_of(row)]
    if not hits:
        return Plan((), (Refusal(wanted, "nothing of that name starts by itself", _LIST),))
    whole = Plan()
    for row in hits:
        what = (row.kind, row.location.lower(), row.name.lower())  # a list of commands is one value
        if what not in done:
            done.add(what)
            whole += _disabled(patient, row)
    return whole


def _names_of(row: Autostart) -> tuple[str, ...]:
    """What an entry may be called, in lower case; a key's default value as 'byre inspect' shows it."""
    shown, separator = row.name or DEFAULT, "/" if row.kind in _FILES else "\\"
    place = f"{row.location}{separator}"
    names = (shown, f"{row.kind}:{shown}", f"{place}{row.name}", f"{place}{shown}")
    return tuple(name.lower() for name in names)


def _disabled(patient: Patient, row: Autostart) -> Plan:
    shown = f"{row.kind}:{row.name or DEFAULT}"
    if row.kind in _FILES:
        return _moved_file(patient, f"{row.location}/{row.name}", shown, row)
    name = _VALUE_OF.get(row.kind, row.name)
    usual = usual_value(patient, row.location, name)
    if not _may_go(row) and usual is None:
        reason = f"Windows counts on what is at {row.location}: to take it away may keep it from starting"
        return Plan((), (Refusal(shown, reason, "set the value that belongs there: byre reg IMAGE set"),))
    registry = Registry(patient.files, patient.root)
    try:
        if row.kind in _OWN_KEYS:
            return _moved_key(registry.locate(f"{row.location}\\{row.name}").key, f"{row.location}\\{row.name}")
        value = registry.locate(row.location).key.value(name)
    except ByreError as error:
        return Plan((), (Refusal(shown, f"it can't be read: {error.what}", _LIST),))
    if value is None:
        return Plan((), (Refusal(shown, f"{row.location} has no value {name!r}", _LIST),))
    head, rest = _split(row.location)
    place = f"{head}\\{KEY}\\{rest}"
    if usual is not None:
        if _same(value, usual):
            return Plan((), (Refusal(shown, "it is what belongs there", _LIST),))
        said = f"{row.location}\\{name}: what belongs there, {usual!r}; the old value is kept in {place}"
        keeps = SetValue(place, name, value.type, value.data)
        return Plan((Step(said, keeps), Step(said, _usual_set(row.location, name, usual))))
    said = f"{row.location}\\{name}: moved to {place}"
    return Plan(
        (Step(said, SetValue(place, name, value.type, value.data)), Step(said, DeleteValue(row.location, name)))
    )


def usual_value(patient: Patient, location: str, name: str) -> str | None:
    """What a clean Windows has in a value that it can't do without, so that another may be taken away: text, the
    first string of BootExecute's list. None for other values, and where the program isn't there."""
    system32, logon = f"{patient.root}/system32", patient.facts.logon.value
    drive = logon.drive if logon is not None else "C"
    userinit = f"{drive}:{system32}/userinit.exe,".replace("/", "\\")
    rows = {
        (_WINLOGON, "shell"): ("Explorer.exe", f"{patient.root}/explorer.exe"),
        (_WINLOGON, "userinit"): (userinit, f"{system32}/userinit.exe"),
        (_WINLOGON, "uihost"): ("logonui.exe", f"{system32}/logonui.exe"),
        (r"hklm\software\classes\exefile\shell\open\command", ""): ('"%1" %*', None),
        (_SESSION, "bootexecute"): ("autocheck autochk *", f"{system32}/autochk.exe"),
        (r"hklm\system\currentcontrolset\control\safeboot", "alternateshell"): ("cmd.exe", f"{system32}/cmd.exe"),
    }
    text, program = rows.get((location.lower(), name.lower()), (None, None))
    if text is None or patient.facts.kind not in ("nt5", "nt6"):
        return None
    try:
        return text if program is None or patient.files.lookup(program).size else None
    except ByreError:
        return None


def _same(value: Value, usual: str) -> bool:
    return [text.strip().lower() for text in value.strings if text.strip()] == [usual.lower()]


def _usual_set(location: str, name: str, usual: str) -> SetValue:
    if name.lower() == "bootexecute":
        return SetValue(location, name, ValueType.MULTI_SZ, (usual + "\0\0").encode("utf-16-le"))
    return text(location, name, usual)


def _may_go(row: Autostart) -> bool:
    """Whether the start goes on without it."""
    if row.kind == "boot-execute":
        return row.name.lower() != "bootexecute"
    if row.kind == "winlogon":
        return row.user is not None or row.name.lower() not in _LOGON
    if row.kind == "print-monitor":
        return row.name.lower() not in _MONITORS
    return row.kind in _MOVED or row.kind in _OWN_KEYS


def _moved_key(key: Key, location: str) -> Plan:
    """A key with its own values; what lies below it is nothing for these kinds."""
    head, rest = _split(location)
    place = f"{head}\\{KEY}\\{rest}"
    said = f"{location}: moved to {place}"
    values = key.values()
    wrote: list[SetValue] = [SetValue(place, value.name, value.type, value.data) for value in values]
    if not values:  # a key that says all by its name: an empty default value marks it
        wrote = [SetValue(place, "", 1, b"\0\0")]
    return Plan((*(Step(said, each) for each in wrote), Step(said, DeleteKey(location))))


def _split(location: str) -> tuple[str, str]:
    r"""Where a hive's own part begins: ``HKLM\SOFTWARE``, ``HKU\name``; the rest of the path."""
    parts = location.split("\\")
    depth = 3 if parts[1].upper() == "SYSTEM" and parts[0].upper() == "HKLM" else 2  # below a control set
    return "\\".join(parts[:depth]), "\\".join(parts[depth:])


def _moved_file(patient: Patient, path: str, shown: str, row: Autostart) -> Plan:
    if row.enabled is False:
        return Plan(notes=(f"{shown} is switched off already",))
    if row.kind == "task" and _runs_without_file(patient, path):
        reason = "this Windows keeps what it runs in the registry too, so it would run without its file"
        remedy = "disable it inside: schtasks /change /disable /tn NAME"
        return Plan((), (Refusal(shown, reason, remedy),))
    try:
        entry = patient.files.lookup(path)
    except ByreError as error:
        return Plan((), (Refusal(shown, f"it can't be read: {error.what}", _LIST),))
    moved = _move(entry, f"{FOLDER}{entry.path}")
    if row.triggers or row.enabled is not None:
        note = "the Task Scheduler of Vista and later will name the task as damaged until it is enabled again"
        moved += Plan(notes=(note,)) if moved.steps else Plan()
    return moved


def _runs_without_file(patient: Patient, path: str) -> bool:
    """Whether the registry holds the task's actions, as from Windows 8 on: there the XML file is a copy of them."""
    folder = f"{patient.root}/system32/Tasks/"
    if not path.lower().startswith(folder.lower()):
        return False
    registry = Registry(patient.files, patient.root)
    try:
        entry = registry.locate("\\".join((_TASK_CACHE, "Tree", *path[len(folder) :].split("/")))).key.value("Id")
        task = registry.locate(f"{_TASK_CACHE}\\Tasks\\{entry.text if entry is not None else ''}").key
    except ByreError:
        return False
    return task.value("Actions") is not None


def _move(entry: Entry, target: str) -> Plan:
    """A file to another place of the same volume, its folders made: it stays the same file."""
    said = f"{entry.path}: moved to {target}"
    names = split_path(target)
    folders: list[Change] = [MakeFolder("/" + "/".join(names[:depth])) for depth in range(1, len(names))]
    return Plan(tuple(Step(said, step) for step in (*folders, Move(entry.path, target))))


def _service(patient: Patient, name: str, done: set[tuple[str, str, str]]) -> Plan:
    guest = patient.facts.guest
    found = next(
        (each for each in (guest.services.value if guest else None) or () if each.name.lower() == name.lower()), None
    )
    if found is None:
        return Plan((), (Refusal(f"service:{name}", "there is no such service", _LIST),))
    reason = _needed(found)
    if reason is not None:
        return Plan((), (Refusal(f"service:{found.name}", reason, "byre reg IMAGE set, if you are sure"),))
    what = ("service", "", found.name.lower())
    if what in done:
        return Plan()
    done.add(what)
    if found.start == 4:
        return Plan(notes=(f"service:{found.name} is switched off already",))
    place = rf"HKLM\SYSTEM\CurrentControlSet\{KEY}\Services\{found.name}"
    said = f"service {found.name}: Start=4 instead of {found.start}, which is kept in {place}"
    changed = dword(rf"{SERVICES}\{found.name}", "Start", 4)
    return Plan((Step(said, dword(place, "Start", found.start)), Step(said, changed)))


def _needed(service: Service) -> str | None:
    """Why a service isn't switched off: the start goes through it."""
    if service.start == 0:
        return "it is a boot driver: without it the system may not start"
    if service.error_control >= 2:
        return "Windows says that it doesn't start without it (ErrorControl)"
    if service.name.lower() in ("rpcss", "plugplay", "eventlog", "samss", "dcomlaunch", "profsvc"):
        return "logging on needs it"
    return None


def kept(files: FileSystem, root: str) -> Iterator[Kept]:
    """All that Byre disabled in this system: values of every hive that can be read, and files."""
    count = 0
    for head, key in _kept_keys(Registry(files, root)):
        for path, below in key.hive.walk(key):
            for row in _kept_in(head, path, below):
                yield row
                count += 1
                if count >= MAX_KEPT:
                    return
    try:
        folder = files.lookup(FOLDER)
    except ByreError:
        return
    for entry in files.walk(folder) if folder.is_dir and folder.reparse is None else ():
        if not entry.is_dir and count < MAX_KEPT:
            count += 1
            yield Kept(entry.name, entry.path[len(folder.path) :].rpartition("/")[0], entry.path, True)


def _kept_in(head: str, path: str, key: Key) -> Iterator[Kept]:
    """What one of Byre's keys holds: a service, a key that was moved whole, or values."""
    place, here = f"{head}\\{path}", f"{head}\\{KEY}\\{path}"
    values = key.values()
    above = path.lower().rpartition("\\")[0].rpartition("\\")[2]
    is_service = head.endswith("CurrentControlSet") and path.lower().startswith("services\\")
    if values and (is_service or above == _HELPERS):
        yield Kept(key.name, place, here, False, is_service)
        return
    for value in values:
        by_key = value.name.lower() in _NAMED_BY_KEY
        yield Kept(key.name if by_key else value.name, place, here, False, value=value.name)


def _kept_keys(registry: Registry) -> Iterator[tuple[str, Key]]:
    """(the path above it, Byre's key) of each hive that has one."""
    for mount in registry.mounts():
        if mount.kind not in ("SOFTWARE", "SYSTEM", "NTUSER"):
            continue
        head = mount.shown.replace("HKEY_LOCAL_MACHINE", "HKLM").replace("HKEY_USERS", "HKU")
        head += "\\CurrentControlSet" if mount.kind == "SYSTEM" else ""
        try:
            yield head, registry.locate(f"{head}\\{KEY}").key
        except ByreError:
            continue


def _enabled(patient: Patient, rows: tuple[Kept, ...]) -> Plan:
    """Each that was named back where it was, and Byre's own key gone with the last."""
    whole = Plan()
    back: list[Kept] = []
    for wanted in patient.options.enables:
        hits = [row for row in rows if row.is_called(wanted)]
        if not hits:
            whole += Plan((), (Refusal(wanted, "nothing of that name was disabled by Byre", _LIST_KEPT),))
        back += [row for row in hits if row not in back]
    registry = Registry(patient.files, patient.root)
    for row in dict.fromkeys(back):
        whole += _file_back(patient, row) if row.is_file else _values_back(patient, registry, row)
    if not any(refusal.what in {row.shown for row in back} for refusal in whole.refusals):
        whole += _tidied(rows, back)
    return whole


def _file_back(patient: Patient, row: Kept) -> Plan:
    target = f"{row.place}/{row.name}"
    try:
        patient.files.lookup(target)
    except ByreError:
        return _move(patient.files.lookup(row.kept), target)
    remedy = f"look at both (byre cat), then remove one: byre rm IMAGE '{target}'"
    return Plan((), (Refusal(row.shown, f"{target} is there again", remedy),))


def _values_back(patient: Patient, registry: Registry, row: Kept) -> Plan:
    steps = []
    source = registry.locate(row.kept).key
    try:
        there = {
            capitals(value.name)
            for value in registry.locate(row.place).key.values()
            if (usual := usual_value(patient, row.place, value.name)) is None or not _same(value, usual)
        }
    except ByreError:
        there = set()
    for value in source.values():
        if row.value is not None and capitals(row.value) != capitals(value.name):
            continue
        if capitals(value.name) in there and not row.is_service:
            remedy = "look at both with 'byre reg IMAGE', and delete one"
            return Plan((), (Refusal(row.shown, f"{row.place} has a value {value.name!r} again", remedy),))
        said = f"{row.place}\\{value.name}: back from {row.kept}"
        steps.append(Step(said, SetValue(row.place, value.name, value.type, value.data)))
        steps.append(Step(said, DeleteValue(row.kept, value.name)))
    return Plan(tuple(steps))


def _tidied(rows: Iterable[Kept], back: list[Kept]) -> Plan:
    steps: list[Step] = []
    heads = {row.kept[: row.kept.index(f"\\{KEY}")] for row in back if not row.is_file}
    for head in sorted(heads):
        mine = [row for row in rows if not row.is_file and row.kept.startswith(f"{head}\\{KEY}")]
        if all(row in back for row in mine):
            place = f"{head}\\{KEY}"
            steps.append(Step(f"{place}: goes, it is empty", DeleteKey(place)))
    if any(row.is_file for row in back) and all(row in back for row in rows if row.is_file):
        steps.append(Step(f"{FOLDER}: goes, it is empty", Remove(FOLDER)))
    return Plan(tuple(steps))
