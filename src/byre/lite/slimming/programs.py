"""Whether the programs that stay still load without what goes: import closures with and without it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from byre.filesystems.base import FileSystem
from byre.windows.closure import Closure, ModuleSource, Need, Node, Resolver
from byre.windows.guest_modules import GuestModules, loader_view
from byre.windows.paths import SystemPaths

MODULES = (".dll", ".exe", ".sys", ".ocx", ".drv", ".cpl", ".ax", ".acm", ".tsp", ".scr")


class Listed:
    """The modules of a guest, each folder listed once. Implements ``closure.ModuleSource``. Mutable: it keeps the
    lists."""

    def __init__(self, modules: GuestModules) -> None:
        self.modules = modules
        self._folders: dict[str, Mapping[str, str]] = {}

    def folder(self, path: str) -> Mapping[str, str]:
        listed = self._folders.get(path.lower())
        if listed is None:
            listed = self._folders[path.lower()] = self.modules.folder(path)
        return listed

    def side_by_side(self, name: str) -> str | None:
        return self.modules.side_by_side(name)

    def read(self, path: str) -> bytes:
        return self.modules.read(path)


class Hidden:
    """Modules without those that would go (lower case). Implements ``closure.ModuleSource``."""

    def __init__(self, modules: ModuleSource, gone: Collection[str]) -> None:
        self.modules = modules
        self.gone = gone

    def folder(self, path: str) -> Mapping[str, str]:
        listed = self.modules.folder(path)
        return {name: where for name, where in listed.items() if where.lower() not in self.gone}

    def side_by_side(self, name: str) -> str | None:
        path = self.modules.side_by_side(name)
        return None if path is None or path.lower() in self.gone else path

    def read(self, path: str) -> bytes:
        return self.modules.read(path)


class Programs:
    """What must load afterwards, with its closure as it is now. Mutable: closures are followed once. ``programs``:
    what each is, in words, and its guest path; ``advance`` is told of each that was followed."""

    def __init__(
        self,
        files: FileSystem,
        root: str,
        programs: tuple[tuple[str, str], ...],
        advance: Callable[[int], None] = lambda count: None,
        *,
        paths: SystemPaths | None = None,
    ) -> None:
        self.programs = programs
        self._view = loader_view(files, root, paths)
        self._source = Listed(GuestModules(files, root))
        self._before = Resolver(self._source, self._view)
        self._reached: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self._advance = advance

    def reached(self, path: str) -> tuple[frozenset[str], frozenset[str]]:
        """The modules (lower case) that a program brings with it: at once, and only when it first calls them."""
        found = self._reached.get(path)
        if found is None:
            nodes = self._before.closure(path).nodes
            now = frozenset(node.path.lower() for node in nodes if not node.delayed)
            later = frozenset(node.path.lower() for node in nodes if node.delayed)
            found = self._reached[path] = (now, later - now)
            self._advance(1)
        return found

    def broken(self, gone: frozenset[str], only: Collection[str] | None = None) -> Iterator[tuple[str, ...]]:
        """The chains of programs that no longer load without the paths that go (lower case): the program, the modules
        in between, what is missing. Another copy that the loader would find counts. ``only``: these programs."""
        if not any(path.endswith(MODULES) for path in gone):
            return
        after: Resolver | None = None
        for what, path in self.programs:
            if path.lower() in gone or (only is not None and path not in only):
                continue
            lost = self.reached(path)[0] & gone
            if not lost:
                continue
            after = after or self._before.over(Hidden(self._source, gone))
            before = {_key(node, need) for node, need in self._before.closure(path).missing}
            closure = after.closure(path)
            seen = set()
            for node, need in closure.missing:
                missing = _lost_file(need, lost)
                if _key(node, need) not in before and missing not in seen:
                    seen.add(missing)
                    yield (f"{what} {path}", *_way(closure, node), missing)

    def users(self, home: Mapping[str, str]) -> Iterator[tuple[str, str, str, str, bool]]:
        """(component, what, program, file, later) for each program outside of a component that brings one of its
        files with it; ``home``: path in lower case → component."""
        for what, path in self.programs:
            now, later = self.reached(path)
            own = home.get(path.lower())
            seen = set()
            for modules, delayed in ((now, False), (later, True)):
                for module in sorted(each for each in modules if each in home):
                    if home[module] != own and home[module] not in seen:
                        seen.add(home[module])
                        yield home[module], what, path, module, delayed


def _key(node: Node, need: Need) -> tuple[str, str, str | None]:
    return node.path.lower(), need.dll.lower(), need.reason


def _lost_file(need: Need, lost: Collection[str]) -> str:
    """Which of the files that go a need lacks: the library itself, one that its exports are forwarded to, or one
    that such a library brought with it."""
    ordered = sorted(lost)
    named = [path for path in ordered if path.rpartition("/")[2] == need.dll.lower()]
    forwarded = "; ".join(need.missing).lower()
    named += [path for path in ordered if f"(forwarded to {path.rpartition('/')[2].rpartition('.')[0]}." in forwarded]
    return (named or ordered)[0]


def _way(closure: Closure, importer: Node) -> tuple[str, ...]:
    """The modules between a closure's start and the one that imports what is missing, the start left out."""
    parent: dict[str, str] = {}
    for node in closure.nodes:
        for need in node.needs:
            for path in (*((need.path,) if need.path is not None else ()), *need.forwards):
                parent.setdefault(path.lower(), node.path)
    found: list[str] = []
    here: str | None = importer.path
    while here is not None and here.lower() != closure.start.lower() and here not in found:
        found.append(here)
        here = parent.get(here.lower())
    return tuple(reversed(found))
