"""What slimming must know of an installed system, a plan for it, and the plan as changes of its volume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from byre.audit.facts import Facts
from byre.audit.lacking_facts import in_use
from byre.errors import ByreError, UnsupportedError
from byre.filesystems.base import FileSystem, Name
from byre.lite.advance import Advance, quiet
from byre.lite.changes import Change, Remove
from byre.lite.guards import refuse_files
from byre.lite.registry_changes import hive_changes
from byre.lite.slimming.classes import class_roots
from byre.lite.slimming.drives import AllDrives, Drive, letter_of, own_letter
from byre.lite.slimming.evidence import read_evidence, read_places
from byre.lite.slimming.in_use import Evidence, Verdict, judge_all
from byre.lite.slimming.owning import owned_rows, parts_of
from byre.lite.slimming.parts import Dependent, Left, Owned, Part, Shortcut, SlimPlan, Use
from byre.lite.slimming.plan import Choice, left_of, plan_slim, unmatched, with_dependents
from byre.lite.slimming.programs import MODULES, Programs
from byre.lite.slimming.registry import registry_steps
from byre.lite.slimming.uses import read_shortcuts, read_uses
from byre.windows.components.component import Component, Places
from byre.windows.hives import Hives, open_hives
from byre.windows.paths import SystemPaths
from byre.windows.reg_paths import Registry
from byre.windows.registry import Key
from byre.windows.roots import find_roots
from byre.windows.system_paths import system_paths

MAX_NAMES = 1_000_000
MAX_PAGE_FILES = 16
"""Windows has one for each volume at most."""


@dataclass(frozen=True, slots=True)
class SlimGuest:
    """One guest, ready to be planned for."""

    files: FileSystem
    """The system's own volume."""
    partition: int
    root: str
    rows: tuple[Name, ...]
    """Every name on every drive."""
    paths: SystemPaths
    places: Places
    uses: tuple[Use, ...]
    programs: tuple[tuple[str, str], ...]
    """What must load afterwards: in words, and its guest path."""
    shortcuts: tuple[Shortcut, ...]
    verdicts: Mapping[str, Verdict]
    """Which files are in use, by the name of the judgement."""
    notes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Folders of other systems on the same volume."""
    drives: tuple[Drive, ...] = ()

    @property
    def everywhere(self) -> FileSystem:
        """The files of all drives."""
        return AllDrives(self.files, self.drives) if self.drives else self.files


def read_slim_guest(files: FileSystem, facts: Facts, drives: tuple[Drive, ...] = ()) -> SlimGuest:
    """Everything from one walk and the facts of an audit. Raises UnsupportedError where the system's volume can't be
    walked to its end, or its hives can't be read: then it isn't known what needs what. ``drives``: the guest's other
    volumes, of ``drives_of``."""
    guest = facts.guest
    if guest is None or guest.services.value is None:
        reason = guest.services.reason if guest is not None else None
        raise UnsupportedError("has no Windows whose needs can be told", path=facts.image, found=reason)
    rows, drives, crowded = _names(files, drives, facts.image)
    everywhere = AllDrives(files, drives) if drives else files
    there = {row.path.lower(): row.path for row in rows if not row.is_folder}
    hives = open_hives(files, guest.root)
    software = hives.get("SOFTWARE")
    if software is None:
        raise UnsupportedError("has no SOFTWARE hive that can be read", path=facts.image)
    paths = system_paths(guest.root, own_letter(facts), software, others=frozenset(each.letter for each in drives))
    startups = {each.location.lower() for each in guest.autostarts.value or () if each.kind == "startup-folder"}
    links, starts, notes = read_shortcuts(everywhere, rows, paths, there, frozenset(startups))
    classes, unread = class_roots(Registry(files, guest.root))
    control_set = _control_set(facts, hives)
    uses = (*read_uses(facts, classes, paths, there, control_set), *starts)
    programs = {use.path.lower(): (use.what, use.path) for use in uses if use.path.lower().endswith(MODULES)}
    for lower in _run_from_there((each for each in there if each.endswith((".exe", ".scr", ".cpl"))), guest.root):
        programs.setdefault(lower, ("the program", there[lower]))
    paging, far = _page_files(control_set, paths, everywhere)
    evidence = read_evidence(facts, hives, control_set, paths, there.keys())
    return SlimGuest(
        files=files,
        partition=guest.volume,
        root=guest.root,
        rows=tuple(rows),
        paths=paths,
        places=replace(
            read_places(hives, paths),
            drives=tuple(each.letter for each in drives if not each.system),
            loader=next((each.letter for each in drives if each.loader), None),
            page_files=paging,
        ),
        uses=uses,
        programs=tuple(programs.values()),
        shortcuts=links,
        verdicts=judge_all(evidence),
        notes=(*crowded, *notes, *unread, *_unknown_users(evidence), *far),
        drives=drives,
        others=tuple(each for each in find_roots(files) if each.lower() != guest.root.lower()),
    )


def _names(
    files: FileSystem, drives: tuple[Drive, ...], image: str
) -> tuple[list[Name], tuple[Drive, ...], list[str]]:
    """(every name, the drives that were looked at, notes on those that hold too many). UnsupportedError where the
    system's own does."""
    rows = list(islice(files.walk_names(), MAX_NAMES + 1))
    if len(rows) > MAX_NAMES:
        raise UnsupportedError("holds more names than are looked at", path=image, expected=MAX_NAMES)
    kept: list[Drive] = []
    notes: list[str] = []
    for drive in drives:
        mark = len(rows)
        rows += (
            each._replace(path=drive.prefix + each.path)
            for each in islice(drive.files.walk_names(), MAX_NAMES - mark + 1)
        )
        if len(rows) > MAX_NAMES:
            del rows[mark:]
            notes.append(
                f"{drive.prefix} holds more names than are looked at: nothing of it goes, and what its programs need "
                "isn't known"
            )
        else:
            kept.append(drive)
    return rows, tuple(kept), notes


def _run_from_there(paths: Iterable[str], root: str) -> Iterator[str]:
    """Those of the paths (lower case), of every drive, that aren't second copies or waste, in order."""
    by_drive: dict[str, list[str]] = {}
    for path in paths:
        prefix = "" if letter_of(path) is None else path[:2]
        by_drive.setdefault(prefix, []).append(path[len(prefix) :])
    for prefix in sorted(by_drive):
        yield from (prefix + path for path in sorted(in_use(by_drive[prefix], root)))


def _unknown_users(evidence: Evidence) -> Iterator[str]:
    if evidence.users.value is None:
        yield f"what users have in use isn't known: {evidence.users.reason}"


def _page_files(
    control_set: Key | None, paths: SystemPaths, files: FileSystem
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(the page files that the registry names and that are files, as guest paths; notes on those on drives that
    aren't known)."""
    key = control_set.at(r"Control\Session Manager\Memory Management") if control_set is not None else None
    value = key.value("PagingFiles") if key is not None else None
    found: list[str] = []
    notes: list[str] = []
    for text in value.strings[:MAX_PAGE_FILES] if value is not None else ():
        path = text.strip().rsplit(" ", 2)[0] if text.count(" ") >= 2 else text.strip()
        if not path or path.startswith("?"):
            continue  # "?:" leaves the drive to Windows
        resolved = paths.resolve(path)
        if resolved is None:
            notes.append(f"the page file {path} lies on a drive that isn't known in this image, and stays")
        elif not set(resolved) & set("*?{}") and _is_plain(files, resolved):
            found.append(resolved)
    return tuple(found), tuple(notes)


def _is_plain(files: FileSystem, path: str) -> bool:
    try:
        entry = files.lookup(path)
    except ByreError:
        return False
    return not entry.is_dir and entry.reparse is None and entry.links == 1


def _control_set(facts: Facts, hives: Hives) -> Key | None:
    """The control set of the next boot; None where it can't be told."""
    hive = hives.get("SYSTEM")
    return hive.key(facts.system.value.control_set) if hive is not None and facts.system.value is not None else None


def owned_in(guest: SlimGuest, components: tuple[Component, ...]) -> tuple[Owned, ...]:
    """The names of the guest that belong to any of the components: what listing and planning begin with."""
    return owned_rows(components, guest.rows, guest.places, guest.verdicts)


def list_parts(
    guest: SlimGuest,
    components: tuple[Component, ...],
    advance: Advance | None = None,
    *,
    owned: tuple[Owned, ...] | None = None,
) -> tuple[Part, ...]:
    """The components that are in the guest. With ``advance``, also what depends on each of them, as if it went
    alone: programs by their import closure among it. ``owned``, of ``owned_in``, where it is known already."""
    owned = owned_in(guest, components) if owned is None else owned
    parts = parts_of(components, owned, guest.shortcuts)
    if advance is None:
        return parts
    home = {path.lower(): part.component.id for part in parts for path in part.files}
    found: dict[str, list[Dependent]] = {part.component.id: [] for part in parts}
    programs = Programs(guest.everywhere, guest.root, guest.programs, advance, paths=guest.paths)
    candidates: dict[str, set[str]] = {}
    for name, what, path, module, later in programs.users(home):
        if later:
            found[name].append(Dependent("program", f"{what} {path}", module, later=True))
        else:
            candidates.setdefault(name, set()).add(path)
    for part in parts:
        name = part.component.id
        if name in candidates:
            gone = frozenset(path.lower() for path in part.files)
            for chain in programs.broken(gone, candidates[name]):
                found[name].append(Dependent("program", chain[0], chain[-1]))
    return tuple(
        replace(part, needed_by=tuple(dict.fromkeys((*part.needed_by, *found[part.component.id]))))
        for part in with_dependents(parts, guest.uses, alone=True)
    )


def list_left(guest: SlimGuest, components: tuple[Component, ...]) -> tuple[Left, ...]:
    """What of the components stays because it is in use, or because that can't be told."""
    owned = owned_rows(components, guest.rows, guest.places, guest.verdicts)
    return left_of(owned, {each.id for each in components})


def plan_guest(
    choice: Choice,
    guest: SlimGuest,
    components: tuple[Component, ...],
    advance: Advance = quiet,
    *,
    owned: tuple[Owned, ...] | None = None,
) -> SlimPlan:
    """The plan for a choice, with its edits of the registry. ``owned``, of ``owned_in``, where it is known already.
    Raises UsageError for what isn't there."""
    programs = Programs(guest.everywhere, guest.root, guest.programs, advance, paths=guest.paths)
    plan = plan_slim(
        choice,
        components,
        guest.rows,
        guest.places,
        guest.uses,
        programs.broken,
        verdicts=guest.verdicts,
        shortcuts=guest.shortcuts,
        owned=owned,
        paths=guest.paths,
        others=guest.others,
    )
    steps, notes = registry_steps(guest.files, guest.root, plan, guest.uses, guest.paths)
    told = {part.component.id for part in plan.parts}
    told |= {each.part for each in plan.kept} | {each.part for each in plan.left}
    known = {each.id for each in components} - told - set(choice.keep)
    absent = [f"{name} isn't in this image" for name in choice.drop if name in known]
    absent += [
        f"nothing in this image is named {path}"
        for path in unmatched(choice, components, guest.rows, guest.places, guest.paths)
    ]
    parts = _with_later(plan.parts, programs)
    return replace(plan, parts=parts, steps=steps, notes=(*guest.notes, *absent, *notes))


def _with_later(parts: tuple[Part, ...], programs: Programs) -> tuple[Part, ...]:
    """The parts with the programs that stay and ask for one of their files only when they first call it."""
    home = {
        path.lower(): part.component.id for part in parts for path in part.files if path.lower().endswith(MODULES)
    }
    if not home:
        return parts
    found: dict[str, list[Dependent]] = {part.component.id: [] for part in parts}
    for name, what, path, module, later in programs.users(home):
        if later and path.lower() not in home:
            found[name].append(Dependent("program", f"{what} {path}", module, later=True))
    return tuple(replace(part, needed_by=(*part.needed_by, *found[part.component.id])) for part in parts)


def planned_changes(guest: SlimGuest, plan: SlimPlan, *, image: str) -> dict[int, list[Change]]:
    """The plan as changes of each volume that it touches, by the partition: names that go, and on the
    system's own hives with what registered them taken out."""
    changes: dict[int, list[Change]] = {}
    for partition, files, removed in _by_drive(guest, plan):
        if removed:
            changes[partition] = [Remove(path) for path in removed]
            refuse_files(changes[partition], files, image=image)
    edits = [step.edit for step in plan.steps]
    if edits:
        changes.setdefault(guest.partition, []).extend(hive_changes(guest.files, guest.root, edits, image=image))
    return changes


def _by_drive(guest: SlimGuest, plan: SlimPlan) -> Iterator[tuple[int, FileSystem, list[str]]]:
    """(partition, its file system, topmost paths that go), the paths without a letter."""
    places: list[tuple[int, str | None, FileSystem]] = [(guest.partition, None, guest.files)]
    places += [(each.partition, each.letter, each.files) for each in guest.drives]
    for partition, letter, files in places:
        start = 2 if letter is not None else 0
        yield partition, files, [path[start:] for path in plan.removed if letter_of(path) == letter]
