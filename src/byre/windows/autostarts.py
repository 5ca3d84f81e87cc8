"""Where software starts by itself: every such place in the registry and on disk, with its command.

The places are data (``MACHINE`` and ``USER``): a row says where, which values, and what is normal there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from byre.errors import ByreError, CorruptImageError
from byre.filesystems.base import FileSystem
from byre.windows.hives import Hives, list_folder
from byre.windows.paths import SystemPaths, command_targets
from byre.windows.redaction import redact_text
from byre.windows.registry import Hive, Key
from byre.windows.roots import name_exists

_WINDOWS = r"Microsoft\Windows\CurrentVersion"
_NT = r"Microsoft\Windows NT\CurrentVersion"
MAX_ROWS = 20_000
MAX_TASKS = 2000
"""Windows 7 has about eighty."""
MAX_TASK_FOLDERS = 12


@dataclass(frozen=True, slots=True)
class Place:
    """One kind of autostart. ``values`` names the values that count; empty means all. ``each`` looks into every
    subkey; ``clsid`` says that the names or data are class ids whose server is what runs."""

    kind: str
    hive: str
    path: str
    values: tuple[str, ...] = ()
    each: bool = False
    names_are_clsids: bool = False
    data_are_clsids: bool = False
    subkeys_are_clsids: bool = False


@dataclass(frozen=True, slots=True)
class Autostart:
    """One command that starts by itself. ``files`` are the guest paths of what it runs, as far as they can be
    told; ``missing`` those of them that are not there. In ``command`` passwords are ``(hidden)``.

    ``author``, ``triggers`` and ``enabled`` are what an XML task says; None and empty elsewhere."""

    kind: str
    location: str
    name: str
    command: str
    user: str | None = None
    files: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    author: str | None = None
    triggers: tuple[str, ...] = ()
    enabled: bool | None = None


def _run_keys(hive: str, prefix: str = "") -> tuple[Place, ...]:
    names = ("Run", "RunOnce", "RunOnceEx", "RunServices", "RunServicesOnce", r"Policies\Explorer\Run")
    return tuple(Place("run-key", hive, f"{prefix}{_WINDOWS}\\{name}", each=name == "RunOnceEx") for name in names)


MACHINE: tuple[Place, ...] = (
    *_run_keys("SOFTWARE"),
    *_run_keys("SOFTWARE", "Wow6432Node\\"),
    Place(
        "winlogon", "SOFTWARE", rf"{_NT}\Winlogon", ("Shell", "Userinit", "GinaDLL", "System", "Taskman", "UIHost")
    ),
    Place("winlogon-notify", "SOFTWARE", rf"{_NT}\Winlogon\Notify", ("DLLName",), each=True),
    Place("appinit", "SOFTWARE", rf"{_NT}\Windows", ("AppInit_DLLs", "Load", "Run")),
    Place("image-debugger", "SOFTWARE", rf"{_NT}\Image File Execution Options", ("Debugger",), each=True),
    Place("shell-delay-load", "SOFTWARE", rf"{_WINDOWS}\ShellServiceObjectDelayLoad", data_are_clsids=True),
    Place("shared-task", "SOFTWARE", rf"{_WINDOWS}\Explorer\SharedTaskScheduler", names_are_clsids=True),
    Place("shell-execute-hook", "SOFTWARE", rf"{_WINDOWS}\Explorer\ShellExecuteHooks", names_are_clsids=True),
    Place("browser-helper", "SOFTWARE", rf"{_WINDOWS}\Explorer\Browser Helper Objects", subkeys_are_clsids=True),
    Place("browser-toolbar", "SOFTWARE", r"Microsoft\Internet Explorer\Toolbar", names_are_clsids=True),
    Place("active-setup", "SOFTWARE", r"Microsoft\Active Setup\Installed Components", ("StubPath",), each=True),
    Place("command-processor", "SOFTWARE", r"Microsoft\Command Processor", ("AutoRun",)),
    Place("policy-shell", "SOFTWARE", rf"{_WINDOWS}\Policies\System", ("Shell",)),
    Place("exe-open", "SOFTWARE", r"Classes\exefile\shell\open\command", ("",)),
    *(
        Place(
            "context-menu",
            "SOFTWARE",
            rf"Classes\{each}\shellex\ContextMenuHandlers",
            ("",),
            each=True,
            data_are_clsids=True,
        )
        for each in ("*", "AllFilesystemObjects", "Directory", r"Directory\Background", "Folder", "Drive", "exefile")
    ),
    Place("excluded-dll", "SYSTEM", r"Control\Session Manager", ("ExcludeFromKnownDlls",)),
    Place("boot-execute", "SYSTEM", r"Control\Session Manager", ("BootExecute", "SetupExecute", "Execute")),
    Place("appcert", "SYSTEM", r"Control\Session Manager\AppCertDlls"),
    Place("known-dlls", "SYSTEM", r"Control\Session Manager\KnownDLLs"),
    Place("subsystems", "SYSTEM", r"Control\Session Manager\SubSystems", ("Windows", "Posix", "Os2", "Kmode")),
    Place("lsa", "SYSTEM", r"Control\Lsa", ("Authentication Packages", "Security Packages", "Notification Packages")),
    Place("security-providers", "SYSTEM", r"Control\SecurityProviders", ("SecurityProviders",)),
    Place("network-providers", "SYSTEM", r"Control\NetworkProvider\Order", ("ProviderOrder",)),
    Place("print-monitor", "SYSTEM", r"Control\Print\Monitors", ("Driver",), each=True),
    Place("safe-boot-shell", "SYSTEM", r"Control\SafeBoot", ("AlternateShell",)),
    Place("class-filter", "SYSTEM", r"Control\Class", ("UpperFilters", "LowerFilters"), each=True),
)
USER: tuple[Place, ...] = (
    *_run_keys("NTUSER", "Software\\"),
    Place("appinit", "NTUSER", rf"Software\{_NT}\Windows", ("Load", "Run")),
    Place("winlogon", "NTUSER", rf"Software\{_NT}\Winlogon", ("Shell",)),
    Place("command-processor", "NTUSER", r"Software\Microsoft\Command Processor", ("AutoRun",)),
    Place("exe-open", "NTUSER", r"Software\Classes\exefile\shell\open\command", ("",)),
    Place("policy-shell", "NTUSER", rf"Software\{_WINDOWS}\Policies\System", ("Shell",)),
    Place("screen-saver", "NTUSER", r"Control Panel\Desktop", ("SCRNSAVE.EXE",)),
)
_PLAIN_NAMES = {"known-dlls", "lsa", "security-providers", "print-monitor", "winlogon", "winlogon-notify", "appinit"}
_NO_FILES = {"network-providers", "class-filter", "subsystems", "excluded-dll"}


def read_autostarts(
    files: FileSystem, hives: Hives, control_set: Key | None, paths: SystemPaths
) -> tuple[Autostart, ...]:
    """Everything that starts by itself, services and drivers apart, in the order of the tables."""
    rows: list[Autostart] = []
    software = hives.get("SOFTWARE")
    classes = _root(software)
    tops = {"SYSTEM": (control_set, r"HKLM\SYSTEM\CurrentControlSet"), "SOFTWARE": (classes, r"HKLM\SOFTWARE")}
    for place in MACHINE:
        top, prefix = tops[place.hive]
        if top is not None:
            rows += _of_place(place, top, prefix, None, files, paths, classes)
    for user in hives.users:
        top = _root(user.hive.value)
        for place in USER if top is not None else ():
            assert top is not None
            rows += _of_place(place, top, f"HKU\\{user.user}", user.user, files, paths, None)
    if control_set is not None:
        rows += _network(control_set, files, paths)
    rows += _startup_folders(files, hives, paths)
    rows += _task_files(files, paths)
    rows += _xml_tasks(files, paths, classes)
    return tuple(rows[:MAX_ROWS])


def _root(hive: Hive | None) -> Key | None:
    """A hive's root; None where it has none, which the hive has reported: one bad hive doesn't hide the others."""
    try:
        return hive.root if hive is not None else None
    except CorruptImageError:
        return None


def _of_place(
    place: Place, top: Key, prefix: str, user: str | None, files: FileSystem, paths: SystemPaths, classes: Key | None
) -> Iterator[Autostart]:
    base = top.at(place.path)
    if base is None:
        return
    where = f"{prefix}\\{place.path}"
    if place.subkeys_are_clsids:
        for child in base.subkeys():
            yield _row(place, where, child.name, _server_of(child.name, classes), user, files, paths)
        return
    for key, location in _keys(place, base, where):
        for value in key.values():
            if place.kind == "known-dlls" and value.name.lower().startswith("dlldirectory"):
                continue  # where they lie, not one of them
            if place.values and value.name.lower() not in {name.lower() for name in place.values}:
                continue
            for text in value.strings:
                if not text.strip():
                    continue
                command = text
                if place.names_are_clsids:
                    command = _server_of(value.name, classes)
                elif place.data_are_clsids:
                    # A handler's key may be named by the class instead of naming it.
                    command = _server_of(key.name if key.name.startswith("{") else text, classes)
                # Where one value of many keys counts, the key says more than the value's name.
                name = key.name if place.each and place.values else value.name
                yield _row(place, location, name, command, user, files, paths)


def _keys(place: Place, base: Key, where: str) -> Iterable[tuple[Key, str]]:
    if not place.each:
        return [(base, where)]
    return [(child, f"{where}\\{child.name}") for child in base.subkeys()]


def _server_of(clsid: str, classes: Key | None) -> str:
    """The DLL that serves a class id, or the id itself where no class is registered."""
    key = classes.at(rf"Classes\CLSID\{clsid}\InprocServer32") if classes else None
    value = key.value() if key else None
    return (value.text if value else None) or clsid


def _row(
    place: Place, location: str, name: str, command: str, user: str | None, files: FileSystem, paths: SystemPaths
) -> Autostart:
    found, missing = ((), ()) if place.kind in _NO_FILES else _look(command, place.kind, files, paths)
    return Autostart(place.kind, location, name, redact_text(command), user, found, missing)


def _look(command: str, kind: str, files: FileSystem, paths: SystemPaths) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(files, missing) of a command: a path as it stands, a bare name by Windows' search."""
    found: list[str] = []
    missing: list[str] = []
    parts = [part for part in command.split(",") if part.strip()] if kind == "winlogon" else [command]
    if kind == "appinit" and all(part.lower().endswith(".dll") for part in command.replace(",", " ").split()):
        parts = command.replace(",", " ").split()  # a list, which is why its paths can't hold spaces
    for part in parts:
        for target in command_targets(part):
            if target.startswith("{") or (target.lower() in ("autocheck", "explorer") and kind == "boot-execute"):
                continue
            path = paths.resolve(target)
            names = (path,) if path else () if any(sep in target for sep in "\\/:%") else paths.search(target)
            if not path and kind in _PLAIN_NAMES and names and not target.lower().endswith((".dll", ".exe")):
                names = tuple(f"{each.removesuffix('.exe')}{end}" for each in names for end in (".dll", ".exe"))
            hit = next((name for name in names if name_exists(files, name)), None)
            if hit is not None:
                found.append(hit)
            elif names:
                missing.append(names[0])
    return tuple(found), tuple(missing)


def _network(control_set: Key, files: FileSystem, paths: SystemPaths) -> Iterator[Autostart]:
    """DLLs that every program with a socket or a network drive loads: Winsock's providers, network providers."""
    where = r"HKLM\SYSTEM\CurrentControlSet\Services\WinSock2\Parameters"
    seen: set[str] = set()
    for catalog, kind, name in _WINSOCK:
        key = control_set.at(rf"Services\WinSock2\Parameters\{catalog}\Catalog_Entries")
        for child in key.subkeys() if key is not None else ():
            value = child.value(name)
            if value is None:
                continue
            # The packed item begins with the path, in 260 bytes of the system's code page.
            raw = value.data[:260].split(b"\0", 1)[0].decode("cp1252", "replace")
            path = value.text or raw if kind == "winsock-names" else raw
            if path and path.lower() not in seen:
                seen.add(path.lower())
                found, missing = _look(path, kind, files, paths)
                yield Autostart(kind, rf"{where}\{catalog}\Catalog_Entries", child.name, path, None, found, missing)
    order = control_set.at(r"Control\NetworkProvider\Order")
    listed = order.value("ProviderOrder") if order is not None else None
    for name in (listed.text or "").split(",")[:64] if listed is not None else ():
        key = control_set.at(rf"Services\{name.strip()}\NetworkProvider") if name.strip() else None
        value = key.value("ProviderPath") if key is not None else None
        if value is not None and value.text:
            found, missing = _look(value.text, "network-provider", files, paths)
            location = rf"HKLM\SYSTEM\CurrentControlSet\Services\{name.strip()}\NetworkProvider"
            yield Autostart("network-provider", location, name.strip(), value.text, None, found, missing)


_WINSOCK = (
    ("Protocol_Catalog9", "winsock", "PackedCatalogItem"),
    ("NameSpace_Catalog5", "winsock-names", "LibraryPath"),
)


def _startup_folders(files: FileSystem, hives: Hives, paths: SystemPaths) -> Iterator[Autostart]:
    """Their usual places and those that the registry names: in German, say, ``Startmenü\\Programme\\Autostart``."""
    profiles = {user.path.rpartition("/")[0] for user in hives.users}
    profiles |= {f"{paths.profiles}/All Users", "/ProgramData/Microsoft/Windows"}
    tails = ("Start Menu/Programs/Startup", "AppData/Roaming/Microsoft/Windows/Start Menu/Programs/Startup")
    usual = (f"{profile}/{tail}" for profile in profiles for tail in tails)
    folders = {each.lower(): each for each in (*_named_startups(hives, paths), *usual)}
    for folder in sorted(folders.values()):
        for entry in list_folder(files, folder):
            if not entry.is_dir and entry.name.lower() != "desktop.ini":
                yield Autostart("startup-folder", folder, entry.name, entry.path, None, (entry.path,))


def _named_startups(hives: Hives, paths: SystemPaths) -> Iterator[str]:
    below = rf"{_WINDOWS}\Explorer\User Shell Folders"
    tops = [(_root(user.hive.value), "Software\\", "Startup", user.path.rpartition("/")[0]) for user in hives.users]
    for top, prefix, name, home in (*tops, (_root(hives.get("SOFTWARE")), "", "Common Startup", "")):
        try:
            key = top.at(prefix + below) if top is not None else None
            value = key.value(name) if key is not None else None
        except ByreError:
            continue  # the hive has noted its damage
        text = (value.text or "") if value is not None else ""
        if home and text.lower().startswith("%userprofile%"):
            text = f"{paths.drive}:{home}{text[len('%userprofile%') :]}"
        path = paths.resolve(text) if text else None
        if path is not None:
            yield path


def _task_files(files: FileSystem, paths: SystemPaths) -> Iterator[Autostart]:
    from byre.windows.tasks import parse_job

    folder = f"{paths.root}/Tasks"
    for entry in list_folder(files, folder):
        if entry.is_dir or not entry.name.lower().endswith(".job"):
            continue
        try:
            job = parse_job(files.read(entry, length=1 << 20), path=entry.path)
        except ByreError as error:
            yield Autostart("task", folder, entry.name, f"(can't be read: {error.what})")
            continue
        found, missing = _look(f'"{job.program}"', "task", files, paths)
        command = redact_text(f"{job.program} {job.parameters}".strip())
        yield Autostart("task", folder, entry.name, command, job.user, found, missing)


def _xml_tasks(files: FileSystem, paths: SystemPaths, classes: Key | None) -> Iterator[Autostart]:
    """The tasks of Vista and later, folder by folder. What is switched off is told, but its files aren't looked
    for: it doesn't start."""
    from byre.windows.xml_tasks import MAX_TASK, parse_xml_task

    waiting = [f"{paths.root}/system32/Tasks"]
    count = 0
    while waiting:
        folder = waiting.pop()
        for entry in list_folder(files, folder):
            if entry.is_dir:
                if entry.reparse is None and folder.count("/") < MAX_TASK_FOLDERS:
                    waiting.append(f"{folder}/{entry.name}")
                continue
            count += 1
            if count > MAX_TASKS:
                return
            try:
                task = parse_xml_task(files.read(entry, length=MAX_TASK + 1), path=entry.path)
            except ByreError as error:
                yield Autostart("task", folder, entry.name, f"(can't be read: {error.what})")
                continue
            for action in task.actions:
                program = (
                    _server_of(action.class_id, classes) if action.class_id else action.command.strip().strip('"')
                )
                found, missing = _look(f'"{program}"', "task", files, paths) if task.enabled else ((), ())
                command = redact_text(f"{program} {action.arguments}".strip())
                yield Autostart(
                    *("task", folder, entry.name, command, task.user or None, found, missing),
                    author=task.author or None,
                    triggers=task.triggers,
                    enabled=task.enabled,
                )
