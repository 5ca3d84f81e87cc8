"""Who lies in which directory: the names of the MFT, grouped by parent."""

from __future__ import annotations

from functools import cache, cached_property

import numpy as np

from byre.filesystems.capitals import capitals
from byre.filesystems.ntfs.table import IS_EXTENSION, SOUND, FileTable, Int64s, Table

IN_USE, IS_DIRECTORY = 1, 2
DOS = 2


@cache
def default_upcase() -> str:
    """Every UTF-16 unit's capital, for volumes whose $UpCase is lost."""
    return capitals("".join(map(chr, range(0x10000))))


class NameIndex:
    """The names in use, by parent record. Immutable after construction but for nothing: all is built here.

    ``order`` holds rows of the names table sorted by parent; those of a directory are
    ``order[starts[d]:starts[d + 1]]``.
    """

    def __init__(self, table: FileTable, upcase: bytes | None) -> None:
        self.table = table
        self.upcase = (
            np.frombuffer(upcase, dtype="<u2").astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
            if upcase is not None
            else default_upcase()
        )
        names, facts = table.names, table.facts
        count = len(facts)
        living = alive(facts)
        used = living[names["record"]]
        self.dos = _dos_names(names, used, count)
        listed = used & _is_listed(names, self.dos, count)
        parent = names["parent"]
        inside = parent < count
        at = np.where(inside, parent, 0)
        # A name counts only while its parent is the same directory as when it was written.
        attached = (
            inside
            & living[at]
            & (facts["flags"][at] & IS_DIRECTORY != 0)
            & ((facts["sequence"][at] == names["parent_sequence"]) | (names["parent_sequence"] == 0))
        )
        rows = np.flatnonzero(listed & attached)
        self.orphans: Int64s = np.flatnonzero(listed & ~attached)
        self.order: Int64s = rows[np.argsort(parent[rows], kind="stable")]
        self.starts: Int64s = np.searchsorted(parent[self.order], np.arange(count + 1)).astype(np.int64)

    def fold(self, name: str) -> str:
        """The name in capitals by the volume's own table: equal folds are equal names."""
        if name.isascii():
            return name.upper() if self.upcase[97] == "A" else name.translate(_Upcase(self.upcase))
        return name.translate(_Upcase(self.upcase))

    @cached_property
    def folded(self) -> str:
        """The pool of names in capitals: the same places hold the same names."""
        pool = self.table.pool
        if pool.isascii() and self.upcase[97] == "A":
            return pool.upper()
        units = np.frombuffer(pool.encode("utf-16-le", "surrogatepass"), dtype="<u2")
        table = np.frombuffer(self.upcase.encode("utf-32-le", "surrogatepass"), dtype="<u4")
        folded: str = table[units].tobytes().decode("utf-32-le", "surrogatepass")
        return folded

    def rows(self, directory: int) -> Int64s:
        """The rows of the names table that lie in a directory, unsorted."""
        return self.order[self.starts[directory] : self.starts[directory + 1]]

    def short_name(self, record: int, parent: int) -> str | None:
        """The 8.3 name that a file has beside its long one in the same directory."""
        row = int(self.dos[record])
        if row < 0:
            return None
        name = self.table.names[row]
        if int(name["parent"]) != parent:
            return None
        return self.table.text(int(name["text"]), int(name["length"]))


class _Upcase:
    """``str.translate`` over a table of 65,536 capitals."""

    def __init__(self, capitals: str) -> None:
        self._capitals = capitals

    def __getitem__(self, unit: int) -> str:
        if unit >= len(self._capitals):
            raise LookupError(unit)
        return self._capitals[unit]


def alive(facts: Table) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which records are files or directories in use, not parts of another."""
    sound = facts["marks"] & (SOUND | IS_EXTENSION) == SOUND
    living: np.ndarray[tuple[int], np.dtype[np.bool_]] = sound & (facts["flags"] & IN_USE != 0)
    return living


def _dos_names(
    names: Table, used: np.ndarray[tuple[int], np.dtype[np.bool_]], count: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """For each record the row of its 8.3 name, or -1."""
    rows = np.flatnonzero(used & (names["space"] == DOS))
    dos = np.full(count, -1, dtype=np.int64)
    dos[names["record"][rows]] = rows
    return dos


def _is_listed(
    names: Table, dos: np.ndarray[tuple[int], np.dtype[np.int64]], count: int
) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Names that show in a listing: all but 8.3 names, unless a file has no other."""
    long = names["space"] != DOS
    has_long = np.zeros(count, dtype=np.bool_)
    has_long[names["record"][long]] = True
    listed: np.ndarray[tuple[int], np.dtype[np.bool_]] = long | ~has_long[names["record"]]
    return listed
