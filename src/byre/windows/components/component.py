"""One optional part of Windows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

PROFILES = ("safe", "lean", "lite")
"""From which profile of ``byre slim`` on a component goes."""
ONLY_NAMED = "none"
"""The profile of a component that goes only where it is named."""
SYSTEMS = ("win2000", "winxp", "win2003", "reactos")
JUDGEMENTS = (
    "portability",
    "code-pages",
    "keyboard-layouts",
    "input-methods",
    "languages",
    "fonts",
    "users-choice",
    "printers",
)
"""What a component's ``unless`` may name: a judgement over one guest of which of its files are in use there
(``byre.lite.slimming.in_use``)."""
DRIVES = ("all", "loader", "page-files")
"""What a component's ``drives`` may say of drives beside the system's: its files lie at the same paths on all of
them, on the loader's, or where the registry names page files."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where one guest keeps what the patterns name. Guest paths without a slash at the end."""

    root: str = "/WINDOWS"
    programs: str = "/Program Files"
    profiles: str = "/Documents and Settings"
    common: str | None = None
    """Where it isn't ``Common Files`` below ``programs``."""
    local: str = "Local Settings"
    """The name of each user's folder of that kind."""
    drives: tuple[str, ...] = ()
    """Letters of the other drives in the image that this guest alone uses; paths there begin with ``D:``."""
    loader: str | None = None
    """The letter of the loader's drive, where that is another than the system's."""
    page_files: tuple[str, ...] = ()
    """Page files on those drives that the registry names: guest paths without a pattern's characters."""

    def values(self) -> dict[str, str]:
        return {
            "root": self.root,
            "system32": f"{self.root}/system32",
            "programs": self.programs,
            "common": self.common or f"{self.programs}/Common Files",
            "profile": f"{self.profiles}/*",
            "local": f"{self.profiles}/*/{self.local}",
        }


@dataclass(frozen=True, slots=True)
class Component:
    """One component.

    ``files``: patterns of guest paths (``*`` within a name, ``**`` across folders; ``{root}``, ``{system32}``,
    ``{programs}``, ``{common}``, ``{profile}`` and ``{local}`` stand for places). ``marks``: names of files
    without any of which the component isn't there, lower case. ``services``: names below Services. ``keys``: registry
    keys as ``SOFTWARE\\…``, ``SYSTEM\\Services\\…`` (the control set left out) or ``NTUSER\\…`` (every user's hive);
    ``*`` and ``?`` within a name. ``types``: file types (names below Classes, ``*`` and ``?``) whose commands run its
    programs. ``runs``: names of values of Run keys, the machine's and users'. ``subcomponents``:
    names below Setup's ``OC Manager\\Subcomponents``. ``uninstall``: keys of the list of installed programs.
    ``needs``: ids of components that it can't do without. ``default``: Setup installs it unasked. ``unless``: one of
    ``JUDGEMENTS``, which keeps what is in use. ``drives``: one of ``DRIVES``, None for the system's drive alone.
    ``profile``: one of
    ``PROFILES``, or ``ONLY_NAMED``. ``consequence``: what is lost, a clause for people. ``source``: where that is
    known from.
    """

    id: str
    title: str
    systems: tuple[str, ...]
    profile: str
    consequence: str
    source: str
    files: tuple[str, ...]
    marks: tuple[str, ...]
    services: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    subcomponents: tuple[str, ...] = ()
    uninstall: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    default: bool = True
    runs: tuple[str, ...] = ()
    unless: str | None = None
    types: tuple[str, ...] = ()
    drives: str | None = None

    @property
    def rank(self) -> int:
        """The place of its profile in ``PROFILES``; behind the last where it is in none."""
        return PROFILES.index(self.profile) if self.profile in PROFILES else len(PROFILES)

    def owns(self, path: str, places: Places) -> bool:
        """Whether a guest path is one of the component's files, whatever its case."""
        return _pattern(self.patterns(places), places).fullmatch(path.lower()) is not None

    def patterns(self, places: Places) -> tuple[str, ...]:
        """``files``, with those of other drives."""
        if self.drives == "page-files":
            return (*self.files, *places.page_files)
        letters = {"all": places.drives, "loader": (places.loader,) if places.loader else ()}.get(self.drives or "")
        plain = tuple(each for each in self.files if each.startswith("/"))
        return (*self.files, *(f"{letter}:{each}" for letter in letters or () for each in plain))

    def absent(self, names: frozenset[str] | set[str]) -> bool:
        """Whether none of its marks is among the file names (lower case) that a guest has."""
        return not any(mark in names for mark in self.marks)


@lru_cache(maxsize=1024)
def _pattern(files: tuple[str, ...], places: Places) -> re.Pattern[str]:
    values = places.values()
    return re.compile("|".join(f"(?:{_translate(pattern, values)})" for pattern in files), re.DOTALL)


def _translate(pattern: str, values: dict[str, str]) -> str:
    """A pattern as a regular expression over paths in lower case. It has no nested repetition: matching is linear
    in the path for each pattern's few stars."""
    for name, value in values.items():
        pattern = pattern.replace("{" + name + "}", value)
    found = []
    for part in re.split(r"(\*\*|\*|\?)", pattern.lower()):
        found.append({"**": ".*", "*": "[^/]*", "?": "[^/]"}.get(part, re.escape(part)))
    return "".join(found)


@lru_cache(maxsize=1024)
def beginnings(component: Component, places: Places) -> tuple[str, ...]:
    """What every path (lower case) that a component owns begins with, one way or another: asked first, since it takes
    a fraction of the time."""
    values = places.values()
    filled = []
    for pattern in component.patterns(places):
        for name, value in values.items():
            pattern = pattern.replace("{" + name + "}", value)
        filled.append(re.split(r"[*?]", pattern.lower(), maxsplit=1)[0])
    return tuple(dict.fromkeys(filled))


@lru_cache(maxsize=256)
def names_of(components: tuple[Component, ...]) -> re.Pattern[str]:
    """What matches the names (lower case) of the components' files in system32 and its drivers, and their marks: one
    pattern for lists of names that are too long to ask each component."""
    found = {re.escape(mark) for each in components for mark in each.marks}
    for each in components:
        for pattern in each.files:
            folder, _, name = pattern.rpartition("/")
            if folder in ("{system32}", "{system32}/drivers") and "**" not in name:
                found.add(_translate(name, {}))
    return re.compile("|".join(sorted(found)) or r"(?!)", re.DOTALL)


@lru_cache(maxsize=16)
def files_of(components: tuple[Component, ...], places: Places) -> re.Pattern[str]:
    """What matches every path in lower case that any of the components owns: one question for each of many files."""
    return _pattern(tuple(pattern for each in components for pattern in each.patterns(places)), places)


def owner_of(components: Iterable[Component], path: str, places: Places) -> Component | None:
    """The first component that a guest path belongs to."""
    return next((each for each in components if each.owns(path, places)), None)
