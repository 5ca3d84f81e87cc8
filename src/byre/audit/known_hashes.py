"""Lists of known hashes, good and bad, in a small database of the user's: imported once, asked by every audit.

Of each list only digests are kept, 20 bytes of SHA-1 where a source has several. The database is SQLite. Sources:
NIST's "RDS Version 3" (SQLite with a table FILE), and text or CSV with a digest in each line, as the older
NSRLFile.txt or what sha1sum writes.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from byre.errors import CorruptImageError, ExistsError, MissingError, StorageError, UsageError

T = TypeVar("T")
BATCH = 50_000
MAX_LINE = 1 << 16
MAX_NAME = 200
APPLICATION_ID = 0x42594B48
_DIGEST = re.compile(rb"(?<![0-9A-Fa-f])(?:[0-9A-Fa-f]{64}|[0-9A-Fa-f]{40}|[0-9A-Fa-f]{32})(?![0-9A-Fa-f])")
_SCHEMA = f"""
PRAGMA application_id = {APPLICATION_ID};
CREATE TABLE lists (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, bad INTEGER NOT NULL, source TEXT NOT NULL,
                    dated TEXT, imported TEXT NOT NULL, digests INTEGER NOT NULL);
CREATE TABLE digests (digest BLOB NOT NULL, list INTEGER NOT NULL REFERENCES lists, PRIMARY KEY (digest, list))
WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class KnownList:
    """One list. ``dated`` is what the source says of itself, RFC 3339 or as it stands; ``imported`` when Byre read
    it; ``digests`` how many it has."""

    name: str
    bad: bool
    source: str
    dated: str | None
    imported: str
    digests: int


def default_path() -> Path:
    """Where the user's own database lies, whether or not it is there: below XDG_DATA_HOME."""
    base = os.environ.get("XDG_DATA_HOME") or ""
    folder = Path(base) if base.startswith("/") else Path.home() / ".local" / "share"
    return folder / "byre" / "known.sqlite"


class KnownHashes:
    """The database, open. Mutable: a connection of one thread."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._db = connection
        self.path = path

    def close(self) -> None:
        self._db.close()

    def lists(self) -> tuple[KnownList, ...]:
        """All lists by name."""
        query = "SELECT name, bad, source, dated, imported, digests FROM lists ORDER BY name"
        rows = self._run(lambda: self._db.execute(query).fetchall())
        return tuple(KnownList(name, bool(bad), *rest) for name, bad, *rest in rows)

    def named(self, name: str) -> KnownList:
        """MissingError where there is none of this name."""
        found = next((each for each in self.lists() if each.name == name), None)
        if found is None:
            known = ", ".join(each.name for each in self.lists()) or "none"
            raise MissingError(f"there is no list {name!r}", path=self.path, found=f"lists: {known}")
        return found

    def who_knows(self, digests: Iterable[str]) -> tuple[tuple[str, bool], ...]:
        """(name, bad) of each list that holds one of these digests, given as hexadecimal."""
        found: dict[str, bool] = {}
        for digest in digests:
            query = "SELECT name, bad FROM digests JOIN lists ON lists.id = digests.list WHERE digest = ?"
            rows = self._run(lambda: self._db.execute(query, (bytes.fromhex(digest),)).fetchall())  # noqa: B023
            found |= {name: bool(bad) for name, bad in rows}
        return tuple(sorted(found.items()))

    def add(
        self, source: Path, *, name: str, bad: bool, progress: Callable[[int], None] = lambda count: None
    ) -> KnownList:
        """Import a source as a list, whole or not at all. ExistsError, CorruptImageError, MissingError."""
        name = as_text(name)
        if not name or len(name) > MAX_NAME:
            raise UsageError("a list's name has 1 to 200 characters", found=name)
        if any(each.name == name for each in self.lists()):
            raise ExistsError(
                f"there is a list {name!r} already", path=self.path, hint="Remove it, or choose --name."
            )
        dated, digests = read_source(source)
        imported = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            with self._db:
                row = (name, int(bad), as_text(source.name), dated, imported)
                added = self._db.execute(
                    "INSERT INTO lists (name, bad, source, dated, imported, digests) VALUES (?, ?, ?, ?, ?, 0)", row
                )
                number = added.lastrowid
                seen = 0
                for batch in _batches(digests):
                    rows = ((digest, number) for digest in batch)
                    self._db.executemany("INSERT OR IGNORE INTO digests VALUES (?, ?)", rows)
                    seen += len(batch)
                    progress(seen)
                count = self._db.execute("SELECT count(*) FROM digests WHERE list = ?", (number,)).fetchone()[0]
                if not count:
                    raise CorruptImageError("holds no digests (MD5, SHA-1 or SHA-256)", path=source)
                self._db.execute("UPDATE lists SET digests = ? WHERE id = ?", (count, number))
        except sqlite3.Error as error:
            raise StorageError(f"the list can't be stored: {error}", path=self.path) from error
        return self.named(name)

    def remove(self, name: str) -> KnownList:
        """Take a list out and give its space back."""
        gone = self.named(name)

        def work() -> None:
            with self._db:
                self._db.execute("DELETE FROM digests WHERE list = (SELECT id FROM lists WHERE name = ?)", (name,))
                self._db.execute("DELETE FROM lists WHERE name = ?", (name,))
            self._db.execute("VACUUM")

        self._run(work)
        return gone

    def _run(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            raise CorruptImageError(f"the database of hashes can't be read: {error}", path=self.path) from error


def as_text(name: str) -> str:
    """A file's name as SQLite takes it: bytes of it that aren't UTF-8 as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def open_known(path: Path, *, create: bool = False) -> KnownHashes:
    """The database at a path. MissingError where it isn't there and isn't to be made."""
    if not path.exists() and not create:
        raise MissingError("the database of hashes isn't there", path=path, hint="'byre known import FILE' makes it.")
    new = not path.exists()
    try:
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path if create else f"{path.absolute().as_uri()}?mode=rw", uri=not create)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"the database of hashes can't be opened: {error}", path=path) from error
    try:
        number = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and create:
            connection.executescript(_SCHEMA)
        elif number != APPLICATION_ID:
            connection.close()
            raise UsageError("not a database that 'byre known' made", path=path)
    except sqlite3.OperationalError as error:
        connection.close()
        if new and path.exists():
            path.unlink()  # it was made here, and nothing came of it
        raise StorageError(f"the database of hashes can't be used: {error}", path=path) from error
    except sqlite3.Error as error:
        connection.close()
        raise CorruptImageError(f"the database of hashes can't be read: {error}", path=path) from error
    return KnownHashes(connection, path)


def read_source(path: Path) -> tuple[str | None, Iterator[bytes]]:
    """The date that a source gives itself and its digests, raw, one after the other: never the whole in memory."""
    if path.exists() and not path.is_file():  # a pipe can't be read twice, and a device may have no end
        raise StorageError("isn't a plain file", path=path)
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise MissingError("no such file", path=path) from error
    except OSError as error:
        raise StorageError(f"can't be read: {error.strerror}", path=path) from error
    if head == b"SQLite format 3\0":
        return _rds_date(path), _of_rds(path)
    return None, _of_text(path)


def _rds(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)


def _rds_date(path: Path) -> str | None:
    try:
        with closing(_rds(path)) as source:
            row = source.execute("SELECT release_date FROM VERSION ORDER BY release_date DESC LIMIT 1").fetchone()
    except sqlite3.Error:
        return None
    return str(row[0])[:40] if row and row[0] else None


def _of_rds(path: Path) -> Iterator[bytes]:
    try:
        with closing(_rds(path)) as source:
            columns = {str(row[1]).lower() for row in source.execute("PRAGMA table_info(FILE)")}
            column = next((each for each in ("sha1", "sha256", "md5") if each in columns), None)
            if column is None:
                raise CorruptImageError("no RDS: it has no table FILE with sha1, sha256 or md5", path=path)
            for (text,) in source.execute(f"SELECT {column} FROM FILE"):
                match = _DIGEST.fullmatch(str(text).encode("utf-8", "replace"))
                if match:
                    yield bytes.fromhex(match[0].decode("ascii"))
    except sqlite3.Error as error:
        raise CorruptImageError(f"the RDS can't be read: {error}", path=path) from error


def _of_text(path: Path) -> Iterator[bytes]:
    """A digest of each line: SHA-1 where there is one, else the first."""
    with path.open("rb") as file:
        while line := file.readline(MAX_LINE):
            found: list[bytes] = _DIGEST.findall(line)
            if found:
                chosen = next((each for each in found if len(each) == 40), found[0])
                yield bytes.fromhex(chosen.decode("ascii"))


def _batches(digests: Iterator[bytes]) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    for digest in digests:
        held.append(digest)
        if len(held) >= BATCH:
            yield held
            held = []
    if held:
        yield held
