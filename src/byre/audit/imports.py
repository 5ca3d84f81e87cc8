"""The import closure of the programs of the start: what of it isn't there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from byre.audit.boot_path import Step
from byre.audit.facts import BrokenImport, FileFacts
from byre.audit.finding import Stage
from byre.errors import CorruptImageError
from byre.filesystems.base import FileSystem
from byre.windows.closure import Closure, Resolver
from byre.windows.guest import Guest
from byre.windows.guest_modules import GuestModules, loader_view

_LAST = max(Stage) + 1


@dataclass(frozen=True, slots=True)
class _Program:
    """A program whose closure is followed, and what its failing means."""

    path: str
    rule: str
    stage: Stage | None
    severity: str | None


def resolver_of(files: FileSystem, root: str) -> Resolver:
    """What looks for modules as the loader of the system below ``root`` does."""
    return Resolver(GuestModules(files, root), loader_view(files, root))


def broken_imports(
    resolver: Resolver, guest: Guest, plan: Iterable[Step], read: Mapping[str, FileFacts]
) -> tuple[BrokenImport, ...]:
    """Every library that breaks a program of the start, once each, at the earliest stage where it does."""
    found: dict[tuple[str, str], BrokenImport] = {}
    for program in _programs(guest, plan, read):
        closure = resolver.closure(program.path)
        if not closure.complete:
            raise CorruptImageError("its import closure has no end", path=program.path)
        for key, row in _missing(closure, program).items():
            known = found.get(key)
            if known is None:
                found[key] = row
            else:
                first = row if (row.stage or _LAST) < (known.stage or _LAST) else known
                found[key] = replace(first, programs=known.programs + 1)
    return tuple(found.values())


def _missing(closure: Closure, program: _Program) -> dict[tuple[str, str], BrokenImport]:
    """Each broken library of one closure, with the first module that needs it."""
    found: dict[tuple[str, str], BrokenImport] = {}
    for node, need in closure.missing:
        key = (need.dll.lower(), need.reason or "")
        if key not in found:
            found[key] = BrokenImport(
                library=need.dll,
                path=need.path,
                reason=need.reason or "isn't there",
                importer=node.path,
                start=program.path,
                rule=program.rule,
                stage=program.stage,
                severity=program.severity,
            )
    return found


def _programs(guest: Guest, plan: Iterable[Step], read: Mapping[str, FileFacts]) -> Iterator[_Program]:
    """Programs of the start, then services; each once, under its first role."""
    seen: set[str] = set()
    for step in plan:
        for path in step.paths:
            if step.pe and path.lower() not in seen and _readable(read, path):
                seen.add(path.lower())
                ends = step.stage is not None and step.stage < Stage.SHELL
                severity = step.severity or (None if ends else "high")
                yield _Program(read[path.lower()].path, "BOOT-025", step.stage, severity)
    for service in guest.services.value or ():
        for each in (service.file, service.service_dll) if service.start in (1, 2) else ():
            if each is not None and each.lower() not in seen and _readable(read, each):
                seen.add(each.lower())
                yield _Program(each, "SVC-004", None, None)


def _readable(read: Mapping[str, FileFacts], path: str) -> bool:
    file = read.get(path.lower())
    return file is not None and file.state == "present" and file.pe is not None and file.pe.problem is None
