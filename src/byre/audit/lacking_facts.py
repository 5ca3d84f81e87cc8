"""What of a system isn't whole: programs that lack a library, registered classes that lack their server."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from byre.audit.facts import BrokenProgram, LostClass
from byre.errors import ByreError
from byre.windows.closure import Resolver
from byre.windows.paths import SystemPaths, command_program
from byre.windows.registry import Hive

MAX_PROGRAMS = 4000
MAX_BROKEN = 500
MAX_CLASSES = 50_000
SECOND_COPIES = (
    "{root}/system32/dllcache/",
    "{root}/servicepackfiles/",
    "{root}/driver cache/",
    "{root}/installer/",
    "{root}/softwaredistribution/",
    "{root}/$",
    "{root}/winsxs/",
    "{root}/repair/",
    "/i386/",
    "/recycler/",
    "/$recycle.bin/",
    "/system volume information/",
    "/msocache/",
    "/windows.old/",
)
"""Folders whose files are kept, not run from there; ``{root}`` the Windows folder."""


def in_use(paths: Iterable[str], root: str) -> list[str]:
    """The paths (lower case) that aren't second copies or waiting to be installed."""
    kept = tuple(each.replace("{root}", root.lower()) for each in SECOND_COPIES)
    return [path for path in paths if not path.startswith(kept)]


def broken_programs(resolver: Resolver, paths: Iterable[str], done: Collection[str]) -> tuple[BrokenProgram, ...]:
    """The programs (.exe, .scr, .cpl) whose import closure lacks a file, once for each program and library.

    ``done``: those in lower case whose closure has been followed already.
    """
    found: list[BrokenProgram] = []
    programs = sorted(path for path in paths if path.endswith((".exe", ".scr", ".cpl")) and path not in done)
    for path in programs[:MAX_PROGRAMS]:
        seen = set()
        for node, need in resolver.closure(path).missing:
            if need.path is None and need.dll.lower() not in seen and len(found) < MAX_BROKEN:
                seen.add(need.dll.lower())
                found.append(BrokenProgram(path, need.dll.lower(), node.path))
    return tuple(found)


def lost_classes(software: Hive | None, system_paths: SystemPaths, paths: Collection[str]) -> tuple[LostClass, ...]:
    """The registered classes whose server's file isn't there; those on other drives can't be told."""
    found = []
    try:
        top = software.key(r"Classes\CLSID") if software is not None else None
        for key in (top.subkeys() if top is not None else ())[:MAX_CLASSES]:
            for kind in ("InprocServer32", "LocalServer32"):
                server = key.subkey(kind)
                value = server.value() if server is not None else None
                path = _server(value.text or "", system_paths) if value is not None else None
                if path is not None and not any(each in paths for each in path):
                    found.append(LostClass(key.name, path[0]))
    except ByreError:
        pass  # the sound question says what is wrong with the hive
    return tuple(found)


def _server(command: str, system_paths: SystemPaths) -> tuple[str, ...] | None:
    """Where a server's file may lie, in lower case; None where it can't be told."""
    program = command_program(command).strip()
    if not program:
        return None
    resolved = system_paths.resolve(program)
    if resolved is not None:
        return (resolved.lower(),)
    if any(mark in program for mark in "\\/:%"):
        return None
    return tuple(each.lower() for each in system_paths.search(program))
