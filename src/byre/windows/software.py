"""Installed programs and hotfixes, from the SOFTWARE hive."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from byre.windows.registry import Hive, Key

_UNINSTALL = (
    r"Microsoft\Windows\CurrentVersion\Uninstall",
    r"Wow6432Node\Microsoft\Windows\CurrentVersion\Uninstall",
)
_UPDATES = r"Microsoft\Updates"
_HOTFIXES = r"Microsoft\Windows NT\CurrentVersion\HotFix"
_PACKAGES = r"Microsoft\Windows\CurrentVersion\Component Based Servicing\Packages"
_KB = re.compile(r"(?:KB|Q)\d{5,7}", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Program:
    """One entry of the list of installed programs. ``installed`` is what the installer wrote, RFC 3339 date."""

    key: str
    name: str
    version: str | None
    publisher: str | None
    installed: str | None
    hidden: bool
    """A system component: not shown in the list."""


@dataclass(frozen=True, slots=True)
class Hotfix:
    """One update, by its article number."""

    id: str
    description: str | None
    installed: str | None


def read_programs(software: Hive) -> tuple[Program, ...]:
    """Installed programs by name, hotfixes left out."""
    found = []
    for path in _UNINSTALL:
        key = software.key(path)
        for entry in () if key is None else key.subkeys():
            values = {value.name.lower(): value for value in entry.values()}
            name = values["displayname"].text if "displayname" in values else None
            if not name or _KB.fullmatch(entry.name):
                continue
            hidden = values["systemcomponent"].number if "systemcomponent" in values else 0
            found.append(
                Program(
                    key=entry.name,
                    name=name,
                    version=values["displayversion"].text if "displayversion" in values else None,
                    publisher=values["publisher"].text if "publisher" in values else None,
                    installed=_date(values["installdate"].text if "installdate" in values else None),
                    hidden=hidden == 1,
                )
            )
    return tuple(sorted(found, key=lambda program: program.name.casefold()))


def read_hotfixes(software: Hive) -> tuple[Hotfix, ...]:
    """Updates by number, from the places that Windows 2000 to 7 keep them in."""
    found: dict[str, Hotfix] = {}
    flat = software.key(_HOTFIXES)
    for key in () if flat is None else flat.subkeys():
        _note(found, key)
    products = software.key(_UPDATES)
    for product in () if products is None else products.subkeys():
        for level in product.subkeys():
            _note(found, level)
            for key in level.subkeys():
                _note(found, key)
    packages = software.key(_PACKAGES)
    for key in () if packages is None else packages.subkeys():
        match = re.search(r"_for_(KB\d{5,7})~", key.name)
        if match and match[1] not in found:
            found[match[1]] = Hotfix(match[1], None, key.last_written)
    return tuple(found[name] for name in sorted(found))


def _note(found: dict[str, Hotfix], key: Key) -> None:
    if not _KB.fullmatch(key.name) or key.name.upper() in found:
        return
    values = {value.name.lower(): value.text for value in key.values()}
    description = values.get("description") or values.get("fix description")
    found[key.name.upper()] = Hotfix(key.name.upper(), description, _date(values.get("installeddate")))


def _date(text: str | None) -> str | None:
    """``20080414`` or ``4/14/2008`` as ``2008-04-14``; None for what is neither."""
    if text is None:
        return None
    plain = text.strip()
    if re.fullmatch(r"(19|20)\d{6}", plain):
        return _real(int(plain[:4]), int(plain[4:6]), int(plain[6:]))
    match = re.fullmatch(r"(\d{1,2})/(\d{1,2})/((?:19|20)\d{2})", plain)
    return _real(int(match[3]), int(match[1]), int(match[2])) if match else None


def _real(year: int, month: int, day: int) -> str | None:
    """Installers write what they like, also day and month the other way round: no date is better than such one."""
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None
