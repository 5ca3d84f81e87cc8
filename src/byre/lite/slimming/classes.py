"""What a guest's registered classes, file types and shell extensions need: the machine's and each user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from byre.errors import ByreError
from byre.lite.slimming.parts import Use
from byre.windows.paths import SystemPaths, command_targets
from byre.windows.reg_paths import Registry
from byre.windows.registry import Key

MAX_CLASSES = 50_000
MAX_HANDLERS = 200_000
"""Subkeys of all types' ``shell`` and ``shellex`` in one hive: Windows XP has some thousands."""
_NO_TYPES = ("clsid", "interface", "typelib")


@dataclass(frozen=True, slots=True)
class ClassRoot:
    """One key below which classes are registered. ``place``: the key as edits take it; ``whose``: said of a need."""

    key: Key
    place: str
    whose: str = ""


def class_roots(registry: Registry) -> tuple[tuple[ClassRoot, ...], tuple[str, ...]]:
    """(the machine's, that of its 32-bit programs, and every user's; what couldn't be read)."""
    found: list[ClassRoot] = []
    notes: list[str] = []
    for mount in registry.mounts():
        below = {
            "SOFTWARE": ("Classes", r"Wow6432Node\Classes"),
            "NTUSER": (r"Software\Classes",),
            "USRCLASS": ("",),
        }.get(mount.kind, ())
        fact = registry.hive(mount)
        if fact.value is None:
            if below and fact.state != "absent":
                notes.append(f"file types and classes of {mount.path} can't be read: {fact.reason}")
            continue
        shown = mount.shown.replace("HKEY_USERS", "HKU").replace("HKEY_LOCAL_MACHINE", "HKLM")
        whose = "" if mount.kind == "SOFTWARE" else f" of {shown.partition(chr(92))[2].removesuffix('_Classes')}"
        try:
            for path in below:
                key = fact.value.key(path) if path else fact.value.root
                if key is not None:
                    found.append(ClassRoot(key, f"{shown}\\{path}".rstrip("\\"), whose))
        except ByreError as error:
            notes.append(f"file types and classes of {mount.path} can't be read: {error.what}")
    return tuple(found), tuple(notes)


def class_uses(roots: tuple[ClassRoot, ...], paths: SystemPaths, there: Mapping[str, str]) -> Iterator[Use]:
    """Classes with the files that serve them; commands of file types; shell extensions. A type's own class is looked
    for in every root."""
    servers: dict[str, list[str]] = {}
    for root in roots:
        for name, files in _servers(root.key, paths, there):
            servers.setdefault(name.lower(), []).extend(files)
            for path in files:
                place = rf"{root.place}\CLSID\{name}"
                yield Use(f"the class {name}{root.whose}", path, clsid=name, kind="class", place=place)
    for root in roots:
        yield from _of_types(root, paths, there, servers)


def _servers(classes: Key, paths: SystemPaths, there: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each registered class with the files that serve it."""
    top = classes.subkey("CLSID")
    for key in (top.subkeys() if top is not None else ())[:MAX_CLASSES]:
        files = [
            path
            for kind in ("InprocServer32", "LocalServer32", "InprocHandler32")
            for path in _targets(key.subkey(kind), paths, there)
        ]
        if files:
            yield key.name, tuple(dict.fromkeys(files))


def _of_types(
    root: ClassRoot, paths: SystemPaths, there: Mapping[str, str], servers: Mapping[str, list[str]]
) -> Iterator[Use]:
    """The commands of every file type, and the shell extensions that are registered with it."""
    count = 0
    for key in root.key.subkeys()[:MAX_CLASSES]:
        if key.name.lower() in _NO_TYPES:
            continue
        said = f"files of type {key.name}{root.whose}"
        shell = key.subkey("shell")
        for verb in shell.subkeys() if shell is not None else ():
            where = rf"{key.name}\shell\{verb.name}"
            for path in _targets(verb.subkey("command"), paths, there):
                yield Use(
                    f"{said} ({verb.name})",
                    path,
                    key=rf"SOFTWARE\Classes\{where}",
                    kind="file type",
                    type=key.name,
                    place=rf"{root.place}\{where}",
                )
            count += 1
        extensions = key.subkey("shellex")
        for handler, place in _handlers(extensions) if extensions is not None and servers else ():
            where = rf"SOFTWARE\Classes\{key.name}\shellex\{place}"
            for path in servers.get(handler.lower(), ()):
                yield Use(f"{said} (shell extension {place})", path, key=where, kind="shell extension")
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
