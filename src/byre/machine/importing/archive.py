"""Reading an .ova where it lies: a tar's index, its members as storages, its manifest. Nothing is unpacked.

Only plain files with plain names are members. Links, devices, sparse files, folders and paths are refused or passed
over by name, so that no archive can write or read anywhere but in itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from byre.errors import CorruptImageError, StorageError, UnsupportedError
from byre.storage.base import Storage, StorageDefaults

BLOCK = 512
MAX_MEMBERS = 1000
MAX_PAX = 64 << 10
MAX_TEXT = 8 << 20
_STEP = 1 << 20
_PLAIN = (b"0", b"\0", b"7")
_MANIFEST = re.compile(r"^(SHA1|SHA256|SHA512)\s*\(([^)\n]{1,255})\)\s*=\s*([0-9A-Fa-f]{40,128})\s*$")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the archive. ``offset`` and ``size`` in bytes."""

    name: str
    offset: int
    size: int


class MemberStorage(StorageDefaults):
    """One file of an archive as a storage of its own. The archive is its opener's to close."""

    path: Path | None = None
    writable = False

    def __init__(self, archive: Storage, entry: Entry) -> None:
        self._archive = archive
        self._entry = entry
        self.name = f"{archive.name}:{entry.name}"

    @property
    def size(self) -> int:
        return self._entry.size

    @property
    def allocated(self) -> int:
        return self._entry.size

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        if offset < 0 or offset + len(buffer) > self._entry.size:
            raise StorageError("ends before it should", path=self.name, offset=offset, found=self._entry.size)
        self._archive.read_into(self._entry.offset + offset, buffer)

    def truncate(self, size: int) -> None:
        raise StorageError("is part of an archive and can't be changed", path=self.name)

    def flush(self) -> None:
        return None

    def data_ranges(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        if start < min(stop, self.size):
            yield start, min(stop, self.size)


def read_index(archive: Storage) -> tuple[Entry, ...]:
    """The files of a tar, in its order. Raises CorruptImageError, UnsupportedError."""
    found: list[Entry] = []
    names: set[str] = set()
    at = 0
    override: dict[str, str] = {}
    while at + BLOCK <= archive.size:
        header = archive.read(at, BLOCK)
        if not any(header):
            break
        _check(header, archive.name, at)
        size = _number(header[124:136], archive.name, at)
        kind = header[156:157]
        body = at + BLOCK
        if body + size > archive.size:
            raise CorruptImageError(
                "is cut short", path=archive.name, offset=at, found=archive.size, expected=body + size
            )
        if kind in (b"x", b"g"):
            override = {**override, **_pax(archive, body, size)} if kind == b"x" else override
        elif kind in _PLAIN:
            entry = _entry(header, body, size, override, archive)
            if entry.name.lower() in names:
                raise CorruptImageError("has two files of one name", path=archive.name, offset=at, found=entry.name)
            names.add(entry.name.lower())
            found.append(entry)
            override = {}
            size = entry.size
        elif kind == b"5":
            size = 0
        else:
            raise UnsupportedError(
                "has a member that is no plain file: a link, a device or a sparse file",
                path=archive.name,
                offset=at,
                found=f"type {kind!r}",
            )
        if len(found) > MAX_MEMBERS:
            raise UnsupportedError("has too many files", path=archive.name, expected=f"at most {MAX_MEMBERS}")
        at = body + -(-size // BLOCK) * BLOCK
    if not found:
        raise CorruptImageError("isn't a tar archive with files in it", path=archive.name)
    return tuple(found)


def _check(header: bytes, path: str, at: int) -> None:
    stored = header[148:156].split(b"\0")[0].strip() or b"x"
    total = sum(header) - sum(header[148:156]) + 8 * 32
    try:
        right = int(stored, 8) == total
    except ValueError:
        right = False
    if not right:
        raise CorruptImageError("isn't a tar archive, or is damaged: a header's sum is wrong", path=path, offset=at)


def _number(field: bytes, path: str, at: int) -> int:
    """Octal, or for files over 8 GiB GNU's big-endian form."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.split(b"\0")[0].strip()
    if not digits or digits.strip(b"01234567"):
        raise CorruptImageError("has a size that is no number", path=path, offset=at, found=field)
    return int(digits, 8)


def _pax(archive: Storage, at: int, size: int) -> dict[str, str]:
    """The ``path`` and ``size`` of an extended header; a sparse file's is refused."""
    if size > MAX_PAX:
        raise UnsupportedError("has an extended header that is too large", path=archive.name, offset=at, found=size)
    found: dict[str, str] = {}
    rest = archive.read(at, size)
    while rest:
        length, space, _ = rest.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or not len(length) + 1 < int(length) <= len(rest):
            raise CorruptImageError("has an extended header that can't be read", path=archive.name, offset=at)
        record, rest = rest[len(length) + 1 : int(length) - 1], rest[int(length) :]
        key, _, value = record.partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise UnsupportedError("has a sparse file in it", path=archive.name, offset=at)
        if key in (b"path", b"size"):
            found[key.decode()] = value.decode("utf-8", "replace")
    return found


def _entry(header: bytes, body: int, size: int, override: dict[str, str], archive: Storage) -> Entry:
    name = header[:100].split(b"\0")[0].decode("utf-8", "replace")
    if header[257:262] == b"ustar" and header[345:500].split(b"\0")[0] and header[263:265] == b"00":
        name = header[345:500].split(b"\0")[0].decode("utf-8", "replace") + "/" + name
    name = override.get("path", name).removeprefix("./")
    if not name or name in (".", "..") or any(letter in name for letter in "/\\\0\n\r"):
        raise UnsupportedError(
            "has a file that isn't directly in it", path=archive.name, offset=body - BLOCK, found=name[:100]
        )
    said = override.get("size")
    if said is not None:
        if not said.isascii() or not said.isdecimal() or len(said) > 18 or body + int(said) > archive.size:
            raise CorruptImageError("has a size that is no number", path=archive.name, offset=body - BLOCK)
        size = int(said)
    return Entry(name, body, size)


def read_manifest(data: bytes, *, path: str) -> dict[str, tuple[str, str]]:
    """(digest's name, hexadecimal) of each file that a manifest lists. Raises CorruptImageError."""
    found: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
        if not line.strip():
            continue
        match = _MANIFEST.match(line)
        if match is None:
            raise CorruptImageError("has a line that is no digest", path=path, found=f"line {number}: {line[:80]}")
        found[match[2]] = (match[1].lower(), match[3].lower())
    return found


def verify(
    listed: dict[str, tuple[str, str]],
    files: Callable[[str], Storage | None],
    *,
    path: str,
    advance: Callable[[int], None] | None = None,
) -> int:
    """Hash every listed file; ``files`` gives it by name. Returns how many. Raises CorruptImageError."""
    for name, (kind, expected) in listed.items():
        storage = files(name)
        if storage is None:
            raise CorruptImageError("lacks a file that its manifest lists", path=path, expected=name)
        digest = hashlib.new(kind)
        for at in range(0, storage.size, _STEP):
            data = storage.read(at, min(_STEP, storage.size - at))
            digest.update(data)
            if advance is not None:
                advance(len(data))
        if digest.hexdigest() != expected:
            raise CorruptImageError(
                f"isn't what its manifest says: {name} was changed, or damaged on the way",
                path=path,
                found=digest.hexdigest(),
                expected=expected,
                hint="Get it again. --no-verify reads it all the same.",
            )
    return len(listed)
