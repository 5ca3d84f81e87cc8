"""What a program or driver needs before it can start: every file and every symbol, as that system's loader looks
for them. Pure over a small protocol for folders and files.

User mode (Windows 2000 to 7): KnownDLLs, the program's folder, system32, system, the Windows folder, PATH, and side
by side assemblies for what is nowhere else. Kernel mode: the importer's folder, system32\\drivers, system32.
Source: Microsoft's "Dynamic-link library search order", KB 164501 (KnownDLLs); the kernel's order is as public
descriptions of MmLoadSystemImage have it. ``.local`` redirection and manifests' versions are not judged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from byre.errors import ByreError
from byre.windows.pe import parse_pe
from byre.windows.pe.directories import Import, Symbol

_NATIVE = 1
_X86 = 0x14C
MAX_FORWARDS = 32
"""Real chains of forwarders have one or two links."""
MAX_MODULES = 10_000


class ModuleSource(Protocol):
    """Where modules are looked for. Paths are guest paths (``/WINDOWS/system32``)."""

    def folder(self, path: str) -> Mapping[str, str]:
        """Lower-case file name → guest path; empty where there is no such folder."""
        ...

    def side_by_side(self, name: str) -> str | None:
        """The path of a DLL (lower case) in WinSxS, None where no assembly has it."""
        ...

    def read(self, path: str) -> bytes:
        """The file's bytes; raises ByreError."""
        ...


@dataclass(frozen=True, slots=True)
class LoaderView:
    """What the search depends on besides folders. ``known_dlls``: lower-case file names; ``path``: folders that
    PATH adds; ``api_sets``: the system maps api-ms-win-… names itself; ``wow64``: 32-bit modules use SysWOW64."""

    root: str
    known_dlls: frozenset[str] = frozenset()
    path: tuple[str, ...] = ()
    api_sets: bool = False
    wow64: bool = False


@dataclass(frozen=True, slots=True)
class Need:
    """One DLL that a module imports. ``how`` says where the loader finds it; ``missing`` names symbols that it
    doesn't export (``#5`` by ordinal); ``reason`` says what is wrong, None where nothing is."""

    dll: str
    path: str | None
    how: str | None
    delay: bool
    missing: tuple[str, ...] = ()
    reason: str | None = None
    forwards: tuple[str, ...] = ()
    """Modules that the imported symbols are forwarded to."""

    @property
    def satisfied(self) -> bool:
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Node:
    """One module of a closure. ``delayed``: reached only through delay imports, so nothing of it is fatal."""

    path: str
    needs: tuple[Need, ...]
    delayed: bool
    kernel: bool
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Closure:
    """Everything that one module brings with it, itself first."""

    start: str
    nodes: tuple[Node, ...]
    complete: bool = True

    @property
    def missing(self) -> tuple[tuple[Node, Need], ...]:
        """What isn't there and keeps the start from loading."""
        return tuple((n, need) for n in self.nodes if not n.delayed for need in n.needs if _fatal(need))

    @property
    def missing_later(self) -> tuple[tuple[Node, Need], ...]:
        """What isn't there but is asked for only when first called."""
        return tuple(
            (n, need) for n in self.nodes for need in n.needs if not need.satisfied and (n.delayed or need.delay)
        )


def _fatal(need: Need) -> bool:
    return not need.satisfied and not need.delay


@dataclass(frozen=True, slots=True)
class _Module:
    """What counts of a PE file; its bytes are let go."""

    path: str
    kernel: bool
    machine: int
    machine_name: str
    imports: tuple[Import, ...]
    names: dict[str, str | None]
    ordinals: dict[int, str | None]


@dataclass(slots=True)
class _Search:
    """One module's search. Mutable: it notes which names came as far as the program's folder."""

    app: str
    asked: set[str] = field(default_factory=set)
    app_mattered: bool = False


class Resolver:
    """Answers for all modules of one system. Mutable: it keeps what it has read, keyed by path, so that an audit of
    thousands of programs reads each system DLL once."""

    def __init__(self, source: ModuleSource, view: LoaderView) -> None:
        self.source = source
        self.view = view
        self._modules: dict[str, _Module | str] = {}
        self._folders: dict[str, Mapping[str, str]] = {}
        self._shared: dict[str, tuple[tuple[Need, ...], frozenset[str]]] = {}
        self._own: dict[tuple[str, str], tuple[Need, ...]] = {}

    def over(self, source: ModuleSource) -> Resolver:
        """Another resolver of the same system, whose folders are other: what was read of the modules is shared."""
        other = Resolver(source, self.view)
        other._modules = self._modules
        return other

    def closure(self, path: str, *, app: str | None = None) -> Closure:
        """All that the module at ``path`` needs. ``app`` is the program's folder where it isn't the module's."""
        folder = app if app is not None else path.rpartition("/")[0]
        seen = {path.lower()}
        now, later = deque([path]), deque[str]()
        nodes: list[Node] = []
        while (now or later) and len(nodes) < MAX_MODULES:
            delayed = not now
            here = now.popleft() if now else later.popleft()
            if delayed and here.lower() in seen:
                continue
            seen.add(here.lower())
            module = self._module(here)
            if isinstance(module, str):
                nodes.append(Node(here, (), delayed, False, module))
                continue
            needs = self.needs(here, app=folder)
            nodes.append(Node(here, needs, delayed, module.kernel))
            for need in needs:
                for found in (*((need.path,) if need.path else ()), *need.forwards):
                    if found.lower() in seen:
                        continue
                    if delayed or need.delay:
                        later.append(found)
                    else:
                        seen.add(found.lower())
                        now.append(found)
        return Closure(path, tuple(nodes), not now and not later)

    def needs(self, path: str, *, app: str) -> tuple[Need, ...]:
        """What the module itself imports, each looked for. Empty where it can't be read."""
        shared = self._shared.get(path)
        if shared is not None:
            beside = self._folder(app)
            if app.lower() == self._system32().lower() or not any(name in beside for name in shared[1]):
                return shared[0]
        own = self._own.get((path, app))
        if own is not None:
            return own
        module = self._module(path)
        if isinstance(module, str):
            return ()
        search = _Search(app)
        needs = tuple(self._need(module, row, search) for row in module.imports)
        if search.app_mattered:
            self._own[(path, app)] = needs
        else:
            self._shared[path] = (needs, frozenset(search.asked))
        return needs

    def error(self, path: str) -> str | None:
        """Why the module at ``path`` can't be read; None where it can."""
        module = self._module(path)
        return module if isinstance(module, str) else None

    def _need(self, module: _Module, row: Import, search: _Search) -> Need:
        path, how = self._find(row.dll, module, search)
        if path is None:
            reason = None if how else _absent(row.dll)
            return Need(row.dll, None, how, row.delay, reason=reason)
        target = self._module(path)
        if isinstance(target, str):
            return Need(row.dll, path, how, row.delay, reason=f"can't be read: {target}")
        if target.machine != module.machine:
            reason = f"is for {target.machine_name}, the importer for {module.machine_name}"
            return Need(row.dll, path, how, row.delay, reason=reason)
        missing: list[str] = []
        forwards: list[str] = []
        for symbol in row.symbols:
            forwarder = self._exported(target, symbol)
            if forwarder is None:
                continue
            if not forwarder or not self._follow(forwarder, target, search, forwards):
                shown = symbol.name if symbol.name is not None else f"#{symbol.ordinal}"
                missing.append(f"{shown} (forwarded to {forwarder})" if forwarder else shown)
        reason = f"doesn't export {', '.join(missing[:8])}" if missing else None
        if len(missing) > 8:
            reason = f"{reason} and {len(missing) - 8} more"
        return Need(row.dll, path, how, row.delay, tuple(missing), reason, tuple(dict.fromkeys(forwards)))

    @staticmethod
    def _exported(target: _Module, symbol: Symbol) -> str | None:
        """None where it is exported as code or data, the forwarder where it is one, empty where it isn't there."""
        if symbol.name is not None:
            return target.names.get(symbol.name, "")
        return "" if symbol.ordinal is None else target.ordinals.get(symbol.ordinal, "")

    def _follow(self, forwarder: str, module: _Module, search: _Search, passed: list[str]) -> bool:
        """Whether a chain of forwarders ends at an export; the modules on it are added to ``passed``."""
        text: str | None = forwarder
        for _ in range(MAX_FORWARDS):
            dll, _, name = (text or "").rpartition(".")
            path, how = self._find(f"{dll}.dll", module, search) if dll else (None, None)
            if path is None:
                return how == "API set"
            passed.append(path)
            target = self._module(path)
            if isinstance(target, str):
                return False
            by_ordinal = name[1:] if name.startswith("#") else ""
            if by_ordinal.isascii() and by_ordinal.isdigit() and len(by_ordinal) <= 5:
                text = self._exported(target, Symbol(None, int(by_ordinal)))
            else:
                text = self._exported(target, Symbol(name, None))
            if text is None:
                return True
            if not text:
                return False
            module = target
        return False

    def _find(self, dll: str, module: _Module, search: _Search) -> tuple[str | None, str | None]:
        """(path, how) of a DLL; path is None where it isn't found or, with ``how``, where the system has none."""
        name = dll.lower()
        if "." not in name:
            name += ".dll"
        if "/" in name or "\\" in name or ":" in name:
            return None, None
        root = self.view.root
        if module.kernel:
            for folder in (module.path.rpartition("/")[0], f"{root}/system32/drivers", f"{root}/system32"):
                if hit := self._folder(folder).get(name):
                    return hit, folder
            return None, None
        system = self._system32(module.machine)
        if name in self.view.known_dlls and (hit := self._folder(system).get(name)):
            return hit, "KnownDLLs"
        if search.app.lower() != system.lower():
            search.asked.add(name)
            if hit := self._folder(search.app).get(name):
                search.app_mattered = True
                return hit, "the program's folder"
        for folder in (system, f"{root}/system", root, *self.view.path):
            if hit := self._folder(folder).get(name):
                return hit, folder
        if hit := self.source.side_by_side(name):
            return hit, "side by side"
        if self.view.api_sets and is_api_set(name):
            return None, "API set"
        return None, None

    def _system32(self, machine: int | None = None) -> str:
        return f"{self.view.root}/{'SysWOW64' if self.view.wow64 and machine == _X86 else 'system32'}"

    def _folder(self, path: str) -> Mapping[str, str]:
        key = path.lower()
        listed = self._folders.get(key)
        if listed is None:
            listed = self._folders[key] = self.source.folder(path)
        return listed

    def _module(self, path: str) -> _Module | str:
        key = path.lower()
        module = self._modules.get(key)
        if module is None:
            try:
                module = _summary(path, self.source.read(path))
            except ByreError as error:
                module = error.what
            self._modules[key] = module
        return module


def is_api_set(name: str) -> bool:
    """Whether a DLL's name is a contract that Windows 7 and later map to a host, not a file of its own."""
    return name.lower().startswith(("api-ms-", "ext-ms-"))


def _absent(dll: str) -> str:
    if is_api_set(dll):
        return "is an API set, which only Windows 7 and later have"
    return "isn't there"


def _summary(path: str, data: bytes) -> _Module:
    pe = parse_pe(data, path=path)
    imports = pe.imports
    names: dict[str, str | None] = {}
    ordinals: dict[int, str | None] = {}
    for row in pe.exports:
        ordinals[row.ordinal] = row.forwarder
        if row.name is not None:
            names[row.name] = row.forwarder
    native = pe.headers.subsystem == _NATIVE
    user = any(row.dll.lower() == "ntdll.dll" for row in imports)  # smss, csrss and autochk are native too
    return _Module(path, native and not user, pe.headers.machine, pe.headers.machine_name, imports, names, ordinals)
