"""Components from TOML: those that ship with Byre, and an owner's own.

A file holds ``[[component]]`` tables with the fields of ``Component``; see docs/components.md.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

from byre.errors import UsageError
from byre.storage.small_file import read_small_file
from byre.windows.components.component import DRIVES, JUDGEMENTS, ONLY_NAMED, PROFILES, SYSTEMS, Component
from byre.windows.components.shared_keys import is_shared

MAX_FILE = 4 << 20
RESERVED = "dropped"
"""What a plan calls what was named by path."""
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_PLACE = re.compile(r"\{(root|system32|programs|common|profile|local)\}/\S.*|/[^{}]+")
_TEXTS = ("id", "title", "profile", "consequence", "source")
_LISTS = ("systems", "files", "marks", "services", "keys", "types", "runs", "subcomponents", "uninstall", "needs")
_NEEDED = ("systems", "files", "marks")
_FIELDS = (*_TEXTS, *_LISTS, "default", "unless", "drives")


@cache
def built_in_components() -> tuple[Component, ...]:
    """The components that ship with Byre, by id."""
    found: list[Component] = []
    for each in sorted(package_files("byre.windows.components").iterdir(), key=lambda file: file.name):
        if each.name.endswith(".toml"):
            found += parse_components(each.read_text(encoding="utf-8"), path=each.name)
    return check_components(tuple(sorted(found, key=lambda row: row.id)), path="built-in components")


def read_components(path: Path) -> tuple[Component, ...]:
    """The components of one TOML file. Raises UsageError, which names the field, and as ``read_small_file`` does."""
    try:
        text = read_small_file(path, MAX_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError("the components are not UTF-8", path=path, offset=error.start) from error
    return parse_components(text, path=str(path))


def parse_components(text: str, *, path: str) -> tuple[Component, ...]:
    """The components of a TOML text. Raises UsageError."""
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"the components are no TOML: {error}", path=path) from error
    rows = content.get("component")
    if set(content) != {"component"} or not isinstance(rows, list) or not rows:
        raise UsageError("holds no components", path=path, expected="[[component]] tables and nothing else")
    return tuple(_component(row, path) for row in rows)


def check_components(components: tuple[Component, ...], *, path: str) -> tuple[Component, ...]:
    """The same, where each id is used once and every need is there; UsageError otherwise."""
    ids = [each.id for each in components]
    for each in components:
        if ids.count(each.id) > 1:
            raise UsageError(f"two components are called {each.id!r}", path=path)
        for need in each.needs:
            if need not in ids:
                raise UsageError(f"the component {each.id!r} needs {need!r}, which isn't there", path=path)
    return components


def _component(row: Any, path: str) -> Component:
    if not isinstance(row, dict):
        raise UsageError("a component is no table", path=path)
    name = row.get("id") if isinstance(row.get("id"), str) else "?"
    wrong = sorted(set(row) - set(_FIELDS))
    if wrong:
        raise _wrong(path, name, wrong[0], "no such field", ", ".join(_FIELDS))
    texts = {field: _text(row, field, path, name) for field in _TEXTS}
    lists = {field: _list(row, field, path, name) for field in _LISTS}
    _check(texts, lists, path, name)
    default, unless, drives = row.get("default", True), row.get("unless"), row.get("drives")
    if not isinstance(default, bool):
        raise _wrong(path, name, "default", default, "true or false")
    if unless is not None and unless not in JUDGEMENTS:
        raise _wrong(path, name, "unless", unless, ", ".join(JUDGEMENTS))
    if drives is not None and drives not in DRIVES:
        raise _wrong(path, name, "drives", drives, ", ".join(DRIVES))
    return Component(
        id=texts["id"],
        title=texts["title"],
        profile=texts["profile"],
        consequence=texts["consequence"],
        source=texts["source"],
        systems=lists["systems"],
        files=lists["files"],
        marks=lists["marks"],
        services=lists["services"],
        keys=lists["keys"],
        subcomponents=lists["subcomponents"],
        uninstall=lists["uninstall"],
        needs=lists["needs"],
        default=default,
        runs=lists["runs"],
        unless=unless,
        types=lists["types"],
        drives=drives,
    )


def _check(texts: dict[str, str], lists: dict[str, tuple[str, ...]], path: str, name: Any) -> None:
    """UsageError for the first field that can't be."""
    if not _ID.fullmatch(texts["id"]) or texts["id"] == RESERVED:
        raise _wrong(path, name, "id", texts["id"], f"lower-case letters, digits and -; not {RESERVED!r}")
    if texts["profile"] not in (*PROFILES, ONLY_NAMED):
        raise _wrong(path, name, "profile", texts["profile"], ", ".join((*PROFILES, ONLY_NAMED)))
    for system in lists["systems"]:
        if system not in SYSTEMS:
            raise _wrong(path, name, "systems", system, ", ".join(SYSTEMS))
    for pattern in lists["files"]:
        if not _PLACE.fullmatch(pattern) or "\\" in pattern or "/../" in f"{pattern}/":
            raise _wrong(path, name, "files", pattern, "a guest path with / that begins with / or a place")
    for mark in lists["marks"]:
        if mark != mark.lower() or "/" in mark or "\\" in mark:
            raise _wrong(path, name, "marks", mark, "a file's name in lower case")
    for key in lists["keys"]:
        if not key.startswith(("SOFTWARE\\", "SYSTEM\\", "NTUSER\\")):
            raise _wrong(path, name, "keys", key, "SOFTWARE\\…, SYSTEM\\… or NTUSER\\…")
        if not all(part.strip() for part in key.split("\\")) or not key.rpartition("\\")[2].strip("*?"):
            raise _wrong(path, name, "keys", key, "names without gaps, the last one not only of * and ?")
        if is_shared(key):
            raise _wrong(path, name, "keys", key, "a key that is the component's alone; a service goes in 'services'")


def _text(row: dict[str, Any], field: str, path: str, name: Any) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip() or len(value) > 1000:
        raise _wrong(path, name, field, value, "a text")
    return value


def _list(row: dict[str, Any], field: str, path: str, name: Any) -> tuple[str, ...]:
    value = row.get(field, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise _wrong(path, name, field, value, "a list of texts")
    if not value and field in _NEEDED:
        raise _wrong(path, name, field, value, "at least one")
    return tuple(value)


def _wrong(path: str, name: Any, field: str, found: object, expected: str) -> UsageError:
    return UsageError(
        f"the component {name!r}: {field!r} is not right", path=path, found=repr(found)[:200], expected=expected
    )
