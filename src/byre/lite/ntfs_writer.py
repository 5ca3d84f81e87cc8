"""Changing an NTFS volume: the changes as operations on MFT records, done by libntfs-3g in ``ntfs_program``.

After an error the scratch disk is to be thrown away. What libntfs-3g does here was measured with 2022.10.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from byre.disks.scratch import ScratchDisk
from byre.errors import CorruptImageError, UnsupportedError, UsageError
from byre.filesystems.base import ENCRYPTED, REPARSE_POINT, Entry
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.ntfs.records import REFERENCE_MASK
from byre.lite.advance import Advance, quiet
from byre.lite.changes import Applied, Change, Content, MakeFolder, Move, Put, Remove
from byre.lite.guards import from_inside
from byre.lite.ntfs_program import run_program
from byre.lite.planned_names import Made, PlannedNames, movable, new_name
from byre.units import ceil_div
from byre.volumes.partition import Partition

RESIDENT = 1024
"""No larger file can lie within its MFT record of the usual size."""
FIRST_USER_RECORD = 24
"""MFT records below are the file system's own."""
EXTEND = "/$Extend"
Operation = dict[str, object]


@dataclass(slots=True)
class Script:
    """Operations for the helper, as they are made up."""

    names: PlannedNames
    operations: list[Operation] = field(default_factory=list)
    contents: list[Content] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    freed: int = 0
    siblings: dict[int, Entry] = field(default_factory=dict)
    """The file that new ones in a folder were made like, by the folder's MFT reference."""
    replaced: int = 0
    """Bytes allocated to what files held that get other content."""


def refuse_unsafe(files: NtfsFileSystem) -> None:
    """Raise UnsupportedError where the volume may not be changed from outside: dirty, hibernated, unfinished log."""
    facts = files.facts()
    name = files.volume.name
    inside = from_inside(name)
    if facts.hibernated or facts.hibernated is None:
        raise UnsupportedError("holds a hibernated session: its volume must not be changed", path=name, hint=inside)
    if facts.dirty or facts.dirty is None:
        raise UnsupportedError(
            "the volume is marked dirty: the guest wants to check it first", path=name, hint=inside
        )
    if facts.log not in ("clean", "empty"):
        raise UnsupportedError(
            "the volume's journal holds changes that aren't in place yet",
            path=name,
            found=f"$LogFile {facts.log}",
            hint=inside,
        )


def make_script(files: NtfsFileSystem, changes: Iterable[Change]) -> Script:
    """The changes as operations on MFT records. Raises MissingError for a path that isn't there, UsageError for one
    that can't be what is asked."""
    script = Script(PlannedNames(files))
    for change in changes:
        if isinstance(change, Remove):
            _remove(script, files, change.path)
        elif isinstance(change, MakeFolder):
            _make_folder(script, files, change.path)
        elif isinstance(change, Put):
            _put(script, files, change)
        elif isinstance(change, Move):
            _move(script, files, change)
        else:
            raise UsageError("an Overwrite is not for the helper", path=change.path)
    return script


def _remove(script: Script, files: NtfsFileSystem, path: str) -> None:
    entry = script.names.existing(path)
    if entry is None:
        return
    if entry.path == "/":
        raise UsageError("the root folder can't be removed", path=files.volume.name)
    entries = [entry]
    if entry.is_dir and entry.reparse is None:
        entries += list(files.walk(entry))
    # Paths as the entries have them: a name may hold what a typed path can't.
    folders = {each.path: each.id for each in entries if each.is_dir}
    above = _above(entry)
    folders[above] = files.lookup(above).id
    for each in reversed(entries):
        if script.names.is_gone(each):
            continue
        _refuse_system(each, files)
        script.operations.append(
            {"do": "delete", "inode": each.id, "folder": folders[_above(each)], "name": each.name}
        )
        script.names.remove(each)
        script.removed.append(each.path)
        if each.links == 1:
            script.freed += each.allocated + sum(stream.allocated for stream in each.streams)


def _above(entry: Entry) -> str:
    return entry.path[: -len(entry.name) - 1] or "/"


def _refuse_system(entry: Entry, files: NtfsFileSystem) -> None:
    """``$Extend`` holds files of the file system whose records are no lower than users' are."""
    below = entry.path.lower().startswith(f"{EXTEND.lower()}/") and _is_first(files.lookup(EXTEND))
    if below or _is_first(entry):
        raise UsageError("is one of the file system's own files", path=files.volume.name, found=entry.path)


def _is_first(entry: Entry) -> bool:
    return entry.id & REFERENCE_MASK < FIRST_USER_RECORD


def _make_folder(script: Script, files: NtfsFileSystem, path: str) -> None:
    there = script.names.find(path)
    if there is not None:
        if not there.is_dir:
            raise UsageError("a file of that name is there", path=files.volume.name, found=there.path)
        return
    operation: Operation = {"do": "folder"}
    _add_name(script, files, path, operation)
    script.operations.append(operation)
    script.written.append(path)


def _put(script: Script, files: NtfsFileSystem, change: Put) -> None:
    operation: Operation = {"do": "put", "source": len(script.contents), "size": change.content.size}
    there = script.names.find(change.path)
    if isinstance(there, Made):
        what = "a folder of that name is there" if there.is_dir else "an earlier change puts a file there"
        raise UsageError(what, path=files.volume.name, found=there.path)
    if there is not None:
        _refuse_put_over(there, files)
        operation["inode"] = there.id
        script.replaced += there.allocated
    else:
        folder = _add_name(script, files, change.path, operation)
        like = _sibling(script, files, folder) if isinstance(folder, Entry) else None
        if like is not None:
            operation["like"] = like
    script.contents.append(change.content)
    script.operations.append(operation)
    script.written.append(there.path if there is not None else change.path)


def _move(script: Script, files: NtfsFileSystem, change: Move) -> None:
    entry = movable(script.names, change, files.volume.name)
    _refuse_system(entry, files)
    above = files.lookup(_above(entry)).id
    operation: Operation = {"do": "move", "inode": entry.id, "from": above, "old": entry.name}
    _add_name(script, files, change.target, operation)
    script.names.remove(entry)
    script.operations.append(operation)
    script.removed.append(entry.path)
    script.written.append(change.target)


def _add_name(script: Script, files: NtfsFileSystem, path: str, operation: Operation) -> Entry | Made:
    """Say in the operation which name it makes, and where; returns the folder."""
    name = new_name(path, files.volume.name)
    folder = script.names.folder(path)
    if isinstance(folder, Entry) and folder.path != "/":
        _refuse_system(folder, files)
    operation["folder"] = [folder.operation] if isinstance(folder, Made) else folder.id
    operation["name"] = name
    script.names.make(path, folder, is_dir=operation["do"] == "folder", operation=len(script.operations))
    return folder


def _refuse_put_over(entry: Entry, files: NtfsFileSystem) -> None:
    _refuse_system(entry, files)
    if entry.is_dir:
        raise UsageError("a folder of that name is there", path=files.volume.name, found=entry.path)
    if entry.attributes & (ENCRYPTED | REPARSE_POINT):
        raise UnsupportedError(
            "an encrypted file or a reparse point is not written over", path=files.volume.name, found=entry.path
        )


def _sibling(script: Script, files: NtfsFileSystem, folder: Entry) -> int | None:
    """A file of the same folder that stays, whose permissions a new one gets."""
    known = script.siblings.get(folder.id)
    for entry in files.listdir(folder) if known is None or script.names.is_gone(known) else (known,):
        if not entry.is_dir and entry.reparse is None and not script.names.is_gone(entry):
            script.siblings[folder.id] = entry
            return entry.id
    return None


def refuse_full(files: NtfsFileSystem, script: Script) -> None:
    """UnsupportedError where what is put in needs more clusters than there are, whatever the library does."""
    cluster = files.boot.cluster_size
    needed = sum(ceil_div(content.size, cluster) * cluster for content in script.contents if content.size > RESIDENT)
    free = files.facts().free
    if free is not None and needed > free + script.freed + script.replaced:
        raise UnsupportedError(
            "the guest's volume has no room for it",
            path=files.volume.name,
            found=f"{free} bytes free",
            expected=f"{needed}",
        )


def apply_script(
    work: ScratchDisk, partition: Partition, script: Script, *, confine: bool = True, advance: Advance = quiet
) -> Applied:
    """Run the operations on the volume, all of them or none that counts: after an error the scratch disk is to be
    thrown away. Raises UnsupportedError without libntfs-3g, CorruptImageError where it gives up on the volume."""
    if not script.operations:
        return Applied((), (), 0)
    head = {"confine": confine, "operations": script.operations}
    end = run_program(work, partition, head, contents=script.contents, advance=advance, write=work.write)
    _raise_failure(end, script, work)
    return Applied(tuple(script.removed), tuple(script.written), script.freed, str(end.get("confined")))


def _raise_failure(end: dict[str, object], script: Script, work: ScratchDisk) -> None:
    if end.get("ok") is True:
        return
    name = work.files[0].name
    reason = str(end.get("reason", "no reason given"))
    if "isn't installed" in reason:
        raise UnsupportedError(
            "NTFS volumes are changed by libntfs-3g, which isn't installed",
            path=name,
            hint="Install it: apt install ntfs-3g.",
        )
    index = end.get("index")
    where = None
    if isinstance(index, int) and 0 <= index < len(script.operations):
        where = repr(script.operations[index].get("name", script.operations[index].get("inode")))
    if end.get("errno") == 28:
        raise UnsupportedError("the guest's volume has no room for it", path=name, found=where)
    raise CorruptImageError(
        f"libntfs-3g gave up: {reason}; nothing was changed",
        path=name,
        found=where,
        hint="Check the file system in the guest (chkdsk /f), then try again.",
    )
