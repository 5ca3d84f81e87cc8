"""Where systems are installed on a volume: all that a guest path needs to know of Windows.

Apart from ``guest``, whose readers of hives and programs take 0.04 s to import: a fifth of all that 'byre ls' takes.
"""

from __future__ import annotations

from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.windows.boot_ini import parse_boot_ini
from byre.windows.fact import attempt

ROOTS = ("WINDOWS", "WINNT", "WIN32", "WIN", "REACTOS")


def find_roots(files: FileSystem) -> tuple[str, ...]:
    """The folders of a volume that hold an installed system: they have ``system32`` and ``system32\\config``."""
    names = list(ROOTS)
    boot = attempt(lambda: parse_boot_ini(files.read(files.lookup("/boot.ini"), length=1 << 20)))
    for entry in boot.value.entries if boot.value else ():
        if entry.arc is not None:
            names.append(entry.arc.folder.strip("\\"))
    found: dict[str, str] = {}
    for name in names:
        if name and name.lower() not in found and name_exists(files, f"/{name}/system32/config"):
            found[name.lower()] = files.lookup(f"/{name}").path
    return tuple(found.values())


def name_exists(files: FileSystem, path: str) -> bool:
    """Whether the guest path is there; a file system that can't tell says no."""
    try:
        files.lookup(path)
    except ByreError:
        return False
    return True
