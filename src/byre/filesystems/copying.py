"""Copying out of a guest. The guest chooses the names; the host's folder must hold all that is written.

No name leads outside the target folder, no link is made or followed, nothing becomes executable, and nothing that
was there is replaced without leave.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from byre.errors import ByreError, ExistsError, StorageError
from byre.filesystems.base import Entry, FileSystem
from byre.filesystems.selection import host_name

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(slots=True)
class CopyReport:
    """What was copied. Mutable while the copy runs."""

    files: int = 0
    folders: int = 0
    bytes: int = 0
    renamed: list[tuple[str, str]] = field(default_factory=list)
    """(guest path, name on the host) where the name had to be made safe."""
    failed: list[tuple[str, str]] = field(default_factory=list)


def copy_out(
    files: FileSystem,
    entries: Iterable[Entry],
    target: Path,
    *,
    force: bool = False,
    streams: bool = False,
    advance: Callable[[int], None] = lambda _: None,
) -> CopyReport:
    """Copy entries, folders with all below them, into ``target``, which is made where it isn't there.

    Guest files that can't be read are in the report; a host that refuses is a StorageError, a file that is
    there already an ExistsError.
    """
    report = CopyReport()
    _make_folder(target)
    for entry in entries:
        if not entry.is_dir:
            _copy_file(files, entry, target, report, force=force, streams=streams, advance=advance)
            continue
        places = {entry.path: target}
        if entry.path != "/":
            places[entry.path] = _folder_for(entry, target, report)
        folders = [(entry, places[entry.path])]
        for below in files.walk(entry):
            parent = places.get(below.path.rpartition("/")[0] or "/")
            if parent is None:
                continue  # below a link, or below a folder that failed
            if below.reparse is not None and below.reparse.kind in ("symlink", "junction", "mount point"):
                report.failed.append((below.path, f"a link to {below.reparse.target}: links are not copied"))
            elif below.is_dir:
                places[below.path] = _folder_for(below, parent, report)
                folders.append((below, places[below.path]))
            else:
                _copy_file(files, below, parent, report, force=force, streams=streams, advance=advance)
        for folder, place in reversed(folders):
            _set_times(place, folder)
    return report


def _folder_for(entry: Entry, parent: Path, report: CopyReport) -> Path:
    place = parent / _safe_name(entry, report)
    _make_folder(place)
    report.folders += 1
    return place


def _safe_name(entry: Entry, report: CopyReport) -> str:
    name = host_name(entry.name)
    if name != entry.name:
        report.renamed.append((entry.path, name))
    return name


def _make_folder(place: Path) -> None:
    try:
        place.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise ExistsError("is there already and is no folder", path=place) from error
    except OSError as error:
        raise StorageError(f"the folder can't be made: {error.strerror}", path=place) from error
    if place.is_symlink():
        raise ExistsError("is a link, and links are not followed", path=place)


def _copy_file(
    files: FileSystem,
    entry: Entry,
    parent: Path,
    report: CopyReport,
    *,
    force: bool,
    streams: bool,
    advance: Callable[[int], None],
) -> None:
    place = parent / _safe_name(entry, report)
    wanted = [("", place)]
    if streams:
        wanted += [(stream.name, parent / host_name(f"{place.name}..{stream.name}")) for stream in entry.streams]
    for stream, path in wanted:
        try:
            _write(path, files, entry, stream, report, force=force, advance=advance)
        except (ExistsError, StorageError):
            raise
        except ByreError as error:
            path.unlink(missing_ok=True)
            report.failed.append((entry.path, str(error)))
            return
        _set_times(path, entry)
    report.files += 1


def _write(
    path: Path,
    files: FileSystem,
    entry: Entry,
    stream: str,
    report: CopyReport,
    *,
    force: bool,
    advance: Callable[[int], None],
) -> None:
    if force and (path.is_symlink() or path.is_file()):
        path.unlink()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_FOLLOW, 0o666)
    except FileExistsError as error:
        raise ExistsError("is there already", path=path, hint="Choose another folder, or say --force.") from error
    except OSError as error:
        raise StorageError(f"can't be made: {error.strerror}", path=path) from error
    with os.fdopen(descriptor, "wb") as file:
        for chunk in files.chunks(entry, stream):
            try:
                file.write(chunk)
            except OSError as error:
                raise StorageError(f"write failed: {error.strerror}", path=path) from error
            report.bytes += len(chunk)
            advance(len(chunk))


def _set_times(place: Path, entry: Entry) -> None:
    if entry.modified is None:
        return
    try:
        os.utime(place, ns=(entry.accessed or entry.modified, entry.modified))
    except (OSError, OverflowError, ValueError):
        return  # a time that the host can't hold is no reason to lose the file
