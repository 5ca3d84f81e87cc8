"""Everything of an installed system that needs a file: the boot path, services, classes, file types, shell
extensions, tasks, what starts by itself, and the shortcuts that lead to one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from byre.audit import boot_path
from byre.audit.facts import Facts
from byre.audit.gathering import LOADER_FILES
from byre.errors import ByreError
from byre.filesystems.base import FileSystem, Name
from byre.lite.slimming.classes import ClassRoot, class_uses, existing
from byre.lite.slimming.drives import letter_of
from byre.lite.slimming.parts import Shortcut, Use
from byre.windows.autostarts import Autostart
from byre.windows.paths import SystemPaths
from byre.windows.registry import Key
from byre.windows.registry.hive import Value
from byre.windows.shortcuts import MAX_LINK, parse_shortcut

MAX_LINKS = 20_000
MAX_DEVICES = 50_000
"""Devices that a system ever had: with years of USB sticks, some thousands."""
DISABLED = 4
_NEVER_WITHOUT = frozenset(("rpcss", "dcomlaunch", "plugplay", "samss", "ksecdd", "volsnap"))
"""Beside the disk's own drivers: services without which Windows doesn't come to a logon, or its volumes to a start,
whoever depends on them by name."""
_SHELL_KINDS = frozenset(
    ("context-menu", "shell-delay-load", "shared-task", "shell-execute-hook", "browser-helper", "browser-toolbar")
)
_STARTUP = re.compile(r"/start menu/programs/startup/[^/]+$|/programs/startup/[^/]+$")


def read_uses(
    facts: Facts,
    classes: tuple[ClassRoot, ...],
    paths: SystemPaths,
    there: Mapping[str, str],
    control_set: Key | None = None,
) -> list[Use]:
    """All needs but those of shortcuts. ``there``: every file's guest path by itself in lower case. The facts know
    of files on the system's drive alone: of those on others the texts are asked, here and in ``control_set``."""
    return [
        *_starts(facts, paths, there),
        *_services(facts, paths, there, control_set),
        *class_uses(classes, paths, there),
        *_autostarts(facts, paths, there),
        *_device_filters(control_set),
    ]


def _starts(facts: Facts, paths: SystemPaths, there: Mapping[str, str]) -> Iterator[Use]:
    """The boot path: loader, hives, and every file from the kernel to the shell. A loader stays on any drive: which
    one the machine starts from isn't up to the guest alone."""
    assert facts.guest is not None
    for prefix in ("", *(f"{letter}:" for letter in sorted(paths.others))):
        for path in LOADER_FILES:
            found = there.get(f"{prefix}{path}".lower())
            if found is not None:
                yield Use("the boot loader", found, kind="start")
    config = f"{facts.guest.root}/system32/config/".lower()
    for lower, path in there.items():
        if lower.startswith(config) and "." not in lower.rpartition("/")[2]:
            yield Use("the registry", path, kind="registry")
        elif lower.endswith(("/ntuser.dat", "/usrclass.dat")):
            yield Use("a user's registry", path, kind="registry")
    state = facts.volume(facts.guest.volume)
    kind = state.facts.type if state is not None and state.facts is not None else None
    for step in boot_path.steps(facts.guest, facts.kind, kind, facts.system.value, facts.logon.value):
        found = next((there[path.lower()] for path in step.paths if path.lower() in there), None)
        if found is not None:
            driver = step.what.removeprefix("the boot driver ")
            own = driver if driver != step.what and driver.lower() not in boot_path.DISK_PATH else None
            yield Use(f"the start: {step.what}", found, service=own, kind="start")
    for service in facts.guest.services.value or ():
        if service.name.lower() in boot_path.DISK_PATH | _NEVER_WITHOUT and service.start != DISABLED:
            yield Use("the start", "", needs_service=service.name, kind="start")


def _services(facts: Facts, paths: SystemPaths, there: Mapping[str, str], control_set: Key | None) -> Iterator[Use]:
    assert facts.guest is not None
    for service in facts.guest.services.value or ():
        said = f"the service {service.name}"
        if paths.others and service.start != DISABLED:
            for text in (service.image_path or "", _service_dll(control_set, service.name)):
                for far in _far(text, paths, there):
                    yield Use(said, far, service=service.name, kind="service")
        for path in (service.file, service.service_dll) if service.start != DISABLED else ():
            if path is not None and path.lower() in there:
                yield Use(said, there[path.lower()], service=service.name, kind="service")
        for name in service.depends if service.start != DISABLED else ():
            yield Use(said, "", service=service.name, needs_service=name, kind="service")


def _service_dll(control_set: Key | None, name: str) -> str:
    key = control_set.at(rf"Services\{name}\Parameters") if control_set is not None else None
    value = key.value("ServiceDll") if key is not None else None
    return (value.text or "") if value is not None else ""


def _far(command: str, paths: SystemPaths, there: Mapping[str, str]) -> tuple[str, ...]:
    """The files on other drives than the system's that a command line runs."""
    if not paths.others or ":" not in command:
        return ()
    return tuple(path for path in existing(command, paths, there) if letter_of(path) is not None)


def _autostarts(facts: Facts, paths: SystemPaths, there: Mapping[str, str]) -> Iterator[Use]:
    """What starts by itself: tasks and shell extensions too. Filters of device classes are services."""
    assert facts.guest is not None
    for each in facts.guest.autostarts.value or ():
        said = f"{each.kind} {each.location} {each.name}".strip()
        if each.kind == "class-filter":
            for name in re.split(r"[\s,;|]+", each.command):
                yield Use(said, "", needs_service=name, key=_key_of(each), kind="autostart")
        # Print monitors are the spooler's: without it nobody loads them.
        service = "Spooler" if each.kind == "print-monitor" else None
        kind = "task" if each.kind == "task" else "shell extension" if each.kind in _SHELL_KINDS else "autostart"
        in_file = each.kind in ("task", "startup-folder")
        for path in (*each.files, *_far(each.command, paths, there)):
            if path.lower() not in there:
                continue
            yield Use(
                said,
                there[path.lower()],
                service=service,
                key=None if in_file else _key_of(each),
                kind=kind,
                run=each.name if each.kind == "run-key" else None,
                holder=f"{each.location}/{each.name}" if in_file else None,
                place=each.location if each.kind == "run-key" else None,
            )


def _device_filters(control_set: Key | None) -> Iterator[Use]:
    r"""Filters of single devices (those of classes are among the autostarts): a device whose filter is disabled
    doesn't start, as a CD drive without ``imapi``."""
    top = control_set.at("Enum") if control_set is not None else None
    for count, device in enumerate(_below(top, 3)):
        if count >= MAX_DEVICES:
            return
        for name in ("UpperFilters", "LowerFilters"):
            value = _value(device, name)
            for service in value.strings if value is not None else ():
                yield Use(f"the device {_device_name(device)}", "", needs_service=service, kind="autostart")


def _below(key: Key | None, depth: int) -> Iterator[Key]:
    """The keys so many levels below one; a damaged part is passed over."""
    try:
        found = key.subkeys() if key is not None else ()
    except ByreError:
        return
    for each in found:
        if depth == 1:
            yield each
        else:
            yield from _below(each, depth - 1)


def _value(key: Key, name: str) -> Value | None:
    try:
        return key.value(name)
    except ByreError:
        return None


def _device_name(device: Key) -> str:
    named = (_value(device, name) for name in ("FriendlyName", "DeviceDesc"))
    return next((value.text for value in named if value is not None and value.text), device.name)


def _key_of(each: Autostart) -> str:
    r"""The key as components name it: ``SOFTWARE\…``, ``SYSTEM\…`` without the control set, ``NTUSER\…``. An entry
    that is a key of its own counts with its name."""
    key = re.sub(r"^HKLM\\(SYSTEM\\CurrentControlSet|SOFTWARE)\\", _hive_of, each.location, flags=re.IGNORECASE)
    key = re.sub(r"^HKU\\[^\\]+\\", r"NTUSER\\", key, flags=re.IGNORECASE)
    inside = each.kind in _SHELL_KINDS and not key.lower().endswith(each.name.lower())
    return f"{key}\\{each.name}" if inside and each.name else key


def _hive_of(match: re.Match[str]) -> str:
    return match[1].partition("\\")[0].upper() + "\\"


def read_shortcuts(
    files: FileSystem,
    rows: Iterable[Name],
    paths: SystemPaths,
    there: Mapping[str, str],
    startups: frozenset[str] = frozenset(),
) -> tuple[tuple[Shortcut, ...], tuple[Use, ...], tuple[str, ...]]:
    """(shortcuts, those of Startup folders as needs, notes). A shortcut that can't be read leads nowhere.
    ``startups``: Startup folders by another name than the usual, in lower case."""
    links: list[Shortcut] = []
    starts: list[Use] = []
    count = 0
    for row in rows:
        lower = row.path.lower()
        if row.is_folder or not lower.endswith(".lnk") or lower.startswith(f"{paths.root.lower()}/system32/"):
            continue
        count += 1
        if count > MAX_LINKS:
            return tuple(links), tuple(starts), (f"more than {MAX_LINKS} shortcuts: the rest was not looked at",)
        targets = _lead_to(files, row.path, paths, there)
        if targets and (_STARTUP.search(lower) or lower.rpartition("/")[0] in startups):
            said = f"startup-folder {row.path}"
            starts += [Use(said, path, kind="autostart", holder=row.path) for path in targets]
        elif targets:
            links.append(Shortcut(row.path, row.allocated, tuple(path.lower() for path in targets)))
    return tuple(links), tuple(starts), ()


def _lead_to(files: FileSystem, path: str, paths: SystemPaths, there: Mapping[str, str]) -> tuple[str, ...]:
    """The file that a shortcut runs: of rundll32 what it loads, too."""
    try:
        link = parse_shortcut(files.read(files.lookup(path), length=MAX_LINK + 1), path=path)
    except ByreError:
        return ()
    for target in link.targets:
        found = tuple(existing(f'"{target}" {link.arguments}', paths, there))
        if found:
            return found[1:] if len(found) > 1 else found
    return ()
