"""A file inside a guest as values and texts. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from byre.filesystems.base import Entry

ATTRIBUTES = (
    (0x1, "R"),
    (0x2, "H"),
    (0x4, "S"),
    (0x20, "A"),
    (0x400, "L"),
    (0x800, "C"),
    (0x4000, "E"),
    (0x200, "P"),
)
"""Windows' attributes by their letters: read-only, hidden, system, archive, link (reparse point), compressed,
encrypted, sparse."""


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry's fields for JSON: times as RFC 3339 in UTC, attributes also as letters."""
    return {
        "path": entry.path,
        "name": entry.name,
        "short_name": entry.short_name,
        "type": "directory" if entry.is_dir else "file",
        "size": entry.size,
        "allocated": entry.allocated,
        "attributes": entry.attributes,
        "attribute_letters": letters(entry),
        "created": time_text(entry.created),
        "modified": time_text(entry.modified),
        "accessed": time_text(entry.accessed),
        "changed": time_text(entry.changed),
        "links": entry.links,
        "id": entry.id,
        "deleted": entry.deleted,
        "streams": entry.streams,
        "reparse": entry.reparse,
    }


def letters(entry: Entry) -> str:
    return ("D" if entry.is_dir else "") + "".join(letter for bit, letter in ATTRIBUTES if entry.attributes & bit)


def time_text(nanoseconds: int | None) -> str | None:
    """Nanoseconds since 1970 as RFC 3339 to the second; None for none and for years that don't exist."""
    if nanoseconds is None:
        return None
    try:
        moment = datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment.year >= 1601 else None
