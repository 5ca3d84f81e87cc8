"""What would go from a guest, what that is worth, and what needs it all the same: a plan for ``byre slim``. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from byre.errors import UsageError
from byre.windows.components.component import PROFILES, Component, Places, files_of

DROPPED = "dropped"
"""The id of what ``--drop`` names by path."""
Chains = Callable[[frozenset[str]], Iterable[tuple[str, ...]]]
"""From the paths that would go (lower case) to the chains of programs that no longer load: the program, the modules
in between, the file that would be missing; the last one is the guest path of what goes, in lower case."""


@dataclass(frozen=True, slots=True)
class Row:
    """One name on the system's volume. ``allocated`` in bytes."""

    path: str
    allocated: int
    is_dir: bool = False


@dataclass(frozen=True, slots=True)
class Use:
    """Something of the guest that needs a file: ``what`` says so to people, ``path`` is the file's guest path.
    ``service`` and ``clsid`` name what can be switched off together with its component. ``needs_service``: the need
    is a service, not a file. ``key``: where the registry says so, as components name keys."""

    what: str
    path: str
    service: str | None = None
    clsid: str | None = None
    needs_service: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """What was asked for. ``keep`` and ``drop`` hold ids of components and patterns of guest paths."""

    profile: str | None = "safe"
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    give_way: bool = False
    """Keep a component that something needs, rather than refuse the plan."""


@dataclass(frozen=True, slots=True)
class Part:
    """One component as far as it is in this guest. ``files`` are guest paths; ``allocated`` bytes."""

    component: Component
    files: tuple[str, ...]
    allocated: int
    dependents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a file must stay: the chain from what needs it to the file, in words."""

    part: str
    path: str
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SlimPlan:
    """``parts`` go; ``removed`` are the topmost guest paths to remove, ``files`` every file below them; ``reasons``
    not empty: the plan must not be carried out. ``kept``: components that gave way, with the reason."""

    parts: tuple[Part, ...]
    removed: tuple[str, ...]
    files: tuple[str, ...]
    allocated: int
    reasons: tuple[Reason, ...]
    kept: tuple[Reason, ...] = ()
    services: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Owned:
    """A name with the ids of all components that it belongs to, in the order in which they are asked."""

    row: Row
    owners: tuple[str, ...]


def owned_rows(components: tuple[Component, ...], rows: Iterable[Row], places: Places) -> tuple[Owned, ...]:
    """The names that belong to any component. Of system files the second copy in dllcache goes along: Windows would
    put the file back from there."""
    listed = sorted(components, key=lambda each: (each.id != DROPPED, PROFILES.index(each.profile), each.id))
    pattern = files_of(tuple(listed), places)
    cache = f"{places.root}/system32/dllcache/".lower()
    found: list[Owned] = []
    homes: dict[str, tuple[str, ...]] = {}
    cached: list[Row] = []
    for row in rows:
        lower = row.path.lower()
        if lower.startswith(cache) and not row.is_dir:
            cached.append(row)
        elif pattern.fullmatch(lower):
            owners = tuple(each.id for each in listed if each.owns(row.path, places))
            found.append(Owned(row, owners))
            if not row.is_dir:
                homes.setdefault(lower.rpartition("/")[2], owners)
    for row in cached:
        own = tuple(each.id for each in listed if each.owns(row.path, places))
        owners = tuple(dict.fromkeys((*homes.get(row.path.lower().rpartition("/")[2], ()), *own)))
        if owners:
            found.append(Owned(row, owners))
    return tuple(found)


def parts_of(components: Iterable[Component], owned: Iterable[Owned]) -> tuple[Part, ...]:
    """Each of the components that is in this guest, with its files; a file counts for the first that owns it."""
    listed = sorted(components, key=lambda each: (each.id != DROPPED, PROFILES.index(each.profile), each.id))
    found: dict[str, list[Row]] = {each.id: [] for each in listed}
    for each in owned:
        owner = next((name for name in each.owners if name in found), None)
        if owner is not None and not each.row.is_dir:
            found[owner].append(each.row)
    return tuple(
        Part(
            each,
            tuple(row.path for row in found[each.id]),
            sum(row.allocated for row in found[each.id]),
            tuple(other.id for other in listed if each.id in other.needs and found[other.id]),
        )
        for each in listed
        if found[each.id]
    )


@dataclass(frozen=True, slots=True)
class _Ground:
    """What a plan stands on, the same for every draft of it. ``spared``: names that ``--keep`` holds back."""

    components: tuple[Component, ...]
    rows: tuple[Row, ...]
    owned: tuple[Owned, ...]
    uses: tuple[Use, ...]
    chains: Chains


def plan_slim(
    choice: Choice,
    components: tuple[Component, ...],
    rows: tuple[Row, ...],
    places: Places,
    uses: tuple[Use, ...],
    chains: Chains,
) -> SlimPlan:
    """The plan for a choice. Raises UsageError for a component or a pattern that isn't there."""
    keep_ids, keep_paths = _split(choice.keep, components)
    drop_ids, drop_paths = _split(choice.drop, components)
    if drop_paths:
        components = (_dropped(drop_paths), *components)
    owned = owned_rows(components, rows, places)
    if drop_paths and not any(DROPPED in each.owners for each in owned):
        raise UsageError("nothing of the guest is dropped by that pattern", found=", ".join(drop_paths))
    if keep_paths:
        spared = _dropped(keep_paths)
        owned = tuple(each for each in owned if not spared.owns(each.row.path, places))
    rank = PROFILES.index(choice.profile) if choice.profile else -1
    chosen = {each.id for each in components if PROFILES.index(each.profile) <= rank} | drop_ids
    chosen = (chosen | ({DROPPED} if drop_paths else set())) - keep_ids
    ground = _Ground(components, rows, owned, uses, chains)
    gave_way: list[Reason] = []
    while True:
        plan = _draft(ground, chosen)
        yielding = {reason.part for reason in plan.reasons} - {DROPPED}
        if not choice.give_way or not yielding:
            return replace(plan, kept=tuple(gave_way))
        gave_way += [reason for reason in plan.reasons if reason.part in yielding]
        chosen -= yielding


def _draft(ground: _Ground, chosen: set[str]) -> SlimPlan:
    parts = parts_of((each for each in ground.components if each.id in chosen), ground.owned)
    home = {path.lower(): part.component.id for part in parts for path in part.files}
    spelled = {path.lower(): path for part in parts for path in part.files}
    own = {name.lower(): part.component.id for part in parts for name in part.component.services}
    there = {use.service.lower(): use.service for use in ground.uses if use.service}
    reasons: list[Reason] = []
    classes: list[str] = []
    for use in ground.uses:
        if _goes_along(use, own, parts):
            continue
        needed = (use.needs_service or "").lower()
        if needed in own and needed in there:
            reasons.append(Reason(own[needed], there[needed], (use.what, f"the service {there[needed]}")))
        elif use.path.lower() in home and use.clsid is not None:
            classes.append(use.clsid)
        elif use.path.lower() in home:
            reasons.append(Reason(home[use.path.lower()], use.path, (use.what, use.path)))
    for chain in ground.chains(frozenset(home)):
        gone = spelled.get(chain[-1], chain[-1])
        reasons.append(Reason(home.get(chain[-1], DROPPED), gone, (*chain[:-1], gone)))
    ids = {part.component.id for part in parts}
    present = {name for each in ground.owned for name in each.owners if not each.row.is_dir}
    for component in ground.components:
        for need in component.needs if component.id in present - ids else ():
            if need in ids:
                reasons.append(Reason(need, need, (f"the component {component.id}, which is kept", need)))
    return SlimPlan(
        parts=parts,
        removed=_topmost(ground, ids, frozenset(home)),
        files=tuple(path for part in parts for path in part.files),
        allocated=sum(part.allocated for part in parts),
        reasons=tuple(dict.fromkeys(reasons)),
        services=tuple(there[name] for name in sorted(own.keys() & there.keys())),
        classes=tuple(dict.fromkeys(classes)),
    )


def _goes_along(use: Use, services: Mapping[str, str], parts: tuple[Part, ...]) -> bool:
    """Whether what needs the file is switched off by the same plan: its service, or its registry key."""
    if use.service is not None and use.service.lower() in services:
        return True
    keys = (key.lower() for part in parts for key in part.component.keys)
    return use.key is not None and any(f"{use.key.lower()}\\".startswith(f"{key}\\") for key in keys)


def _topmost(ground: _Ground, ids: set[str], gone: frozenset[str]) -> tuple[str, ...]:
    """The files, with folders in their place where a pattern names the folder and all in it goes."""
    folders = {each.row.path.lower() for each in ground.owned if each.row.is_dir and ids & set(each.owners)}
    stays: set[str] = set()
    for row in ground.rows:
        lower = row.path.lower()
        if lower not in (folders if row.is_dir else gone):
            _note_above(lower, stays)
    whole = folders - stays
    found = []
    for row in ground.rows:
        lower = row.path.lower()
        if lower in (whole if row.is_dir else gone) and not any(above in whole for above in _above(lower)):
            found.append(row.path)
    return tuple(found)


def _above(path: str) -> Iterable[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _note_above(path: str, stays: set[str]) -> None:
    for above in _above(path):
        if above in stays:
            return
        stays.add(above)


def _split(names: tuple[str, ...], components: tuple[Component, ...]) -> tuple[set[str], tuple[str, ...]]:
    """Ids and patterns apart; UsageError for what is neither."""
    ids = {each.id for each in components}
    found = {name for name in names if name in ids}
    paths = []
    for name in names:
        if name in ids:
            continue
        plain = name.replace("\\", "/")
        plain = plain[2:] if plain[1:2] == ":" else plain
        if not plain.startswith("/") or len(plain.strip("/*?")) == 0 or "/../" in f"{plain}/" or "{" in plain:
            raise UsageError(
                f"{name!r} is neither a component nor a path",
                hint=r"'byre slim --list IMAGE' tells the components; a path is C:\... or /..., with *, ** and ?.",
            )
        paths.append(plain.rstrip("/"))
    return found, tuple(paths)


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
        name: sum(part.allocated for part in listed if PROFILES.index(part.component.profile) <= rank)
        for rank, name in enumerate(PROFILES)
    }
