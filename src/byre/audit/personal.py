"""Counting what the registry keeps of somebody's life: numbers by kind, never names or contents.

Sources: "A Windows Registry Quick Reference" (Farmer, 2007) for Explorer's most-recently-used lists and UserAssist;
``byre.windows.secrets`` for what is a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from byre.errors import ByreError
from byre.windows.hives import Hives
from byre.windows.registry import Hive, Key

_EXPLORER = r"Software\Microsoft\Windows\CurrentVersion\Explorer"
TRACES: dict[str, tuple[str, tuple[str, ...]]] = {
    "recent files": (
        "recent files",
        (rf"{_EXPLORER}\RecentDocs", rf"{_EXPLORER}\ComDlg32\OpenSaveMRU", rf"{_EXPLORER}\ComDlg32\LastVisitedMRU"),
    ),
    "commands": ("typed commands and paths", (rf"{_EXPLORER}\RunMRU", rf"{_EXPLORER}\TypedPaths")),
    "addresses": ("typed web addresses", (r"Software\Microsoft\Internet Explorer\TypedURLs",)),
    "searches": ("searches", (r"Software\Microsoft\Search Assistant\ACMru",)),
    "started programs": ("programs that were started", (rf"{_EXPLORER}\UserAssist",)),
    "network places": (
        "network drives and computers",
        (
            rf"{_EXPLORER}\Map Network Drive MRU",
            rf"{_EXPLORER}\FindComputerMRU",
            rf"{_EXPLORER}\ComputerDescriptions",
        ),
    ),
    "remote desktops": ("remote desktops", (r"Software\Microsoft\Terminal Server Client",)),
}
"""Kind → its title and the keys of a user's hive whose values are counted, those below included."""
MAX_KEYS = 20_000
_BOOKKEEPING = ("mrulist", "mrulistex", "viewstream", "version", "nodeslots", "")
_INTELLIFORMS = r"Software\Microsoft\Internet Explorer\IntelliForms\SPW"
_PROTECTED = r"Software\Microsoft\Protected Storage System Provider"
_LICENCE = re.compile(
    r"(?:cd|license|licence|serial|activation|registration|reg|unlock|install)[ _-]?(?:key|code)|"
    r"serial(?:[ _-]?(?:number|no|num))?|productkey.*|digitalproductid.*",
    re.DOTALL,
)


def count_personal(hives: Hives) -> Mapping[str, int]:
    """How many entries there are of each kind; what can't be read counts nothing."""
    users = [user.hive.value for user in hives.users if user.hive.value is not None]
    found: dict[str, int] = {}
    for kind, (_, paths) in TRACES.items():
        found[kind] = sum(_values(hive, path) for hive in users for path in paths)
    found["form passwords"] = sum(_values(hive, _INTELLIFORMS) for hive in users)
    found["protected storage"] = sum(_protected(hive) for hive in users)
    found["dial-up passwords"] = _dial_up(hives.get("SECURITY"))
    found["licences"] = _licences(hives.get("SOFTWARE"))
    return {kind: number for kind, number in found.items() if number}


def _values(hive: Hive, path: str) -> int:
    """The values at and below a key, the lists' own bookkeeping left out."""
    try:
        key = hive.key(path)
        return 0 if key is None else sum(_counted(each) for each in _below(hive, key))
    except ByreError:
        return 0


def _counted(key: Key) -> int:
    if key.name.lower() == "settings":  # of UserAssist: no entry of anybody's
        return 0
    return sum(value.name.lower() not in _BOOKKEEPING for value in key.values())


def _below(hive: Hive, key: Key) -> Iterable[Key]:
    yield key
    for number, (_, each) in enumerate(hive.walk(key)):
        if number >= MAX_KEYS:
            return
        if each.cell != key.cell:
            yield each


def _protected(hive: Hive) -> int:
    """Users with something in protected storage: what is inside is encrypted, so only its data keys are counted."""
    try:
        key = hive.key(_PROTECTED)
        return 0 if key is None else sum(1 for each in _below(hive, key) if each.value("Item Data") is not None)
    except ByreError:
        return 0


def _dial_up(security: Hive | None) -> int:
    try:
        key = security.key(r"Policy\Secrets") if security is not None else None
        return sum(1 for each in key.subkeys() if each.name.lower().startswith("rasdialparams")) if key else 0
    except ByreError:
        return 0


def _licences(software: Hive | None) -> int:
    """Values of SOFTWARE whose names say that they are licences, Windows' own left out."""
    found = 0
    try:
        for number, (path, key) in enumerate(software.walk() if software is not None else ()):
            if number >= 1_000_000:
                break
            if "windows nt\\currentversion" in path.lower():
                continue
            found += sum(_LICENCE.fullmatch(value.name.lower()) is not None for value in key.values())
    except ByreError:
        return found
    return found
