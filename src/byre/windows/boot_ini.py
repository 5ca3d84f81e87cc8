"""boot.ini and freeldr.ini: which system the loader starts, and with which switches. Pure.

Source: Microsoft KB 102873 ("BOOT.INI and ARC path naming conventions"), Sysinternals' list of boot.ini
switches; ReactOS' own sample for freeldr.ini.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from byre.volumes.partition import PartitionTable

MAX_TEXT = 1 << 20
_ARC = re.compile(
    r"(?P<bus>multi|scsi|signature)\((?P<adapter>[0-9a-f]{1,8})\)"
    r"disk\((?P<disk>\d{1,5})\)rdisk\((?P<rdisk>\d{1,5})\)partition\((?P<partition>\d{1,5})\)(?P<path>.*)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ArcPath:
    """``multi(0)disk(0)rdisk(0)partition(1)\\WINDOWS``; ``partition`` counts from 1, primaries first."""

    bus: str
    adapter: str
    disk: int
    rdisk: int
    partition: int
    folder: str


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One system that the loader offers. ``arc`` is None for what isn't an ARC path (``C:\\="Windows 98"``)."""

    path: str
    arc: ArcPath | None
    title: str
    switches: tuple[str, ...] = ()

    def switch(self, name: str) -> str | None:
        """The value of ``/NAME=value``, an empty string for ``/NAME`` alone, None where it isn't given."""
        for text in self.switches:
            key, _, value = text[1:].partition("=")
            if key.upper() == name.upper():
                return value
        return None


@dataclass(frozen=True, slots=True)
class BootIni:
    """``timeout`` in seconds; -1 waits for ever; None where it isn't said."""

    timeout: int | None
    default: str | None
    entries: tuple[BootEntry, ...]

    @property
    def chosen(self) -> BootEntry | None:
        """The entry that starts when nobody touches a key: the default one, or else the first."""
        for entry in self.entries:
            if self.default is not None and entry.path.lower() == self.default.lower():
                return entry
        return self.entries[0] if self.entries else None


def parse_arc(text: str) -> ArcPath | None:
    """An ARC path, or None where it isn't one."""
    match = _ARC.fullmatch(text.strip())
    if match is None:
        return None
    return ArcPath(
        bus=match["bus"].lower(),
        adapter=match["adapter"],
        disk=int(match["disk"]),
        rdisk=int(match["rdisk"]),
        partition=int(match["partition"]),
        folder=match["path"] or "\\",
    )


def arc_number(table: PartitionTable, index: int) -> int | None:
    """The number that an ARC path gives a partition: primaries first, then logical ones, extended ones not."""
    rows = table.partitions
    order = [part.index for role in ("primary", "logical") for part in rows if part.role == role]
    return order.index(index) + 1 if index in order else None


def other_disk(arc: ArcPath, disk_id: str | None, *, scsi_driver: bool) -> str | None:
    """Why the loader doesn't find the disk that it was itself started from by this path; None where it does.

    ``disk_id`` is the disk's signature (``0x1234abcd``); ``scsi_driver``: NTBOOTDD.SYS lies in the root.
    """
    if arc.bus == "scsi":
        return None if scsi_driver else "scsi() needs NTBOOTDD.SYS in the root, which isn't there"
    if arc.bus == "signature":
        if disk_id is None or not disk_id.startswith("0x") or int(arc.adapter, 16) == int(disk_id, 16):
            return None  # none, or a GPT's GUID
        return f"the disk's signature is {disk_id}"
    if (int(arc.adapter, 16), arc.disk, arc.rdisk) == (0, 0, 0):
        return None
    return "the disk that starts is multi(0)disk(0)rdisk(0)"


def parse_boot_ini(data: bytes) -> BootIni:
    """boot.ini's text in whatever code page: its structure is ASCII. Never fails; what isn't understood is left
    out."""
    timeout: int | None = None
    default: str | None = None
    entries: list[BootEntry] = []
    for section, key, value in ini_lines(data):
        if section == "boot loader":
            if key.lower() == "timeout" and re.fullmatch(r"-?\d{1,9}", value):
                timeout = int(value)
            elif key.lower() == "default":
                default = value
        elif section == "operating systems" and len(entries) < 100:
            title, switches = _title_and_switches(value)
            entries.append(BootEntry(key, parse_arc(key), title, switches))
    return BootIni(timeout, default, tuple(entries))


@dataclass(frozen=True, slots=True)
class FreeldrIni:
    """freeldr.ini: the section that starts by default, and each system's path and options. Names of sections are
    in lower case, ``default`` too: the loader doesn't tell the cases apart."""

    timeout: int | None
    default: str | None
    systems: dict[str, dict[str, str]]


def parse_freeldr_ini(data: bytes) -> FreeldrIni:
    """ReactOS' loader configuration."""
    sections: dict[str, dict[str, str]] = {}
    for section, key, value in ini_lines(data):
        if len(sections) < 100:
            sections.setdefault(section, {})[key.lower()] = value.strip('"')
    loader = sections.get("freeloader", {})
    timeout = loader.get("timeout", "")
    systems = {name: values for name, values in sections.items() if "systempath" in values or "boottype" in values}
    default = loader.get("defaultos")
    return FreeldrIni(
        timeout=int(timeout) if re.fullmatch(r"-?\d{1,9}", timeout) else None,
        default=None if default is None else default.lower(),
        systems=systems,
    )


def ini_lines(data: bytes) -> list[tuple[str, str, str]]:
    """(section in lower case, key, value) of each line ``key=value``; comments and the rest are left out."""
    if data[:2] == b"\xff\xfe":
        text = data[2:MAX_TEXT].decode("utf-16-le", "replace")
    else:
        text = data[:MAX_TEXT].decode("cp1252", "replace")
    section, found = "", []
    for line in text.replace("\x1a", "").splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and "]" in stripped:
            section = stripped[1 : stripped.index("]")].strip().lower()
        elif "=" in stripped and not stripped.startswith(";"):
            key, _, value = stripped.partition("=")
            found.append((section, key.strip(), value.strip()))
    return found


def _title_and_switches(value: str) -> tuple[str, tuple[str, ...]]:
    match = re.match(r'\s*"([^"]*)"(.*)', value)
    title, rest = (match[1], match[2]) if match else (value, "")
    return title, tuple(word for word in rest.split() if word.startswith("/"))
