"""What uses the space of the system's volume: every allocated byte under one kind, for the picture in a report."""

from __future__ import annotations

from byre.audit.facts import SpaceUse
from byre.audit.leftovers import MAX_ENTRIES
from byre.errors import ByreError
from byre.filesystems.base import Entry, FileSystem
from byre.windows.waste import WasteFinder

TITLES = {
    "system": "Windows",
    "programs": "programs",
    "users": "users' files",
    "waste": "what nobody would miss",
    "other": "other files",
    "structures": "the file system's own",
    "free": "free",
}
"""Kinds in the order of the picture. ``waste`` is what ``byre du`` lists as known kinds of waste."""


def use_of_space(files: FileSystem, root: str) -> tuple[SpaceUse, ...]:
    """Allocated bytes by kind. What can't be walked is left in ``structures``, the rest of the volume."""
    bytes_of, files_of = dict.fromkeys(TITLES, 0), dict.fromkeys(TITLES, 0)
    about = files.facts()
    finder, system = WasteFinder(root), f"{root.lower()}/"
    seen: set[int] = set()
    try:
        for number, entry in enumerate(files.walk()):
            if number >= MAX_ENTRIES:
                break
            if entry.links > 1 and not entry.is_dir:
                if entry.id in seen:
                    continue
                seen.add(entry.id)
            kind = _kind(entry, system, finder)
            bytes_of[kind] += entry.allocated + sum(stream.allocated for stream in entry.streams)
            files_of[kind] += not entry.is_dir
    except ByreError:  # the sound question says what is broken; what was counted stands
        pass
    free = about.free or 0
    bytes_of["structures"] = max(0, about.size - free - sum(bytes_of.values()))
    bytes_of["free"] = free
    return tuple(
        SpaceUse(kind, title, bytes_of[kind], files_of[kind]) for kind, title in TITLES.items() if bytes_of[kind]
    )


def _kind(entry: Entry, system: str, finder: WasteFinder) -> str:
    path = entry.path.lower()
    if not entry.is_dir and finder.kind(path) is not None:
        return "waste"
    if path.startswith(system):
        return "system"
    if path.startswith(("/program files/", "/program files (x86)/")):
        return "programs"
    if path.startswith(("/documents and settings/", "/users/")):
        return "users"
    return "other"
