"""Everything of an installed system that needs a file: the boot path, services, classes, file types, shell
extensions, tasks, what starts by itself, and the shortcuts that lead to one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from byre.audit import boot_path
from byre.audit.facts import Facts
from byre.audit.gathering import LOADER_FILES
from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.lite.slim_parts import Row, Shortcut, Use
from byre.windows.autostarts import Autostart
from byre.windows.paths import SystemPaths, command_targets
from byre.windows.registry import Hive, Key
from byre.windows.shortcuts import MAX_LINK, parse_shortcut

MAX_CLASSES = 50_000
MAX_HANDLERS = 200_000
"""Subkeys of all classes' ``shell`` and ``shellex`` together: Windows XP has some thousands."""
MAX_LINKS = 20_000
DISABLED = 4
_SHELL_KINDS = frozenset(
    ("context-menu", "shell-delay-load", "shared-task", "shell-execute-hook", "browser-helper", "browser-toolbar")
)
_STARTUP = re.compile(r"/start menu/programs/startup/[^/]+$|/programs/startup/[^/]+$")


def read_uses(facts: Facts, software: Hive, paths: SystemPaths, there: Mapping[str, str]) -> list[Use]:
    """All needs but those of shortcuts. ``there``: every file's guest path by itself in lower case."""
    servers = dict(_servers(software, paths, there))
    found = [*_starts(facts, there), *_services(facts, there)]
    for clsid, (name, files) in servers.items():
        found += [Use(f"the class {name}", path, clsid=clsid, kind="class") for path in files]
    found += _of_types(software, paths, there, {clsid.lower(): row[1] for clsid, row in servers.items()})
    found += _autostarts(facts, there)
    return found


def _starts(facts: Facts, there: Mapping[str, str]) -> Iterator[Use]:
    """The boot path: loader, hives, and every file from the kernel to the shell."""
    assert facts.guest is not None
    for path in LOADER_FILES:
        if path.lower() in there:
            yield Use("the boot loader", there[path.lower()], kind="start")
    config = f"{facts.guest.root}/system32/config/".lower()
    for lower, path in there.items():
        if lower.startswith(config) and "." not in lower.rpartition("/")[2]:
            yield Use("the registry", path, kind="registry")
        elif lower.endswith("/ntuser.dat"):
            yield Use("a user's registry", path, kind="registry")
    state = facts.volume(facts.guest.volume)
    kind = state.facts.type if state is not None and state.facts is not None else None
    for step in boot_path.steps(facts.guest, facts.kind, kind, facts.system.value, facts.logon.value):
        found = next((there[path.lower()] for path in step.paths if path.lower() in there), None)
        if found is not None:
            driver = step.what.removeprefix("the boot driver ")
            own = driver if driver != step.what and driver.lower() not in boot_path.DISK_PATH else None
            yield Use(f"the start: {step.what}", found, service=own, kind="start")


def _services(facts: Facts, there: Mapping[str, str]) -> Iterator[Use]:
    assert facts.guest is not None
    for service in facts.guest.services.value or ():
        said = f"the service {service.name}"
        for path in (service.file, service.service_dll) if service.start != DISABLED else ():
            if path is not None and path.lower() in there:
                yield Use(said, there[path.lower()], service=service.name, kind="service")
        for name in service.depends if service.start != DISABLED else ():
            yield Use(said, "", service=service.name, needs_service=name, kind="service")


def _autostarts(facts: Facts, there: Mapping[str, str]) -> Iterator[Use]:
    """What starts by itself: tasks and shell extensions too. Filters of device classes are services."""
    assert facts.guest is not None
    for each in facts.guest.autostarts.value or ():
        said = f"{each.kind} {each.location} {each.name}".strip()
        if each.kind == "class-filter":
            for name in re.split(r"[\s,;|]+", each.command):
                yield Use(said, "", needs_service=name, kind="autostart")
        # Print monitors are the spooler's: without it nobody loads them.
        service = "Spooler" if each.kind == "print-monitor" else None
        kind = "task" if each.kind == "task" else "shell extension" if each.kind in _SHELL_KINDS else "autostart"
        in_file = each.kind in ("task", "startup-folder")
        for path in each.files:
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


def _key_of(each: Autostart) -> str:
    r"""The key as components name it: ``SOFTWARE\…``, ``SYSTEM\…`` without the control set, ``NTUSER\…``. An entry
    that is a key of its own counts with its name."""
    key = re.sub(r"^HKLM\\(SYSTEM\\CurrentControlSet|SOFTWARE)\\", _hive_of, each.location, flags=re.IGNORECASE)
    key = re.sub(r"^HKU\\[^\\]+\\", r"NTUSER\\", key, flags=re.IGNORECASE)
    inside = each.kind in _SHELL_KINDS and not key.lower().endswith(each.name.lower())
    return f"{key}\\{each.name}" if inside and each.name else key


def _hive_of(match: re.Match[str]) -> str:
    return match[1].partition("\\")[0].upper() + "\\"


def _servers(
    software: Hive, paths: SystemPaths, there: Mapping[str, str]
) -> Iterator[tuple[str, tuple[str, tuple[str, ...]]]]:
    """Each registered class with its name and the files that serve it."""
    top = software.key(r"Classes\CLSID")
    for key in (top.subkeys() if top is not None else ())[:MAX_CLASSES]:
        files = [
            path
            for kind in ("InprocServer32", "LocalServer32", "InprocHandler32")
            for path in _targets(key.subkey(kind), paths, there)
        ]
        if files:
            yield key.name, (key.name, tuple(dict.fromkeys(files)))


def _of_types(
    software: Hive, paths: SystemPaths, there: Mapping[str, str], servers: Mapping[str, tuple[str, ...]]
) -> Iterator[Use]:
    """The commands of every file type, and the shell extensions that are registered with it. A type's own class is
    found by its id (``servers``, in lower case)."""
    top = software.key("Classes")
    count = 0
    for key in (top.subkeys() if top is not None else ())[:MAX_CLASSES]:
        if key.name.lower() in ("clsid", "interface", "typelib"):
            continue
        shell = key.subkey("shell")
        for verb in shell.subkeys() if shell is not None else ():
            where = rf"SOFTWARE\Classes\{key.name}\shell\{verb.name}"
            for path in _targets(verb.subkey("command"), paths, there):
                yield Use(f"files of type {key.name} ({verb.name})", path, key=where, kind="file type", type=key.name)
            count += 1
        extensions = key.subkey("shellex")
        for handler, place in _handlers(extensions) if extensions is not None and servers else ():
            where = rf"SOFTWARE\Classes\{key.name}\shellex\{place}"
            for path in servers.get(handler.lower(), ()):
                yield Use(
                    f"files of type {key.name} (shell extension {place})", path, key=where, kind="shell extension"
                )
            count += 1
        if count > MAX_HANDLERS:
            return


def _handlers(extensions: Key) -> Iterator[tuple[str, str]]:
    """(class id, place below ``shellex``) of each extension: the key's value, or its name, is the class."""
    for kind in extensions.subkeys():
        value = kind.value()
        if value is not None and (value.text or "").startswith("{"):
            yield (value.text or "").strip(), kind.name
        for each in kind.subkeys():
            value = each.value()
            text = (value.text or "") if value is not None else ""
            clsid = text.strip() if text.startswith("{") else each.name
            if clsid.startswith("{"):
                yield clsid, rf"{kind.name}\{each.name}"


def _targets(key: Key | None, paths: SystemPaths, there: Mapping[str, str]) -> Iterator[str]:
    """The files that a key's default value, a command line, runs, as far as they are there."""
    value = key.value() if key is not None else None
    yield from existing(value.text or "" if value is not None else "", paths, there)


def existing(command: str, paths: SystemPaths, there: Mapping[str, str]) -> Iterator[str]:
    """The files that a command line runs, as far as they are there, by the guest's own spelling."""
    for target in command_targets(command) if command else ():
        resolved = paths.resolve(target)
        names = (resolved,) if resolved is not None else paths.search(target) if "\\" not in target else ()
        found = next((there[name.lower()] for name in names if name.lower() in there), None)
        if found is not None:
            yield found


def read_shortcuts(
    files: FileSystem, rows: Iterable[Row], paths: SystemPaths, there: Mapping[str, str]
) -> tuple[tuple[Shortcut, ...], tuple[Use, ...], tuple[str, ...]]:
    """(shortcuts, those of Startup folders as needs, notes). A shortcut that can't be read leads nowhere."""
    links: list[Shortcut] = []
    starts: list[Use] = []
    count = 0
    for row in rows:
        lower = row.path.lower()
        if row.is_dir or not lower.endswith(".lnk") or lower.startswith(f"{paths.root.lower()}/system32/"):
            continue
        count += 1
        if count > MAX_LINKS:
            return tuple(links), tuple(starts), (f"more than {MAX_LINKS} shortcuts: the rest was not looked at",)
        targets = _lead_to(files, row.path, paths, there)
        if targets and _STARTUP.search(lower):
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
