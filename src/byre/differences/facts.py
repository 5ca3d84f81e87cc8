"""What two states of a system say of themselves: autostarts, services, users, programs, and single facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from byre.volumes.problems import Problems
from byre.windows.fact import Fact
from byre.windows.guest import Guest

Shown = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FactChange:
    """One fact. ``section``: ``autostarts``, ``services``, ``users``, ``programs``, ``hotfixes``, ``boot`` or
    ``system``; ``kind``: ``added``, ``removed``, ``changed``. ``before`` and ``after`` hold the fact's own fields,
    ``fields`` the names of those that differ."""

    section: str
    kind: str
    name: str
    before: Shown | None
    after: Shown | None
    fields: tuple[str, ...] = ()
    noise: str | None = None


_LISTS: tuple[tuple[str, str, Callable[[Any], tuple[Hashable, ...]], Callable[[Any], str]], ...] = (
    (
        "autostarts",
        "autostarts",
        lambda a: (a.kind, a.location.casefold(), a.name.casefold(), a.user),
        lambda a: a.name or "(default)",
    ),
    ("services", "services", lambda s: (s.name.casefold(),), lambda s: s.name),
    ("users", "users", lambda u: (u.rid,), lambda u: u.name),
    ("programs", "programs", lambda p: (p.key.casefold(),), lambda p: p.name),
    ("hotfixes", "hotfixes", lambda h: (h.id,), lambda h: h.id),
    ("boot_controllers", "boot", lambda c: (c.id.casefold(),), lambda c: c.id),
)
"""Field of ``Guest``, section, what makes two of them the same one, and its name."""

_SINGLE = (
    *("product", "version", "build", "service_pack", "edition", "architecture", "language", "hal", "kernel"),
    *("installed", "owner", "organization", "computer_name", "time_zone"),
)
_LOGON = {"last_logon", "logons"}
_NEEDS_PROGRAMS = {"architecture", "hal", "kernel"}


def compare_guests(old: Guest, new: Guest, problems: Problems, *, with_programs: bool) -> list[FactChange]:
    """All facts that differ. ``with_programs`` False: the kernel and the HAL were not read, since they are the
    same, and what follows from them is left out."""
    found: list[FactChange] = []
    for field, section, identity, name in _LISTS:
        before, after = getattr(old, field), getattr(new, field)
        unknown = next((fact for fact in (before, after) if fact.state == "unknown"), None)
        if unknown is not None:
            problems.add("differences.unknown", f"{field} can't be compared: {unknown.reason}")
            continue
        found += _lists(section, before.value or (), after.value or (), identity, name)
    for field in _SINGLE:
        if with_programs or field not in _NEEDS_PROGRAMS:
            found += _single(field, getattr(old, field), getattr(new, field))
    found += _secrets(old, new)
    return found


def _lists(
    section: str,
    old: tuple[Any, ...],
    new: tuple[Any, ...],
    identity: Callable[[Any], tuple[Hashable, ...]],
    name: Callable[[Any], str],
) -> list[FactChange]:
    before, after = _keyed(old, identity), _keyed(new, identity)
    found = []
    for key in sorted(before.keys() | after.keys(), key=repr):
        one, other = before.get(key), after.get(key)
        left = None if one is None else dataclasses.asdict(one)
        right = None if other is None else dataclasses.asdict(other)
        if left == right:
            continue
        kind = "added" if left is None else "removed" if right is None else "changed"
        differ = tuple(field for field in left if left[field] != right[field]) if left and right else ()
        noise = "log-ons only" if differ and set(differ) <= _LOGON else None
        found.append(FactChange(section, kind, name(other if other is not None else one), left, right, differ, noise))
    return found


def _keyed(rows: tuple[Any, ...], identity: Callable[[Any], tuple[Hashable, ...]]) -> dict[tuple[Hashable, ...], Any]:
    """Rows by identity; of several that have the same one each further gets a number of its own."""
    table: dict[tuple[Hashable, ...], Any] = {}
    seen: dict[tuple[Hashable, ...], int] = {}
    for row in rows:
        key = identity(row)
        seen[key] = seen.get(key, 0) + 1
        table[(*key, seen[key])] = row
    return table


def _single(field: str, old: Fact[str], new: Fact[str]) -> list[FactChange]:
    if old.state == "unknown" or new.state == "unknown" or old.value == new.value:
        return []
    kind = "added" if old.value is None else "removed" if new.value is None else "changed"
    left, right = ({"value": fact.value} if fact.value is not None else None for fact in (old, new))
    return [FactChange("system", kind, field.replace("_", " "), left, right, ("value",) if left and right else ())]


def _secrets(old: Guest, new: Guest) -> list[FactChange]:
    """Whether a secret came or went; never what it is."""
    found = []
    for field in dataclasses.fields(old.secrets):
        before, after = getattr(old.secrets, field.name), getattr(new.secrets, field.name)
        if before is not None and after is not None and before != after:
            rows = ({"value": "present" if held else "absent"} for held in (before, after))
            left, right = rows
            found.append(FactChange("system", "changed", field.name.replace("_", " "), left, right, ("value",)))
    return found
