"""A volume as another reader has it, held against ours: libntfs-3g in its confined program, for NTFS.

It takes names from the directories' indexes, where Byre takes them from the table, opens every file and decodes its
runs. Both must come to the same names, sizes and first clusters.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from byre.disks.disk import Disk
from byre.disks.writer import Int64Array
from byre.errors import CorruptImageError, UnsupportedError
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.names import IS_DIRECTORY
from byre.filesystems.ntfs.records import DATA, REFERENCE_MASK
from byre.filesystems.ntfs.tree import ORPHANS
from byre.lite.ntfs_writer import run_helper
from byre.volumes.partition import Partition
from byre.volumes.problems import Problems

READER = "libntfs-3g"
MAX_NAMES = 4_000_000
_NAME = struct.Struct("<QQBB")
_FILE = np.dtype([("reference", "<u8"), ("size", "<i8"), ("first", "<i8")])
_DOS = 2


@dataclass(slots=True)
class Listing:
    """What the other reader found. Filled message by message. ``names``: record of the folder and name to MFT
    reference; ``files``: tables of ``_FILE``, each file once."""

    names: dict[tuple[int, str], int] = field(default_factory=dict)
    files: list[np.ndarray] = field(default_factory=list)

    def take(self, letter: bytes, data: bytes) -> None:
        """One message of the program; CorruptImageError where it isn't one."""
        if letter == b"F":
            if len(data) % _FILE.itemsize:
                raise _nonsense("a listing of files")
            self.files.append(np.frombuffer(data, dtype=_FILE))
            return
        position = 0
        while position < len(data):
            if position + _NAME.size > len(data):
                raise _nonsense("a listing of names")
            folder, reference, kind, length = _NAME.unpack_from(data, position)
            position += _NAME.size
            name = data[position : position + 2 * length].decode("utf-16-le", "surrogatepass")
            position += 2 * length
            if kind & 3 != _DOS:
                self.names[folder & REFERENCE_MASK, name] = reference
        if len(self.names) > MAX_NAMES:
            raise _nonsense(f"{len(self.names)} names")


def list_ntfs(disk: Disk, partition: Partition, *, confine: bool = True) -> Listing:
    """All that libntfs-3g finds; the volume is only read. Raises UnsupportedError where the library isn't installed
    or doesn't take the volume, CorruptImageError where it gives up on what it meets."""
    listing = Listing()
    end = run_helper(disk, partition, {"confine": confine, "list": True, "operations": []}, found=listing.take)
    if end.get("ok") is True:
        return listing
    reason = str(end.get("reason", "no reason given"))
    name = disk.files[0].name
    if not listing.names:
        raise UnsupportedError(f"{READER} can't be asked: {reason}", path=name)
    raise CorruptImageError(f"{READER} gives up on the volume: {reason}", path=name)


def compare_ntfs(files: NtfsFileSystem, listing: Listing) -> int:
    """How many names both have, all with the same sizes and places. Raises CorruptImageError for the first
    difference."""
    name = files.volume.name
    theirs = dict(listing.names)
    folders = {"": files.lookup("/").id & REFERENCE_MASK}
    count = 0
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
        count += 1
    if theirs:
        folder, extra = next(iter(theirs))
        raise _differs(name, f"{READER} finds {extra!r} in folder record {folder}, where Byre has nothing")
    _compare_data(files, listing, name)
    return count


def _compare_data(files: NtfsFileSystem, listing: Listing, name: str) -> None:
    """Sizes and first clusters, of all files at once."""
    rows = np.concatenate(listing.files) if listing.files else np.zeros(0, dtype=_FILE)
    known = np.unique(np.fromiter(listing.names.values(), dtype=np.uint64, count=len(listing.names)))
    if not np.isin(known, rows["reference"]).all():
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
