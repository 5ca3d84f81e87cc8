"""Whether a changed volume holds what was asked of it, looked at before anything is published.

Less than ``proof`` says of a slimmed disk: the file system is sound, what went is gone and what was put is there,
byte for byte. Files that nobody asked to change are not read.
"""

from __future__ import annotations

from collections.abc import Sequence

from byre.disks.disk import Disk
from byre.errors import ByreError, CorruptImageError, MissingError
from byre.filesystems.base import FileSystem
from byre.filesystems.opening import OpenVolume, open_volumes
from byre.lite.changes import Change, Content, MakeFolder, Move, Overwrite, Remove


def prove_outcome(disk: Disk, plan: Sequence[tuple[OpenVolume, Sequence[Change]]]) -> None:
    """Raise CorruptImageError where a volume of the plan, as ``disk`` has it now, isn't sound or isn't as planned:
    then the disk must not be published."""
    changed = {volume.partition.index: changes for volume, changes in plan if changes}
    for volume in open_volumes(disk) if changed else ():
        if volume.partition.index not in changed:
            continue
        name = disk.files[0].name
        files = volume.filesystem
        if files is None:
            raise _failed(name, f"partition {volume.partition.index} can't be read: {volume.reason}")
        report = files.check()
        if report.corruptions:
            said = next((each.message for each in report.problems if each.kind == "corruption"), "")
            raise _failed(name, f"partition {volume.partition.index} is damaged: {said}")
        for change in _last(changed[volume.partition.index]):
            if not _is_done(files, change):
                raise _failed(name, f"{change.path} isn't what it was to be")


def _last(changes: Sequence[Change]) -> list[Change]:
    """What each path comes to: of several changes of one, the last, and files are overwritten before all others."""
    ordered = sorted(changes, key=lambda change: not isinstance(change, Overwrite))
    return list({change.path: change for change in ordered}.values())


def _is_done(files: FileSystem, change: Change) -> bool:
    if isinstance(change, Move):
        return _is_done(files, Remove(change.path)) and _is_file(files, change.target)
    try:
        entry = files.lookup(change.path)
    except MissingError:
        return isinstance(change, Remove)
    if isinstance(change, Remove):  # what is found may be another, whose name differs in case alone
        return entry.path != change.path
    if isinstance(change, MakeFolder):
        return entry.is_dir
    content = Content.of(change.data) if isinstance(change, Overwrite) else change.content
    if entry.is_dir or entry.size != content.size:
        return False
    position = 0
    try:
        for chunk in files.chunks(entry):
            if content.read(position, len(chunk)) != chunk:
                return False
            position += len(chunk)
    except ByreError:
        return False
    return position == content.size


def _is_file(files: FileSystem, path: str) -> bool:
    """A folder above it may be there in another case than the one that was typed."""
    try:
        return not files.lookup(path).is_dir
    except MissingError:
        return False


def _failed(name: str, said: str) -> CorruptImageError:
    return CorruptImageError(
        f"the result isn't as planned: {said}",
        path=name,
        hint="Nothing was written. Please report this, unless a file that was put in changed meanwhile.",
    )
