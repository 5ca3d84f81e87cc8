r"""The text that regedit exports and imports, read. Pure.

Both forms: "Windows Registry Editor Version 5.00" (UTF-16LE, hex data of strings in UTF-16LE) and "REGEDIT4" (the
system's ANSI code page, hex data of strings in it). Source: Microsoft KB 310516.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from byre.errors import UsageError
from byre.windows.registry.layout import ValueType

VERSION_5, VERSION_4 = "Windows Registry Editor Version 5.00", "REGEDIT4"
_VALUE = re.compile(r'(@|"(?:[^"\\]|\\.)*")\s*=\s*(.*)', re.DOTALL)
_HEX = re.compile(r"hex(?:\(([0-9a-fA-F]{1,8})\))?:(.*)", re.DOTALL)
_WIDE = (ValueType.EXPAND_SZ, ValueType.MULTI_SZ)


@dataclass(frozen=True, slots=True)
class RegLine:
    """One thing to do. ``key`` as written, in full; ``name`` None for the key itself; ``data`` None deletes."""

    key: str
    name: str | None
    type: int = 0
    data: bytes | None = None
    line: int = 0


def decode_reg(raw: bytes) -> str:
    """The text of a .reg file: UTF-16 or UTF-8 by its mark, else UTF-8, else Windows-1252."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", "replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def parse_reg(text: str, *, path: str) -> Iterator[RegLine]:
    """What the file asks for, in its order. Raises UsageError with the line that can't be read."""
    lines = _joined(text)
    head = next((line for _, line in lines if line), "")
    if head not in (VERSION_5, VERSION_4):
        raise UsageError("not a registry file", path=path, found=repr(head[:60]), expected=f"{VERSION_5!r}")
    key: str | None = None
    for number, line in lines:
        if not line or line.startswith(";"):
            continue
        if line.startswith("["):
            key = line[1:-1] if line.endswith("]") else ""
            if key.startswith("-"):
                yield RegLine(key[1:], None, data=None, line=number)
                key = None
            elif key:
                yield RegLine(key, None, data=b"", line=number)
            else:
                raise _bad(path, number, line)
            continue
        if key is None:
            raise UsageError("a value without a key before it", path=path, found=f"line {number}: {line[:60]!r}")
        yield _value(key, line, number, path, wide=head == VERSION_5)


def _value(key: str, line: str, number: int, path: str, *, wide: bool) -> RegLine:
    match = _VALUE.fullmatch(line)
    if match is None:
        raise _bad(path, number, line)
    name = "" if match[1] == "@" else _unquoted(match[1])
    said = match[2].strip()
    if said == "-":
        return RegLine(key, name, data=None, line=number)
    if said.startswith('"') and said.endswith('"') and len(said) > 1:
        data = _unquoted(said).encode("utf-16-le", "surrogatepass") + b"\0\0"
        return RegLine(key, name, ValueType.SZ, data, number)
    if said.lower().startswith("dword:") and re.fullmatch(r"[0-9a-fA-F]{1,8}", said[6:].strip()):
        return RegLine(key, name, ValueType.DWORD, int(said[6:], 16).to_bytes(4, "little"), number)
    hexadecimal = _HEX.fullmatch(said)
    if hexadecimal is None:
        raise _bad(path, number, line)
    kind = int(hexadecimal[1], 16) if hexadecimal[1] else ValueType.BINARY
    try:
        data = bytes(int(byte, 16) for byte in re.split(r"[\s,]+", hexadecimal[2].strip()) if byte)
    except ValueError as error:
        raise _bad(path, number, line) from error
    if not wide and kind in _WIDE:
        data = data.decode("cp1252", "replace").encode("utf-16-le")
    return RegLine(key, name, kind, data, number)


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) with continued lines in one."""
    held, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not held:
            first = number
        # Only hexadecimal data go on in the next line: a string may well end in a backslash before its quote.
        if stripped.endswith("\\") and re.search(r"=\s*hex|^[0-9a-fA-F, ]+\\$", (held + stripped)):
            held += stripped[:-1]
            continue
        yield first, held + stripped
        held = ""
    if held:
        yield first, held


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _bad(path: str, number: int, line: str) -> UsageError:
    return UsageError("a line that can't be read", path=path, found=f"line {number}: {line[:60]!r}")
