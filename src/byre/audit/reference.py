"""The media, folder or image that a system should come from, held against it: what is missing, altered, newer, older.

Files of the media are compressed one by one (``NTDLL.DL_``) or lie in cabinets; they are expanded when they are
needed, and not for what a security catalog vouches for already. Only bytes are compared, nothing is run.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from byre.audit.altered import RENAMED, base_name, system_files
from byre.audit.facts import Comparison, Facts, Odd, PeFacts, ProgramFile
from byre.audit.lacking_facts import in_use
from byre.audit.program_files import describe
from byre.disks.opening import open_disk
from byre.errors import ByreError, MissingError, StorageError, UnsupportedError
from byre.filesystems.base import FileSystem
from byre.filesystems.opening import open_volumes
from byre.storage.small_file import read_small_file
from byre.windows.cabinets import Cabinet, CabinetFile, expand, is_cabinet, open_cabinet
from byre.windows.fact import Fact, attempt
from byre.windows.hives import list_folder
from byre.windows.inf import MAX_INF, parse_inf, read_source_files
from byre.windows.inspection import inspect

MAX_FILE = 64 << 20
MAX_CABINET = 256 << 20
MAX_ENTRIES = 100_000
MEDIA_FOLDERS = ("i386", "amd64")
CABINETS = ("driver.cab", "sp1.cab", "sp2.cab", "sp3.cab", "sp4.cab")
_HALS = ("hal.dll",)


class Source(Protocol):
    """Where reference files come from."""

    title: str
    kind: str
    """``media``, ``folder`` or ``image``."""

    def find(self, relative: str, names: Iterable[str]) -> tuple[str, Callable[[], bytes], bool] | None:
        """(what it is called there, its bytes, whether that means expanding it) of a file that lies at ``relative``
        below the Windows folder, or on media by the first of ``names``; lower case."""
        ...

    def expected(self) -> Iterable[str]:
        """Names, or paths below the Windows folder where there is a slash, that a system from there has."""
        ...


@dataclass
class MediaSource:
    """Installation media: files of one folder by name. Mutable: it keeps the cabinets that it has opened."""

    title: str
    files: Mapping[str, Callable[[], bytes]]
    kind: str = "media"
    _cabinets: dict[str, tuple[Cabinet, CabinetFile]] | None = field(default=None, repr=False)

    def find(self, relative: str, names: Iterable[str]) -> tuple[str, Callable[[], bytes], bool] | None:
        for name in names:
            packed = name[:-1] + "_"
            if name in self.files:
                return name, self.files[name], False
            if packed in self.files:
                read = self.files[packed]
                return packed, lambda read=read, packed=packed: _expanded(read(), packed), True
            inside = self._in_cabinets().get(name)
            if inside is not None:
                cabinet, file = inside
                return f"{cabinet.path}: {name}", lambda cabinet=cabinet, file=file: cabinet.read(file), True
        return None

    def expected(self) -> Iterable[str]:
        for name in ("txtsetup.sif", "layout.inf"):
            read = self.files.get(name) or self._packed(name)
            if read is not None:
                rows = read_source_files(parse_inf(read()[:MAX_INF]))
                return [(row.target or row.name).lower() for row in rows if row.always]
        return []

    def _packed(self, name: str) -> Callable[[], bytes] | None:
        read = self.files.get(name[:-1] + "_")
        return None if read is None else lambda: _expanded(read(), name)

    def _in_cabinets(self) -> dict[str, tuple[Cabinet, CabinetFile]]:
        if self._cabinets is None:
            self._cabinets = {}
            for name in CABINETS:
                read = self.files.get(name)
                if read is not None:
                    cabinet = open_cabinet(read(), path=name)
                    for file in cabinet.files:
                        self._cabinets[file.name.lower()] = (cabinet, file)
        return self._cabinets


def _expanded(data: bytes, path: str) -> bytes:
    return expand(data, path=path)[1] if is_cabinet(data) else data


@dataclass
class TreeSource:
    """An installed system: files by their path below the Windows folder."""

    title: str
    files: Mapping[str, Callable[[], bytes]]
    kind: str = "image"

    def find(self, relative: str, names: Iterable[str]) -> tuple[str, Callable[[], bytes], bool] | None:
        read = self.files.get(relative)
        return None if read is None else (relative, read, False)

    def expected(self) -> Iterable[str]:
        folders = ("system32/", "system32/drivers/")
        return [
            path
            for path in self.files
            if path[: path.rfind("/") + 1] in folders and path.endswith((".exe", ".dll", ".sys"))
        ]


@contextmanager
def open_reference(path: str) -> Iterator[Source]:
    """The reference at a path: a folder, an ISO or another image. Raises what opening it raises."""
    if Path(path).is_dir():
        yield _host_folder(Path(path))
        return
    with open_disk(path) as disk:
        for volume in open_volumes(disk):
            if volume.filesystem is not None and volume.filesystem.type == "iso9660":
                yield _media(volume.filesystem, path)
                return
        found = inspect(disk, name=path)
        for volume, root in found.roots:
            if volume.filesystem is not None:
                yield TreeSource(f"{path}: {root}", _tree(volume.filesystem, root))
                return
    raise UnsupportedError(
        "holds no installation media and no installed system", path=path, expected="an ISO, a folder or an image"
    )


def _media(files: FileSystem, title: str) -> MediaSource:
    """The media's own folder: I386, or AMD64 for a 64-bit system."""
    folders = {entry.name.lower(): entry.path for entry in list_folder(files, "/") if entry.is_dir}
    for name in MEDIA_FOLDERS:
        if name in folders:
            return MediaSource(title, _entries(files, folders[name]))
    raise MissingError("holds no installation media", path=title, expected="a folder I386 or AMD64")


def _entries(files: FileSystem, folder: str) -> dict[str, Callable[[], bytes]]:
    found: dict[str, Callable[[], bytes]] = {}
    for entry in files.listdir(folder)[:MAX_ENTRIES]:
        if not entry.is_dir and entry.size <= MAX_CABINET:
            plain = entry.name.split(";")[0].lower()
            found[plain] = lambda entry=entry: files.read(entry)  # type: ignore[misc]
    return found


def _tree(files: FileSystem, root: str) -> dict[str, Callable[[], bytes]]:
    found: dict[str, Callable[[], bytes]] = {}
    for folder in ("", "/system32", "/system32/drivers", "/system32/wbem"):
        for entry in list_folder(files, f"{root}{folder}")[:MAX_ENTRIES]:
            if not entry.is_dir and entry.reparse is None and entry.size <= MAX_FILE:
                relative = f"{folder}/{entry.name}".lstrip("/").lower()
                found[relative] = lambda entry=entry: files.read(entry)  # type: ignore[misc]
    return found


def _host_folder(path: Path) -> Source:
    """A folder of this host: media (I386 in it, or its own files), or a Windows folder."""
    below = {each.name.lower(): each for each in _host_entries(path)}
    for name in ("windows", "winnt"):
        if name in below and (below[name] / "system32").is_dir():
            return _host_folder(below[name])
    if "system32" in below:
        found: dict[str, Callable[[], bytes]] = {}
        system32 = {each.name.lower(): each for each in _host_entries(below["system32"])}
        places = [("", path), ("system32/", below["system32"])]
        places += [(f"system32/{name}/", system32[name]) for name in ("drivers", "wbem") if name in system32]
        for prefix, folder in places:
            for each in _host_entries(folder):
                if _is_plain(each):
                    found[prefix + each.name.lower()] = lambda each=each: _host_read(each)  # type: ignore[misc]
        return TreeSource(str(path), found, "folder")
    media = next((below[name] for name in MEDIA_FOLDERS if name in below), path)
    rows: dict[str, Callable[[], bytes]] = {}
    for each in _host_entries(media):
        if _is_plain(each):
            rows[each.name.lower()] = lambda each=each: _host_read(each)  # type: ignore[misc]
    return MediaSource(str(media), rows, "media" if media != path else "folder")


def _is_plain(path: Path) -> bool:
    """Whether it is an ordinary file: nothing that blocks, and no link that leads out of the folder."""
    return stat.S_ISREG(path.lstat().st_mode)


def _host_entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:MAX_ENTRIES]
    except OSError as error:
        raise StorageError(f"the folder can't be read: {error.strerror}", path=folder) from error


def _host_read(path: Path) -> bytes:
    return read_small_file(path, MAX_CABINET)


def compare(facts: Facts, source: Source, *, progress: Callable[[str], None]) -> Fact[Comparison]:
    """The system's own files held against the reference. Unknown where the reference can't be read."""
    return attempt(lambda: _compare(facts, source, progress))


def _compare(facts: Facts, source: Source, progress: Callable[[str], None]) -> Comparison:
    assert facts.guest is not None
    progress("reference")
    root = facts.guest.root.lower()
    same, listed = 0, 0
    added: list[str] = []
    rows: dict[str, list[Odd]] = {"altered": [], "newer": [], "older": [], "unread": []}
    for program in system_files(facts):
        if program.authenticode_sha1 is None or program.stream:
            continue
        found = source.find(program.path.lower().removeprefix(f"{root}/"), _names(program))
        if found is None:
            if program.known is None and not program.signed:
                added.append(program.path)
            continue
        name, read, costly = found
        if costly and program.known is not None:
            listed += 1
            continue
        try:
            other = describe(read(), name)
        except ByreError as error:
            rows["unread"].append(Odd(program.path, f"{name}: {error.what}"))
            continue
        if other.authenticode_sha1 == program.authenticode_sha1:
            same += 1
            continue
        kind, said = _difference(program, other)
        rows[kind].append(Odd(program.path, said))
    return Comparison(
        title=source.title,
        kind=source.kind,
        same=same,
        listed=listed,
        missing=tuple(_missing(facts, source, root)),
        altered=tuple(rows["altered"]),
        newer=tuple(rows["newer"]),
        older=tuple(rows["older"]),
        unread=tuple(rows["unread"]),
        added=tuple(added) if same or listed else (),
    )


def _names(program: ProgramFile) -> tuple[str, ...]:
    """What the file is called on the media: Setup renames the kernel and the HAL."""
    name = base_name(program.path)
    original = ((program.pe.original_filename if program.pe else None) or "").lower()
    if original and (name in RENAMED or name in _HALS):
        return (original, name)
    return (name,)


def _difference(program: ProgramFile, other: ProgramFile) -> tuple[str, str]:
    own, theirs = _version(program.pe), _version(other.pe)
    shown = f"{_shown(own)}, the reference has {_shown(theirs)}"
    if own == theirs:
        return "altered", f"the same version, {_shown(own)}, and other bytes: {program.size} against {other.size}"
    if own is None or theirs is None:
        return "altered", shown
    return ("newer", shown) if own > theirs else ("older", shown)


def _version(pe: PeFacts | None) -> tuple[int, int, int, int] | None:
    return pe.file_version if pe is not None else None


def _shown(version: tuple[int, int, int, int] | None) -> str:
    return "no version" if version is None else ".".join(map(str, version))


def _missing(facts: Facts, source: Source, root: str) -> Iterator[str]:
    names = {path.rpartition("/")[2] for path in in_use(facts.paths, root)}
    for each in sorted(set(source.expected())):
        there = f"{root}/{each}" in facts.paths if "/" in each else each in names
        if not there:
            yield each
