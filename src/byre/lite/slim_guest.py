"""What slimming must know of an installed system: its names, its components, and all that needs a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from byre.audit import boot_path
from byre.audit.facts import Facts
from byre.audit.gathering import LOADER_FILES
from byre.audit.imports import resolver_of
from byre.audit.lacking_facts import in_use
from byre.errors import ByreError, UnsupportedError
from byre.filesystems.base import FileSystem
from byre.lite.changes import Change, Remove
from byre.lite.guards import refuse_files
from byre.lite.hive_editor import DeleteKey, Edit, SetValue
from byre.lite.registry_changes import hive_changes
from byre.lite.slim_plan import Row, SlimPlan, Use
from byre.windows.closure import Closure, Resolver
from byre.windows.components.component import Component, Places
from byre.windows.guest_modules import GuestModules, loader_view
from byre.windows.hives import open_hives
from byre.windows.paths import SystemPaths, command_targets
from byre.windows.reg_paths import Registry
from byre.windows.registry import Hive, Key

MAX_NAMES = 1_000_000
MAX_CLASSES = 50_000
MODULES = (".dll", ".exe", ".sys", ".ocx", ".drv", ".cpl", ".ax", ".acm", ".tsp", ".scr")
_UNINSTALL = r"Microsoft\Windows\CurrentVersion\Uninstall"
_COMPONENTS = r"Microsoft\Windows\CurrentVersion\Setup\OC Manager\Subcomponents"
_DWORD, _DISABLED = 4, 4


@dataclass(frozen=True, slots=True)
class SlimGuest:
    """One guest, ready to be planned for."""

    files: FileSystem
    root: str
    rows: tuple[Row, ...]
    places: Places
    uses: tuple[Use, ...]
    programs: tuple[tuple[str, str], ...]
    """What must load afterwards: in words, and its guest path."""


def read_slim_guest(files: FileSystem, facts: Facts) -> SlimGuest:
    """Everything from one walk and the facts of an audit. Raises UnsupportedError where the system's volume can't be
    walked to its end, or its hives can't be read: then it isn't known what needs what."""
    guest = facts.guest
    if guest is None or guest.services.value is None:
        reason = guest.services.reason if guest is not None else None
        raise UnsupportedError("has no Windows whose needs can be told", path=facts.image, found=reason)
    rows = []
    for entry in files.walk():
        rows.append(Row(entry.path, entry.allocated, entry.is_dir and entry.reparse is None))
        if len(rows) > MAX_NAMES:
            raise UnsupportedError("holds more names than are looked at", path=facts.image, expected=MAX_NAMES)
    there = {row.path.lower(): row.path for row in rows if not row.is_dir}
    hives = open_hives(files, guest.root)
    software = hives.get("SOFTWARE")
    if software is None:
        raise UnsupportedError("has no SOFTWARE hive that can be read", path=facts.image)
    paths = SystemPaths(guest.root)
    uses = [*_starts(facts, there), *_services(facts, there), *_classes(software, paths, there)]
    uses += _associations(software, paths, there)
    uses += _autostarts(facts, there)
    programs = {use.path.lower(): (use.what, use.path) for use in uses if use.path.lower().endswith(MODULES)}
    for lower in in_use(there, guest.root):
        if lower.endswith((".exe", ".scr", ".cpl")):
            programs.setdefault(lower, ("the program", there[lower]))
    places = Places(guest.root)
    return SlimGuest(files, guest.root, tuple(rows), places, tuple(uses), tuple(programs.values()))


def _starts(facts: Facts, there: Mapping[str, str]) -> Iterator[Use]:
    """The boot path: loader, hives, and every file from the kernel to the shell."""
    assert facts.guest is not None
    for path in LOADER_FILES:
        if path.lower() in there:
            yield Use("the boot loader", there[path.lower()])
    config = f"{facts.guest.root}/system32/config/".lower()
    for lower, path in there.items():
        if lower.startswith(config) and "." not in lower.rpartition("/")[2]:
            yield Use("the registry", path)
        elif lower.endswith("/ntuser.dat"):
            yield Use("a user's registry", path)
    state = facts.volume(facts.guest.volume)
    kind = state.facts.type if state is not None and state.facts is not None else None
    for step in boot_path.steps(facts.guest, facts.kind, kind, facts.system.value, facts.logon.value):
        found = next((there[path.lower()] for path in step.paths if path.lower() in there), None)
        if found is not None:
            driver = step.what.removeprefix("the boot driver ")
            own = driver if driver != step.what and driver.lower() not in boot_path.DISK_PATH else None
            yield Use(f"the start: {step.what}", found, service=own)


def _services(facts: Facts, there: Mapping[str, str]) -> Iterator[Use]:
    assert facts.guest is not None
    for service in facts.guest.services.value or ():
        for path in (service.file, service.service_dll) if service.start != _DISABLED else ():
            if path is not None and path.lower() in there:
                yield Use(f"the service {service.name}", there[path.lower()], service=service.name)
        for name in service.depends if service.start != _DISABLED else ():
            yield Use(f"the service {service.name}", "", service=service.name, needs_service=name)


def _autostarts(facts: Facts, there: Mapping[str, str]) -> Iterator[Use]:
    """What starts by itself: tasks and shell extensions too. Filters of device classes are services."""
    assert facts.guest is not None
    for each in facts.guest.autostarts.value or ():
        said = f"{each.kind} {each.location} {each.name}".strip()
        key = re.sub(r"^HKLM\\(SYSTEM\\CurrentControlSet|SOFTWARE)\\", _hive_of, each.location, flags=re.IGNORECASE)
        if each.kind == "class-filter":
            for name in re.split(r"[\s,;|]+", each.command):
                yield Use(said, "", needs_service=name)
        # Print monitors are the spooler's: without it nobody loads them.
        service = "Spooler" if each.kind == "print-monitor" else None
        for path in each.files:
            if path.lower() in there:
                yield Use(said, there[path.lower()], service=service, key=key)


def _hive_of(match: re.Match[str]) -> str:
    return match[1].partition("\\")[0].upper() + "\\"


def _classes(software: Hive, paths: SystemPaths, there: Mapping[str, str]) -> Iterator[Use]:
    top = software.key(r"Classes\CLSID")
    for key in (top.subkeys() if top is not None else ())[:MAX_CLASSES]:
        for kind in ("InprocServer32", "LocalServer32"):
            for path in _targets(key.subkey(kind), paths, there):
                yield Use(f"the class {key.name}", path, clsid=key.name)


def _associations(software: Hive, paths: SystemPaths, there: Mapping[str, str]) -> Iterator[Use]:
    """The commands of every file type."""
    top = software.key("Classes")
    for key in (top.subkeys() if top is not None else ())[:MAX_CLASSES]:
        if key.name.lower() in ("clsid", "interface", "typelib"):
            continue
        shell = key.subkey("shell")
        for verb in shell.subkeys() if shell is not None else ():
            for path in _targets(verb.subkey("command"), paths, there):
                yield Use(f"files of type {key.name} ({verb.name})", path)


def _targets(key: Key | None, paths: SystemPaths, there: Mapping[str, str]) -> Iterator[str]:
    """The files that a key's default value, a command line, runs, as far as they are there."""
    value = key.value() if key is not None else None
    for target in command_targets(value.text or "") if value is not None else ():
        resolved = paths.resolve(target)
        names = (resolved,) if resolved is not None else paths.search(target) if "\\" not in target else ()
        found = next((there[name.lower()] for name in names if name.lower() in there), None)
        if found is not None:
            yield found


class Hidden:
    """The modules of a guest without those that would go. Implements ``closure.ModuleSource``."""

    def __init__(self, modules: GuestModules, gone: Collection[str]) -> None:
        self.modules = modules
        self.gone = gone

    def folder(self, path: str) -> Mapping[str, str]:
        listed = self.modules.folder(path)
        return {name: where for name, where in listed.items() if where.lower() not in self.gone}

    def side_by_side(self, name: str) -> str | None:
        path = self.modules.side_by_side(name)
        return None if path is None or path.lower() in self.gone else path

    def read(self, path: str) -> bytes:
        return self.modules.read(path)


def broken_chains(
    guest: SlimGuest, advance: Callable[[int], None] = lambda count: None
) -> Callable[[frozenset[str]], Iterable[tuple[str, ...]]]:
    """What asks whether the programs that stay still load without the paths that go: by two searches of the loader,
    with and without them, so that another copy that the loader would find counts."""
    before = resolver_of(guest.files, guest.root)
    view = loader_view(guest.files, guest.root)

    def chains(gone: frozenset[str]) -> Iterator[tuple[str, ...]]:
        names = {path.rpartition("/")[2]: path for path in gone if path.endswith(MODULES)}
        if not any(in_use(names.values(), guest.root)):
            return
        after = Resolver(Hidden(GuestModules(guest.files, guest.root), gone), view)
        for what, path in guest.programs:
            if path.lower() in gone:
                continue
            closure = after.closure(path)
            missing = {need.dll.lower() for _, need in closure.missing if need.dll.lower() in names}
            if missing:
                missing -= {need.dll.lower() for _, need in before.closure(path).missing}
            for dll in sorted(missing):
                yield (f"{what} {path}", *_way(closure, dll), names[dll])
            advance(1)

    return chains


def _way(closure: Closure, dll: str) -> tuple[str, ...]:
    """The modules between a closure's start and the one that imports ``dll``, the start left out."""
    parent: dict[str, str] = {}
    by_path = {node.path.lower(): node for node in closure.nodes}
    importer = None
    for node in closure.nodes:
        for need in node.needs:
            if need.path is not None:
                parent.setdefault(need.path.lower(), node.path)
            if importer is None and need.dll.lower() == dll and not need.satisfied:
                importer = node.path
    found: list[str] = []
    here = importer
    while (
        here is not None and here.lower() != closure.start.lower() and here not in found and here.lower() in by_path
    ):
        found.append(here)
        here = parent.get(here.lower())
    return tuple(reversed(found))


def planned_changes(guest: SlimGuest, plan: SlimPlan, *, image: str) -> list[Change]:
    """The plan as changes of the system's volume: names that go, and hives with what registered them taken out."""
    changes: list[Change] = [Remove(path) for path in plan.removed]
    refuse_files([Remove(path) for path in plan.files], guest.files, image=image)
    edits = list(_edits(guest, plan))
    if edits:
        changes += hive_changes(guest.files, guest.root, edits, image=image)
    return changes


def _edits(guest: SlimGuest, plan: SlimPlan) -> Iterator[Edit]:
    disabled = _DISABLED.to_bytes(4, "little")
    for name in plan.services:
        yield SetValue(rf"HKLM\SYSTEM\CurrentControlSet\Services\{name}", "Start", _DWORD, disabled)
    software = open_hives(guest.files, guest.root).get("SOFTWARE")
    if software is None:
        return
    for clsid in plan.classes:
        yield DeleteKey(rf"HKLM\SOFTWARE\Classes\CLSID\{clsid}")
    yield from _uninstall(software, guest, plan)
    chosen = [part.component for part in plan.parts]
    noted = software.key(_COMPONENTS)
    for name in (name for each in chosen for name in each.subcomponents):
        if noted is not None and noted.value(name) is not None:
            yield SetValue(rf"HKLM\SOFTWARE\{_COMPONENTS}", name, _DWORD, bytes(4))
    yield from _keys(guest, chosen)


def _uninstall(software: Hive, guest: SlimGuest, plan: SlimPlan) -> Iterator[Edit]:
    """Entries of the list of installed programs whose uninstaller goes, or that a component names."""
    named = {name.lower() for part in plan.parts for name in part.component.uninstall}
    gone = {path.lower(): path for path in plan.files}
    top = software.key(_UNINSTALL)
    paths = SystemPaths(guest.root)
    for key in top.subkeys() if top is not None else ():
        value = key.value("UninstallString")
        targets = command_targets(value.text or "") if value is not None else ()
        lost = any((paths.resolve(each) or "").lower() in gone for each in targets)
        if lost or key.name.lower() in named:
            yield DeleteKey(rf"HKLM\SOFTWARE\{_UNINSTALL}\{key.name}")


def _keys(guest: SlimGuest, components: Iterable[Component]) -> Iterator[Edit]:
    """The components' own keys, where they are there; users' hives are left alone."""
    registry = Registry(guest.files, guest.root)
    for key in (key for each in components for key in each.keys):
        hive, _, below = key.partition("\\")
        place = {"SOFTWARE": r"HKLM\SOFTWARE", "SYSTEM": r"HKLM\SYSTEM\CurrentControlSet"}.get(hive.upper())
        if place is None:
            continue
        try:
            registry.locate(rf"{place}\{below}")
        except ByreError:
            continue
        yield DeleteKey(rf"{place}\{below}")
