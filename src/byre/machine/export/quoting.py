"""Text that somebody else chose, made harmless in each language that an export is written in.

Names that become file names or identifiers are reduced to letters, digits and hyphens (``plain_name``); everything
else goes through the function of its language. All are total: any text gives something valid.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence

_NAME_LENGTH = 60
"""A DNS label has 63 characters; some room for what is added."""
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_POWERSHELL_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")
"""All of these end a single-quoted string in PowerShell; each is doubled."""


def plain_name(text: str) -> str:
    """Letters, digits and single hyphens, a letter or digit at either end: safe as a file name, a host name, in every
    shell and archive."""
    name = _NOT_PLAIN.sub("-", text).strip("-")[:_NAME_LENGTH].strip("-")
    return name or "machine"


def one_line(text: str, limit: int = 200) -> str:
    """Text without control characters or line ends, and without what UTF-8 can't hold."""
    clean = _CONTROL.sub(" ", text).encode("utf-8", "replace").decode()
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def shell(text: str) -> str:
    """One word of a POSIX shell."""
    return shlex.quote(one_line(text))


def powershell(text: str) -> str:
    """A single-quoted PowerShell string, in which nothing is expanded."""
    return "'" + _POWERSHELL_QUOTES.sub(r"\1\1", one_line(text)) + "'"


def xml_text(text: str) -> str:
    """Text that XML 1.0 can hold; escaping is left to the writer of the tree."""
    return _NOT_XML.sub("\ufffd", text)


def vmx_text(text: str) -> str:
    """The inside of a .vmx value: quotes, bars and anything beyond printable ASCII as ``|XX`` of their UTF-8."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"|' else f"|{byte:02X}" for byte in one_line(text).encode()
    )


def conf_comment(text: str) -> str:
    """A comment line of a Proxmox .conf, percent-encoded as Proxmox itself writes descriptions."""
    safe = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in " .,-_()/") else _percent(letter)
        for letter in one_line(text)
    )
    return f"#{safe}"


def _percent(letter: str) -> str:
    return "".join(f"%{byte:02X}" for byte in letter.encode("utf-8", "replace"))


def markdown(text: str) -> str:
    """Text on one line of Markdown, without markup of its own."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~-])", r"\\\1", one_line(text))


def toml_text(text: str) -> str:
    """A basic string of TOML, with its quotes."""
    clean = text.encode("utf-8", "replace").decode()
    escaped = "".join(
        "\\" + letter if letter in '"\\' else f"\\u{ord(letter):04X}" if _CONTROL.match(letter) else letter
        for letter in clean
    )
    return f'"{escaped}"'


def yaml(value: object, indent: int = 0) -> str:
    """Block YAML of dicts, lists and scalars; every string is quoted as JSON quotes it, which YAML reads the same."""
    pad = " " * indent
    if isinstance(value, Mapping):
        return "".join(f"{pad}{key}:{_below(item, indent)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        rows = (yaml(item, indent + 2) for item in value)
        return "".join(f"{pad}- {row[indent + 2 :]}" for row in rows)
    return f"{pad}{json.dumps(value)}\n"


def _below(item: object, indent: int) -> str:
    if isinstance(item, Mapping | list | tuple):
        return "\n" + yaml(item, indent + 2) if item else f" {json.dumps(item)}\n"
    return f" {json.dumps(item)}\n"
