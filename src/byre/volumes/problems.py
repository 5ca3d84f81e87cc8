"""A collector of what is wrong, for readers that go on past damage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from byre.disks.disk import Problem

KEPT_PER_CODE = 20
"""One damaged table can break a million files in the same way: the first few are shown, the rest are counted."""


class Problems:
    """The problems found so far. Mutable: readers add to it while they walk.

    Each code keeps its first ``KEPT_PER_CODE`` problems; the last one kept carries the count of the rest.
    ``hide_names``: one of them may keep names out of listings: what isn't found may be there all the same.
    """

    def __init__(self) -> None:
        self._kept: dict[str, list[Problem]] = {}
        self._counts: dict[str, int] = {}
        self._seen: set[tuple[str, str, int | None]] = set()
        self.hide_names = False

    def add(
        self,
        code: str,
        message: str,
        *,
        offset: int | None = None,
        kind: str = "corruption",
        count: int = 1,
        hides_names: bool = False,
    ) -> None:
        """Note one problem; the same one, seen again on another walk, counts once while it is kept."""
        self.hide_names = self.hide_names or hides_names
        key = (code, message, offset)
        if key in self._seen:
            return
        kept = self._kept.setdefault(code, [])
        self._counts[code] = self._counts.get(code, 0) + count
        if len(kept) < KEPT_PER_CODE:
            self._seen.add(key)
            kept.append(Problem(kind=kind, code=code, message=message, offset=offset, count=count))

    def take(self, others: Problems) -> None:
        """Note what another collector holds."""
        self.hide_names = self.hide_names or others.hide_names
        for each in others:
            self.add(each.code or "", each.message, offset=each.offset, kind=each.kind, count=each.count)

    def count(self, code: str) -> int:
        return self._counts.get(code, 0)

    @property
    def missing_hint(self) -> str | None:
        """What an error says beside a name that isn't there; None where the listings are whole."""
        return "A part of the volume can't be read: it may be there all the same." if self.hide_names else None

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(self._kept)

    def __iter__(self) -> Iterator[Problem]:
        for code, kept in self._kept.items():
            rest = self._counts[code] - sum(problem.count for problem in kept)
            yield from kept[:-1]
            yield replace(kept[-1], count=kept[-1].count + rest)

    def __len__(self) -> int:
        return sum(len(kept) for kept in self._kept.values())

    def __bool__(self) -> bool:
        return bool(self._kept)
