"""What goes from the registry with the components of a plan, edit by edit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.lite.hive_editor import DeleteKey, DeleteValue, Edit, SetValue
from byre.lite.slimming.parts import RegistryStep, SlimPlan, Use
from byre.lite.slimming.plan import keys_pattern
from byre.windows.components.component import Component
from byre.windows.paths import SystemPaths, command_targets
from byre.windows.reg_paths import Located, Registry
from byre.windows.registry import Hive, Key

MAX_KEYS = 5_000
"""Keys that the patterns of all components name: Windows XP has some hundreds."""
MAX_ENTRIES = 20_000
MAX_WALKED = 200_000
"""Keys of a user's hive: Windows XP's have some thousands."""
_UNINSTALL = r"Microsoft\Windows\CurrentVersion\Uninstall"
_COMPONENTS = r"Microsoft\Windows\CurrentVersion\Setup\OC Manager\Subcomponents"
_FONTS = r"Microsoft\Windows NT\CurrentVersion\Fonts"
_PROTECTION = (
    r"Microsoft\Windows NT\CurrentVersion\Winlogon",
    r"Policies\Microsoft\Windows NT\Windows File Protection",
)
_TEXT, _DWORD, _DISABLED = 1, 4, 4
_PROTECTED = (".exe", ".dll", ".sys", ".ocx", ".cpl", ".scr", ".drv", ".ax", ".ttf", ".ttc", ".fon", ".nls", ".tlb")


def registry_steps(
    files: FileSystem, root: str, plan: SlimPlan, uses: Iterable[Use], paths: SystemPaths
) -> tuple[tuple[RegistryStep, ...], tuple[str, ...]]:
    """(the edits, each once and none below a key that goes anyhow; what was left alone and why)."""
    registry = Registry(files, root)
    software = _hive(registry, "SOFTWARE")
    notes: list[str] = []
    found = [*_services(plan), *_own_starts(plan, tuple(uses))]
    found += _code_pages(registry, root, plan)
    if software is not None:
        found += _uninstall(software, paths, plan)
        found += _subcomponents(software, plan)
        found += _fonts(software, root, plan)
    for part in plan.parts:
        found += _keys(registry, part.component, notes)
    if software is not None:
        found += _protection(software, root, plan)
    return tuple(_once(found)), tuple(dict.fromkeys(notes))


def _hive(registry: Registry, name: str) -> Hive | None:
    return next(
        (registry.hive(mount).value for mount in registry.mounts() if mount.kind == name),
        None,
    )


def _once(steps: Iterable[RegistryStep]) -> Iterator[RegistryStep]:
    """Keys that go first, then what doesn't lie below one of them."""
    listed = list(steps)
    keys = sorted({each.edit.key.lower() for each in listed if isinstance(each.edit, DeleteKey)})
    tops: list[str] = []
    for key in keys:
        if not tops or not f"{key}\\".startswith(f"{tops[-1]}\\"):
            tops.append(key)
    done: set[tuple[str, str | None]] = set()
    for each in listed:
        key = each.edit.key.lower()
        whole = isinstance(each.edit, DeleteKey)
        name = each.edit.name.lower() if isinstance(each.edit, (SetValue, DeleteValue)) else None
        above = key if not whole else key.rpartition("\\")[0]
        covered = any(f"{above}\\".startswith(f"{top}\\") for top in tops)
        if (key, name) not in done and not covered:
            done.add((key, name))
            yield each


def _services(plan: SlimPlan) -> Iterator[RegistryStep]:
    disabled = _DISABLED.to_bytes(4, "little")
    for part in plan.parts:
        own = {name.lower() for name in part.component.services}
        for name in plan.services:
            if name.lower() in own:
                key = rf"HKLM\SYSTEM\CurrentControlSet\Services\{name}"
                edit = SetValue(key, "Start", _DWORD, disabled)
                yield RegistryStep(part.component.id, "service", f"service {name}: disabled (Start=4)", edit)


def _own_starts(plan: SlimPlan, uses: tuple[Use, ...]) -> Iterator[RegistryStep]:
    """Classes that what goes serves; values of Run keys and commands of file types that are a component's own."""
    home = {path.lower(): part.component for part in plan.parts for path in part.files}
    for use in uses:
        own = home.get(use.path.lower())
        if own is None or use.place is None:
            continue
        if use.clsid is not None:
            yield RegistryStep(own.id, "class", f"{use.what}: unregistered", DeleteKey(use.place))
        elif use.run is not None and use.run.lower() in {name.lower() for name in own.runs}:
            said = f"{use.place}: {use.run} goes"
            yield RegistryStep(own.id, "run", said, DeleteValue(use.place, use.run))
        elif use.type is not None and keys_pattern(own.types).fullmatch(use.type.lower()):
            yield RegistryStep(own.id, "type", f"{use.what}: goes", DeleteKey(use.place))


def _code_pages(registry: Registry, root: str, plan: SlimPlan) -> Iterator[RegistryStep]:
    """Code pages whose file goes: an empty text is how Windows notes one that isn't installed (measured)."""
    folder = f"{root}/system32/".lower()  # a copy elsewhere, in dllcache say, is no code page
    home = {
        path.lower().removeprefix(folder): part.component.id
        for part in plan.parts
        for path in part.files
        if path.lower().startswith(folder)
    }
    if not any(name.startswith("c_") and name.endswith(".nls") for name in home):
        return
    place = r"HKLM\SYSTEM\CurrentControlSet\Control\Nls\CodePage"
    try:
        key = registry.locate(place).key
    except ByreError:
        return
    for value in key.values()[:MAX_ENTRIES]:
        part = home.get((value.text or "").lower())
        if part is not None and value.name.isdecimal():
            said = f"code page {value.name}: not installed"
            yield RegistryStep(part, "code page", said, SetValue(place, value.name, _TEXT, bytes(2)))


def _uninstall(software: Hive, paths: SystemPaths, plan: SlimPlan) -> Iterator[RegistryStep]:
    """Entries of the list of installed programs whose uninstaller goes, or that a component names."""
    named = {name.lower(): part.component.id for part in plan.parts for name in part.component.uninstall}
    home = {path.lower(): part.component.id for part in plan.parts for path in part.files}
    for key in _subkeys(software.key(_UNINSTALL)):
        value = key.value("UninstallString")
        targets = command_targets(value.text or "") if value is not None else ()
        lost = next((home[path] for each in targets if (path := (paths.resolve(each) or "").lower()) in home), None)
        part = named.get(key.name.lower(), lost)
        if part is not None:
            said = f"installed program {key.name}: off the list"
            yield RegistryStep(part, "uninstall", said, DeleteKey(rf"HKLM\SOFTWARE\{_UNINSTALL}\{key.name}"))


def _subcomponents(software: Hive, plan: SlimPlan) -> Iterator[RegistryStep]:
    noted = software.key(_COMPONENTS)
    for part in plan.parts if noted is not None else ():
        for name in part.component.subcomponents:
            value = noted.value(name) if noted is not None else None
            if value is not None and value.number != 0:
                edit = SetValue(rf"HKLM\SOFTWARE\{_COMPONENTS}", value.name, _DWORD, bytes(4))
                said = f"Setup's note of {value.name}: not installed"
                yield RegistryStep(part.component.id, "subcomponent", said, edit)


def _fonts(software: Hive, root: str, plan: SlimPlan) -> Iterator[RegistryStep]:
    """The names of fonts whose file goes."""
    folder = f"{root}/fonts/".lower()
    home = {path.lower(): part.component.id for part in plan.parts for path in part.files}
    if not any(path.startswith(folder) for path in home):
        return
    key = software.key(_FONTS)
    for value in key.values()[:MAX_ENTRIES] if key is not None else ():
        name = (value.text or "").replace("/", "\\").rpartition("\\")[2].lower()
        part = home.get(folder + name) if name else None
        if part is not None and value.name:
            edit = DeleteValue(rf"HKLM\SOFTWARE\{_FONTS}", value.name)
            yield RegistryStep(part, "font", f"font {value.name}: off the list", edit)


def _keys(registry: Registry, component: Component, notes: list[str]) -> Iterator[RegistryStep]:
    """A component's own keys, where they are there: those of users in every user's hive."""
    count = 0
    for pattern in component.keys:
        hive, _, below = pattern.partition("\\")
        tops = {"SOFTWARE": [r"HKLM\SOFTWARE"], "SYSTEM": [r"HKLM\SYSTEM\CurrentControlSet"]}.get(hive.upper())
        for top in tops if tops is not None else _users(registry, notes):
            for place in _matching(registry, top, below.split("\\")):
                count += 1
                if count > MAX_KEYS:
                    notes.append(f"{component.id}: more than {MAX_KEYS} keys: the rest stays")
                    return
                yield RegistryStep(component.id, "key", f"{place}: goes", DeleteKey(place))


def _users(registry: Registry, notes: list[str]) -> list[str]:
    """Where each user's hive is mounted, the logon screen's and the default user's among them; one that can't be
    edited is left alone, and noted."""
    found = []
    for mount in registry.mounts():
        if mount.kind not in ("NTUSER", "DEFAULT"):
            continue
        fact = registry.hive(mount)
        reason = fact.reason if fact.value is None else _damage(fact.value)
        if fact.value is not None and reason is None:
            found.append(mount.shown.replace("HKEY_USERS", "HKU"))
        elif fact.state != "absent":
            notes.append(f"{mount.path} is left alone: {reason}")
    return found


def _damage(hive: Hive) -> str | None:
    """What is wrong with a hive, as far as its first ``MAX_WALKED`` keys tell."""
    try:
        for _ in islice(hive.walk(), MAX_WALKED):
            pass
    except ByreError as error:
        return error.what
    return hive.problems[0].what if hive.problems else None


def _matching(registry: Registry, top: str, names: list[str]) -> Iterator[str]:
    """The keys below ``top`` that a path with ``*`` and ``?`` in its names fits, in the hive's own spelling."""
    try:
        start = registry.locate(top)
    except ByreError:
        return
    waiting: list[tuple[str, Key, list[str]]] = [(top, _key_of(start), names)]
    while waiting:
        path, key, rest = waiting.pop()
        if not rest:
            yield path
            continue
        name, *below = rest
        if "*" in name or "?" in name:
            fits = keys_pattern((name,)).fullmatch
            waiting += [(rf"{path}\{each.name}", each, below) for each in _subkeys(key) if fits(each.name.lower())]
        else:
            child = key.subkey(name)
            if child is not None:
                waiting.append((rf"{path}\{child.name}", child, below))


def _key_of(located: Located) -> Key:
    return located.key


def _subkeys(key: Key | None) -> tuple[Key, ...]:
    return tuple(each for each in key.subkeys()[:MAX_ENTRIES] if "\\" not in each.name) if key is not None else ()


def _protection(software: Hive, root: str, plan: SlimPlan) -> Iterator[RegistryStep]:
    """No scan at the start by Windows File Protection where files go that it may guard (Microsoft KB 222473): it
    would miss them, and ask for the CD. The policy wins over Winlogon's own value."""
    places = (f"{root}/".lower(), "/program")  # Program Files, Programme, Programmi, ...
    if not any(path.lower().startswith(places) and path.lower().endswith(_PROTECTED) for path in plan.files):
        return
    for place in _PROTECTION:
        key = software.key(place)
        value = key.value("SFCScan") if key is not None else None
        if value is not None and value.number != 0:
            said = f"Windows File Protection doesn't scan at the start: SFCScan=0 instead of {value.number}"
            edit: Edit = SetValue(rf"HKLM\SOFTWARE\{place}", value.name, _DWORD, bytes(4))
            yield RegistryStep(None, "protection", said, edit)
