"""What would go from a guest, what that is worth, and what needs it all the same: a plan for ``byre slim``. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from byre.errors import UsageError
from byre.filesystems.base import Name
from byre.lite.slimming.in_use import Verdict
from byre.lite.slimming.owning import folders_above, folders_of, owned_rows, parts_of
from byre.lite.slimming.parts import (
    DROPPED,
    Dependent,
    Left,
    Owned,
    Part,
    Reason,
    Shortcut,
    SlimPlan,
    Use,
)
from byre.windows.components.component import PROFILES, Component, Places, beginnings
from byre.windows.paths import SystemPaths

Chains = Callable[[frozenset[str]], Iterable[tuple[str, ...]]]
"""From the paths that would go (lower case) to the chains of programs that no longer load: the program, the modules
in between, the file that would be missing; the last one is the guest path of what goes, in lower case."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for. ``keep`` and ``drop`` hold ids of components and patterns of guest paths."""

    profile: str | None = "safe"
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    give_way: bool = False
    """Keep a component that something needs, rather than refuse the plan."""


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a plan stands on, the same for every draft of it."""

    components: tuple[Component, ...]
    rows: tuple[Name, ...]
    owned: tuple[Owned, ...]
    uses: tuple[Use, ...]
    chains: Chains
    shortcuts: tuple[Shortcut, ...]
    root: str
    others: tuple[str, ...]


def plan_slim(
    choice: Choice,
    components: tuple[Component, ...],
    rows: tuple[Name, ...],
    places: Places,
    uses: tuple[Use, ...],
    chains: Chains,
    *,
    verdicts: Mapping[str, Verdict] | None = None,
    shortcuts: tuple[Shortcut, ...] = (),
    owned: tuple[Owned, ...] | None = None,
    paths: SystemPaths | None = None,
    others: tuple[str, ...] = (),
) -> SlimPlan:
    """The plan for a choice. ``owned``: what ``owned_rows`` says of these components, where it is known; ``paths``
    knows the letters; ``others``: folders of other systems on the volume, which may need what lies outside of this
    one's. Raises UsageError for a component, a drive or a pattern that isn't there."""
    letters = paths or SystemPaths(places.root)
    keep_ids, keep_paths = _split(choice.keep, components, letters)
    drop_ids, drop_paths = _split(choice.drop, components, letters)
    if drop_paths:
        components = (_dropped(drop_paths), *components)
    if drop_paths or owned is None:
        owned = owned_rows(components, rows, places, verdicts)
    if drop_paths and not any(DROPPED in each.owners for each in owned):
        raise UsageError("nothing of the guest is dropped by that pattern", found=", ".join(drop_paths))
    if keep_paths:
        spared = _dropped(keep_paths)
        owned = tuple(each for each in owned if not spared.owns(each.row.path, places))
        shortcuts = tuple(each for each in shortcuts if not spared.owns(each.path, places))
    rank = PROFILES.index(choice.profile) if choice.profile else -1
    chosen = {each.id for each in components if each.rank <= rank} | drop_ids
    chosen = (chosen | ({DROPPED} if drop_paths else set())) - keep_ids
    ground = _Ground(components, rows, owned, uses, chains, shortcuts, places.root, others)
    gave_way: list[Reason] = []
    while True:
        plan = _draft(ground, chosen)
        yielding = {reason.part for reason in plan.reasons} - {DROPPED}
        if not choice.give_way or not yielding:
            return replace(plan, kept=tuple(gave_way))
        gave_way += [reason for reason in plan.reasons if reason.part in yielding]
        chosen -= yielding


def _draft(ground: _Ground, chosen: set[str]) -> SlimPlan:
    parts = parts_of((each for each in ground.components if each.id in chosen), ground.owned, ground.shortcuts)
    gone = {path.lower(): path for part in parts for path in part.files}
    home = {path.lower(): part.component.id for part in parts for path in part.files}
    reasons: list[Reason] = []
    for part, use, dependent in _hits(parts, ground.uses, alone=False):
        if not dependent.along and use.needs_service is not None:
            reasons.append(Reason(part, dependent.path, (use.what, f"the service {dependent.path}")))
        elif not dependent.along:
            reasons.append(Reason(part, use.path, (use.what, use.path)))
    for chain in ground.chains(frozenset(home)):
        lost = gone.get(chain[-1], chain[-1])
        reasons.append(Reason(home.get(chain[-1], DROPPED), lost, (*chain[:-1], lost)))
    ids = {part.component.id for part in parts}
    reasons += _lost_needs(ground, ids)
    reasons += _shared(ground, parts)
    removed = _topmost(ground, ids, frozenset(home))
    own = {name.lower() for part in parts for name in part.component.services}
    there = {use.service.lower(): use.service for use in ground.uses if use.service}
    needed = with_dependents(parts, ground.uses, alone=False)
    sizes = {row.path: row for row in ground.rows if row.path.lower() in gone}
    whole = frozenset(path.lower() for path in removed if path.lower() not in gone)
    return SlimPlan(
        parts=tuple(
            replace(part, folders=folders_of((sizes[path] for path in part.files if path in sizes), whole))
            for part in needed
        ),
        removed=removed,
        files=tuple(path for part in parts for path in part.files),
        allocated=sum(part.allocated for part in parts),
        reasons=tuple(dict.fromkeys(reasons)),
        services=tuple(there[name] for name in sorted(own & there.keys())),
        classes=tuple(dict.fromkeys(each.name for part in needed for each in part.needed_by if each.kind == "class")),
        left=left_of(ground.owned, chosen),
    )


def _lost_needs(ground: _Ground, ids: set[str]) -> list[Reason]:
    """Components that are there, stay, and need one that goes."""
    present = {name for each in ground.owned for name in each.owners if not each.row.is_folder}
    return [
        Reason(need, need, (f"the component {component.id}, which is kept", need))
        for component in ground.components
        for need in (component.needs if component.id in present - ids else ())
        if need in ids
    ]


def _shared(ground: _Ground, parts: tuple[Part, ...]) -> Iterator[Reason]:
    """Programs outside of the system's own folder, where another system is that nobody has asked what it needs. What
    any Windows makes anew, and what the user named by path, may go."""
    own = f"{ground.root}/".lower()
    for part in parts if ground.others else ():
        if part.component.rank > 0:
            for path in (each for each in part.files if not each.lower().startswith(own)):
                said = f"the system in {ground.others[0]}, of which it isn't known what it needs"
                yield Reason(part.component.id, path, (said, path))
                break


def left_of(owned: Iterable[Owned], chosen: Collection[str]) -> tuple[Left, ...]:
    """What of the chosen components stays because it is in use, by the reason."""
    found: dict[tuple[str, str], list[Name]] = {}
    for each in owned:
        for name, why in each.spared if not each.row.is_folder else ():
            if name in chosen and not any(owner in chosen for owner in each.owners):
                found.setdefault((name, why), []).append(each.row)
    return tuple(
        Left(name, why, tuple(row.path for row in rows), sum(row.allocated for row in rows))
        for (name, why), rows in found.items()
    )


def with_dependents(parts: tuple[Part, ...], uses: Iterable[Use], *, alone: bool) -> tuple[Part, ...]:
    """The parts with what depends on each. ``alone``: as if only that part went; else all of them together."""
    found: dict[str, list[Dependent]] = {part.component.id: [] for part in parts}
    for name, _, dependent in _hits(parts, uses, alone=alone):
        found[name].append(dependent)
    return tuple(replace(part, needed_by=tuple(dict.fromkeys(found[part.component.id]))) for part in parts)


@dataclass(frozen=True, slots=True)
class _Switches:
    """What goes together with some parts, so that its needs don't count; all in lower case."""

    services: frozenset[str]
    keys: re.Pattern[str]
    files: frozenset[str]
    runs: frozenset[str]
    types: re.Pattern[str]

    @classmethod
    def of(cls, parts: Iterable[Part]) -> _Switches:
        listed = tuple(parts)
        return cls(
            frozenset(name.lower() for part in listed for name in part.component.services),
            keys_pattern(tuple(key for part in listed for key in part.component.keys)),
            frozenset(path.lower() for part in listed for path in part.files),
            frozenset(name.lower() for part in listed for name in part.component.runs),
            keys_pattern(tuple(name for part in listed for name in part.component.types)),
        )

    def off(self, use: Use) -> bool:
        """Whether what needs something is itself switched off, unregistered or removed."""
        return (
            (use.service is not None and use.service.lower() in self.services)
            or (use.clsid is not None)
            or (use.key is not None and self.keys.fullmatch(use.key.lower()) is not None)
            or (use.type is not None and self.types.fullmatch(use.type.lower()) is not None)
            or (use.run is not None and use.run.lower() in self.runs)
            or (use.holder is not None and use.holder.lower() in self.files)
        )


@lru_cache(maxsize=256)
def keys_pattern(keys: tuple[str, ...]) -> re.Pattern[str]:
    """What matches a registry path in lower case that is one of the keys, or lies below one."""
    found = []
    for key in dict.fromkeys(key.lower() for key in keys):
        found.append("".join({"*": r"[^\\]*", "?": r"[^\\]"}.get(part, re.escape(part)) for part in key))
    return re.compile(rf"(?:{'|'.join(found)})(?:\\.*)?" if found else r"(?!)", re.DOTALL)


def _hits(parts: tuple[Part, ...], uses: Iterable[Use], *, alone: bool) -> Iterator[tuple[str, Use, Dependent]]:
    """Each need of a part's file or service, with the part's id."""
    listed = tuple(uses)
    home = {path.lower(): part.component.id for part in parts for path in part.files}
    own = {name.lower(): part.component.id for part in parts for name in part.component.services}
    spelled = {use.service.lower(): use.service for use in listed if use.service}
    together = _Switches.of(parts)
    single = {part.component.id: _Switches.of((part,)) for part in parts} if alone else {}
    for use in listed:
        needed = (use.needs_service or "").lower()
        if needed:
            name = own.get(needed) if needed in spelled else None
        else:
            name = home.get(use.path.lower())
        if name is None:
            continue
        off = single.get(name, together).off(use)
        path = spelled[needed] if needed else use.path
        kind = use.kind or ("class" if use.clsid else "service" if use.service else "autostart")
        yield name, use, Dependent(kind, use.clsid or use.what, path, off)


def _topmost(ground: _Ground, ids: set[str], gone: frozenset[str]) -> tuple[str, ...]:
    """The files, with folders in their place where a pattern names the folder and all in it goes."""
    folders = {each.row.path.lower() for each in ground.owned if each.row.is_folder and ids & set(each.owners)}
    # A folder of the Start menu that only led to what goes.
    links = {link.path.lower() for link in ground.shortcuts} & gone
    folders |= {above for path in links for above in folders_above(path) if "/start menu/programs/" in above}
    stays: set[str] = set()
    noted = ""
    for row in ground.rows:
        lower = row.path.lower()
        if lower not in (folders if row.is_folder else gone):
            above = lower.rpartition("/")[0]
            if above != noted:  # those of one folder come one after the other
                _note_above(lower, stays)
                noted = above
    whole = folders - stays
    found = []
    for row in ground.rows:
        lower = row.path.lower()
        if lower in (whole if row.is_folder else gone) and not any(above in whole for above in folders_above(lower)):
            found.append(row.path)
    return tuple(found)


def _note_above(path: str, stays: set[str]) -> None:
    for above in folders_above(path):
        if above in stays:
            return
        stays.add(above)


def _split(
    names: tuple[str, ...], components: tuple[Component, ...], letters: SystemPaths
) -> tuple[set[str], tuple[str, ...]]:
    """Ids and patterns apart; UsageError for what is neither, and for a drive that isn't there."""
    ids = {each.id for each in components}
    found = {name for name in names if name in ids}
    paths = []
    for name in names:
        if name in ids:
            continue
        plain = name.replace("\\", "/")
        letter = plain[0].upper() if plain[1:2] == ":" else letters.drive
        plain = plain[2:] if plain[1:2] == ":" else plain
        if not plain.startswith("/") or len(plain.strip("/*?")) == 0 or "/../" in f"{plain}/" or "{" in plain:
            raise UsageError(
                f"{name!r} is neither a component nor a path",
                hint=r"'byre slim --list IMAGE' tells the components; a path is C:\... or /..., with *, ** and ?.",
            )
        if letter != letters.drive and letter not in letters.others:
            known = ", ".join(f"{each}:" for each in sorted({letters.drive, *letters.others}))
            raise UsageError(f"the guest has no drive {letter}: in this image", found=name, expected=known)
        paths.append(("" if letter == letters.drive else f"{letter}:") + plain.rstrip("/"))
    return found, tuple(paths)


def unmatched(
    choice: Choice, components: tuple[Component, ...], rows: Iterable[Name], places: Places, paths: SystemPaths
) -> list[str]:
    """What was named as a path, to be kept or dropped, and fits no name of the guest: a slip of the keyboard, or what
    a recipe for many images names."""
    asked = dict.fromkeys(
        path for names in (choice.keep, choice.drop) for path in _split(names, components, paths)[1]
    )
    waiting = {path: _dropped((path,)) for path in asked}
    starts = {path: beginnings(each, places) for path, each in waiting.items()}
    for row in rows if waiting else ():
        lower = row.path.lower()
        for path in [
            each for each in waiting if lower.startswith(starts[each]) and waiting[each].owns(lower, places)
        ]:
            del waiting[path]
    return list(waiting)


def _dropped(paths: tuple[str, ...]) -> Component:
    """Paths as a component of their own."""
    patterns = tuple(pattern for path in paths for pattern in (path, f"{path}/**"))
    return Component(
        DROPPED, "named by --drop", (), "safe", "what you named is gone", "the command line", patterns, ()
    )


def worth(parts: Iterable[Part]) -> Mapping[str, int]:
    """Bytes that each profile would give in this guest."""
    listed = list(parts)
    return {
        name: sum(part.allocated for part in listed if part.component.rank <= rank)
        for rank, name in enumerate(PROFILES)
    }
