"""Directories out of the name index: listing, looking up, walking. No index record is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from byre.errors import MissingError
from byre.filesystems.base import DIRECTORY, Entry, Reparse, Stream
from byre.filesystems.ntfs.names import DOS, IS_DIRECTORY, NameIndex
from byre.filesystems.ntfs.table import (
    HAS_REPARSE,
    HAS_STREAMS,
    IS_EXTENSION,
    NO_TIME,
    SOUND,
    Int64s,
)
from byre.filesystems.paths import MAX_PATH, join_path
from byre.volumes.problems import Problems

ROOT = 5
FIRST_USER_RECORD = 24
"""Records below are the file system's own; $Extend (11) and its children too."""
EXTEND = 11
ORPHANS = "/$OrphanFiles"
"""Where files appear whose directory is gone."""
BATCH = 8192


class NtfsTree:
    """Entries from the tables. Keeps the folded names of the directories that were looked up in last."""

    def __init__(self, index: NameIndex, problems: Problems, reparse: Callable[[int], Reparse | None]) -> None:
        self.index = index
        self.problems = problems
        self._reparse = reparse
        self._folded: dict[int, dict[str, int]] = {}

    def root(self) -> Entry:
        return self.entry_of(ROOT, "/")

    def entry_of(self, record: int, path: str) -> Entry:
        """The entry of a record by a path that is known."""
        row = (record, ROOT, 0, 3, 0, 0)
        return self._entry(row, self.index.table.facts[record].item(), path, path.rsplit("/", 1)[1])

    def lookup(self, names: tuple[str, ...], shown: str, image: str) -> Entry:
        if len(self.index.table.facts) <= ROOT:
            raise MissingError("the MFT has no root directory", path=image)
        here, path = ROOT, "/"
        row: int | None = None
        for name in names:
            folder = path
            row = self._names_of(here).get(self.index.fold(name))
            if row is None:
                raise MissingError(f"has no {shown!r}", path=image, found=f"{name!r} isn't in {folder!r}")
            here = int(self.index.table.names["record"][row])
            path = join_path(folder, self._text(row))
        if row is None:
            return self.root()
        parent = path.rsplit("/", 1)[0] or "/"
        return next(self._entries(np.array([row]), parent))

    def _text(self, row: int) -> str:
        name = self.index.table.names[row]
        return self.index.table.text(int(name["text"]), int(name["length"]))

    def _names_of(self, directory: int) -> dict[str, int]:
        """Folded name to row, 8.3 names too; a long name wins over another file's 8.3 name."""
        known = self._folded.get(directory)
        if known is not None:
            return known
        index = self.index
        names = index.table.names
        table: dict[str, int] = {}
        long: dict[str, int] = {}
        for row in index.rows(directory).tolist():
            short = index.short_name(int(names["record"][row]), directory)
            if short is not None:
                table.setdefault(index.fold(short), row)
            long.setdefault(index.fold(self._text(row)), row)
        table.update(long)
        if len(self._folded) >= 256:
            self._folded.clear()
        self._folded[directory] = table
        return table

    def children(self, directory: int, path: str, *, system: bool) -> list[Entry]:
        rows = self.index.rows(directory)
        if not system:
            records = self.index.table.names["record"][rows]
            rows = rows[records >= (FIRST_USER_RECORD if directory == ROOT else 0)]
        fold = self.index.fold
        found = list(self._entries(rows, path))
        found.sort(key=lambda entry: fold(entry.name))
        return found

    def walk(self, directory: int, path: str, *, system: bool) -> Iterator[Entry]:
        seen = bytearray(len(self.index.table.facts))
        seen[directory] = 1
        waiting = [iter(self.children(directory, path, system=system))]
        while waiting:
            entry = next(waiting[-1], None)
            if entry is None:
                waiting.pop()
                continue
            yield entry
            if not entry.is_dir or entry.reparse is not None:
                continue
            record = entry.id & 0xFFFFFFFFFFFF
            if seen[record]:
                if record != ROOT:
                    self.problems.add("ntfs.directory-twice", f"{entry.path!r} is a directory seen already")
            elif len(entry.path) > MAX_PATH:
                self.problems.add("ntfs.too-deep", "directories nest deeper than any path can say")
            else:
                seen[record] = 1
                waiting.append(iter(self.children(record, entry.path, system=system)))

    def orphans(self) -> Iterator[Entry]:
        """Files in use whose directory isn't there, or isn't reached from the root because of a loop."""
        for start in range(0, len(self.index.orphans), BATCH):
            for entry in self._entries(self.index.orphans[start : start + BATCH], ORPHANS):
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
            batch = rows[start : start + BATCH]
            for row, parent, sequence in zip(
                batch.tolist(), names["parent"][batch].tolist(), names["parent_sequence"][batch].tolist(), strict=True
            ):
                path = self._path_of(parent, sequence, paths)
                yield from self._entries(np.array([row]), path, deleted=True)

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

    def _entries(self, rows: Int64s, folder: str, *, deleted: bool = False) -> Iterator[Entry]:
        table = self.index.table
        names = table.names[rows]
        facts = table.facts[names["record"]]
        prefix = "/" if folder == "/" else folder + "/"
        for row, fact in zip(names.tolist(), facts.tolist(), strict=True):
            name = table.text(row[5], row[4])
            yield self._entry(row, fact, prefix + name, name, deleted=deleted)

    def _entry(
        self, row: tuple[int, ...], fact: tuple[int, ...], path: str, name: str, *, deleted: bool = False
    ) -> Entry:
        record, parent, _, space = row[0], row[1], row[2], row[3]
        created, modified, changed, accessed, size, allocated, attributes, sequence, links, flags, marks = fact
        is_dir = bool(flags & IS_DIRECTORY)
        dos = self.index.dos
        short = self.index.short_name(record, parent) if space != DOS and dos[record] >= 0 else None
        return Entry(
            path,
            name,
            record | sequence << 48,
            is_dir,
            0 if is_dir else size,
            0 if is_dir else allocated,
            attributes | DIRECTORY if is_dir else attributes,
            None if created == NO_TIME else created,
            None if modified == NO_TIME else modified,
            None if accessed == NO_TIME else accessed,
            None if changed == NO_TIME else changed,
            links - 1 if short is not None and links > 1 else links,
            short,
            deleted,
            self._streams(record) if marks & HAS_STREAMS else (),
            self._reparse(record) if marks & HAS_REPARSE else None,
        )

    def _streams(self, record: int) -> tuple[Stream, ...]:
        table = self.index.table
        low = int(np.searchsorted(table.streams["record"], record))
        high = int(np.searchsorted(table.streams["record"], record, side="right"))
        return tuple(
            Stream(table.text(text, length), size, allocated)
            for _, size, allocated, length, text in table.streams[low:high].tolist()
        )
