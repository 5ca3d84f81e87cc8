"""Where a system comes from: what it says of its installation, and what tools that change Windows left behind."""

from __future__ import annotations

import re
import struct
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from typing import Any

from byre.audit.facts import Marker, Provenance
from byre.errors import ByreError
from byre.windows.fact import Fact, attempt, unknown
from byre.windows.guest import Guest
from byre.windows.hives import Hives
from byre.windows.registry import Hive, Key
from byre.windows.registry.layout import filetime_to_rfc3339

MARKER_KINDS = ("repackaged", "activation")
_CURRENT = r"Microsoft\Windows NT\CurrentVersion"
_COMPONENTS = r"Microsoft\Windows\CurrentVersion\Setup\OC Manager\Subcomponents"
_STORES = ("ROOT", "AuthRoot", "CA")
_CERTIFICATE = 32
"""The property of a stored certificate that is the certificate itself (CERT_CERT_PROP_ID)."""
MAX_COMPONENTS = 4096
MAX_CERTIFICATES = 1024


@dataclass(frozen=True, slots=True)
class MarkerRow:
    """One row of ``markers.toml``. ``pattern``: over guest paths in lower case."""

    name: str
    kind: str
    pattern: tuple[str, ...]
    keys: tuple[str, ...]
    source: str


@cache
def marker_rows() -> tuple[MarkerRow, ...]:
    """The table of markers."""
    content = tomllib.loads((package_files("byre.audit") / "markers.toml").read_text(encoding="utf-8"))
    return tuple(
        MarkerRow(row["name"], row["kind"], tuple(row["files"]), tuple(row.get("keys", ())), row["source"])
        for row in content["marker"]
    )


def read_provenance(hives: Hives, guest: Guest, paths: Iterable[str]) -> Fact[Provenance]:
    """What SOFTWARE and SYSTEM say. Unknown without SOFTWARE, which says when and what was installed."""
    software = hives.get("SOFTWARE")
    if software is None:
        return unknown(hives.machine["SOFTWARE"].reason or "the SOFTWARE hive isn't there")
    return attempt(lambda: _read(software, hives.get("SYSTEM"), guest, paths))


def _read(software: Hive, system: Hive | None, guest: Guest, paths: Iterable[str]) -> Provenance:
    current = software.key(_CURRENT)
    set_up, trial = _kernel_note(system, guest)
    return Provenance(
        installed=guest.installed.value,
        set_up=set_up,
        trial_minutes=trial,
        build_lab=_text(current, "BuildLabEx") or _text(current, "BuildLab"),
        licence="OEM" if "-OEM-" in (_text(current, "ProductId") or "").upper() else None,
        clone=_clone(system),
        activation=bool(system and system.key("WPA")),
        subcomponents=_subcomponents(software),
        markers=tuple(_markers(software, system, guest, paths)),
    )


def _text(key: Key | None, name: str) -> str | None:
    value = key.value(name) if key is not None else None
    return (value.text or None) if value is not None else None


def _kernel_note(system: Hive | None, guest: Guest) -> tuple[str | None, int | None]:
    """(time, minutes) of ``Session Manager\\Executive\\PriorityQuantumMatrix``: 12 bytes, in the middle the length of
    the evaluation, around it the low and the high half of a FILETIME. Measured on a real Windows XP hive, and as the
    parameters of STOP 0x98 in Microsoft KB 173507 have it."""
    sets = guest.control_sets.value
    name = sets.next_boot if sets else None
    key = system.key(rf"{name}\Control\Session Manager\Executive") if system is not None and name else None
    value = key.value("PriorityQuantumMatrix") if key is not None else None
    if value is None or len(value.data) < 12:
        return None, None
    low, minutes, high = struct.unpack_from("<III", value.data)
    return filetime_to_rfc3339(high << 32 | low), minutes


def _clone(system: Hive | None) -> str | None:
    """What Sysprep wrote into Setup: its time, as text."""
    key = system.key("Setup") if system is not None else None
    value = key.value("CloneTag") if key is not None else None
    strings = [text for text in value.strings if text.strip()] if value is not None else []
    return strings[0][:100] if strings else None


def _subcomponents(software: Hive) -> Mapping[str, int]:
    key = software.key(_COMPONENTS)
    values = key.values() if key is not None else ()
    return {value.name.lower(): value.number for value in values[:MAX_COMPONENTS] if value.number is not None}


def _markers(software: Hive, system: Hive | None, guest: Guest, paths: Iterable[str]) -> Iterator[Marker]:
    """Every marker that is there, once: by a file, or else by a key."""
    patterns = {row.name: _pattern(row.pattern, guest.root) for row in marker_rows()}
    whole = re.compile("|".join(f"(?:{pattern})" for pattern in patterns.values()), re.DOTALL)
    suspects = [path for path in paths if whole.fullmatch(path)]
    sets = guest.control_sets.value
    for row in marker_rows():
        own = re.compile(patterns[row.name], re.DOTALL)
        found = min((path for path in suspects if own.fullmatch(path)), default=None)
        found = found or next((key for key in row.keys if _has(key, software, system, sets)), None)
        if found is not None:
            yield Marker(row.name, row.kind, found, row.source)


def _pattern(files: tuple[str, ...], root: str) -> str:
    values = {"root": root, "system32": f"{root}/system32", "programs": "/Program Files"}
    found = []
    for text in files:
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
        parts = re.split(r"(\*\*|\*)", text.lower())
        found.append("".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts))
    return "|".join(found)


def _has(key: str, software: Hive, system: Hive | None, sets: Any) -> bool:
    hive, _, path = key.partition("\\")
    try:
        if hive == "SOFTWARE":
            return software.key(path) is not None
        name = sets.next_boot if sets else None
        return system is not None and name is not None and system.key(f"{name}\\{path}") is not None
    except ByreError:
        return False


def store_certificates(software: Hive | None) -> tuple[bytes, ...]:
    """The certificates (DER) in the machine's own stores; none where they can't be read."""
    found: list[bytes] = []
    try:
        for store in _STORES if software is not None else ():
            assert software is not None
            key = software.key(rf"Microsoft\SystemCertificates\{store}\Certificates")
            for child in key.subkeys() if key is not None else ():
                value = child.value("Blob")
                der = _certificate(value.data) if value is not None else None
                if der is not None and len(found) < MAX_CERTIFICATES:
                    found.append(der)
    except ByreError:
        pass  # the sound question says what is wrong with the hive; fewer certificates only vouch for less
    return tuple(found)


def _certificate(blob: bytes) -> bytes | None:
    """The certificate among the properties of a stored one: each is an id, 1, a length and so many bytes."""
    at = 0
    while at + 12 <= len(blob):
        kind, _, length = struct.unpack_from("<III", blob, at)
        if kind == _CERTIFICATE:
            return blob[at + 12 : at + 12 + length]
        at += 12 + length
    return None
