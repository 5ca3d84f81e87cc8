r"""The text that regedit exports and imports, read. Pure.

Both forms: "Windows Registry Editor Version 5.00" (UTF-16LE, hex data of strings in UTF-16LE) and "REGEDIT4" (the
system's ANSI code page, hex data of strings in it). Source: Microsoft KB 310516.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from byre.errors import UsageError
from byre.windows.ansi import UTF_8, decode_ansi
from byre.windows.registry.layout import ValueType

VERSION_5, VERSION_4 = "Windows Registry Editor Version 5.00", "REGEDIT4"
_SPACE = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r";[^\n]*")
_LINE = re.compile(r"[^\n]*")
_NAME = re.compile(r'(@|"[^"\\]*(?:\\.[^"\\]*)*")[ \t]*=[ \t]*', re.DOTALL)
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_DWORD = re.compile(r"dword:[ \t]*([0-9a-fA-F]{1,8})", re.IGNORECASE)
_HEX = re.compile(
    r"hex(?:\(([0-9a-fA-F]{1,8})\))?:([0-9a-fA-F, \t]*(?:\\[ \t]*(?:;[^\n]*)?\r?\n[0-9a-fA-F, \t]*)*)", re.IGNORECASE
)
_CONTINUED = re.compile(r"\\[ \t]*(?:;[^\n]*)?\r?\n")
_REST = re.compile(r"[ \t]*(?:;[^\n]*|\r?)(?=\n|\Z)")
_TEXTS = (ValueType.SZ, ValueType.EXPAND_SZ, ValueType.MULTI_SZ)
Page = Callable[[], int]
"""Which ANSI code page: asked only where it matters."""


@dataclass(frozen=True, slots=True)
class RegLine:
    """One thing to do. ``key`` as written, in full; ``name`` None for the key itself; ``data`` None deletes."""

    key: str
    name: str | None
    type: int = 0
    data: bytes | None = None
    line: int = 0


def decode_reg(raw: bytes, page: Page, *, path: str, sure: bool = False) -> str:
    """The text of a .reg file: UTF-16 or UTF-8 by its mark, else the code page; version 5.00 without a mark is
    UTF-8 where it can be, unless ``sure`` says that it is in that code page. Raises UsageError."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return raw.decode("utf-16", "surrogatepass")
        except UnicodeDecodeError as error:
            raise UsageError("ends within a letter of UTF-16", path=path, found=error.start) from error
    if raw.startswith(b"\xef\xbb\xbf"):
        return decode_ansi(raw[3:], UTF_8, path=path)
    if raw.isascii():
        return raw.decode("ascii")
    if not raw.lstrip().startswith((VERSION_4.encode(), VERSION_5.encode())):
        return raw.decode("utf-8" if is_utf8(raw) else "latin-1")  # none: its first line will be named
    if not sure and not raw.lstrip().startswith(VERSION_4.encode()) and is_utf8(raw):
        return raw.decode("utf-8")
    return decode_ansi(raw, page(), path=path)


def is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def parse_reg(text: str, page: Page, *, path: str) -> Iterator[RegLine]:
    """What the file asks for, in its order. Raises UsageError with the line that can't be read. ``page`` is that of
    version 4's strings in hexadecimal.

    Strings may go on over lines, as regedit writes those that have line ends; a comment may follow what a line says.
    """
    at = _SPACE.match(text).end()  # type: ignore[union-attr]
    head = _LINE.match(text, at)[0].strip()  # type: ignore[index]
    if head not in (VERSION_5, VERSION_4):
        raise UsageError("not a registry file", path=path, found=repr(head[:60]), expected=f"{VERSION_5!r}")
    at = _LINE.match(text, at).end()  # type: ignore[union-attr]
    lines = _Lines(text, path)
    key: str | None = None
    while True:
        at = _SPACE.match(text, at).end()  # type: ignore[union-attr]
        if at >= len(text):
            return
        comment = _COMMENT.match(text, at)
        if comment is not None:
            at = comment.end()
            continue
        number = lines.number(at)
        if text[at] == "[":
            line = _LINE.match(text, at)[0]  # type: ignore[index]
            inner, closed, after = line[1:].rpartition("]")
            if not closed or not inner.strip("-") or after.split(";", 1)[0].strip():
                raise lines.bad(at)
            key = None if inner.startswith("-") else inner
            yield RegLine(inner.removeprefix("-"), None, data=b"" if key else None, line=number)
            at += len(line)
            continue
        row, at = _value(lines, key, at, number, page if head == VERSION_4 else None)
        yield row


class _Lines:
    """Line numbers of positions that only grow. Mutable: it counts on from the last."""

    def __init__(self, text: str, path: str) -> None:
        self.text = text
        self.path = path
        self._at, self._number = 0, 1

    def number(self, at: int) -> int:
        self._number += self.text.count("\n", self._at, at)
        self._at = at
        return self._number

    def bad(self, at: int, what: str = "a line that can't be read") -> UsageError:
        line = _LINE.match(self.text, at)[0].strip()  # type: ignore[index]
        return UsageError(what, path=self.path, found=f"line {self.number(at)}: {line[:60]!r}")


def _value(lines: _Lines, key: str | None, at: int, number: int, page: Page | None) -> tuple[RegLine, int]:
    """The value that begins at ``at``, and where it ends. ``page``: strings in hexadecimal are in it."""
    text = lines.text
    named = _NAME.match(text, at)
    if named is None:
        raise lines.bad(at)
    if key is None:
        raise lines.bad(at, "a value without a key before it")
    name, start = "" if named[1] == "@" else _unquoted(named[1]), named.end()
    if text.startswith("-", start):
        row, end = RegLine(key, name, data=None, line=number), start + 1
    elif (string := _STRING.match(text, start)) is not None:
        data = _unquoted(string[0]).encode("utf-16-le", "surrogatepass") + b"\0\0"
        row, end = RegLine(key, name, ValueType.SZ, data, number), string.end()
    elif (dword := _DWORD.match(text, start)) is not None:
        row, end = RegLine(key, name, ValueType.DWORD, int(dword[1], 16).to_bytes(4, "little"), number), dword.end()
    elif (listed := _HEX.match(text, start)) is not None:
        kind = int(listed[1], 16) if listed[1] else ValueType.BINARY
        data = _bytes(lines, at, listed[2])
        if page is not None and kind in _TEXTS:
            data = _widened(lines, at, data, page)
        row, end = RegLine(key, name, kind, data, number), listed.end()
    else:
        raise lines.bad(at)
    rest = _REST.match(text, end)
    if rest is None:
        raise lines.bad(at)
    return row, rest.end()


def _bytes(lines: _Lines, at: int, listed: str) -> bytes:
    """Bytes in hexadecimal between commas; each has one or two digits."""
    parts = [part.strip() for part in _CONTINUED.sub("", listed).split(",")]
    if parts[-1] == "":
        parts.pop()  # regedit takes a comma at the end, and nothing at all
    try:
        return bytes.fromhex("".join(f"{part:0>2}" for part in parts))
    except ValueError as error:
        raise lines.bad(at) from error


def _widened(lines: _Lines, at: int, data: bytes, page: Page) -> bytes:
    number = 1252 if data.isascii() else page()
    try:
        return decode_ansi(data, number, path=lines.path).encode("utf-16-le", "surrogatepass")
    except UsageError as error:
        raise lines.bad(at, f"no text in code page {number}") from error


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
