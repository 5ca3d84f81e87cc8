r"""A driver of the owner's, read from its own .inf: which service, which file, for which controllers.

Source: Microsoft's "INF Manufacturer Section", "INF Models Section", "INF AddService Directive"; what is written for
virtio-blk is what virt-v2v writes. Only controllers on PCI count: that is what a machine's disk hangs on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from byre.windows.inf import Inf, InfLine, parse_inf
from byre.windows.registry.layout import ValueType

SCSI_CLASS = "{4D36E97B-E325-11CE-BFC1-08002BE10318}"
IDE_CLASS = "{4D36E96A-E325-11CE-BFC1-08002BE10318}"
_CLASSES = {"scsiadapter": SCSI_CLASS, "hdc": IDE_CLASS}
MAX_IDS = 500
"""Intel's own driver for AHCI names about sixty."""
_ARCHITECTURES = {"x86": "x86", "x64": "amd64"}
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[0-9]{1,10}")
_REG_DWORD, _REG_EXPAND_SZ = 0x10001, 0x20000


@dataclass(frozen=True, slots=True)
class Setting:
    """A value below a service's key. ``key`` is relative to it."""

    key: str
    name: str
    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class GivenDriver:
    """One service of an .inf. ``ids`` as CriticalDeviceDatabase writes them, in lower case."""

    inf: str
    service: str
    file: str
    group: str
    ids: tuple[str, ...]
    class_guid: str
    settings: tuple[Setting, ...] = ()


def read_given(
    name: str, data: bytes, *, version: tuple[int, int], architecture: str
) -> tuple[GivenDriver, ...] | str:
    """The boot drivers of an .inf for this Windows, or why it has none; empty for other kinds of devices."""
    inf = parse_inf(data)
    head = {line.key.lower(): line.fields for line in inf.section("Version") if line.key}
    kind = (head.get("class") or ("",))[0].lower()
    guid = _CLASSES.get(kind) or (head.get("classguid") or ("",))[0].upper()
    if guid not in _CLASSES.values():
        return ()
    by_service: dict[str, GivenDriver] = {}
    models = list(_models(inf, version, _ARCHITECTURES.get(architecture, architecture)))
    for line in models:
        ids = tuple(_critical_id(field) for field in line.fields[1:] if field.upper().startswith("PCI\\"))
        found = _service(inf, line.fields[0], _ARCHITECTURES.get(architecture, architecture)) if ids else None
        if found is None:
            continue
        service, file, group, settings = found
        before = by_service.get(service.lower())
        every = tuple(dict.fromkeys((*(before.ids if before else ()), *ids)))[:MAX_IDS]
        by_service[service.lower()] = GivenDriver(name, service, file, group, every, guid, settings)
    if not by_service:
        wanted = f"Windows {version[0]}.{version[1]} on {architecture}"
        return f"{name} names no controller on PCI for {wanted}"
    return tuple(by_service.values())


def _critical_id(hardware_id: str) -> str:
    return hardware_id.lower().replace("\\", "#")


def _models(inf: Inf, version: tuple[int, int], architecture: str) -> Iterator[InfLine]:
    """The lines of every maker's best section for this Windows."""
    for line in inf.section("Manufacturer"):
        name, *decorations = [field.strip() for field in line.fields] or [line.key or ""]
        fitting = [(rank, each) for each in decorations if (rank := _rank(each, version, architecture)) is not None]
        if fitting:
            section = f"{name}.{max(fitting)[1]}"
        elif not decorations or architecture == "x86":
            section = name  # a section without one is for x86, as Windows 2000 reads it
        else:
            continue
        for row in inf.section(section):
            if row.fields and row.fields[0]:
                yield row


def _rank(decoration: str, version: tuple[int, int], architecture: str) -> tuple[int, int, int] | None:
    """How well ``NTx86.5.1`` fits, None where it doesn't: the newest that isn't newer than the guest."""
    match = re.fullmatch(r"nt(x86|amd64|ia64|arm|arm64)?(?:\.(\d{1,3})?(?:\.(\d{1,3}))?.*)?", decoration.lower())
    if match is None or (match[1] and match[1] != architecture) or (not match[1] and architecture != "x86"):
        return None
    least = (int(match[2] or 0), int(match[3] or 0))
    return (*least, 1 if match[1] else 0) if least <= version else None


def _service(inf: Inf, install: str, architecture: str) -> tuple[str, str, str, tuple[Setting, ...]] | None:
    for suffix in (f".nt{architecture}", ".nt", ""):
        for line in inf.section(f"{install}{suffix}.Services"):
            if (line.key or "").lower() != "addservice" or len(line.fields) < 3 or not line.fields[0]:
                continue
            section = inf.section(line.fields[2])
            rows = {row.key.lower(): row.fields for row in section if row.key}
            file = re.split(r"[\\/%]", (rows.get("servicebinary") or ("",))[0])[-1]
            if re.fullmatch(r"[\w.-]{1,60}\.sys", file, re.IGNORECASE) and _plain(line.fields[0]):
                group = (rows.get("loadordergroup") or ("",))[0] or "SCSI miniport"
                added = [name for row in section if (row.key or "").lower() == "addreg" for name in row.fields]
                settings = tuple(each for name in added for each in _settings(inf.section(name)))
                return line.fields[0], file.lower(), group, settings
    return None


def _plain(name: str) -> bool:
    """Whether a service's name may become a key's: it comes from a file that anybody may have made."""
    return re.fullmatch(r"[\w .-]{1,64}", name) is not None


def _settings(lines: tuple[InfLine, ...]) -> Iterator[Setting]:
    """``HKR,"Parameters\\PnpInterface","5",0x10001,1``: numbers and texts; the rest is left out."""
    for line in lines:
        fields = [field.strip() for field in line.fields]
        if line.key is not None or len(fields) < 5 or fields[0].upper() != "HKR" or not fields[1]:
            continue
        kind = _number(fields[3])
        number = _number(fields[4])
        key = "\\".join(part for part in fields[1].split("\\") if part)
        if not key or not all(_plain(part) for part in key.split("\\")):
            continue
        if kind == _REG_DWORD and number is not None:
            yield Setting(key, fields[2], ValueType.DWORD, (number & 0xFFFFFFFF).to_bytes(4, "little"))
        elif kind in (0, None, _REG_EXPAND_SZ) and fields[4]:
            wide = ValueType.EXPAND_SZ if kind == _REG_EXPAND_SZ else ValueType.SZ
            yield Setting(key, fields[2], wide, fields[4].encode("utf-16-le", "surrogatepass") + b"\0\0")


def _number(text: str) -> int | None:
    return int(text, 0 if text[:2].lower() == "0x" else 10) if _NUMBER.fullmatch(text) else None
