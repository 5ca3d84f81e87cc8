"""What the judgements of ``in_use`` look at, read from a guest's hives."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from byre.audit.facts import Facts
from byre.errors import ByreError
from byre.lite.mending.portable import DRIVERS
from byre.lite.slimming.in_use import Evidence, Fonts, Nls, UserSettings, faces_of
from byre.windows.components.component import Places
from byre.windows.fact import Fact, attempt, known, unknown
from byre.windows.hives import Hives
from byre.windows.paths import SystemPaths
from byre.windows.registry import Hive, Key
from byre.windows.registry.hive import Value, utf16

MAX_ROWS = 10_000
"""Values or subkeys of one key that are looked at; real systems have a few hundred fonts and layouts."""
_NT = r"Microsoft\Windows NT\CurrentVersion"
_SHELL_FOLDERS = r"Software\Microsoft\Windows\CurrentVersion\Explorer\User Shell Folders"
_LOGFONT_FACE, _LOGFONT = 28, 92
_USUAL = ("primary_ide_channel", "gendisk", "pci#cc_0101", "pci#ven_8086&dev_7010", "pci#ven_8086&dev_7111")
"""The entries of CriticalDeviceDatabase for the controllers that hypervisors offer by default."""


def read_evidence(
    facts: Facts, hives: Hives, control_set: Key | None, paths: SystemPaths, there: Collection[str]
) -> Evidence:
    """The evidence of one guest. ``there``: guest paths of all its files in lower case. What can't be read is an
    unknown fact, with the reason."""
    reason = hives.machine["SYSTEM"].reason or "SYSTEM has no control set for the next boot"
    software = hives.get("SOFTWARE")
    return Evidence(
        nls=unknown(reason) if control_set is None else attempt(lambda: _nls(control_set)),
        users=_users(hives, paths, there, software),
        fonts=unknown("SOFTWARE can't be read") if software is None else attempt(lambda: _fonts(software)),
        lacking=_lacking(facts, there),
        printers=unknown(reason) if control_set is None else attempt(lambda: _printers(control_set)),
    )


def _values(key: Key | None) -> Iterable[Value]:
    return key.values()[:MAX_ROWS] if key is not None else ()


def _texts(key: Key | None) -> Mapping[str, str]:
    """Names and texts of a key's string values, in lower case."""
    return {value.name.lower(): value.text.lower() for value in _values(key) if value.text}


def _subkeys(key: Key | None) -> Iterable[Key]:
    return key.subkeys()[:MAX_ROWS] if key is not None else ()


def _nls(control_set: Key) -> Nls:
    language = _texts(control_set.at(r"Control\Nls\Language"))
    layouts = {}
    for key in _subkeys(control_set.at(r"Control\Keyboard Layouts")):
        file = key.value("Layout File")
        if file is not None and file.text:
            layouts[key.name.lower()] = file.text.lower()
    named = set()
    for service in ("i8042prt", "kbdhid", "kbdclass"):
        texts = _texts(control_set.at(rf"Services\{service}\Parameters"))
        named |= {text for text in texts.values() if text.endswith(".dll")}
    return Nls(
        code_pages=_texts(control_set.at(r"Control\Nls\CodePage")),
        languages=frozenset(language[name] for name in ("default", "installlanguage") if language.get(name)),
        layouts=layouts,
        keyboard_files=frozenset(named),
    )


def _printers(control_set: Key) -> tuple[str, ...]:
    return tuple(key.name for key in _subkeys(control_set.at(r"Control\Print\Printers")))


def _users(
    hives: Hives, paths: SystemPaths, there: Collection[str], software: Hive | None
) -> Fact[tuple[UserSettings, ...]]:
    """Unknown as soon as one user's hive is: what that one has in use isn't known then."""
    found = []
    read = {each.path.lower() for each in hives.users}
    for profile in profiles_of(software):
        path = paths.resolve(profile)
        hive = f"{path}/ntuser.dat".lower()
        if path is None or (hive in there and hive not in read):
            return unknown(f"the hive of {profile} isn't where users' hives are looked for")
    for name, fact in (
        ("the logon screen", hives.machine["DEFAULT"]),
        *((each.user, each.hive) for each in hives.users),
    ):
        if fact.value is None:
            return unknown(fact.reason or f"the hive of {name} isn't there")
        try:
            found.append(_user(name, fact.value, paths, there))
        except ByreError as error:
            return unknown(str(error))
        if fact.value.problems:
            return unknown(f"{fact.value.path} is damaged: {fact.value.problems[0].what}")
    return known(tuple(found))


def profiles_of(software: Hive | None) -> Iterator[str]:
    """The folders of users' profiles as SOFTWARE lists them; those of services are left out."""
    key = software.key(rf"{_NT}\ProfileList") if software is not None else None
    for each in _subkeys(key):
        value = each.value("ProfileImagePath")
        if each.name.upper().startswith("S-1-5-21-") and value is not None and value.text:
            yield value.text


def read_places(hives: Hives, paths: SystemPaths) -> Places:
    """Where this guest keeps programs, profiles and what is a user's alone: in German, say, under other names."""
    usual = Places(paths.root)
    return Places(
        paths.root,
        _plain(paths.programs) or usual.programs,
        _plain(paths.profiles) or usual.profiles,
        _plain(paths.common),
        local=_local(hives) or usual.local,
    )


def _plain(path: str) -> str | None:
    """The path, where it has nothing in it that a pattern takes for its own."""
    return None if set(path) & set("*?{}") else path


def _local(hives: Hives) -> str | None:
    """The name of users' ``Local Settings``, by the first of them who tells it."""
    for user in hives.users:
        try:
            key = user.hive.value.key(_SHELL_FOLDERS) if user.hive.value is not None else None
            value = key.value("Local Settings") if key is not None else None
        except ByreError:
            continue
        match = re.fullmatch(r"%USERPROFILE%\\([^\\/*?{}]+)", value.text or "", re.IGNORECASE) if value else None
        if match is not None:
            return match[1]
    return None


def _user(name: str, hive: Hive, paths: SystemPaths, there: Collection[str]) -> UserSettings:
    substitutes = _texts(hive.key(r"Keyboard Layout\Substitutes"))
    preloaded = set(_texts(hive.key(r"Keyboard Layout\Preload")).values())
    layouts = {substitutes.get(each, each) for each in preloaded}
    desktop = _texts(hive.key(r"Control Panel\Desktop"))
    locale = _texts(hive.key(r"Control Panel\International")).get("locale")
    languages = {each[-4:] for each in layouts | preloaded}
    languages |= {desktop[each][-4:] for each in ("multiuilanguageid", "muilanguagepending") if each in desktop}
    console = hive.key("Console")
    page = console.value("CodePage") if console is not None else None
    chosen = {desktop[each] for each in ("wallpaper", "convertedwallpaper", "scrnsave.exe") if each in desktop}
    chosen |= set(_texts(hive.key(r"Control Panel\Cursors")).values())
    for place in ("General", "SafeMode"):
        texts = _texts(hive.key(rf"Software\Microsoft\Internet Explorer\Desktop\{place}"))
        chosen |= {texts[each] for each in ("wallpaper", "wallpapersource", "backupwallpaper") if each in texts}
    return UserSettings(
        name,
        frozenset(layouts),
        frozenset(languages | ({locale[-4:]} if locale else set())),
        frozenset([page.number] if page is not None and page.number else []),
        frozenset(path for text in chosen for path in _paths(text, paths, there)),
        frozenset(_faces(hive)),
    )


def _paths(text: str, paths: SystemPaths, there: Collection[str]) -> Iterator[str]:
    for part in text.split(","):
        resolved = paths.resolve(part)
        names = (resolved,) if resolved else paths.search(part) if part.strip() and "\\" not in part else ()
        yield from (each.lower() for each in names if each.lower() in there)


def _faces(hive: Hive) -> Iterator[str]:
    """Fonts that a user has chosen: of windows, the console, Notepad and the browser."""
    for value in _values(hive.key(r"Control Panel\Desktop\WindowMetrics")):
        if len(value.data) == _LOGFONT:
            yield utf16(value.data[_LOGFONT_FACE:]).split("\0", 1)[0].lower()
    console = hive.key("Console")
    scripts = hive.key(r"Software\Microsoft\Internet Explorer\International\Scripts")
    for key in (console, *_subkeys(console), hive.key(r"Software\Microsoft\Notepad"), *_subkeys(scripts)):
        texts = _texts(key)
        for name in ("facename", "lffacename", "iepropfontname", "iefixedfontname"):
            if name in texts:
                yield texts[name]


def _fonts(software: Hive) -> Fonts:
    faces: dict[str, set[str]] = {}
    for value in _values(software.key(rf"{_NT}\Fonts")):
        if value.text:
            faces.setdefault(value.text.replace("/", "\\").rpartition("\\")[2].lower(), set()).update(
                faces_of(value.name)
            )
    wanted = {each.partition(",")[0].strip() for each in _texts(software.key(rf"{_NT}\FontSubstitutes")).values()}
    for value in _values(software.key(rf"{_NT}\FontLink\SystemLink")):
        for text in value.strings:
            wanted |= {part.strip().lower() for part in text.split(",")}
    wanted |= {each.lstrip("*").strip() for each in _texts(software.key(rf"{_NT}\Console\TrueTypeFont")).values()}
    wanted |= {value.name.lower() for value in _values(software.key(rf"{_NT}\FontMapper"))}
    for place in (r"WOW\boot", r"WOW\NonWindowsApp", r"WOW\boot.description", "Gre_Initialize"):
        wanted |= set(_texts(software.key(rf"{_NT}\{place}")).values())
    return Fonts({name: frozenset(each) for name, each in faces.items()}, frozenset(wanted - {""}))


def _lacking(facts: Facts, there: Collection[str]) -> Fact[Mapping[str, str]]:
    """What of MergeIDE's drivers isn't in place, by the driver's file; see ``mending.portable``."""
    guest = facts.guest
    assert guest is not None
    if facts.kind != "nt5":
        return known({})
    if guest.services.value is None or guest.critical_devices.value is None:
        return unknown(guest.services.reason or guest.critical_devices.reason or "SYSTEM can't be read")
    services = {service.name.lower(): service for service in guest.services.value}
    entries = {device.id: (device.service or "").lower() for device in guest.critical_devices.value}
    found: dict[str, str] = {}
    for driver in DRIVERS:
        if driver.given:
            continue
        for name in driver.files:
            if f"{guest.root}/system32/drivers/{name}".lower() not in there:
                found[name] = f"{name} isn't in system32\\drivers"
        if driver.files[0] in found:
            continue
        for each in (usual for usual in _USUAL if usual in driver.ids):
            service = services.get(entries.get(each, ""))
            if service is None or service.start != 0:
                found[driver.files[0]] = f"{driver.service} isn't set to start for {each}"
    return known(found)
