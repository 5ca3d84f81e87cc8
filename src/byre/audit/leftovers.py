"""Counting what is personal and what wastes space: files and bytes by kind, never names or contents."""

from __future__ import annotations

from byre.audit.facts import Count
from byre.errors import ByreError
from byre.filesystems.base import Entry, FileSystem

MAX_ENTRIES = 500_000
PRIVATE = {
    "documents": "users' documents and desktops",
    "mail": "mail stores",
    "history": "browsing history, cookies and caches",
    "recent": "lists of recent files",
    "event logs": "event logs",
    "restore points": "restore points",
    "swap": "page and hibernation files (pieces of memory)",
}
LEAN = {
    "page file": "the page file",
    "updates": "downloaded updates and their uninstallers",
    "temporary": "temporary files, prefetch and dumps",
    "recycler": "the recycle bin",
}
_PROFILES = ("/documents and settings/", "/users/")
_MAIL = (".pst", ".dbx", ".ost", ".wab", ".mbx")


def count_leftovers(files: FileSystem, root: str) -> dict[str, Count]:
    """What the volume holds of each kind; a file may count for several."""
    totals = {kind: [0, 0] for kind in (*PRIVATE, *LEAN)}
    prefix = root.lower()
    try:
        for number, entry in enumerate(files.walk()):
            if number >= MAX_ENTRIES:
                break
            for kind in () if entry.is_dir else _kinds(entry, prefix):
                totals[kind][0] += 1
                totals[kind][1] += entry.size
    except ByreError:  # the sound question says what is broken; what was counted stands
        pass
    return {kind: Count(*numbers) for kind, numbers in totals.items() if numbers[0]}


def _kinds(entry: Entry, root: str) -> list[str]:
    path = entry.path.lower()
    name = entry.name.lower()
    found = []
    if path.startswith(_PROFILES):
        if any(part in path for part in ("/my documents/", "/desktop/", "/documents/")) and name != "desktop.ini":
            found.append("documents")
        if any(part in path for part in ("/cookies/", "/history/", "/temporary internet files/")):
            found.append("history")
        if "/recent/" in path:
            found.append("recent")
    if name.endswith(_MAIL):
        found.append("mail")
    if name.endswith((".evt", ".evtx")) and path.startswith(root):
        found.append("event logs")
    if path.startswith("/system volume information/_restore"):
        found.append("restore points")
    if path in ("/pagefile.sys", "/hiberfil.sys"):
        found.append("swap")
    if path == "/pagefile.sys":
        found.append("page file")
    if path.startswith((f"{root}/softwaredistribution/download/", f"{root}/$ntuninstall", f"{root}/$ntservicepack")):
        found.append("updates")
    if path.startswith((f"{root}/temp/", f"{root}/prefetch/", f"{root}/minidump/")) or path == f"{root}/memory.dmp":
        found.append("temporary")
    if path.startswith(("/recycler/", "/$recycle.bin/")):
        found.append("recycler")
    return found
