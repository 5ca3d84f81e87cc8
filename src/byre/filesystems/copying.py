"""Copying out of a guest. The guest chooses the names; the host's folder must hold all that is written.

No name leads outside the target folder, no link is made or followed, nothing becomes executable, and nothing that
was there is replaced without leave.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from byre.errors import ByreError, ExistsError, StorageError, UnsupportedError
from byre.filesystems.base import Entry, FileSystem
from byre.filesystems.selection import MAX_HOST_NAME, host_name

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
    place = Path(os.path.realpath(target))  # the user's own link is the user's choice; the guest has none
    _make_folder(place)
    copy = _Copy(files, CopyReport(), force=force, streams=streams, advance=advance)
    for entry in entries:
        copy.add(entry, place)
    return copy.report


class _Copy:
    """One run. Mutable: it remembers the names that it has given, so that no two guest files become one."""

    def __init__(
        self, files: FileSystem, report: CopyReport, *, force: bool, streams: bool, advance: Callable[[int], None]
    ) -> None:
        self.files = files
        self.report = report
        self.force = force
        self.streams = streams
        self.advance = advance
        self._given: set[tuple[Path, str]] = set()

    def add(self, entry: Entry, target: Path) -> None:
        """Copy one entry, a folder with all below it, into ``target``."""
        if self._is_link(entry):
            return
        if not entry.is_dir:
            self._file(entry, target)
            return
        top = target if entry.path == "/" else self._folder(entry, target)
        if top is None:
            return
        places = {entry.path: top}
        folders = [(entry, top)]
        for below in self.files.walk(entry):
            # Not up to the last '/': a name from inside a guest may hold one.
            parent = places.get(below.path[: -len(below.name) - 1] or "/")
            if parent is None:
                self.report.failed.append((below.path, "its folder isn't copied"))
            elif self._is_link(below):
                continue
            elif below.is_dir:
                made = self._folder(below, parent)
                if made is not None:
                    places[below.path] = made
                    folders.append((below, made))
            else:
                self._file(below, parent)
        for folder, place in reversed(folders):
            _set_times(place, folder)

    def _is_link(self, entry: Entry) -> bool:
        if entry.reparse is None or entry.reparse.kind not in _LINKS:
            return False
        self.report.failed.append((entry.path, f"a link to {entry.reparse.target}: links are not copied"))
        return True

    def _folder(self, entry: Entry, parent: Path) -> Path | None:
        place = self._place(entry, parent)
        try:
            _make_folder(place)
        except _TooLongError:
            self.report.failed.append((entry.path, _TOO_LONG))
            return None
        self.report.folders += 1
        return place

    def _place(self, entry: Entry, parent: Path) -> Path:
        place = self._free(parent, host_name(entry.name))
        if place.name != entry.name:
            self.report.renamed.append((entry.path, place.name))
        return place

    def _free(self, parent: Path, name: str) -> Path:
        """The name, or the next one that this run hasn't given: names that are made safe may become the same, and
        not every host tells upper case from lower."""
        wanted, number = name, 1
        while (parent, wanted.casefold()) in self._given:
            number += 1
            end = f"~{number}"
            kept = name.encode("utf-8", "replace")[: MAX_HOST_NAME - len(end)].decode("utf-8", "ignore")
            wanted = kept + end
        self._given.add((parent, wanted.casefold()))
        return parent / wanted

    def _file(self, entry: Entry, parent: Path) -> None:
        place = self._place(entry, parent)
        wanted = [("", entry.size, place)]
        if self.streams:
            wanted += [
                (stream.name, stream.size, self._free(parent, host_name(f"{place.name}..{stream.name}")))
                for stream in entry.streams
            ]
        for stream, size, path in wanted:
            try:
                if size > shutil.disk_usage(parent).free:  # also a sparse file of 16 EiB that a guest made up
                    raise UnsupportedError(f"is larger than the free space here: {size} bytes")
                _write(path, self.files, entry, stream, self.report, force=self.force, advance=self.advance)
            except _TooLongError:
                self.report.failed.append((entry.path, _TOO_LONG))
                return
            except (ExistsError, StorageError):
                raise
            except ByreError as error:
                self.report.failed.append((entry.path, str(error)))
                return
            _set_times(path, entry)
        self.report.files += 1


class _TooLongError(StorageError):
    """The host has no paths of this length. Raised and caught here only."""


_TOO_LONG = "its path is too long for this host"
_LINKS = ("symlink", "junction", "mount point")


def _refused(what: str, error: OSError, place: Path) -> StorageError:
    kind = _TooLongError if error.errno == errno.ENAMETOOLONG else StorageError
    return kind(f"{what} can't be made: {error.strerror}", path=place)


def _make_folder(place: Path) -> None:
    try:
        place.mkdir(exist_ok=True)
    except FileExistsError as error:
        raise ExistsError("is there already and is no folder", path=place) from error
    except OSError as error:
        raise _refused("the folder", error, place) from error
    if place.is_symlink():
        raise ExistsError("is a link, and links are not followed", path=place)


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
        raise _refused("the file", error, path) from error
    whole = False
    try:
        with os.fdopen(descriptor, "wb") as file:
            for chunk in files.chunks(entry, stream):
                try:
                    file.write(chunk)
                except OSError as error:
                    raise StorageError(f"write failed: {error.strerror}", path=path) from error
                report.bytes += len(chunk)
                advance(len(chunk))
        whole = True
    finally:
        if not whole:  # also after Ctrl-C: half a file must not pass for the whole one
            path.unlink(missing_ok=True)


def _set_times(place: Path, entry: Entry) -> None:
    if entry.modified is None:
        return
    try:
        os.utime(place, ns=(entry.accessed or entry.modified, entry.modified))
    except (OSError, OverflowError, ValueError):
        return  # a time that the host can't hold is no reason to lose the file
