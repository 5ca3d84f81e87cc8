"""Where one installed system keeps its folders, by its own registry: in German, say, they have other names."""

from __future__ import annotations

from dataclasses import replace

from byre.errors import ByreError
from byre.windows.paths import SystemPaths
from byre.windows.registry import Hive

_FOLDERS = (
    ("programs", r"Microsoft\Windows\CurrentVersion", "ProgramFilesDir"),
    ("common", r"Microsoft\Windows\CurrentVersion", "CommonFilesDir"),
    ("profiles", r"Microsoft\Windows NT\CurrentVersion\ProfileList", "ProfilesDirectory"),
)


def system_paths(root: str, drive: str, software: Hive | None, others: frozenset[str] = frozenset()) -> SystemPaths:
    """What ``%ProgramFiles%`` and its kin stand for in one system; English names where SOFTWARE doesn't tell.
    ``others``: letters of more drives that they may lie on."""
    usual = SystemPaths(root, drive, others)
    found: dict[str, str] = {}
    for field, place, name in _FOLDERS if software is not None else ():
        try:
            key = software.key(place) if software is not None else None
            value = key.value(name) if key is not None else None
        except ByreError:
            continue  # the hive has noted its damage
        path = usual.resolve(value.text) if value is not None and value.text else None
        if path is not None and path.strip("/") and not path.endswith(":/"):
            found[field] = path
    if "programs" in found:
        found.setdefault("common", f"{found['programs']}/Common Files")
    return replace(usual, **found)  # type: ignore[arg-type]
