"""A volume as another reader has it, held against ours: libntfs-3g in its confined program, for NTFS.

It takes names from the directories' indexes, where Byre takes them from the table, opens every file and decodes its
runs. Both must come to the same names, sizes and first clusters.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from byre.disks.disk import Disk
from byre.disks.writer import Int64Array
from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.indexes import Uint64s, name_hashes, name_keys
from byre.filesystems.ntfs.names import IS_DIRECTORY
from byre.filesystems.ntfs.records import DATA, REFERENCE_MASK
from byre.filesystems.ntfs.tree import FIRST_USER_RECORD, ORPHANS, ROOT
from byre.lite.ntfs_program import Started, run_program
from byre.volumes.partition import Partition
from byre.volumes.problems import Problems

READER = "libntfs-3g"
MAX_NAMES = 4_000_000
_NAME = np.dtype([("folder", "<u8"), ("reference", "<u8"), ("kind", "u1"), ("length", "u1")])
_FILE = np.dtype([("reference", "<u8"), ("size", "<i8"), ("first", "<i8")])
_DOS = 2


@dataclass(slots=True)
class Listing:
    """What the other reader found, as tables in pieces. Filled message by message. ``heads``: of ``_NAME``;
    ``texts``: their names in UTF-16, one after the other; ``files``: of ``_FILE``, each file once. ``count`` and
    ``opened``: how many rows ``heads`` and ``files`` have."""

    heads: list[np.ndarray] = field(default_factory=list)
    texts: list[bytes] = field(default_factory=list)
    files: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    opened: int = 0

    def take(self, letter: bytes, data: bytes) -> None:
        """One message of the program; CorruptImageError where it isn't one."""
        if letter == b"F":
            self.opened += len(data) // _FILE.itemsize
            if not data or len(data) % _FILE.itemsize or self.opened > self.count:  # each has a name
                raise _nonsense("a listing of files")
            self.files.append(np.frombuffer(data, dtype=_FILE))
            return
        count = int.from_bytes(data[:4], "little")
        end = 4 + count * _NAME.itemsize
        if not count or end > len(data):
            raise _nonsense("a listing of names")
        heads = np.frombuffer(data[4:end], dtype=_NAME)
        if len(data) != end + 2 * int(heads["length"].sum()):
            raise _nonsense("a listing of names")
        self.heads.append(heads)
        self.texts.append(data[end:])
        self.count += count
        if self.count > MAX_NAMES:
            raise _nonsense(f"{self.count} names")

    def table(self) -> tuple[np.ndarray, bytes]:
        """All heads, and all names."""
        return (np.concatenate(self.heads) if self.heads else np.zeros(0, dtype=_NAME)), b"".join(self.texts)

    def names(self) -> dict[tuple[int, str], int]:
        """Record of the folder and name to MFT reference, 8.3 names left out."""
        heads, text = self.table()
        found: dict[tuple[int, str], int] = {}
        position = 0
        for folder, reference, kind, length in heads.tolist():
            name = text[position : position + 2 * length].decode("utf-16-le", "surrogatepass")
            position += 2 * length
            if kind & 3 != _DOS:
                found[folder & REFERENCE_MASK, name] = reference
        return found


def list_ntfs(
    disk: Disk, partition: Partition, *, confine: bool = True, started: Started = lambda end: None
) -> Listing:
    """All that libntfs-3g finds; the volume is only read. ``started`` as for ``run_program``. Raises UnsupportedError
    where the library isn't installed or doesn't take the volume, CorruptImageError where it gives up on what it
    meets."""
    listing = Listing()
    head: dict[str, object] = {"confine": confine, "list": True, "operations": []}
    end = run_program(disk, partition, head, found=listing.take, started=started)
    if end.get("ok") is True:
        return listing
    reason = str(end.get("reason", "no reason given"))
    name = disk.files[0].name
    if not listing.count:
        raise UnsupportedError(f"{READER} can't be asked: {reason}", path=name)
    raise CorruptImageError(f"{READER} gives up on the volume: {reason}", path=name)


def compare_ntfs(files: NtfsFileSystem, listing: Listing) -> int:
    """How many names both have, all with the same sizes and places. Raises CorruptImageError for the first
    difference."""
    theirs, ours = _their_keys(listing), _our_keys(files)
    if not np.array_equal(theirs, ours):
        _tell_difference(files, listing)
    _compare_data(files, listing)
    return len(ours)


def _their_keys(listing: Listing) -> Uint64s:
    """A number for each name and what it names, ascending."""
    heads, text = listing.table()
    length = heads["length"].astype(np.int64)
    starts = np.cumsum(length) - length
    hashes = name_hashes(np.frombuffer(text, dtype="<u2"), starts, length)
    folder = (heads["folder"] & np.uint64(REFERENCE_MASK)).astype(np.int64)
    keys = name_keys(folder, heads["reference"], np.zeros(len(heads), dtype=np.int64), hashes)
    return np.sort(keys[heads["kind"] & 3 != _DOS])


def _our_keys(files: NtfsFileSystem) -> Uint64s:
    """The same of the names that Byre lists, the file system's own left out."""
    table, names = files.table, files.table.names[files.tree.index.order]
    record, parent = names["record"], names["parent"]
    own = (record < FIRST_USER_RECORD) | ((parent < FIRST_USER_RECORD) & (parent != ROOT))
    names, record, parent = names[~own], record[~own], parent[~own]
    units = np.frombuffer(table.pool.encode("utf-16-le", "surrogatepass"), dtype="<u2")
    hashes = name_hashes(units, names["text"].astype(np.int64), names["length"].astype(np.int64))
    reference = record.astype(np.uint64) | table.facts["sequence"][record].astype(np.uint64) << np.uint64(48)
    return np.sort(name_keys(parent.astype(np.int64), reference, np.zeros(len(names), dtype=np.int64), hashes))


def _tell_difference(files: NtfsFileSystem, listing: Listing) -> None:
    """Raise for the first name that only one has; not for what no walk from the root comes by."""
    name = files.volume.name
    theirs = listing.names()
    folders = {"": files.lookup("/").id & REFERENCE_MASK}
    for entry in files.walk():
        if entry.path.startswith(f"{ORPHANS}/"):
            continue
        folder = folders[entry.path[: -len(entry.name) - 1]]
        found = theirs.pop((folder, entry.name), None)
        if found != entry.id:
            said = "doesn't find" if found is None else "finds another file as"
            raise _differs(name, f"{READER} {said} {entry.path}")
        if entry.is_dir:
            folders[entry.path] = entry.id & REFERENCE_MASK
    if theirs:
        folder, extra = next(iter(theirs))
        raise _differs(name, f"{READER} finds {extra!r} in folder record {folder}, where Byre has nothing")


def _compare_data(files: NtfsFileSystem, listing: Listing) -> None:
    """Sizes and first clusters, of all files at once."""
    name = files.volume.name
    rows = np.concatenate(listing.files) if listing.files else np.zeros(0, dtype=_FILE)
    if not np.isin(listing.table()[0]["reference"], rows["reference"]).all():
        raise _differs(name, f"{READER} didn't open every file")
    facts = files.table.facts
    record = (rows["reference"] & np.uint64(REFERENCE_MASK)).astype(np.int64)
    if len(record) and int(record.max()) >= len(facts):
        raise _differs(name, f"{READER} opens MFT records that aren't there")
    plain = facts["flags"][record] & IS_DIRECTORY == 0
    first = _first_clusters(files)[record]
    sizes = np.maximum(rows["size"], 0) == facts["size"][record]
    places = np.where(first >= 0, rows["first"] == first, rows["first"] < 0)
    wrong = np.flatnonzero(plain & ~(sizes & places))
    if len(wrong):
        row = rows[wrong[0]]
        raise _differs(
            name,
            f"{READER} has MFT record {int(record[wrong[0]])} with {int(row['size'])} bytes from cluster "
            f"{int(row['first'])}, Byre with {int(facts['size'][record[wrong[0]]])} from {int(first[wrong[0]])}",
        )


def _first_clusters(files: NtfsFileSystem) -> Int64Array:
    """For each MFT record the first cluster of its file's unnamed stream, -1 where it has none."""
    found: Int64Array = np.full(len(files.table.facts), -1, dtype=np.int64)
    for runs in files.mft_runs(Problems()):
        chosen = runs[(runs["type"] == DATA) & ~runs["named"] & (runs["vcn"] == 0)]
        found[chosen["record"]] = chosen["lcn"]
    return found


def _differs(name: str, said: str) -> CorruptImageError:
    return CorruptImageError(
        f"the proof failed: two readers disagree: {said}",
        path=name,
        hint="Nothing was written. Please report this with the image's audit.",
    )


def _nonsense(what: str) -> CorruptImageError:
    return CorruptImageError("the NTFS helper said what it may not", found=what)
