"""Finding a guest's hives and opening them, their logs beside them."""

from __future__ import annotations

from dataclasses import dataclass, field

from byre.errors import ByreError, CorruptImageError, MissingError
from byre.filesystems.base import Entry, FileSystem
from byre.windows.fact import Fact, known, unknown
from byre.windows.paths import SystemPaths
from byre.windows.registry import Hive, open_hive
from byre.windows.registry.layout import parse_base_block

MACHINE_HIVES = ("SYSTEM", "SOFTWARE", "SAM", "SECURITY", "DEFAULT")
MAX_HIVE_FILE = 1 << 30
_PROFILES = ("/Documents and Settings", "/Users")
MAX_USERS = 256


@dataclass(frozen=True, slots=True)
class UserHive:
    """The hive of one user profile. ``user`` is the profile folder's name."""

    user: str
    path: str
    hive: Fact[Hive]


@dataclass(frozen=True, slots=True)
class Hives:
    """The hives of one installed system; each known, absent or unknown with what stopped it."""

    machine: dict[str, Fact[Hive]]
    users: tuple[UserHive, ...] = ()
    paths: dict[str, str] = field(default_factory=dict)
    """Hive name → guest path."""

    def get(self, name: str) -> Hive | None:
        """A machine hive, or None where it isn't to be had."""
        fact = self.machine.get(name.upper())
        return fact.value if fact is not None else None


def open_hives(files: FileSystem, root: str, profiles: str | None = None) -> Hives:
    """The hives below the Windows folder ``root`` (a guest path) and those of the user profiles."""
    machine: dict[str, Fact[Hive]] = {}
    paths = {}
    for name in MACHINE_HIVES:
        path = f"{root}/system32/config/{name}"
        paths[name] = path
        machine[name] = read_hive(files, path)
    users = []
    for folder in (profiles,) if profiles else profile_folders(root, machine["SOFTWARE"].value):
        for entry in list_folder(files, folder)[:MAX_USERS]:
            path = f"{entry.path}/NTUSER.DAT"
            if entry.is_dir and entry.reparse is None:
                fact = read_hive(files, path)
                if fact.state != "absent":
                    users.append(UserHive(entry.name, path, fact))
    return Hives(machine, tuple(users), paths)


def profile_folders(root: str, software: Hive | None) -> tuple[str, ...]:
    """Where users' profiles lie: the usual folders, and the one that SOFTWARE names (in German, say, another)."""
    named = None
    try:
        key = software.key(r"Microsoft\Windows NT\CurrentVersion\ProfileList") if software is not None else None
        value = key.value("ProfilesDirectory") if key is not None else None
        named = (
            SystemPaths(root, own_drive(software)).resolve(value.text) if value is not None and value.text else None
        )
    except ByreError:
        pass  # the hive has noted its damage; the usual folders are looked into all the same
    usual = (*_PROFILES, f"{root}/Profiles")
    return usual if named is None or named.lower() in {each.lower() for each in usual} else (named, *usual)


def own_drive(software: Hive | None) -> str:
    """The letter of the system's own drive, from the SystemRoot or PathName that it noted of itself; else C."""
    try:
        key = software.key(r"Microsoft\Windows NT\CurrentVersion") if software is not None else None
        for name in ("SystemRoot", "PathName"):
            value = key.value(name) if key is not None else None
            text = (value.text or "") if value is not None else ""
            if text[1:2] == ":" and text[0].isascii() and text[0].isalpha():
                return text[0].upper()
    except ByreError:
        pass  # the hive has noted its damage
    return "C"


def read_hive(files: FileSystem, path: str) -> Fact[Hive]:
    """The hive at a guest path, with ``.LOG``, ``.LOG1`` and ``.LOG2`` replayed where it is dirty."""
    try:
        entry = files.lookup(path)
    except MissingError:
        return Fact("absent")
    except ByreError as error:
        return unknown(str(error))
    try:
        if entry.size > MAX_HIVE_FILE:
            raise CorruptImageError("the hive is too large", path=path, found=entry.size, expected=MAX_HIVE_FILE)
        data = files.read(entry)
        clean = parse_base_block(data, path=path).clean  # over a network, logs that aren't needed cost requests
        return known(open_hive(data, path=path, logs=() if clean else _logs(files, path)))
    except ByreError as error:
        return unknown(str(error))


def _logs(files: FileSystem, path: str) -> list[tuple[str, bytes]]:
    found = []
    for suffix in (".LOG", ".LOG1", ".LOG2"):
        try:
            entry = files.lookup(path + suffix)
            if entry.size <= MAX_HIVE_FILE:
                found.append((path + suffix, files.read(entry)))
        except ByreError:
            continue
    return found


def list_folder(files: FileSystem, path: str) -> list[Entry]:
    """The entries of a folder; none where it isn't there or can't be read."""
    try:
        return files.listdir(path)
    except ByreError:
        return []
