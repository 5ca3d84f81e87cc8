"""Which files of an optional component one guest uses, by what its registry says: judgements over evidence. Pure.

A component names its judgement in ``unless``. What can't be judged, because a hive can't be read, stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from byre.windows.fact import Fact, unknown

ALWAYS_CODE_PAGES = frozenset((437, 850, 1252, 10000, 20127, 20261, 28591))
"""Windows-1252 with its OEM and Macintosh companions, what the console and names on FAT fall back to, US-ASCII,
Latin-1, and T.61 (certificates). UTF-8 and UTF-7 have no file."""
ALWAYS_LAYOUTS = frozenset(("kbdus.dll",))
"""What Windows falls back to."""
MAX_TITLE = 512
"""Characters of a font's title that are looked at: a face has 31 at most, and a collection names a few. What is taken
off its end is looked for from every place in it, which takes seconds for a title as long as the registry allows."""
_EAST_ASIAN = frozenset(("932", "936", "949", "950", "1361"))
_OF_LANGUAGE: Mapping[int, tuple[int, ...]] = {
    0x01: (1256, 720, 864, 10004),
    0x02: (1251, 866, 10007),
    0x04: (936, 950, 10002, 10008, 54936),
    0x05: (1250, 852, 10029),
    0x08: (1253, 737, 869, 10006),
    0x0D: (1255, 862, 10005),
    0x0E: (1250, 852, 10029),
    0x0F: (1252, 861, 10079),
    0x11: (932, 10001),
    0x12: (949, 1361, 10003),
    0x15: (1250, 852, 10029),
    0x18: (1250, 852, 10010),
    0x19: (1251, 866, 10007),
    0x1A: (1250, 1251, 852, 855, 10029, 10082),
    0x1B: (1250, 852, 10029),
    0x1C: (1250, 852, 10029),
    0x1E: (874, 10021),
    0x1F: (1254, 857, 10081),
    0x20: (1256, 720),
    0x22: (1251, 866, 10017),
    0x23: (1251, 866, 10007),
    0x24: (1250, 852, 10029),
    0x25: (1257, 775, 10029),
    0x26: (1257, 775, 10029),
    0x27: (1257, 775, 10029),
    0x29: (1256, 720, 10004),
    0x2A: (1258,),
    0x2F: (1251, 866, 10007),
    0x3F: (1251, 866, 10007),
}
"""ANSI, OEM and Macintosh code pages of each primary language that isn't Western European."""


@dataclass(frozen=True, slots=True)
class Nls:
    """What SYSTEM's ``Control\\Nls`` and ``Control\\Keyboard Layouts`` say. ``code_pages``: the values of
    ``CodePage``; ``languages``: language ids in hexadecimal that the system itself has; ``layouts``: layout id → its
    DLL; ``keyboard_files``: DLLs that keyboard drivers name. All in lower case."""

    code_pages: Mapping[str, str]
    languages: frozenset[str] = frozenset()
    layouts: Mapping[str, str] = field(default_factory=dict)
    keyboard_files: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class UserSettings:
    """What one user's hive says. ``layouts``: ids of keyboard layouts, substitutes followed; ``languages``: ids in
    hexadecimal of locales, user interface and input; ``code_pages``: of the console; ``files``: guest paths that the
    user chose (wallpaper, screen saver, pointers); ``faces``: names of fonts. All in lower case."""

    name: str
    layouts: frozenset[str] = frozenset()
    languages: frozenset[str] = frozenset()
    code_pages: frozenset[int] = frozenset()
    files: frozenset[str] = frozenset()
    faces: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Fonts:
    """SOFTWARE's fonts: ``faces`` of each file name; ``wanted``: names of faces and files that substitutes, links,
    the console and the hardware profile need. All in lower case."""

    faces: Mapping[str, frozenset[str]]
    wanted: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the judgements look at. ``lacking``: what keeps the guest from starting on another IDE controller, in
    words, by the driver's file. ``printers``: names of those that are set up."""

    nls: Fact[Nls] = field(default_factory=lambda: unknown("not read"))
    users: Fact[tuple[UserSettings, ...]] = field(default_factory=lambda: unknown("not read"))
    fonts: Fact[Fonts] = field(default_factory=lambda: unknown("not read"))
    lacking: Fact[Mapping[str, str]] = field(default_factory=lambda: unknown("not read"))
    printers: Fact[tuple[str, ...]] = field(default_factory=lambda: unknown("not read"))


def _no_file(path: str) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What stays. ``whole``: why all of the component does, None where it doesn't; ``file``: why a guest path (lower
    case) does."""

    whole: str | None = None
    file: Callable[[str], str | None] = _no_file

    def why(self, path: str) -> str | None:
        return self.whole if self.whole is not None else self.file(path)


UNJUDGED = Verdict("nobody judged whether it is in use")


def judge_all(evidence: Evidence) -> Mapping[str, Verdict]:
    """Every judgement's verdict, by the name that components give."""
    return {name: judge(evidence) for name, judge in JUDGEMENTS.items()}


def _unknown(*facts: Fact[Any]) -> str | None:
    reason = next((each.reason or "a hive isn't there" for each in facts if each.value is None), None)
    return None if reason is None else f"it can't be told: {reason}"


def judge_portability(evidence: Evidence) -> Verdict:
    """Sources of drivers stay while a controller's driver isn't in place: whole caches, and files of its name."""
    lacking = evidence.lacking.value
    if lacking is None:
        return Verdict(_unknown(evidence.lacking))
    if not lacking:
        return Verdict()
    said = "; ".join(dict.fromkeys(lacking.values()))
    packed = {name: each for name in lacking for each in (name, f"{name[:-1]}_")}
    wanted = {*lacking, *packed.values()}

    def keep(path: str) -> str | None:
        name = path.rpartition("/")[2]
        if name in wanted or "/driver cache/" in path or name.endswith(".cab"):
            return f"portability needs it: {said}; 'byre mend IMAGE portable' first"
        return None

    return Verdict(file=keep)


def judge_code_pages(evidence: Evidence) -> Verdict:
    """The system's code pages, those of every user's language, and those that any system needs."""
    nls, users = evidence.nls.value, evidence.users.value
    if nls is None or users is None:
        return Verdict(_unknown(evidence.nls, evidence.users))
    why = {str(number): "any system needs it" for number in sorted(ALWAYS_CODE_PAGES)}
    for user in users:
        for language in sorted(user.languages):
            for number in _OF_LANGUAGE.get(_primary(language), ()):
                why[str(number)] = f"the language {language} of {user.name} has it"
        why |= {str(number): f"the console of {user.name} has it" for number in sorted(user.code_pages)}
    for language in sorted(nls.languages):
        for number in _OF_LANGUAGE.get(_primary(language), ()):
            why[str(number)] = f"the system's language {language} has it"
    for name in ("acp", "oemcp", "maccp"):
        page = nls.code_pages.get(name, "10000" if name == "maccp" else "")
        if not page.isdecimal():
            return Verdict(f"it can't be told: SYSTEM's Nls\\CodePage has no {name.upper()}")
        why[page] = f"it is the system's {name.upper()}"
    files = {nls.code_pages[number]: said for number, said in why.items() if nls.code_pages.get(number)}

    def keep(path: str) -> str | None:
        name = path.rpartition("/")[2]
        number = re.fullmatch(r"c_([0-9]{2,5})\.nls", name)
        if number is None:
            return "it isn't named as a code page"
        return files.get(name) or why.get(str(int(number[1])))

    return Verdict(file=keep)


def _primary(language: str) -> int:
    """The primary language of an id in hexadecimal; 0 where it is none."""
    try:
        return int(language, 16) & 0x3FF
    except ValueError:
        return 0


def judge_keyboard_layouts(evidence: Evidence) -> Verdict:
    """The layouts in any user's list, and those that a keyboard's driver names."""
    nls, users = evidence.nls.value, evidence.users.value
    if nls is None or users is None:
        return Verdict(_unknown(evidence.nls, evidence.users))
    why = dict.fromkeys(sorted(ALWAYS_LAYOUTS), "Windows falls back to it")
    why |= dict.fromkeys(sorted(nls.keyboard_files), "the keyboard's driver names it")
    system = {layout for layout in nls.layouts if layout[-4:] in nls.languages and layout.startswith("0000")}
    for user, layouts in ((each.name, each.layouts) for each in users):
        for layout in sorted(layouts):
            if layout not in nls.layouts:
                return Verdict(f"it can't be told: SYSTEM has no layout {layout}, which {user} has")
            why[nls.layouts[layout]] = f"{user} has the layout {layout}"
    why |= {nls.layouts[layout]: f"the system's language has the layout {layout}" for layout in sorted(system)}
    return Verdict(file=lambda path: why.get(path.rpartition("/")[2]))


def judge_input_methods(evidence: Evidence) -> Verdict:
    """Any East Asian code page, language or input method keeps all of them."""
    nls, users = evidence.nls.value, evidence.users.value
    if nls is None or users is None:
        return Verdict(_unknown(evidence.nls, evidence.users))
    for name in ("acp", "oemcp"):
        if nls.code_pages.get(name) in _EAST_ASIAN:
            return Verdict(f"the system's {name.upper()} is {nls.code_pages[name]}")
    for who, languages in (("the system", nls.languages), *((user.name, user.languages) for user in users)):
        found = next((each for each in sorted(languages) if _primary(each) in (0x04, 0x11, 0x12)), None)
        if found is not None:
            return Verdict(f"{who} has the language {found}")
    for user in users:
        found = next((each for each in sorted(user.layouts) if each.startswith("e0")), None)
        if found is not None:
            return Verdict(f"{user.name} has the input method {found}")
    return Verdict()


def judge_languages(evidence: Evidence) -> Verdict:
    """Folders of the multilingual user interface whose language nobody has; what lies in none of them stays."""
    nls, users = evidence.nls.value, evidence.users.value
    if nls is None or users is None:
        return Verdict(_unknown(evidence.nls, evidence.users))
    if not nls.languages:
        return Verdict("it can't be told: SYSTEM's Nls\\Language names none")
    why = {each[-4:]: f"{user.name} has the language {each[-4:]}" for user in users for each in user.languages}
    why |= {each[-4:]: "the system was installed in it" for each in nls.languages}

    def keep(path: str) -> str | None:
        found = re.search(r"/mui/(?:fallback/)?([0-9a-f]{4})(?:/|$)", path)
        return "it belongs to no language of its own" if found is None else why.get(found[1])

    return Verdict(file=keep)


def judge_fonts(evidence: Evidence) -> Verdict:
    """Fonts whose face or file anything in the registry names."""
    fonts, users = evidence.fonts.value, evidence.users.value
    if fonts is None or users is None:
        return Verdict(_unknown(evidence.fonts, evidence.users))
    if not fonts.faces:
        return Verdict("it can't be told: SOFTWARE lists no fonts")
    faces = {face: user.name for user in users for face in user.faces}

    def keep(path: str) -> str | None:
        name = path.rpartition("/")[2]
        if name in fonts.wanted:
            return "Windows names it"
        for face in fonts.faces.get(name, ()):
            if face in fonts.wanted:
                return f"Windows names {face}"
            if face in faces:
                return f"{faces[face]} has chosen {face}"
        return None

    return Verdict(file=keep)


def judge_users_choice(evidence: Evidence) -> Verdict:
    """What a user chose: the wallpaper, the screen saver, pointers."""
    users = evidence.users.value
    if users is None:
        return Verdict(_unknown(evidence.users))
    chosen = {path: user.name for user in users for path in user.files}
    return Verdict(file=lambda path: f"{chosen[path]} has chosen it" if path in chosen else None)


def judge_printers(evidence: Evidence) -> Verdict:
    """Drivers stay where a printer is set up."""
    printers = evidence.printers.value
    if printers is None:
        return Verdict(_unknown(evidence.printers))
    return Verdict(f"the printer {printers[0]} is set up") if printers else Verdict()


JUDGEMENTS: Mapping[str, Callable[[Evidence], Verdict]] = {
    "portability": judge_portability,
    "code-pages": judge_code_pages,
    "keyboard-layouts": judge_keyboard_layouts,
    "input-methods": judge_input_methods,
    "languages": judge_languages,
    "fonts": judge_fonts,
    "users-choice": judge_users_choice,
    "printers": judge_printers,
}
"""By the names of ``byre.windows.components.component.JUDGEMENTS``; a test holds them together."""


def faces_of(title: str) -> Iterable[str]:
    """The faces that a value of SOFTWARE's ``Fonts`` names (``Batang & BatangChe (TrueType)``), in lower case. Sizes
    behind the name of a bitmap font are left out."""
    plain = re.sub(r"\([^()]*\)\s*$", "", title[:MAX_TITLE].lower())
    for part in plain.split("&"):
        name = re.sub(r"(?:\s+[0-9]+(?:,[0-9]+)*)+\s*$", "", part.strip()).strip()
        if name:
            yield name
            base = re.sub(r"(?:\s+(?:bold|italic|oblique))+$", "", name)
            if base != name:
                yield base
