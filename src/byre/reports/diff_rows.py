"""What differs between two images as rows of texts: what the terminal and the page show. Pure."""

from __future__ import annotations

from typing import Any

from byre.units import format_size

SECTIONS = {
    "autostarts": "starts by itself",
    "services": "services and drivers",
    "users": "accounts",
    "programs": "programs",
    "hotfixes": "hotfixes",
    "boot": "boot controllers",
    "system": "system",
}


def range_row(change: Any) -> list[str]:
    """A part of the disk that no file tells of."""
    return ["differs", f"{change.start:#x}", format_size(change.length), change.where]


def file_row(row: dict[str, Any]) -> list[str]:
    """A file as kind, sizes in bytes, path and what changed."""
    sizes = [str(row[side]["size"]) for side in ("before", "after") if row[side] is not None]
    size = "" if row["type"] == "directory" else " -> ".join(dict.fromkeys(sizes))
    path = f"{row['from']} -> {row['path']}" if row["from"] else str(row["path"])
    return [row["kind"], size, path, ", ".join(row["what"])]


def fact_row(change: Any) -> list[str]:
    """One fact as kind, name, and what it is or how it changed."""
    if change.fields:
        parts = [
            f"{_value(change.before[name])} -> {_value(change.after[name])}"
            if name == "value"
            else f"{name.replace('_', ' ')} {_value(change.before[name])} -> {_value(change.after[name])}"
            for name in change.fields
        ]
        return [change.kind, change.name, ", ".join(parts)]
    fields = change.after or change.before
    order = ("kind", "command", "image_path", "service_dll", "version", "publisher", "administrator", "value")
    shown = [
        name if fields[name] is True else str(fields[name]) for name in order if fields.get(name) not in (None, False)
    ]
    return [change.kind, change.name, ", ".join(shown)]


def _value(value: Any) -> str:
    if value is None or value == () or value == "":
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)


def key_rows(change: dict[str, Any]) -> list[list[str]]:
    """A key, and a row for each value that differs."""
    extra = "permissions" if change["security"] else ""
    rows = [[change["kind"], change["key"], extra]]
    for value in change["values"]:
        data = " -> ".join(each for each in (value.before, value.after) if each is not None)
        rows.append([f"  {value.kind}", f"  {value.name or '(default)'}", data])
    return rows
