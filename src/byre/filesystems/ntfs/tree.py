"""Directories out of the name index: listing, looking up, walking. No index record is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TypeVar

import numpy as np

from byre.disks.writer import BoolArray
from byre.errors import CorruptImageError, MissingError
from byre.filesystems.base import Entry, Name, Reparse
from byre.filesystems.ntfs.listing import EntryMaker, listed
from byre.filesystems.ntfs.names import DOS, NameIndex
from byre.filesystems.ntfs.records import REFERENCE_MASK
from byre.filesystems.ntfs.table import IS_EXTENSION, NAME, SOUND, Int64s, Table
from byre.filesystems.paths import MAX_PATH, join_path
from byre.volumes.problems import Problems

ROOT = 5
FIRST_USER_RECORD = 24
"""Records below are the file system's own; $Extend (11) and its children too."""
ORPHANS = "/$OrphanFiles"
"""Where files appear whose directory is gone."""
BATCH = 8192
_Named = TypeVar("_Named", Entry, Name)


class NtfsTree:
    """Entries from the tables. Keeps the folded names of the directories that were looked up in last."""

    def __init__(self, index: NameIndex, problems: Problems, reparse: Callable[[int], Reparse | None]) -> None:
        self.index = index
        self.problems = problems
        self._make = EntryMaker(index, reparse)
        self._folded: dict[int, dict[str, int]] = {}
        self._spelt: dict[int, dict[str, int]] = {}
        """Of directories in which names differ in case alone: those names as they are."""

    def root(self) -> Entry:
        """The root directory, whatever names its record has."""
        name: Table = np.zeros(1, dtype=NAME)
        name["record"] = name["parent"] = ROOT
        row: tuple[int, ...] = listed(self.index, name).tolist()[0]
        made = next(self._make.entries([row], "/"))
        return made._replace(path="/", name="")

    @cached_property
    def _listing(self) -> Table:
        """The listed rows of every name in a directory, parallel to ``index.order``."""
        return listed(self.index, self.index.table.names[self.index.order])

    def lookup(self, names: tuple[str, ...], shown: str, image: str) -> Entry:
        if len(self.index.table.facts) <= ROOT:
            raise MissingError("the MFT has no root directory", path=image)
        here, path = ROOT, "/"
        folder, place = path, -1
        for name in names:
            folder = path
            place = self._place(here, name)
            if place < 0:
                if here == ROOT:
                    self._require_root(image)
                raise MissingError(
                    f"has no {shown!r}",
                    path=image,
                    found=f"{name!r} isn't in {folder!r}",
                    hint=self.problems.missing_hint,
                )
            row = int(self.index.order[place])
            here = int(self.index.table.names["record"][row])
            path = join_path(folder, self._text(row))
        if place < 0:
            self._require_root(image)
            return self.root()
        return next(self._make.entries(self._listing[place : place + 1].tolist(), folder))

    def _place(self, directory: int, name: str) -> int:
        """Where a name is in the listing, -1 where it isn't; exact spelling first where only case tells two apart."""
        table = self._names_of(directory)
        place = self._spelt.get(directory, {}).get(name, -1)
        return place if place >= 0 else table.get(self.index.fold(name), -1)

    def _require_root(self, image: str) -> None:
        """A root whose record can't be read and that no name leads to is no empty folder: nobody knows."""
        named = self.index.starts[ROOT + 1] > self.index.starts[ROOT]
        if not named and not self.index.table.facts["marks"][ROOT] & SOUND:
            raise CorruptImageError(
                "the root folder can't be read: its MFT record is damaged",
                path=image,
                hint="'byre check --files' says what else is.",
            )

    def _text(self, row: int) -> str:
        name = self.index.table.names[row]
        return self.index.table.text(int(name["text"]), int(name["length"]))

    def _names_of(self, directory: int) -> dict[str, int]:
        """Folded name to place in the listing, 8.3 names too; a long name wins over another file's 8.3 name."""
        known = self._folded.get(directory)
        if known is not None:
            return known
        index = self.index
        text, fold = index.table.text, index.fold
        first = int(index.starts[directory])
        table: dict[str, int] = {}
        long: dict[str, int] = {}
        twins: dict[str, int] = {}
        fields = ["text", "length", "short_text", "short_length"]
        rows = self._listing[first : int(index.starts[directory + 1])][fields].tolist()
        for place, (start, length, short_start, short_length) in enumerate(rows, first):
            if short_length:
                table.setdefault(fold(text(short_start, short_length)), place)
            first_of_name = long.setdefault(fold(text(start, length)), place)
            if first_of_name != place:
                twins[text(start, length)] = place
                twins.setdefault(self._text(int(index.order[first_of_name])), first_of_name)
        table.update(long)
        if len(self._folded) >= 256:
            self._folded.clear()
            self._spelt.clear()
        if twins:
            self._spelt[directory] = twins
        self._folded[directory] = table
        return table

    def children(self, directory: int, path: str, *, system: bool, left_out: BoolArray | None = None) -> list[Entry]:
        rows = self._rows(directory, system=system)
        if left_out is not None:
            rows = rows[~left_out[rows["id"] & np.uint64(REFERENCE_MASK)]]
        return list(self._make.entries(self._make.by_name(rows), path))

    def _rows(self, directory: int, *, system: bool = False) -> Table:
        """The listed rows of one directory, in no order."""
        rows = self._listing[self.index.starts[directory] : self.index.starts[directory + 1]]
        if not system and directory == ROOT:
            rows = rows[rows["id"] & np.uint64(REFERENCE_MASK) >= FIRST_USER_RECORD]
        return rows

    def walk(self, directory: int, path: str, *, system: bool, left_out: BoolArray | None = None) -> Iterator[Entry]:
        return self._walk(
            directory, path, lambda record, folder: self.children(record, folder, system=system, left_out=left_out)
        )

    def walk_names(self) -> Iterator[Name]:
        """What a walk from the root comes by."""
        return self._walk(ROOT, "/", lambda record, folder: self._make.names(self._rows(record), folder))

    def _walk(self, directory: int, path: str, listing: Callable[[int, str], list[_Named]]) -> Iterator[_Named]:
        seen = bytearray(len(self.index.table.facts))
        seen[directory] = 1
        waiting = [iter(listing(directory, path))]
        while waiting:
            for entry in waiting[-1]:
                yield entry
                if entry.is_dir and entry.is_folder and self._enter(entry, seen):
                    waiting.append(iter(listing(entry.id & REFERENCE_MASK, entry.path)))
                    break
            else:
                waiting.pop()

    def _enter(self, folder: Entry | Name, seen: bytearray) -> bool:
        """Whether a walk goes into a directory that it comes by; it is noted as seen then."""
        record = folder.id & REFERENCE_MASK
        if seen[record]:
            if record != ROOT:
                self.problems.add("ntfs.directory-twice", f"{folder.path!r} is a directory seen already")
            return False
        if len(folder.path) > MAX_PATH:
            self.problems.add("ntfs.too-deep", "directories nest deeper than any path can say")
            return False
        seen[record] = 1
        return True

    def orphans(self) -> Iterator[Entry]:
        """Files in use whose directory isn't there, or isn't reached from the root because of a loop."""
        for start in range(0, len(self.index.orphans), BATCH):
            rows = listed(self.index, self.index.table.names[self.index.orphans[start : start + BATCH]])
            for entry in self._make.entries(rows.tolist(), ORPHANS):
                self.problems.add("ntfs.orphan", f"{entry.name!r} lies in a directory that isn't there")
                yield entry
        for directory in self._unreached().tolist():
            self.problems.add("ntfs.unreachable", f"directory record {directory} isn't reached from the root")
            yield from self.children(directory, f"{ORPHANS}/{directory}", system=True)

    def _unreached(self) -> Int64s:
        """Directories with children that are their own ancestors: no walk from the root comes by."""
        index, names = self.index, self.index.table.names
        count = len(index.table.facts)
        above = np.full(count, -1, dtype=np.int64)
        above[names["record"][index.order]] = names["parent"][index.order]
        above[names["record"][index.orphans]] = ROOT
        if count > ROOT:
            above[ROOT] = ROOT
        # Pointer doubling: after k steps each entry points 2^k levels up, or has stuck at the root.
        for _ in range(max(count, 2).bit_length()):
            above = np.where(above >= 0, above[np.maximum(above, 0)], above)
        lost = np.flatnonzero((above != ROOT) & (above >= 0))
        has_children = index.starts[lost + 1] > index.starts[lost]
        found: Int64s = lost[has_children]
        return found

    def deleted(self) -> Iterator[Entry]:
        """Files whose record is free but still readable. What their clusters hold may be another's by now."""
        table = self.index.table
        names, facts = table.names, table.facts
        free = (facts["marks"] & (SOUND | IS_EXTENSION) == SOUND) & (facts["flags"] & 1 == 0)
        rows = np.flatnonzero(free[names["record"]] & (names["space"] != DOS))
        paths: dict[int, str] = {ROOT: "/"}
        for start in range(0, len(rows), BATCH):
            batch = names[rows[start : start + BATCH]]
            for row, parent, sequence in zip(
                listed(self.index, batch).tolist(),
                batch["parent"].tolist(),
                batch["parent_sequence"].tolist(),
                strict=True,
            ):
                path = self._path_of(parent, sequence, paths)
                yield from self._make.entries([row], path, deleted=True)

    def _path_of(self, directory: int, sequence: int, paths: dict[int, str]) -> str:
        """The path of a directory that may be deleted itself: its sequence number is one more by then."""
        table = self.index.table
        chain: list[tuple[int, str]] = []
        here = directory
        while here not in paths:
            if here >= len(table.facts) or len(chain) > 256 or any(here == known for known, _ in chain):
                break
            fact = table.facts[here]
            alive = int(fact["flags"]) & 1
            wanted = int(fact["sequence"]) - (0 if alive else 1)
            row = self._name_row(here)
            if row is None or (here == directory and wanted != sequence):
                break
            chain.append((here, self._text(row)))
            here = int(table.names["parent"][row])
        path = paths.get(here, ORPHANS)
        for record, name in reversed(chain):
            path = join_path(path, name)[:MAX_PATH]
            paths[record] = path
        return path

    def _name_row(self, record: int) -> int | None:
        if not hasattr(self, "_by_record"):
            records = self.index.table.names["record"]
            self._by_record = np.argsort(records, kind="stable")
            self._sorted_records = records[self._by_record]
        at = int(np.searchsorted(self._sorted_records, record))
        if at >= len(self._sorted_records) or int(self._sorted_records[at]) != record:
            return None
        return int(self._by_record[at])
