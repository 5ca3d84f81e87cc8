"""What an export will write, decided before anything is written: the seam that every target implements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from byre.disks.disk import SnapshotInfo
from byre.machine.hardware import Machine


@dataclass(frozen=True, slots=True)
class Identity:
    """What must differ between two machines: made at random outside of the plans, so that those stay pure.

    ``mac`` is six bytes; each target spells them, with its own vendor's prefix.
    """

    machine: UUID
    disk: UUID
    mac: bytes
    moment: str
    """When it was exported, RFC 3339 in UTC."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is exported: the machine, and the facts of its disk. Sizes in bytes.

    ``title`` and ``source`` are for people (the system's own name for itself, the image as the user named it) and
    hold whatever a guest or a file name holds. ``ahci`` says whether the guest has a driver for AHCI at boot; None
    where that can't be told.
    """

    machine: Machine
    title: str
    source: str
    disk_size: int
    sector_size: int
    identity: Identity
    form: str
    snapshots: tuple[SnapshotInfo, ...] = ()
    """The internal snapshots that go along; empty without ``--with-snapshots``."""
    ahci: bool | None = None
    digest: str = "sha256"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an export should not be made. ``forceable`` False: it can't be made at all."""

    reason: str
    forceable: bool = True


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of an export. ``path`` is relative to the export, ``/`` between its parts."""

    path: str
    text: str
    executable: bool = False


@dataclass(frozen=True, slots=True)
class DiskFile:
    """The disk wanted: ``target`` is a row of ``convert.target_profiles`` whose rules it is held to. ``chain``: a
    folder of that path, with a differencing image for each state of the disk."""

    path: str
    target: str
    format: str
    options: Mapping[str, object] = field(default_factory=dict)
    chain: bool = False


@dataclass(frozen=True, slots=True)
class DiskPart:
    """One image of a chain: its path in the export, and the UUID that it got."""

    path: str
    uuid: str


@dataclass(frozen=True, slots=True)
class WrittenDisk:
    """The disk as it was written. Sizes in bytes; ``digest`` in hexadecimal, of the whole file; ``parts`` are the
    images of a chain, the oldest first."""

    size: int
    file_size: int
    digest: str
    parts: tuple[DiskPart, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """One export. ``shape``: ``folder``, or a tar archive: ``ova`` (the first text first, its digests in a
    manifest) or ``box``. ``controller`` is the boot controller that the guest will see there, in the words of
    ``hardware.CONTROLLERS``. ``settings`` are (word, value) pairs as the target will show them."""

    target: str
    title: str
    name: str
    """Of the folder or file, where the user gives none."""
    shape: str
    disk: DiskFile
    texts: tuple[str, ...]
    """Paths of the text files, in order."""
    controller: str
    settings: tuple[tuple[str, str], ...]
    lines: tuple[str, ...]
    """The commands that import it."""
    notes: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()


class Exporter(Protocol):
    """What a target's module offers. Both functions are pure."""

    def plan(self, subject: Subject) -> ExportPlan: ...

    def texts(self, subject: Subject, disk: WrittenDisk | None) -> tuple[TextFile, ...]:
        """The text files of ``plan``, in its order. ``disk`` None: before it was written, to be looked at."""
        ...
