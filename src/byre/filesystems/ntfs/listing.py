"""Entries in bulk: the columns that a listing shows, for many names at once, and the entries made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from byre.filesystems.base import DIRECTORY, Entry, Name, Reparse, Stream
from byre.filesystems.ntfs.names import DOS, IS_DIRECTORY, NameIndex
from byre.filesystems.ntfs.table import HAS_REPARSE, HAS_STREAMS, NO_TIME, Table

LISTED = np.dtype(
    [
        ("text", "<i8"),
        ("length", "u1"),
        ("short_text", "<i8"),
        ("short_length", "u1"),
        ("marks", "u1"),
        ("id", "<u8"),
        ("is_dir", "?"),
        ("size", "<i8"),
        ("allocated", "<i8"),
        ("attributes", "<u4"),
        ("created", "<i8"),
        ("modified", "<i8"),
        ("accessed", "<i8"),
        ("changed", "<i8"),
        ("links", "<u2"),
    ]
)
"""One row for each name. From ``id`` on the fields are those of an Entry, in its order."""

_TIMES = ("created", "modified", "accessed", "changed")
_FIRST = LISTED.names.index("id") if LISTED.names else 0
_LACKS_A_TIME = 128
"""A mark of ours beside the table's: one of the times isn't there."""


def listed(index: NameIndex, names: Table) -> Table:
    """The columns of the given names."""
    record = names["record"]
    facts = index.table.facts[record]
    table: Table = np.empty(len(names), dtype=LISTED)
    table["text"], table["length"] = names["text"], names["length"]
    is_dir = facts["flags"] & IS_DIRECTORY != 0
    for field in (*_TIMES, "size", "allocated", "attributes", "links"):
        table[field] = facts[field]
    table["size"][is_dir] = 0
    table["allocated"][is_dir] = 0
    table["attributes"] |= np.where(is_dir, DIRECTORY, 0).astype(np.uint32)
    table["is_dir"] = is_dir
    table["id"] = record.astype(np.uint64) | facts["sequence"].astype(np.uint64) << np.uint64(48)
    marks = facts["marks"] & (HAS_STREAMS | HAS_REPARSE)
    for field in _TIMES:
        marks[facts[field] == NO_TIME] |= _LACKS_A_TIME
    table["marks"] = marks
    table["short_length"] = table["short_text"] = 0
    dos = index.dos[record]
    # A file's 8.3 name belongs to the long name in the same directory, and isn't counted as a link.
    paired = np.flatnonzero((dos >= 0) & (names["space"] != DOS))
    if len(paired):
        short = index.table.names[dos[paired]]
        beside = short["parent"] == names["parent"][paired]
        paired, short = paired[beside], short[beside]
        table["short_text"][paired], table["short_length"][paired] = short["text"], short["length"]
        table["links"][paired] -= (table["links"][paired] > 1).astype(np.uint16)
    return table


class EntryMaker:
    """Makes entries of listed rows. ``reparse`` reads the reparse point of a record."""

    def __init__(self, index: NameIndex, reparse: Callable[[int], Reparse | None]) -> None:
        self._table = index.table
        self._folded = index.folded
        self._plain = index.table.pool.isascii()
        self._reparse = reparse

    def by_name(self, rows: Table) -> list[tuple[int, ...]]:
        """Listed rows as tuples, sorted as the volume sorts names."""
        folded = self._folded
        found: list[tuple[int, ...]] = rows.tolist()
        found.sort(key=lambda row: folded[row[0] : row[0] + row[1]])
        return found

    def entries(self, rows: list[tuple[int, ...]], folder: str, *, deleted: bool = False) -> Iterator[Entry]:
        """The entries of listed rows that lie in one folder."""
        prefix = "/" if folder == "/" else folder + "/"
        # The tuple itself is made, not by way of Entry's own constructor: a volume has a million of them.
        new, pool, plain = tuple.__new__, self._table.pool, self._plain
        tail = (None, deleted, (), None)
        for row in rows:
            name = pool[row[0] : row[0] + row[1]] if plain else self._table.text(row[0], row[1])
            if row[3] or row[4]:
                yield self._odd(row, prefix + name, name, deleted)
            else:
                yield new(Entry, (prefix + name, name, *row[_FIRST:], *tail))

    def names(self, rows: Table, folder: str) -> list[Name]:
        """The names of listed rows that lie in one folder, sorted as the volume sorts them."""
        prefix = "/" if folder == "/" else folder + "/"
        folded, pool, plain = self._folded, self._table.pool, self._plain
        links = (rows["marks"] & HAS_REPARSE != 0).tolist()
        columns = (rows[field].tolist() for field in ("text", "length", "allocated", "is_dir"))
        found = list(zip(*columns, links, rows["id"].tolist(), strict=True))
        found.sort(key=lambda row: folded[row[0] : row[0] + row[1]])
        new = tuple.__new__
        return [
            new(Name, (prefix + (pool[row[0] : row[0] + row[1]] if plain else self._table.text(*row[:2])), *row[2:]))
            for row in found
        ]

    def _odd(self, row: tuple[int, ...], path: str, name: str, deleted: bool) -> Entry:
        marks = row[4]
        made = Entry(path, name, *row[_FIRST:])  # type: ignore[arg-type]
        record = made.id & 0xFFFFFFFFFFFF
        made = made._replace(
            short_name=self._table.text(row[2], row[3]) if row[3] else None,
            deleted=deleted,
            streams=self._streams(record) if marks & HAS_STREAMS else (),
            reparse=self._reparse(record) if marks & HAS_REPARSE else None,
        )
        if marks & _LACKS_A_TIME:
            created, modified, accessed, changed = (
                None if time == NO_TIME else time
                for time in (made.created, made.modified, made.accessed, made.changed)
            )
            made = made._replace(created=created, modified=modified, accessed=accessed, changed=changed)
        return made

    def _streams(self, record: int) -> tuple[Stream, ...]:
        table = self._table
        low = int(np.searchsorted(table.streams["record"], record))
        high = int(np.searchsorted(table.streams["record"], record, side="right"))
        return tuple(
            Stream(table.text(text, length), size, allocated)
            for _, size, allocated, length, text in table.streams[low:high].tolist()
        )
