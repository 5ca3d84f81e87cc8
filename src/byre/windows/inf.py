"""Setup information files (.inf): sections of lines, strings substituted. Pure.

``layout.inf`` among them is the installation media's own list of files: what was there, how large, and where.
Source: Microsoft's "INF file sections and directives", "INF SourceDisksFiles section"; the fields past the size as
Microsoft's description of [ExtraFiles] in extra.inf has them (disposition 0 always copy, 3 never).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_INF = 16 << 20
_TOKEN = re.compile(r"%([^%\s]*)%")
_FIELD = re.compile(r'"((?:[^"]|"")*)"|([^,"]+)|(,)')


@dataclass(frozen=True, slots=True)
class InfLine:
    """One line: ``key = field, field, …``; ``key`` None where there is no ``=``."""

    key: str | None
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Inf:
    """The sections by name in lower case. ``%tokens%`` are already replaced from [Strings]."""

    sections: dict[str, tuple[InfLine, ...]]

    def section(self, name: str) -> tuple[InfLine, ...]:
        return self.sections.get(name.lower(), ())


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the installation media. ``size`` in bytes, None where the list doesn't say; ``folder`` is the
    number of its folder in [WinntDirectories]; ``always``: text-mode Setup copies it on every fresh installation
    (disposition 0); ``target`` the name that it gets there, where it is another."""

    name: str
    disk: str
    size: int | None
    folder: str | None
    always: bool = False
    target: str | None = None


def parse_inf(data: bytes) -> Inf:
    """The sections of an .inf file in ANSI, UTF-16 or UTF-8, by its mark. Never fails; what isn't understood is left
    out."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data[:MAX_INF].decode("utf-16", "replace")
    elif data[:3] == b"\xef\xbb\xbf":
        text = data[3:MAX_INF].decode("utf-8", "replace")
    else:
        text = data[:MAX_INF].decode("cp1252", "replace")
    raw: dict[str, list[str]] = {}
    section = ""
    joined = re.sub(r"\\[ \t]*\r?\n[ \t]*", "", text)
    for line in joined.splitlines():
        plain = _without_comment(line).strip()
        if plain.startswith("[") and "]" in plain:
            section = plain[1 : plain.index("]")].strip().lower()
            raw.setdefault(section, [])
        elif plain:
            raw.setdefault(section, []).append(plain)
    strings = {}
    for line in raw.get("strings", []):
        key, _, value = line.partition("=")
        strings[key.strip().lower()] = value.strip().strip('"')
    return Inf({name: tuple(_line(line, strings) for line in lines) for name, lines in raw.items()})


def read_source_files(inf: Inf, architecture: str = "x86") -> tuple[SourceFile, ...]:
    """The files of [SourceDisksFiles] and of its section for the architecture, by name."""
    found: dict[str, SourceFile] = {}
    for section in ("SourceDisksFiles", f"SourceDisksFiles.{architecture}"):
        for line in inf.section(section):
            if line.key is None:
                continue
            fields = (*line.fields, *[""] * 11)
            size = int(fields[2]) if fields[2].isdigit() and len(fields[2]) < 12 else None
            folder, always = fields[7] or None, fields[9] == "0"
            row = SourceFile(
                line.key, fields[0], size or None, folder, always and folder is not None, fields[10] or None
            )
            found[line.key.lower()] = row
    return tuple(found[name] for name in sorted(found))


def _line(text: str, strings: dict[str, str]) -> InfLine:
    key, equals, rest = _split_key(text)
    fields, pending, after_field = [], "", False
    for match in _FIELD.finditer(rest):
        if match[3]:
            fields.append(pending)
            pending, after_field = "", False
        elif match[1] is not None:
            pending, after_field = match[1].replace('""', '"'), True
        elif not after_field:
            pending = match[2].strip()
    fields.append(pending)
    replaced = tuple(
        _TOKEN.sub(lambda m: strings.get(m[1].lower(), m[0]), field) if "%" in field else field for field in fields
    )
    return InfLine(_TOKEN.sub(lambda m: strings.get(m[1].lower(), m[0]), key) if equals else None, replaced)


def _split_key(text: str) -> tuple[str, bool, str]:
    if text.startswith('"'):
        end = text.find('"', 1)
        head, tail = (text[1:end], text[end + 1 :].lstrip()) if end > 0 else (text, "")
        return (head, True, tail[1:].strip()) if tail.startswith("=") else ("", False, text)
    quote, equals = text.find('"'), text.find("=")
    if equals < 0 or 0 <= quote < equals:
        return "", False, text
    return text[:equals].strip(), True, text[equals + 1 :].strip()


def _without_comment(line: str) -> str:
    if ";" not in line:  # lists of files have thousands of lines without one
        return line
    quoted = False
    for at, letter in enumerate(line):
        if letter == '"':
            quoted = not quoted
        elif letter == ";" and not quoted:
            return line[:at]
    return line
