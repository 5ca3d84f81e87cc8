"""Settings that the user wants otherwise: ``--set key=value`` and ``MACHINE.toml`` beside an image. Pure.

The file has one table ``[machine]`` whose keys are the fields of ``hardware.Machine``::

    [machine]
    network = "e1000"
    memory = "512MiB"
    acpi = true
    hidden = ["nx"]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from byre.errors import UsageError
from byre.machine import hardware
from byre.machine.hardware import Choice, Machine
from byre.units import parse_size

Value: TypeAlias = str | int | bool | list[str]
FILE_NAME = "MACHINE.toml"
MAX_FILE = 1 << 16
MAX_MEMORY = 64 << 30
ALIASES = {
    "nic": "network",
    "vga": "display",
    "ram": "memory",
    "smp": "cpus",
    "mouse": "pointer",
}
CPU_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_FEATURE = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


@dataclass(frozen=True, slots=True)
class Override:
    """One setting: a field of ``Machine``, what was said, and where (``--set``, or the file)."""

    name: str
    value: Value
    source: str


def parse_settings(texts: list[str]) -> tuple[Override, ...]:
    """``key=value`` of each ``--set``, the later ones winning."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError("a setting is KEY=VALUE", found=text, hint="For example: --set nic=e1000")
        key = _field(name.strip())
        found[key] = Override(key, value.strip(), "--set")
    return tuple(found.values())


def parse_file(data: bytes, *, path: str) -> tuple[Override, ...]:
    """The settings of a ``MACHINE.toml``. Raises UsageError that names the file."""
    try:
        document = tomllib.loads(data[: MAX_FILE + 1].decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"isn't TOML: {error}", path=path) from error
    if len(data) > MAX_FILE:
        raise UsageError("is too large for a list of settings", path=path, expected=f"at most {MAX_FILE} bytes")
    table = document.get("machine", {})
    strange = [key for key in document if key != "machine"]
    if strange or not isinstance(table, dict):
        raise UsageError(f"has {strange[0] if strange else 'machine'!r}", path=path, expected="one table [machine]")
    found = []
    for name, value in table.items():
        if not isinstance(value, str | int | bool | list):
            raise UsageError(f"{name} has a value of no use", path=path, found=value)
        try:
            found.append(Override(_field(name), value, path))
        except UsageError as error:
            raise UsageError(error.what, path=path, hint=error.hint) from error
    return tuple(found)


def override(machine: Machine, name: str, value: Value, source: str = "asked for") -> Machine:
    """The machine with one setting changed. Raises UsageError for a value that the setting can't have."""
    field = _field(name)
    if field == "name":
        raise UsageError("the name follows from the image", hint="Copy the image to another name.")
    checked = _PARSERS[field](field, value)
    changed: dict[str, Any] = {field: Choice(checked, source)}
    return replace(machine, **changed)


def _field(name: str) -> str:
    field = ALIASES.get(name.lower(), name.lower())
    if field not in _PARSERS:
        known = ", ".join(sorted(_PARSERS))
        raise UsageError(f"a machine has no setting {name!r}", hint=f"There are: {known}.")
    return field


def _words(allowed: tuple[str, ...]) -> Callable[[str, Value], str]:
    def parse(name: str, value: Value) -> str:
        if value not in allowed:
            raise UsageError(f"{name} can't be {value!r}", expected=", ".join(allowed))
        return str(value)

    return parse


def _flag(name: str, value: Value) -> bool:
    words = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}
    text = str(value).lower()
    if text not in words:
        raise UsageError(f"{name} is on or off", found=value)
    return words[text]


def _memory(name: str, value: Value) -> int:
    size = value if isinstance(value, int) and not isinstance(value, bool) else parse_size(str(value))
    if not 1 << 20 <= size <= MAX_MEMORY or size % (1 << 20):
        raise UsageError("memory is whole mebibytes", found=size, expected="1MiB to 64GiB, for example 256MiB")
    return size


def _count(name: str, value: Value) -> int:
    text = str(value)
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 64:
        raise UsageError("cpus is a number", found=value, expected="1 to 64")
    return int(text)


def _cpu(name: str, value: Value) -> str:
    if not isinstance(value, str) or not CPU_NAME.fullmatch(value):
        raise UsageError("cpu is the name of a model", found=value, expected="for example qemu32, pentium3, host")
    return value


def _features(name: str, value: Value) -> tuple[str, ...]:
    words = value if isinstance(value, list) else [each for each in re.split(r"[, ]+", str(value)) if each]
    for word in words:
        if not isinstance(word, str) or not _FEATURE.fullmatch(word):
            raise UsageError("hidden lists CPU features", found=word, expected="for example nx,lm")
    return tuple(words)


_PARSERS: Mapping[str, Callable[[str, Value], Any]] = {
    "system": _words(hardware.SYSTEMS),
    "architecture": _words(hardware.ARCHITECTURES),
    "firmware": _words(hardware.FIRMWARES),
    "chipset": _words(hardware.CHIPSETS),
    "cpu": _cpu,
    "hidden": _features,
    "cpus": _count,
    "memory": _memory,
    "controller": _words(tuple(hardware.CONTROLLERS)),
    "network": _words(hardware.NETWORK_CARDS),
    "display": _words(hardware.DISPLAYS),
    "sound": _words(hardware.SOUND_CARDS),
    "pointer": _words(hardware.POINTERS),
    "clock": _words(hardware.CLOCKS),
    "acpi": _flag,
    "apic": _flag,
    "hpet": _flag,
}
