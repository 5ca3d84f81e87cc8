r"""Registry paths as people type them (``HKLM\SYSTEM\CurrentControlSet\…``), turned into a hive and a key in it.

``CurrentControlSet`` is a link that only a running system has; here it is the set that the next boot uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from byre.errors import ByreError, CorruptImageError, MissingError, UnsupportedError, UsageError
from byre.filesystems.base import FileSystem
from byre.windows.fact import Fact
from byre.windows.hives import MAX_USERS, list_folder, profile_folders, read_hive
from byre.windows.registry import Hive, Key
from byre.windows.services import read_control_sets

_ROOTS = {
    "HKLM": "HKEY_LOCAL_MACHINE",
    "HKU": "HKEY_USERS",
    "HKCR": "HKEY_CLASSES_ROOT",
    "HKCU": "HKEY_CURRENT_USER",
    "HKCC": "HKEY_CURRENT_CONFIG",
}
_SHORT = {long: short for short, long in _ROOTS.items()}
MACHINE = ("SAM", "SECURITY", "SOFTWARE", "SYSTEM")
_CLASSES = "_Classes"
_SHELL_FOLDERS = r"Software\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders"
_USER_CLASSES = ("Local Settings/Application Data/Microsoft/Windows", "AppData/Local/Microsoft/Windows")


@dataclass(frozen=True, slots=True)
class Located:
    r"""A key found. ``shown`` is its path as asked for, in full (``HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet``);
    ``relative`` its path in the hive, ``kind`` the hive as ``secrets`` wants it."""

    hive: Hive
    kind: str
    key: Key
    shown: str
    relative: str


@dataclass(frozen=True, slots=True)
class Mount:
    """One place that a hive is seen at, and where its file lies in the guest."""

    shown: str
    kind: str
    path: str


class Registry:
    """The registry of one installed system. Mutable: it keeps the hives that it has opened."""

    def __init__(self, files: FileSystem, root: str) -> None:
        self.files = files
        self.root = root
        self._hives: dict[str, Fact[Hive]] = {}

    def mounts(self) -> tuple[Mount, ...]:
        """Every hive that could be looked into, whether or not its file is there."""
        config = f"{self.root}/system32/config"
        found = [Mount(f"HKEY_LOCAL_MACHINE\\{name}", name, f"{config}/{name}") for name in MACHINE]
        found.append(Mount(r"HKEY_USERS\.DEFAULT", "DEFAULT", f"{config}/DEFAULT"))
        for user, folder in self._profiles():
            found.append(Mount(f"HKEY_USERS\\{user}", "NTUSER", f"{folder}/NTUSER.DAT"))
            for below in self._local_places(user, folder):
                path = f"{folder}/{below}/UsrClass.dat"
                if any(
                    entry.name.lower() == "usrclass.dat" for entry in list_folder(self.files, f"{folder}/{below}")
                ):
                    found.append(Mount(f"HKEY_USERS\\{user}{_CLASSES}", "USRCLASS", path))
        return tuple(found)

    def _local_places(self, user: str, folder: str) -> tuple[str, ...]:
        """Where a user's own classes may lie, below the profile: where the usual folder isn't there, as the user's
        hive names it (in German, say, ``Lokale Einstellungen\\Anwendungsdaten``)."""
        tops = {place.partition("/")[0].lower() for place in _USER_CLASSES}
        if any(entry.name.lower() in tops for entry in list_folder(self.files, folder)):
            return _USER_CLASSES
        hive = self.hive(Mount(f"HKEY_USERS\\{user}", "NTUSER", f"{folder}/NTUSER.DAT")).value
        try:
            key = hive.key(_SHELL_FOLDERS) if hive is not None else None
            value = key.value("Local AppData") if key is not None else None
        except ByreError:
            value = None  # the hive has noted its damage
        match = re.fullmatch(r"%userprofile%\\(.+)", value.text or "", re.IGNORECASE) if value is not None else None
        below = match[1].strip("\\").replace("\\", "/") if match is not None else ""
        return (f"{below}/Microsoft/Windows",) if below and ".." not in below.split("/") else ()

    def hive(self, mount: Mount) -> Fact[Hive]:
        """The hive of a mount: known, absent or unknown with the reason."""
        if mount.path not in self._hives:
            self._hives[mount.path] = read_hive(self.files, mount.path)
        return self._hives[mount.path]

    def locate(self, path: str) -> Located:
        """The key at a path. MissingError where it isn't there; UnsupportedError and UsageError for what only a
        running system has."""
        root, names = split_key(path)
        if root == "HKCR":
            root, names = "HKLM", ["SOFTWARE", "Classes", *names]
        if root not in ("HKLM", "HKU"):
            raise _only_running(root, path)
        if not names:
            raise UsageError(f"{_ROOTS[root]} is no hive", found=path, hint="'byre reg IMAGE' lists what there is.")
        mount = self._mount(root, names[0], path)
        fact = self.hive(mount)
        if fact.value is None:
            if fact.state == "absent":
                raise MissingError(f"has no hive {mount.path}", path=mount.shown)
            raise CorruptImageError(f"the hive can't be read: {fact.reason}", path=mount.path)
        key, relative = find_key(fact.value, names[1:], system=mount.kind == "SYSTEM")
        shown = "\\".join([mount.shown, *names[1:]])
        return Located(fact.value, mount.kind, key, shown, relative)

    def _mount(self, root: str, name: str, path: str) -> Mount:
        if root == "HKLM" and name.upper() == "HARDWARE":
            raise UnsupportedError(
                "HKLM\\HARDWARE exists only while Windows runs: it is made anew at each boot", path=path
            )
        wanted = f"{_ROOTS[root]}\\{self._user_of(name) if root == 'HKU' else name}".casefold()
        mounts = [mount for mount in self.mounts() if mount.shown.startswith(_ROOTS[root] + "\\")]
        for mount in mounts:
            if mount.shown.casefold() == wanted:
                return mount
        known = ", ".join(mount.shown.partition("\\")[2] for mount in mounts)
        raise MissingError(f"has no {_ROOTS[root]}\\{name}", path=self.root, found=known)

    def _user_of(self, name: str) -> str:
        """The profile folder's name of a SID, as SOFTWARE's ProfileList tells; any other name as it is."""
        if not name.upper().startswith("S-1-5-"):
            return name
        if name.upper() == "S-1-5-18":
            return ".DEFAULT"  # the system's own account
        sid, tail = (name[: -len(_CLASSES)], _CLASSES) if name.lower().endswith("_classes") else (name, "")
        software = self.hive(self.mounts()[MACHINE.index("SOFTWARE")]).value
        key = software.key(rf"Microsoft\Windows NT\CurrentVersion\ProfileList\{sid}") if software else None
        value = key.value("ProfileImagePath") if key else None
        folder = (value.text or "") if value else ""
        return (folder.replace("/", "\\").rstrip("\\").rpartition("\\")[2] or sid) + tail

    def _profiles(self) -> list[tuple[str, str]]:
        found = []
        software = self.hive(Mount("", "SOFTWARE", f"{self.root}/system32/config/SOFTWARE")).value
        for folder in profile_folders(self.root, software):
            for entry in list_folder(self.files, folder)[:MAX_USERS]:
                if not entry.is_dir or entry.reparse is not None:
                    continue
                if any(row.name.lower() == "ntuser.dat" for row in list_folder(self.files, entry.path)):
                    found.append((entry.name, entry.path))
        return found


def split_key(path: str) -> tuple[str, list[str]]:
    """(HKLM, HKU, …; the names after it). UsageError where it doesn't begin with one of them."""
    first, *names = [name for name in path.strip().strip("[]").split("\\") if name] or [""]
    short = _SHORT.get(first.upper(), first.upper())
    if short not in _ROOTS:
        raise UsageError(
            "a registry path begins with HKLM, HKU or HKCR",
            found=path,
            hint=r"For example 'HKLM\SYSTEM\CurrentControlSet\Services'.",
        )
    return short, names


def find_key(hive: Hive, names: list[str], *, system: bool) -> tuple[Key, str]:
    """The key below a hive's root and its path there. ``system``: the first name may be CurrentControlSet, which
    is the set that the next boot uses. MissingError names how far the path goes."""
    here = hive.root
    reached: list[str] = []
    for position, name in enumerate(names):
        below = here.subkey(name)
        if below is None or (below.is_symlink and not below.subkey_count):
            if system and position == 0 and name.lower() == "currentcontrolset":
                below = _next_boot(hive)
            elif below is None:
                where = "\\".join(reached) or "the root"
                raise MissingError(f"has no key {name!r}", path=hive.path, found=f"the path ends at {where}")
        here = below
        reached.append(here.name)
    return here, "\\".join(reached)


def _next_boot(hive: Hive) -> Key:
    sets = read_control_sets(hive)
    name = sets.next_boot if sets else None
    key = hive.key(name) if name else None
    if key is None:
        raise MissingError(
            "has no current control set: Select doesn't name one that is there", path=hive.path, found=name
        )
    return key


def _only_running(root: str, path: str) -> UnsupportedError:
    if root == "HKCU":
        return UnsupportedError(
            "nobody is logged on in an image, so there is no HKEY_CURRENT_USER",
            found=path,
            hint=r"Name the user: --user operator, or 'HKU\operator\Software'; 'byre reg IMAGE' lists them.",
        )
    return UnsupportedError(
        f"{_ROOTS[root]} is made by a running Windows",
        found=path,
        hint=r"See 'HKLM\SYSTEM\CurrentControlSet\Hardware Profiles'.",
    )
