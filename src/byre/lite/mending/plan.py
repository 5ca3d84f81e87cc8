"""What a mend would do, as values: steps, and what it can't do with the reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from byre.audit.facts import Facts
from byre.filesystems.base import FileSystem
from byre.lite.changes import Change
from byre.lite.hive_editor import Edit


@dataclass(frozen=True, slots=True)
class WriteSector:
    """Whole sectors of the disk are replaced. ``offset`` is a guest offset of the disk, not of a volume."""

    offset: int
    data: bytes


Action: TypeAlias = Change | Edit | WriteSector


@dataclass(frozen=True, slots=True)
class Step:
    """One change and what it is, for people. ``loader``: it belongs on the volume that the loader starts from, not on
    the system's."""

    said: str
    action: Action
    loader: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """What isn't mended, why, and what would mend it."""

    what: str
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What one mend would do; ``notes`` are what else is good to know. Several steps may be one thing and say the
    same. Texts may hold names from the guest: escape them before they are shown."""

    steps: tuple[Step, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()

    def __add__(self, other: Plan) -> Plan:
        return Plan(self.steps + other.steps, self.refusals + other.refusals, self.notes + other.notes)

    @property
    def said(self) -> tuple[str, ...]:
        """What would be done, each thing once."""
        return tuple(dict.fromkeys(step.said for step in self.steps))


class Source(Protocol):
    """Where missing files of Windows are taken from: the guest's own copies, and what its owner gave."""

    def find(self, name: str) -> tuple[bytes, str] | None:
        """A file's bytes by its name, and where they are from; None where nobody has it."""
        ...

    def given(self, name: str) -> bool:
        """Whether the owner gave it."""
        ...

    def descriptions(self) -> Iterator[tuple[str, bytes]]:
        """The .inf files that the owner gave, by name."""
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for. ``autostarts`` are to be disabled, ``enables`` to be enabled again; ``new_mbr``,
    ``new_vbr``: boot code that is there, in the master boot record or in the active partition's boot sector, is
    replaced as well."""

    autostarts: tuple[str, ...] = ()
    discard_session: bool = False
    new_mbr: bool = False
    new_vbr: bool = False
    enables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Patient:
    """One system to be mended: its facts and its files, nothing of which is written. ``files`` and ``root`` are those
    of the system's volume, ``loader`` the file system that the machine starts from."""

    facts: Facts
    files: FileSystem
    loader: FileSystem
    root: str
    source: Source
    options: Options = field(default_factory=Options)


Planner: TypeAlias = Callable[[Patient], Plan]


@dataclass(frozen=True, slots=True)
class Mend:
    """One row of the table. ``rules``: those of the audit that no longer fire afterwards. ``only_asked``: it is done
    only where its name is said, not with ``all``. ``tells``: its notes are an answer of their own."""

    name: str
    title: str
    rules: tuple[str, ...]
    plan: Planner
    only_asked: bool = False
    tells: bool = False
