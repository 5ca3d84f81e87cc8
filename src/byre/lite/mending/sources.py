"""Where a missing file of Windows is to be had: what the owner gave, and the guest's own copies of its media."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from byre.errors import ByreError, MissingError, StorageError
from byre.filesystems.base import FileSystem
from byre.storage.small_file import read_small_file
from byre.windows.cabinets import Cabinet, expand, is_cabinet, open_cabinet
from byre.windows.hives import list_folder
from byre.windows.inf import MAX_INF

MAX_FILE = 64 << 20
MAX_CABINET = 192 << 20
"""Service pack 3's driver.cab has 60 MB."""
MAX_CABINETS = 256 << 20
"""All of a guest's that are kept open together."""
_CABINETS = ("sp4.cab", "sp3.cab", "sp2.cab", "sp1.cab", "driver.cab", "reactos.cab")
"""Newest first: a service pack's driver goes with its kernel. ReactOS has one cabinet, on its media."""
_MACHINES = ("amd64", "i386")
"""Folders of a system for x64, which has no others of that kind, and of one for x86."""
_PACKAGES = re.compile(r"(?:mshdc|disk|iastorv|lsi_scsi|lsi_sas)\.inf_[\w.]+", re.IGNORECASE)
"""Folders of Vista's and 7's driver store that hold drivers of controllers and disks."""
MAX_PACKAGES = 64
MAX_LOOKED_AT, MAX_DEPTH, SHOWN_FOLDERS = 2000, 5, 4


class GuestSources:
    """``--drivers`` first, then ServicePackFiles, the driver cache, dllcache and a copy of the media on the same
    volume. Mutable: cabinets are opened once."""

    def __init__(self, files: FileSystem, root: str, drivers: Path | None = None) -> None:
        self._files = files
        self._root = root
        self._given = _host_files(drivers) if drivers is not None else {}
        self._cabinets: dict[str, Cabinet | None] = {}
        self._room = MAX_CABINETS
        self._store: list[str] | None = None
        self.used = False
        """Whether anything was taken from ``--drivers``."""

    def given(self, name: str) -> bool:
        return any(_of_host(self._given, name))

    def descriptions(self) -> Iterator[tuple[str, bytes]]:
        """The .inf files of the owner's folder, expanded. What ``read_small_file`` raises."""
        for name in sorted(self._given):
            if name.endswith((".inf", ".in_")):
                path = self._given[name]
                for data, _ in _expanded(read_small_file(path, MAX_INF), str(path)):
                    if data:
                        yield path.name, data

    def of_no_use(self, folder: Path) -> str:
        """What is said of an owner's folder of which nothing was taken: mostly it is one too far up."""
        said = f"nothing was taken from {folder}: no .inf in it is of a disk controller, and nothing else was missing"
        below = sorted({str(path.parent) for path in _below(folder) if path.suffix.lower() in (".inf", ".in_")})
        more = f" and {len(below) - SHOWN_FOLDERS} more" if len(below) > SHOWN_FOLDERS else ""
        return f"{said}; .inf files lie in {', '.join(below[:SHOWN_FOLDERS])}{more}" if below else said

    def find(self, name: str) -> tuple[bytes, str] | None:
        """The file and where it was found. What the owner gave must be readable: what ``read_small_file`` raises."""
        for data, where in self._candidates(name):
            if data:
                return data, where
        return None

    def _candidates(self, name: str) -> Iterator[tuple[bytes, str]]:
        for found in _of_host(self._given, name):
            self.used |= bool(found[0])
            yield found
        packed = name[:-1] + "_"
        root = self._root
        for machine in _MACHINES:
            yield from self._of_guest(f"{root}/ServicePackFiles/{machine}", (name, packed))
        for machine in _MACHINES:
            for cabinet in _CABINETS:
                yield from self._of_cabinet(f"{root}/Driver Cache/{machine}/{cabinet}", name)
        yield from self._of_guest(f"{root}/system32/dllcache", (name,))
        for package in self._packages():
            yield from self._of_guest(package, (name,))
        for folder in (*(f"{root}/Driver Cache/{machine}" for machine in _MACHINES), "/I386", f"{root}/I386"):
            yield from self._of_guest(folder, (name, packed))

    def _packages(self) -> list[str]:
        """Folders of the driver store, the newest first."""
        if self._store is None:
            listed = list_folder(self._files, f"{self._root}/system32/DriverStore/FileRepository")
            fitting = [each for each in listed if each.is_dir and _PACKAGES.fullmatch(each.name)]
            fitting.sort(key=lambda each: each.modified or 0, reverse=True)
            self._store = [each.path for each in fitting[:MAX_PACKAGES]]
        return self._store

    def _of_guest(self, folder: str, names: tuple[str, ...]) -> Iterator[tuple[bytes, str]]:
        for name in names:
            data = self._read(f"{folder}/{name}", MAX_FILE)
            if data is not None:
                yield from _expanded(data, f"{folder}/{name}")

    def _of_cabinet(self, path: str, name: str) -> Iterator[tuple[bytes, str]]:
        if path not in self._cabinets:
            data = self._read(path, min(MAX_CABINET, self._room))
            try:
                self._cabinets[path] = None if data is None else open_cabinet(data, path=path)
                self._room -= len(data or b"")
            except ByreError:
                self._cabinets[path] = None  # a damaged cache has nothing to give; another place may
        cabinet = self._cabinets[path]
        if cabinet is not None:
            yield from _in_cabinet(cabinet, path, name)

    def _read(self, path: str, limit: int) -> bytes | None:
        try:
            entry = self._files.lookup(path)
            return None if entry.is_dir or entry.size > limit else self._files.read(entry)
        except ByreError:
            return None


def _in_cabinet(cabinet: Cabinet, path: str, name: str) -> Iterator[tuple[bytes, str]]:
    for file in cabinet.files:
        if file.name.rpartition("/")[2].lower() == name.lower() and file.size <= MAX_FILE:
            try:
                yield cabinet.read(file), f"{path}: {file.name}"
            except ByreError:
                continue


def _expanded(data: bytes, where: str) -> Iterator[tuple[bytes, str]]:
    if not is_cabinet(data[:4]):
        yield data, where
        return
    try:
        yield expand(data, path=where)[1], where
    except ByreError:
        return


def _host_files(folder: Path) -> dict[str, Path]:
    """The files of the owner's folder, and of an I386 in it, by name in lower case."""
    if not folder.is_dir():
        raise MissingError("no such folder", path=folder)
    found: dict[str, Path] = {}
    try:
        for each in (folder, *sorted(below for below in folder.iterdir() if below.name.lower() in ("i386", "x86"))):
            for path in sorted(each.iterdir()) if each.is_dir() else ():
                if path.is_file():
                    found.setdefault(path.name.lower(), path)
    except OSError as error:
        raise StorageError(f"can't be read: {error.strerror}", path=folder) from error
    return found


def _below(folder: Path) -> Iterator[Path]:
    """Files in folders below the owner's, as many as are looked at for a hint; links aren't followed."""
    count = 0
    for here, folders, names in os.walk(folder):
        deep = len(Path(here).relative_to(folder).parts) >= MAX_DEPTH
        folders[:] = [] if deep else sorted(folders)
        for name in names if here != str(folder) else ():
            yield Path(here, name)
        count += len(names) + len(folders)
        if count > MAX_LOOKED_AT:
            return


def _of_host(found: dict[str, Path], name: str) -> Iterator[tuple[bytes, str]]:
    lower = name.lower()
    for each in (lower, lower[:-1] + "_"):
        path = found.get(each)
        if path is not None:
            yield from _expanded(read_small_file(path, MAX_FILE), str(path))
    for each in _CABINETS:
        path = found.get(each)
        if path is not None:
            try:
                cabinet = open_cabinet(read_small_file(path, MAX_CABINET), path=str(path))
            except ByreError:
                continue
            yield from _in_cabinet(cabinet, str(path), name)
