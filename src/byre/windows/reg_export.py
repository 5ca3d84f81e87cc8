r"""Keys and values as regedit exports them: the text of a ``.reg`` file, version 5.00. Pure.

Secrets are left out, with a comment in their place. What the format can't hold on one line (names with line
ends) is left out the same way, so that no name from inside a guest can forge a line.
Source: Microsoft KB 310516 (".reg files"); the wrapping was compared with files that regedit wrote.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from byre.windows.registry import Key, Value
from byre.windows.registry.layout import ValueType
from byre.windows.secrets import is_secret, is_secret_name

HEADER = "Windows Registry Editor Version 5.00"
WRAP_AT = 76
"""A line of hexadecimal ends after the byte that passes this column."""
_LINE_BREAKING = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def export_key(key: Key, shown: str, kind: str, relative: str) -> Iterator[str]:
    """The lines of one key, with the empty line that ends it. ``kind`` and ``relative`` are as ``is_secret``
    takes them."""
    if _LINE_BREAKING.search(shown):
        yield f"; left out: a key whose name holds control characters, {_escaped(shown)}"
        yield ""
        return
    yield f"[{shown}]"
    for value in key.values():
        if is_secret(kind, relative, value.name):
            name = "a value" if is_secret_name(kind, relative) else _name(_escaped(value.name))
            yield f"; {name} is hidden: a secret"
        elif _LINE_BREAKING.search(value.name):
            yield f"; left out: a value whose name holds control characters, {_escaped(value.name)}"
        else:
            if not value.complete:
                yield f"; the data of {_name(value.name)} is cut off: the hive is damaged"
            yield from export_value(value)
    yield ""


def export_value(value: Value) -> Iterator[str]:
    """The line of one value, or the lines where hexadecimal wraps."""
    name = _name(value.name)
    if value.type == ValueType.SZ:
        text = value.data.decode("utf-16-le", "replace").removesuffix("\0")
        # Only what comes back the same: an unended string, an odd byte or a line end is written as hexadecimal.
        if text.encode("utf-16-le", "replace") + b"\0\0" == value.data and not _LINE_BREAKING.search(text):
            yield f'{name}="{_quoted(text)}"'
            return
    if value.type == ValueType.DWORD and len(value.data) == 4:
        yield f"{name}=dword:{int.from_bytes(value.data, 'little'):08x}"
        return
    kind = "hex" if value.type == ValueType.BINARY else f"hex({value.type:x})"
    yield from _wrapped(f"{name}={kind}:", value.data)


def _wrapped(start: str, data: bytes) -> Iterator[str]:
    line, last = start, len(data) - 1
    pieces: list[str] = []
    width = len(start)
    for index, byte in enumerate(data):
        pieces.append(f"{byte:02x}" if index == last else f"{byte:02x},")
        width += 3
        if width > WRAP_AT and index != last:
            yield line + "".join(pieces) + "\\"
            line, pieces, width = "  ", [], 2
    yield line + "".join(pieces)


def _name(name: str) -> str:
    return f'"{_quoted(name)}"' if name else "@"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _escaped(text: str) -> str:
    return _LINE_BREAKING.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
