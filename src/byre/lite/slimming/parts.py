"""What a plan for ``byre slim`` is made of: names, needs, parts, reasons, edits. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from byre.filesystems.base import Name
from byre.lite.hive_editor import Edit
from byre.windows.components.component import Component

DROPPED = "dropped"
"""The id of what ``--drop`` names by path."""


@dataclass(frozen=True, slots=True)
class Use:
    """Something of the guest that needs a file: ``what`` says so to people, ``path`` is the file's guest path.
    ``service`` and ``clsid`` name what can be switched off together with its component. ``needs_service``: the need
    is a service, not a file. ``key``: where the registry says so, as components name keys. ``run``: the name of a
    Run key's value, ``type`` of a file type, ``holder`` the guest path of a file (a task, a shortcut), that say so.
    ``kind``: ``start``, ``registry``, ``service``, ``class``, ``file type``, ``shell extension``, ``task`` or
    ``autostart``."""

    what: str
    path: str
    service: str | None = None
    clsid: str | None = None
    needs_service: str | None = None
    key: str | None = None
    kind: str = ""
    run: str | None = None
    holder: str | None = None
    type: str | None = None
    place: str | None = None
    """The registry key of a class, a file type's command or a Run value, as ``registry_changes`` takes it."""


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A ``.lnk`` file of the guest with the files that it leads to, in lower case, as far as they are there."""

    path: str
    allocated: int
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dependent:
    """Something that depends on a component in this guest. ``path``: its file that is needed, or the service's name.
    ``along``: it is switched off, unregistered or removed together with the component. ``later``: it asks for the
    file only when it first calls it (a delayed import), so that it starts without."""

    kind: str
    name: str
    path: str
    along: bool = False
    later: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    """Files of a component below one folder: how many, their bytes, and the names of the first of them. ``whole``:
    the folder goes itself."""

    path: str
    files: int
    allocated: int
    whole: bool = False
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One component as far as it is in this guest. ``files`` are guest paths, ``shortcuts`` those of them that only
    lead to the others; ``allocated`` bytes. ``dependents``: ids of components that need it; ``needed_by``: all else
    that does."""

    component: Component
    files: tuple[str, ...]
    allocated: int
    dependents: tuple[str, ...] = ()
    needed_by: tuple[Dependent, ...] = ()
    shortcuts: tuple[str, ...] = ()
    folders: tuple[Folder, ...] = ()


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a file must stay: the chain from what needs it to the file, in words."""

    part: str
    path: str
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Left:
    """Files of a component that stay because they are in use, or because that can't be told."""

    part: str
    why: str
    files: tuple[str, ...]
    allocated: int


@dataclass(frozen=True, slots=True)
class RegistryStep:
    """One edit of the guest's registry, with the component that it belongs to (None: the plan as a whole). ``kind``:
    ``service``, ``class``, ``type``, ``uninstall``, ``subcomponent``, ``key``, ``run``, ``font``, ``code page`` or
    ``protection``."""

    part: str | None
    kind: str
    said: str
    edit: Edit


@dataclass(frozen=True, slots=True)
class SlimPlan:
    """``parts`` go; ``removed`` are the topmost guest paths to remove, ``files`` every file below them; ``reasons``
    not empty: the plan must not be carried out. ``kept``: components that gave way, with the reason. ``left``: what
    stays because it is in use. ``steps``: the edits of the registry; ``notes``: what was left alone, and why."""

    parts: tuple[Part, ...]
    removed: tuple[str, ...]
    files: tuple[str, ...]
    allocated: int
    reasons: tuple[Reason, ...]
    kept: tuple[Reason, ...] = ()
    services: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    steps: tuple[RegistryStep, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Owned:
    """A name with the ids of all components that it belongs to, in the order in which they are asked. ``spared``: of
    those that would own it, were it not in use, the id and the reason."""

    row: Name
    owners: tuple[str, ...]
    spared: tuple[tuple[str, str], ...] = ()
