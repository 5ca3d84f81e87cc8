"""What a report tells of the guest beside findings: who it is, what starts by itself, what is installed, what uses
the space. Pure: taken from the facts. All texts are the guest's own: escape them before they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from byre.audit.facts import Facts, SpaceUse
from byre.audit.leftovers import LEAN, PRIVATE
from byre.windows.fact import Fact

MAX_ROWS = 5_000
"""Of each table: a made-up guest may hold millions."""
MAX_TEXT = 400


@dataclass(frozen=True, slots=True)
class Startup:
    """One thing that starts by itself. ``state``: ``there``, ``missing``, or ``unknown`` where what it runs can't be
    told."""

    kind: str
    location: str
    name: str
    command: str
    user: str | None
    state: str


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed program, a hotfix or a driver, as the guest states it. ``kind`` is one of the three; ``path`` and
    ``sha256`` where a file stands for it."""

    kind: str
    name: str
    version: str | None = None
    publisher: str | None = None
    identifier: str | None = None
    installed: str | None = None
    path: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """What looked into the files. ``state``: ``used``, ``not checked`` (nobody asked for it) or ``failed`` with its
    ``problem``; ``about`` what it knows and ``date`` from when; ``hits`` and ``skipped`` are numbers of files."""

    name: str
    state: str
    about: str = ""
    date: str | None = None
    problem: str | None = None
    hits: int = 0
    skipped: int = 0


SCANNERS = {
    "yara": "YARA rules",
    "clamav": "ClamAV",
    "known-bad": "known bad files",
    "known-good": "known good files",
}
"""What may look into files, by the names that ``facts.Scan`` has."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The guest in rows. ``about`` is label and value; ``startups_unknown`` and ``installed_unknown`` say why rows
    are missing."""

    about: tuple[tuple[str, str], ...] = ()
    startups: tuple[Startup, ...] = ()
    startups_unknown: str | None = None
    installed: tuple[Installed, ...] = ()
    installed_unknown: str | None = None
    space: tuple[SpaceUse, ...] = ()
    leftovers: tuple[SpaceUse, ...] = ()
    """What the private and lean questions count, by kind: these may overlap."""
    looked: tuple[Looked, ...] = ()
    """Each scanner, those too that weren't used: not having looked is said, never passed over."""
    cut: tuple[str, ...] = ()
    """Which tables were cut to ``MAX_ROWS``, with their real number of rows."""


def profile_of(facts: Facts) -> Profile:
    """The profile of an image; empty where no system was found."""
    guest = facts.guest
    if guest is None:
        return Profile()
    starts = guest.autostarts.value or ()
    startups = tuple(
        Startup(
            each.kind,
            _clip(each.location),
            _clip(each.name),
            _clip(each.command),
            _clip(each.user) if each.user else None,
            "missing" if each.missing else "there" if each.files else "unknown",
        )
        for each in starts[:MAX_ROWS]
    )
    installed = _installed(facts)
    tables = (("autostarts", len(starts)), ("installed", len(installed)))
    return Profile(
        about=_about(facts),
        startups=startups,
        startups_unknown=_why(guest.autostarts),
        installed=installed[:MAX_ROWS],
        installed_unknown=_why(guest.programs) or _why(guest.services),
        space=facts.space,
        leftovers=tuple(
            SpaceUse(kind, title, count.bytes, count.files)
            for kind, title in (PRIVATE | LEAN).items()
            if (count := facts.leftovers.get(kind)) is not None
        ),
        looked=_looked(facts),
        cut=tuple(f"{name}: {rows}" for name, rows in tables if rows > MAX_ROWS),
    )


def _looked(facts: Facts) -> tuple[Looked, ...]:
    scans = {scan.name: scan for scan in facts.census.scans}
    rows = []
    for name, title in {**SCANNERS, **{each: each for each in scans if each not in SCANNERS}}.items():
        scan = scans.get(name)
        if scan is None or (not scan.used and scan.problem is None):
            rows.append(Looked(title, "not checked"))
            continue
        state = "used" if scan.used else "failed"
        problem = _clip(scan.problem) if scan.problem else None
        about = _clip(scan.about)
        rows.append(Looked(title, state, about, scan.date, problem, len(scan.hits), scan.skipped_count))
    return tuple(rows)


def _clip(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def _why(fact: Fact[Any]) -> str | None:
    return (fact.reason or "can't be read") if fact.state == "unknown" else None


def _about(facts: Facts) -> tuple[tuple[str, str], ...]:
    guest = facts.guest
    if guest is None:
        return ()
    rows: tuple[tuple[str, Fact[str]], ...] = (
        ("product", guest.product),
        ("service pack", guest.service_pack),
        ("edition", guest.edition),
        ("build", guest.build),
        ("processor", guest.architecture),
        ("language", guest.language),
        ("HAL", guest.hal),
        ("kernel", guest.kernel),
        ("installed", guest.installed),
        ("time zone", guest.time_zone),
    )
    return tuple(
        (label, _clip(fact.value) if fact.value else "unknown" if fact.state == "unknown" else "not stated")
        for label, fact in rows
        if fact.state != "absent"
    )


def _installed(facts: Facts) -> tuple[Installed, ...]:
    guest = facts.guest
    if guest is None:
        return ()
    programs = [
        Installed(
            "program",
            _clip(each.name),
            _clip(each.version) if each.version else None,
            _clip(each.publisher) if each.publisher else None,
            _clip(each.key),
            each.installed,
        )
        for each in guest.programs.value or ()
    ]
    hotfixes = [
        Installed("hotfix", _clip(each.id), publisher=None, identifier=_clip(each.id), installed=each.installed)
        for each in guest.hotfixes.value or ()
    ]
    return (*programs, *hotfixes, *_drivers(facts))


def _drivers(facts: Facts) -> list[Installed]:
    """Drivers whose file is there, with the census' digest and version where it has them."""
    guest = facts.guest
    if guest is None:
        return []
    census = {each.path.lower(): each for each in facts.programs.value or ()}
    found = []
    for service in guest.services.value or ():
        if not service.is_driver or service.file is None:
            continue
        file, counted = facts.file(service.file), census.get(service.file.lower())
        if counted is None and (file is None or file.state != "present"):
            continue
        pe = counted.pe if counted is not None else file.pe if file is not None else None
        version = ".".join(map(str, pe.file_version)) if pe and pe.file_version else None
        company = counted.company if counted is not None else None
        found.append(
            Installed(
                "driver",
                _clip(service.display_name or service.name),
                version,
                _clip(company) if company else None,
                _clip(service.name),
                path=_clip(service.file),
                sha256=counted.sha256 if counted is not None else None,
            )
        )
    return found
