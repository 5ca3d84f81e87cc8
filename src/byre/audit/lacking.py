"""Complete, for lite builds: which components are absent, and which present program breaks without them.

A build that was stripped and still fits together has notes; a program that is there and can't work for want of what
isn't is a finding that names both. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache

from byre.audit.facts import BrokenProgram, Facts
from byre.audit.finding import Finding, Unread
from byre.audit.lacking_facts import in_use
from byre.audit.platforms import Platform
from byre.audit.rule import Rule
from byre.windows.components import Component, Places, built_in_components
from byre.windows.components.component import names_of, owner_of
from byre.windows.services import Service

MIN_PROGRAMS = 400
"""Programs in system32 below which it isn't told what a whole system would have: lite builds keep more than five
hundred, a specimen for tests has one hundred."""
MISSED, MISSED_SHARE = 10, 0.02
"""Files of the media's list that may be absent without a word: Setup removes some of its own when it is done."""
SHOWN = 8
MAX_TOLD = 40
_SYSTEMS = {"5.0": "win2000", "5.1": "winxp", "5.2": "win2003"}
_OC = "Windows XP's sysoc.inf and Setup's OC Manager"
_MEDIA = "add the component from the same service pack's media, or remove the program as well"
_NT5 = ("nt5",)

RULES = (
    Rule(
        "COMP-001",
        "complete",
        "Windows' optional parts are there",
        "low",
        False,
        "the files of each component (windows/components), where the media's list copies them always, Setup noted "
        "them as installed, or a system of this size has them unasked",
        "somebody may look for them in vain",
        _OC + "; each component has its own source (docs/components.md)",
        "the feature isn't there",
        "add the component in the guest from the same service pack's media",
        _NT5,
    ),
    Rule(
        "COMP-002",
        "complete",
        "No program that is there needs a component that isn't",
        "medium",
        False,
        "the import closure of every program outside of the start, against the files of absent components",
        "it can't be started",
        "Microsoft's Dynamic-Link Library Search Order; docs/components.md",
        "'This application has failed to start because … was not found'",
        _MEDIA,
        _NT5,
    ),
    Rule(
        "COMP-003",
        "complete",
        "No program lacks a library",
        "low",
        False,
        "the import closure of every program outside of the start",
        "it can't be started, or only where a missing runtime is installed",
        "Microsoft's Dynamic-Link Library Search Order",
        "'This application has failed to start because … was not found'",
        "install what the program needs, or remove it",
        _NT5,
    ),
    Rule(
        "COMP-004",
        "complete",
        "The services that others depend on are there",
        "medium",
        False,
        "DependOnService of services that start by themselves; a service on demand is a note",
        "a service whose dependence isn't there doesn't start",
        "Microsoft KB 103000 (unchecked: keys below CurrentControlSet\\Services); error 1075",
        "'At least one service or driver failed during system startup'; error 1075",
        "put the other service back, or disable this one",
        _NT5,
    ),
    Rule(
        "COMP-005",
        "complete",
        "Registered classes have their server",
        "low",
        False,
        "InprocServer32 and LocalServer32 of every class, on the system's own drive",
        "who asks for the class gets an error",
        "Microsoft's documentation of CLSID keys",
        "'Class not registered', 'The specified module could not be found'",
        "add the component that has the file, or remove the registration",
        _NT5,
    ),
    Rule(
        "COMP-006",
        "complete",
        "What Setup always copies is there",
        "low",
        False,
        f"the files of inf\\layout.inf with disposition 0, by name, anywhere in use; up to {MISSED} or "
        f"{MISSED_SHARE:.0%} may be gone",
        "what was taken out isn't known, and what needs it isn't either",
        "Microsoft's description of the text-mode disposition (extra.inf); threads on layout.inf at msfn.org",
        "nothing, until something asks for it",
        "take them from the same service pack's media",
        _NT5,
    ),
)


@lru_cache(maxsize=2)
def _names(paths: frozenset[str], root: str) -> frozenset[str]:
    return frozenset(path.rpartition("/")[2] for path in in_use(paths, root))


def check(facts: Facts, platform: Platform) -> Iterator[Finding | Unread]:
    """Every breach of this module's rules."""
    guest = facts.guest
    if guest is None or facts.kind != "nt5":
        return
    gone: Mapping[str, Component] = {}
    if not facts.paths:
        for rule in ("COMP-001", "COMP-002", "COMP-005", "COMP-006"):
            yield Unread(rule, "the system's volume couldn't be walked to its end")
    else:
        gone = {each.id: each for each in absent_components(facts)}
        yield from _absent(facts, gone)
        yield from _missed(facts, gone)
        yield from _classes(facts, gone)
    yield from _broken(facts, gone)
    yield from _dependences(facts, gone)


def absent_components(facts: Facts) -> Iterator[Component]:
    """The components of this kind of system none of whose marks is among the files in use."""
    assert facts.guest is not None
    system = _SYSTEMS.get(facts.guest.version.value or "")
    names = _names(facts.paths, facts.guest.root)
    for component in built_in_components():
        if system in component.systems and component.absent(names):
            yield component


def _absent(facts: Facts, gone: Mapping[str, Component]) -> Iterator[Finding | Unread]:
    told = facts.provenance.value
    noted = told.subcomponents if told is not None else {}
    always = {row.name.lower() for row in facts.media if row.always}
    small = _programs(facts) < MIN_PROGRAMS
    if small and not always and not noted:
        yield Unread("COMP-001", f"fewer than {MIN_PROGRAMS} programs in system32: what belongs there can't be told")
        return
    for component in gone.values():
        stated = [noted[name.lower()] for name in component.subcomponents if name.lower() in noted]
        if any(mark in always for mark in component.marks):
            why = "the media's list copies it always"
        elif stated and any(stated):
            why = "Setup noted it as installed"
        elif not stated and not always and not small and component.default:
            why = "Setup installs it unasked"
        else:
            continue
        yield Finding("COMP-001", component.title, f"isn't there; {why}", component.consequence)


def _programs(facts: Facts) -> int:
    assert facts.guest is not None
    folder = f"{facts.guest.root.lower()}/system32/"
    return sum(path.startswith(folder) and path.endswith((".exe", ".dll")) for path in facts.paths)


def _missed(facts: Facts, gone: Mapping[str, Component]) -> Iterator[Finding]:
    assert facts.guest is not None
    names = _names(facts.paths, facts.guest.root)
    always = [row for row in facts.media if row.always]
    missing = [
        row for row in always if (row.target or row.name).lower() not in names and row.name.lower() not in names
    ]
    owned = names_of(tuple(gone.values()))
    odd = [row.name.lower() for row in missing if owned.fullmatch(row.name.lower()) is None]
    if len(odd) > max(MISSED, MISSED_SHARE * len(always)):
        named = ", ".join(odd[:SHOWN]) + (f" and {len(odd) - SHOWN} more" if len(odd) > SHOWN else "")
        said = f"{len(odd)} of {len(always)} files beyond the absent components: {named}"
        yield Finding("COMP-006", "inf\\layout.inf", said, "a build that somebody stripped")


def _of_component(name: str, facts: Facts, components: Iterable[Component]) -> Component | None:
    """The absent component whose file in system32 or drivers this is, or one of whose marks."""
    assert facts.guest is not None
    places = Places(facts.guest.root)
    listed = tuple(components)
    marked = next((each for each in listed if name in each.marks), None)
    system32 = f"{facts.guest.root}/system32"
    return (
        marked
        or owner_of(listed, f"{system32}/{name}", places)
        or owner_of(listed, f"{system32}/drivers/{name}", places)
    )


def _broken(facts: Facts, gone: Mapping[str, Component]) -> Iterator[Finding | Unread]:
    if facts.broken_programs.value is None:
        reason = facts.broken_programs.reason or "the programs' imports weren't followed"
        yield Unread("COMP-002", reason)
        yield Unread("COMP-003", reason)
        return
    libraries: dict[str, list[BrokenProgram]] = {}
    for row in facts.broken_programs.value:
        libraries.setdefault(row.library, []).append(row)
    for library, rows in list(libraries.items())[:MAX_TOLD]:
        component = _of_component(library, facts, gone.values())
        places = Places(facts.guest.root if facts.guest else "")
        others = [row for row in rows if component is None or not component.owns(row.program, places)]
        if component is not None and others:
            what = f"{_programs_named(others)} start without {component.title}, which isn't there"
            yield Finding("COMP-002", others[0].program, _imported(others), what)
        else:
            yield Finding("COMP-003", rows[0].program, _imported(rows), f"{_programs_named(rows)} start")


def _imported(rows: Sequence[BrokenProgram]) -> str:
    names = [row.program.rpartition("/")[2] for row in rows]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    needed = "" if len(rows) == 1 else f"; it is needed by {', '.join(names[:SHOWN])}{more}"
    return f"{rows[0].importer} imports {rows[0].library}, which isn't there{needed}"


def _programs_named(rows: Sequence[BrokenProgram]) -> str:
    return "the program doesn't" if len(rows) == 1 else f"{len(rows)} programs don't"


def _dependences(facts: Facts, gone: Mapping[str, Component]) -> Iterator[Finding | Unread]:
    """One finding for each service that isn't there and that others need."""
    damaged = next((each for each in facts.hives if each.name == "SYSTEM" and each.problems), None)
    if damaged is not None:
        # A damaged list of keys hides services that are there: then their absence says nothing.
        yield Unread("COMP-004", f"{damaged.path} is damaged: {damaged.problems[0]}")
        return
    for name, needing in missing_dependences(facts.guest.services.value or () if facts.guest else ()).items():
        owner = next((each for each in gone.values() if name.lower() in map(str.lower, each.services)), None)
        part = f", a part of {owner.title}" if owner is not None else ""
        names = [each.name for each in needing]
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        said = f"isn't there{part}; it is needed by {', '.join(names[:SHOWN])}{more}"
        severity = None if any(each.start == 2 for each in needing) else "low"
        what = f"{names[0]} doesn't start" if len(names) == 1 else f"{len(names)} services don't start"
        yield Finding("COMP-004", f"Services\\{name}", said, what, severity=severity)


def missing_dependences(services: Iterable[Service]) -> Mapping[str, list[Service]]:
    """Each service that isn't there → the services that need it: those that start by themselves or on demand."""
    listed = list(services)
    there = {service.name.lower() for service in listed}
    found: dict[str, list[Service]] = {}
    spelled: dict[str, str] = {}
    for service in listed:
        for name in service.depends if service.start in (2, 3) else ():
            if name and not name.startswith("+") and name.lower() not in there:
                found.setdefault(spelled.setdefault(name.lower(), name), []).append(service)
    return found


def _classes(facts: Facts, gone: Mapping[str, Component]) -> Iterator[Finding]:
    owners = Counter[str]()
    first: dict[str, str] = {}
    for row in facts.lost_classes:
        component = _of_component(row.server.rpartition("/")[2], facts, gone.values())
        title = component.title if component is not None else "no component that is known here"
        owners[title] += 1
        first.setdefault(title, f"{row.clsid} is served by {row.server}")
    for title, count in owners.most_common(MAX_TOLD):
        classes = "1 class" if count == 1 else f"{count} classes"
        yield Finding("COMP-005", title, f"{classes} without their server: {first[title]}", "asking for them fails")
