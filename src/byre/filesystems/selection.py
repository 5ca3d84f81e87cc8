"""Choosing files by what people type: wildcards, streams, and names that are safe on the host. Pure but for the
walking, which the file system does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import translate

from byre.errors import MissingError
from byre.filesystems.base import Entry, FileSystem

_WILD = re.compile(r"[*?]")
_DEVICES = re.compile(r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³])(?:\..*)?", re.IGNORECASE | re.DOTALL)
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|\ud800-\udfff\u200e\u200f\u202a-\u202e\u2066-\u2069]')
MAX_HOST_NAME = 255
"""Bytes of one name on every common host file system."""


def has_wildcards(path: str) -> bool:
    return _WILD.search(path) is not None


def split_stream(path: str) -> tuple[str, str]:
    """``(path, stream)``: a stream follows the last name after a colon; a drive's colon isn't one."""
    head = re.match(r"[A-Za-z]:(?=[\\/]|$)", path)
    start = head.end() if head else 0
    last = max(path.rfind("\\"), path.rfind("/"), start - 1) + 1
    name, colon, stream = path[last:].partition(":")
    if not colon or not name:
        return path, ""
    return path[:last] + name, stream.removesuffix(":$DATA")


def matching(files: FileSystem, pattern: str) -> Iterator[Entry]:
    """The entries that a path with wildcards means: in each name ``*`` and ``?``, never across a
    separator. A path without any is looked up; MissingError where nothing fits."""
    plain = re.sub(r"^[A-Za-z]:", "", pattern)
    names = [name for name in re.split(r"[\\/]+", plain) if name not in ("", ".")]
    wild = next((index for index, name in enumerate(names) if has_wildcards(name)), None)
    if wild is None:
        yield files.lookup(pattern)
        return
    found = False
    for entry in _expand(files, "/" + "/".join(names[:wild]), names[wild:]):
        found = True
        yield entry
    if not found:
        raise MissingError(f"nothing matches {pattern!r}", hint=files.problems.missing_hint)


def _expand(files: FileSystem, folder: str, names: list[str]) -> Iterator[Entry]:
    fits = _pattern(names[0])
    for entry in files.listdir(folder):
        if fits.match(entry.name):
            if len(names) == 1:
                yield entry
            elif entry.is_dir and entry.reparse is None:
                yield from _expand(files, entry.path, names[1:])


def name_filter(pattern: str) -> re.Pattern[str]:
    """A compiled, case-insensitive pattern for whole names, or for whole paths where it has a separator."""
    plain = re.sub(r"^[A-Za-z]:", "", pattern).replace("\\", "/")
    return _pattern(plain)


def _pattern(text: str) -> re.Pattern[str]:
    # Brackets are letters like others in Windows' names: its web cache calls every file "name[1].htm".
    return re.compile(translate(text.replace("[", "[[]")), re.IGNORECASE)


def host_name(name: str) -> str:
    """A guest's name made safe as one name on the host: no separator, no control or direction-changing character,
    no device name, no ``.`` or ``..``, not too long. The same name comes back where it was safe already."""
    safe = _UNSAFE.sub("_", name)
    if _DEVICES.fullmatch(safe.rstrip(". ")):
        safe = "_" + safe
    stripped = safe.rstrip(". ")
    if stripped != safe:
        safe = stripped + "_"  # Windows drops dots and spaces at the end: two names would become one
    if safe in ("", ".", ".."):
        safe = "_"
    encoded = safe.encode()
    if len(encoded) > MAX_HOST_NAME:
        safe = encoded[: MAX_HOST_NAME - 1].decode("utf-8", "ignore") + "_"
    return safe
