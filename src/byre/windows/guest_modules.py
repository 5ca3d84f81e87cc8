"""The modules of an installed system, as ``closure`` looks for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.windows.closure import LoaderView
from byre.windows.hives import list_folder, read_hive
from byre.windows.paths import SystemPaths
from byre.windows.registry import Key
from byre.windows.services import read_control_sets

MAX_MODULE = 256 << 20
_MANAGER = r"Control\Session Manager"


class GuestModules:
    """Implements ``closure.ModuleSource`` over a file system."""

    def __init__(self, files: FileSystem, root: str) -> None:
        self.files = files
        self.root = root

    def folder(self, path: str) -> Mapping[str, str]:
        found: dict[str, str] = {}
        for entry in list_folder(self.files, path or "/"):
            if not entry.is_dir:
                found[entry.name.lower()] = entry.path
                if entry.short_name:
                    found.setdefault(entry.short_name.lower(), entry.path)
        return found

    def side_by_side(self, name: str) -> str | None:
        return self._assemblies.get(name)

    def read(self, path: str) -> bytes:
        return self.files.read(self.files.lookup(path), length=MAX_MODULE)

    @cached_property
    def _assemblies(self) -> dict[str, str]:
        """Every DLL in WinSxS by its name; of several versions the last folder's, by name, wins."""
        found: dict[str, str] = {}
        for assembly in list_folder(self.files, f"{self.root}/WinSxS"):
            if assembly.is_dir and assembly.reparse is None:
                found |= self.folder(assembly.path)
        return found


def loader_view(files: FileSystem, root: str, paths: SystemPaths | None = None) -> LoaderView:
    """What the loader's search depends on; a hive that can't be read leaves KnownDLLs and PATH at their usual.
    ``paths`` knows the drives; without it the system's is C:."""
    paths = paths or SystemPaths(root)
    known: frozenset[str] = frozenset()
    search: tuple[str, ...] = (f"{root}/system32/wbem",)
    system = read_hive(files, f"{root}/system32/config/SYSTEM").value
    try:
        sets = read_control_sets(system) if system else None
        control = system.key(sets.next_boot) if system and sets and sets.next_boot else None
        if control is not None:
            known = _known_dlls(control)
            search = _path(control, paths) or search
    except ByreError:
        pass  # the verb that reads the hive says what is wrong with it
    system32 = {entry.name.lower() for entry in list_folder(files, f"{root}/system32")}
    wow64 = any(entry.name.lower() == "syswow64" for entry in list_folder(files, root))
    # ntdll and kernel32 are mapped into every process before anything is searched for.
    always = frozenset({"ntdll.dll", "kernel32.dll"})
    return LoaderView(root, known | always, search, "apisetschema.dll" in system32, wow64)


def _known_dlls(control: Key) -> frozenset[str]:
    key = control.at(rf"{_MANAGER}\KnownDLLs")
    values = () if key is None else key.values()
    texts = [value.text or "" for value in values if not value.name.lower().startswith("dlldirectory")]
    return frozenset(text.lower() for text in texts if text)


def _path(control: Key, paths: SystemPaths) -> tuple[str, ...]:
    key = control.at(rf"{_MANAGER}\Environment")
    value = key.value("Path") if key else None
    text = (value.text or "") if value else ""
    folders = [paths.resolve(part) for part in text.split(";") if part.strip()]
    return tuple(dict.fromkeys(folder for folder in folders if folder))[:64]
