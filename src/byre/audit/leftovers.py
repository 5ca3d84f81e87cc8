"""Counting what is personal and what wastes space: files and bytes by kind, never names or contents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from byre.audit.facts import Count
from byre.errors import ByreError
from byre.filesystems.base import Entry, FileSystem, Name
from byre.windows.waste import KINDS, WasteFinder

MAX_ENTRIES = 500_000
PRIVATE = {
    "documents": "users' documents and desktops",
    "pictures": "users' pictures, music and films",
    "mail": "mail stores and address books",
    "history": "browsing history and cookies",
    "browser passwords": "files in which browsers keep passwords",
    "credentials": "stored credentials and their keys",
    "recent": "shortcuts to recent files",
    "chats": "logs of chats",
    "dial-up": "dial-up and VPN connections",
    "event logs": "event logs",
    "restore points": "restore points, each with a copy of the registry",
    "swap": "page and hibernation files, with pieces of memory",
    "dumps": "crash dumps, with pieces of memory",
    "registry copies": "copies of hives, with what was in them",
}
"""Kind → title of what Private counts among files."""
WASTES = {f"waste {kind.kind}": kind for kind in KINDS}
"""Kind → what Lean counts, with what removing it costs."""
LEAN = {name: kind.title for name, kind in WASTES.items()}
"""Kind → its title."""

_PROFILE = r"/(?:documents and settings|users)/[^/]+"
_PATTERNS = {
    "documents": rf"{_PROFILE}/(?:my documents|documents|desktop|my briefcase)/.*",
    "pictures": rf"{_PROFILE}/(?:(?:my documents/)?my (?:pictures|music|videos)|pictures|music|videos)/.*",
    "mail": r".*\.(?:pst|dbx|ost|wab|mbx|eml)|.*/thunderbird/profiles/.*/(?:inbox|sent|drafts)",
    "history": rf"{_PROFILE}/(?:cookies|local settings/history|favorites|"
    r"local settings/temporary internet files|userdata)/.*|"
    r".*/(?:index\.dat|places\.sqlite|history\.dat|cookies\.(?:txt|sqlite)|formhistory\.(?:dat|sqlite)|urlclassifier.*|"
    r"opera[^/]*/(?:global\.dat|cookies4\.dat))",
    "browser passwords": r".*/(?:signons[^/]*|key[34]\.db|logins\.json|login data|wand\.dat)",
    "credentials": rf"{_PROFILE}/(?:local settings/)?application data/microsoft/(?:credentials|protect)/.*|"
    rf"{_PROFILE}/application data/microsoft/crypto/.*|.*\.(?:pfx|p12|kdb|kdbx|ppk)",
    "recent": rf"{_PROFILE}/(?:recent|application data/microsoft/office/recent)/.*",
    "chats": r".*/(?:my received files|my chat logs)/.*|.*/(?:skype/[^/]+/(?:main\.db|[^/]*\.dbb)|icq/.*)",
    "dial-up": r".*\.pbk",
    "event logs": r"{root}/(?:system32/config/[^/]*\.evt|system32/winevt/logs/[^/]*\.evtx)",
    "restore points": r"/system volume information/_restore.*",
    "swap": r"/(?:pagefile|hiberfil|swapfile)\.sys",
    "dumps": r"{root}/memory\.dmp|{root}/minidump/.*|.*/dr watson/.*|.*\.(?:hdmp|mdmp)",
    "registry copies": r"{root}/repair/(?:regback/)?(?:sam|security|software|system|default)|"
    r"{root}/system32/config/regback/.*|.*/ntuser\.dat\.(?:bak|old|sav)",
}
_QUIET = ("/desktop.ini", "/thumbs.db")
"""Windows' own files in everybody's folders."""
_SETUPS = ("/all users/", "/default user/", "/default/", "/public/")
"""Profiles that Setup makes and fills with its samples and shortcuts."""


@dataclass(frozen=True, slots=True)
class Survey:
    """One walk over a volume. ``paths``: every file's in lower case; ``complete``: all of them."""

    counts: Mapping[str, Count] = field(default_factory=dict)
    paths: frozenset[str] = frozenset()
    complete: bool = True


def survey_volume(files: FileSystem, root: str, *, counting: bool = True) -> Survey:
    """What the volume holds of each kind; a file may be personal and waste at once. Without ``counting`` only the
    paths are wanted."""
    if not counting:
        return _paths_alone(files)
    totals: dict[str, list[int]] = {}
    paths: list[str] = []
    find = _Finder(root)
    complete = True
    try:
        for number, entry in enumerate(files.walk()):
            if number >= MAX_ENTRIES:
                complete = False
                break
            if entry.is_dir:
                continue
            paths.append(entry.path.lower())
            for kind in find.kinds(entry):
                row = totals.setdefault(kind, [0, 0])
                row[0] += 1
                row[1] += entry.size
    except ByreError:  # the sound question says what is broken; what was counted stands
        complete = False
    order = (*PRIVATE, *LEAN)
    counts = {kind: Count(*totals[kind]) for kind in order if kind in totals}
    return Survey(counts, frozenset(paths), complete)


def _paths_alone(files: FileSystem) -> Survey:
    names: list[Name] = []
    try:
        names.extend(islice(files.walk_names(), MAX_ENTRIES + 1))
    except ByreError:
        return Survey(complete=False)
    paths = frozenset(each.path.lower() for each in names[:MAX_ENTRIES] if not each.is_dir)
    return Survey(paths=paths, complete=len(names) <= MAX_ENTRIES)


class _Finder:
    """Names the kinds of a file. Mutable only as a compiled pattern's cache is."""

    def __init__(self, root: str) -> None:
        place = re.escape(root.lower())
        rows = {kind: re.compile(text.replace("{root}", place), re.DOTALL) for kind, text in _PATTERNS.items()}
        self._patterns = rows
        self._any = re.compile("|".join(f"(?:{row.pattern})" for row in rows.values()), re.DOTALL)
        self._waste = WasteFinder(root)

    def kinds(self, entry: Entry) -> list[str]:
        path = entry.path.lower()
        found = []
        if self._any.fullmatch(path) and not path.endswith(_QUIET):
            found = [kind for kind, pattern in self._patterns.items() if pattern.fullmatch(path)]
            if any(part in path for part in _SETUPS):
                found = [kind for kind in found if kind not in ("documents", "pictures", "history")]
            if "pictures" in found and "documents" in found:
                found.remove("documents")
        waste = self._waste.kind(entry.path)
        if waste is not None:
            found.append(f"waste {waste.kind}")
        return found
