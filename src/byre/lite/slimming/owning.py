"""Which names of a guest belong to which component, and the components that are there for it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from byre.audit.lacking_facts import SECOND_COPIES
from byre.filesystems.base import Name
from byre.lite.slimming.in_use import UNJUDGED, Verdict
from byre.lite.slimming.parts import DROPPED, Folder, Owned, Part, Shortcut
from byre.windows.components.component import Component, Places, beginnings, files_of

NAMES = 3
"""Files of a folder that are named."""


def owned_rows(
    components: tuple[Component, ...],
    rows: Iterable[Name],
    places: Places,
    verdicts: Mapping[str, Verdict] | None = None,
) -> tuple[Owned, ...]:
    """The names that belong to any component, but for what a judgement (``verdicts``, by name) says is in use. Of
    system files the second copy in dllcache goes along, since Windows would put the file back from there; where
    another file of that name stays, so does the copy."""
    listed = [(each, beginnings(each, places)) for each in in_order(components)]
    pattern = files_of(tuple(each for each, _ in listed), places)
    near: dict[str, _Near] = {}
    found: list[Owned] = []
    homes: dict[str, tuple[str, ...]] = {}
    stay: set[str] = set()
    cached: list[Name] = []
    for row in rows:
        lower = row.path.lower()
        folder = lower[: lower.rfind("/") + 1]
        known = near.get(folder)
        if known is None:
            known = near[folder] = _near(folder, listed, places)
        if known.is_cache and not row.is_folder:
            cached.append(row)
            continue
        owners: tuple[str, ...] = ()
        if known.starts and lower.startswith(known.starts) and pattern.fullmatch(lower):
            each = _owned(row, known.listed, places, verdicts or {})
            found.append(each)
            owners = each.owners
        if known.is_guarded and not row.is_folder and not lower.startswith(known.aside):
            name = lower[len(folder) :]
            if owners:
                homes.setdefault(name, owners)
            else:
                stay.add(name)
    for row in cached:
        own = _owned(row, listed, places, verdicts or {})
        name = row.path.lower().rpartition("/")[2]
        home = homes.get(name, ()) if name not in stay else ()
        if home or own.owners or own.spared:
            owners = () if own.spared else tuple(dict.fromkeys((*home, *own.owners)))
            found.append(replace(own, owners=owners))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Near:
    """What is to be asked of the names in one folder: the components that they may belong to and how such names
    begin; whether the folder is dllcache, or one whose files it has copies of, but for those in ``aside``."""

    listed: list[tuple[Component, tuple[str, ...]]]
    starts: tuple[str, ...]
    is_cache: bool
    is_guarded: bool
    aside: tuple[str, ...]


def _near(folder: str, listed: list[tuple[Component, tuple[str, ...]]], places: Places) -> _Near:
    rows = (
        (each, tuple(start for start in starts if folder.startswith(start) or start.startswith(folder)))
        for each, starts in listed
    )
    found = [(each, starts) for each, starts in rows if starts]
    guarded, aside = _guarded(places)
    return _Near(
        found,
        tuple({start for _, starts in found for start in starts}),
        folder.startswith(f"{places.root}/system32/dllcache/".lower()),
        folder.startswith(guarded) and not folder.startswith(aside),
        tuple(start for start in aside if start.startswith(folder)),
    )


def _guarded(places: Places) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(where files lie that dllcache has copies of; what there is cache and waste itself), in lower case."""
    root = f"{places.root}/".lower()
    folders = (
        "$",
        "temp/",
        "prefetch/",
        "lastgood",
        *(each[len("{root}/") :] for each in SECOND_COPIES if "{" in each),
    )
    return (root, f"{places.programs}/".lower()), tuple(root + each for each in folders)


def in_order(components: Iterable[Component]) -> list[Component]:
    """As they claim files: what was named by path first."""
    return sorted(components, key=lambda each: (each.id != DROPPED, each.rank, each.id))


def _owned(
    row: Name, listed: list[tuple[Component, tuple[str, ...]]], places: Places, verdicts: Mapping[str, Verdict]
) -> Owned:
    owners: list[str] = []
    spared: list[tuple[str, str]] = []
    lower = row.path.lower()
    for each, starts in listed:
        if not lower.startswith(starts) or not each.owns(lower, places):
            continue
        why = verdicts.get(each.unless, UNJUDGED).why(lower) if each.unless is not None else None
        if why is None:
            owners.append(each.id)
        else:
            spared.append((each.id, why))
    return Owned(row, tuple(owners), tuple(spared))


def parts_of(
    components: Iterable[Component], owned: Iterable[Owned], shortcuts: Iterable[Shortcut] = ()
) -> tuple[Part, ...]:
    """Each of the components that is in this guest, with its files; a file counts for the first that owns it, a
    shortcut for the component that it leads to."""
    listed = in_order(components)
    found: dict[str, list[Name]] = {each.id: [] for each in listed}
    home: dict[str, str] = {}
    for each in owned:
        owner = next((name for name in each.owners if name in found), None)
        if owner is not None and not each.row.is_folder:
            found[owner].append(each.row)
            home[each.row.path.lower()] = owner
    links: dict[str, list[str]] = {}
    for link in shortcuts:
        owner = next((home[path] for path in link.targets if path in home), None)
        if owner is not None and link.path.lower() not in home:
            found[owner].append(Name(link.path, link.allocated))
            links.setdefault(owner, []).append(link.path)
    return tuple(
        Part(
            each,
            tuple(row.path for row in found[each.id]),
            sum(row.allocated for row in found[each.id]),
            tuple(other.id for other in listed if each.id in other.needs and found[other.id]),
            shortcuts=tuple(links.get(each.id, ())),
            folders=folders_of(found[each.id], frozenset()),
        )
        for each in listed
        if found[each.id]
    )


def folders_of(rows: Iterable[Name], whole: frozenset[str]) -> tuple[Folder, ...]:
    """The rows summed by the topmost folder that goes as a whole, else by the folder that they lie in."""
    places: dict[str, str] = {}
    grouped: dict[str, list[Name]] = {}
    for row in rows:
        folder = row.path.rpartition("/")[0]
        place = places.get(folder)
        if place is None:
            outer = reversed([*folders_above(row.path)])
            place = places[folder] = next((each for each in outer if each.lower() in whole), folder) or "/"
        grouped.setdefault(place, []).append(row)
    return tuple(
        Folder(
            path,
            len(held),
            sum(row.allocated for row in held),
            path.lower() in whole,
            tuple(row.path.rpartition("/")[2] for row in held[:NAMES]),
        )
        for path, held in grouped.items()
    )


def folders_above(path: str) -> Iterable[str]:
    """The folders that a path lies in, the nearest first; not the root."""
    while path := path.rpartition("/")[0]:
        yield path
