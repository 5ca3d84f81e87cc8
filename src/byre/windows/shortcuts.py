"""What a shortcut (``.lnk``) leads to. Pure.

Source: the public specification of the shell link format ([MS-SHLLINK]) and libfwsi's description of shell items, for
links that say their target only as a list of items.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from byre.errors import CorruptImageError

MAX_LINK = 1 << 20
"""Real shortcuts have one or two kilobytes."""
MAX_ITEMS = 64
_SIGNATURE = bytes.fromhex("4c0000000114020000000000c000000000000046")
_HEADER = 76
_HAS_ITEMS, _HAS_INFO, _HAS_NAME, _HAS_RELATIVE, _HAS_FOLDER, _HAS_ARGUMENTS, _HAS_ICON, _UNICODE = (
    1 << bit for bit in range(8)
)
_ENVIRONMENT, _ENVIRONMENT_SIZE = 0xA0000001, 0x314
_LONG_NAME = b"\x04\x00\xef\xbe"


@dataclass(frozen=True, slots=True)
class Shortcut:
    """``targets``: the path that it leads to, each way in which the link says it, best first; texts as they stand
    there, with variables. ``arguments``: what the program is started with."""

    targets: tuple[str, ...]
    arguments: str = ""


def parse_shortcut(data: bytes, *, path: str) -> Shortcut:
    """The shortcut of a file's bytes. Raises CorruptImageError where it is none; what is damaged is no target."""
    if len(data) > MAX_LINK or data[:20] != _SIGNATURE or len(data) < _HEADER:
        raise CorruptImageError("is no shortcut", path=path, offset=0, found=data[:20].hex())
    (flags,) = struct.unpack_from("<I", data, 20)
    at = _HEADER
    items: str | None = None
    info: str | None = None
    if flags & _HAS_ITEMS:
        size = _word(data, at)
        items = _path_of_items(data[at + 2 : at + 2 + size])
        at += 2 + size
    if flags & _HAS_INFO:
        size = _long(data, at)
        info = _path_of_info(data[at : at + size])
        at += max(size, 4)
    arguments = ""
    for flag in (_HAS_NAME, _HAS_RELATIVE, _HAS_FOLDER, _HAS_ARGUMENTS, _HAS_ICON):
        if flags & flag:
            length = _word(data, at) * (2 if flags & _UNICODE else 1)
            if flag == _HAS_ARGUMENTS:
                arguments = _text(data[at + 2 : at + 2 + length], unicode=bool(flags & _UNICODE))
            at += 2 + length
    found = (_variable(data, at), info, items)
    return Shortcut(tuple(dict.fromkeys(each for each in found if each)), arguments)


def _variable(data: bytes, at: int) -> str | None:
    """The target with variables in it (``%SystemRoot%\\…``), from the blocks behind the strings."""
    for _ in range(MAX_ITEMS):
        size = _long(data, at)
        if size < 8 or at + size > len(data):
            return None
        if _long(data, at + 4) == _ENVIRONMENT and size >= _ENVIRONMENT_SIZE:
            wide = _text(data[at + 268 : at + _ENVIRONMENT_SIZE], unicode=True)
            return wide or _text(data[at + 8 : at + 268], unicode=False) or None
        at += size
    return None


def _path_of_info(block: bytes) -> str | None:
    """The local path: base and suffix, in UTF-16 where it has them. None for a target on the network."""
    header, flags = _long(block, 4), _long(block, 8)
    if len(block) < 28 or not flags & 1:
        return None
    wide = header >= 36
    base = _from(block, _long(block, 28), unicode=True) if wide else ""
    if base:
        return base + _from(block, _long(block, 32), unicode=True)
    base = _from(block, _long(block, 16), unicode=False)
    return base + _from(block, _long(block, 24), unicode=False) if base else None


def _from(block: bytes, offset: int, *, unicode: bool) -> str:
    return _text(block[offset:], unicode=unicode) if 0 < offset < len(block) else ""


def _path_of_items(data: bytes) -> str | None:
    """The path that a list of shell items spells: a drive, then folders and a file, long names where it has them."""
    names: list[str] = []
    for item in _items(data):
        kind = item[0] & 0x70
        if kind == 0x20 and re.fullmatch(rb"[A-Za-z]:\\?", item[1:4].rstrip(b"\0")):
            names = [item[1:3].decode("ascii")]
        elif kind == 0x30 and names:
            names.append(_name_of(item))
    return "\\".join(names) if len(names) > 1 and all(names) else None


def _items(data: bytes) -> Iterator[bytes]:
    at = 0
    for _ in range(MAX_ITEMS):
        size = _word(data, at)
        if size < 4 or at + size > len(data):
            return
        yield data[at + 2 : at + size]
        at += size


def _name_of(item: bytes) -> str:
    """The name of a file's or folder's item; the long one lies in an extension of its own from Windows XP on."""
    wide = bool(item[0] & 4)
    short = _text(item[12:], unicode=wide)
    mark = item.find(_LONG_NAME)
    if mark >= 4:
        long = _text(item[mark + 16 :], unicode=True)
        if long:
            return long
    return short


def _text(data: bytes, *, unicode: bool) -> str:
    """Up to the first NUL. One byte a letter means the guest's code page, which for the names of Windows' own files
    may as well be 1252."""
    if unicode:
        return data[: len(data) & ~1].decode("utf-16-le", "replace").split("\0", 1)[0]
    return data.split(b"\0", 1)[0].decode("cp1252", "replace")


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _long(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
