"""Everything that the checks look at, as frozen values. No check opens or reads anything itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from byre.audit.finding import Stage
from byre.disks.disk import CheckReport
from byre.filesystems.base import VolumeFacts
from byre.volumes.partition import PartitionTable
from byre.windows.fact import Fact
from byre.windows.guest import Guest


@dataclass(frozen=True, slots=True)
class PeFacts:
    """What the checks need of a program file. ``problem``: why its headers can't be read; the rest is then empty."""

    machine: str = ""
    truncated: bool = False
    checksum: int = 0
    computed_checksum: int = 0
    original_filename: str | None = None
    file_version: tuple[int, int, int, int] | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file that the start needs. ``state``: ``present``, ``missing`` or ``unread`` with its ``reason``."""

    path: str
    state: str
    size: int = 0
    pe: PeFacts | None = None
    reason: str | None = None
    corrupt: bool = False
    """Unread because the file system's structures or the file's bytes are damaged."""


@dataclass(frozen=True, slots=True)
class MasterBootRecord:
    """Sector 0. ``signature``: 55 AA is there; ``code``: the boot code isn't all zeros."""

    signature: bool
    code: bool


@dataclass(frozen=True, slots=True)
class BootSector:
    """The first sector of a partition, as its boot code reads it. ``hidden`` counts sectors."""

    signature: bool
    code: bool
    sectors_per_track: int
    heads: int
    hidden: int


@dataclass(frozen=True, slots=True)
class VolumeState:
    """One partition: what it holds, and what the check of its file system said."""

    index: int
    start: int
    length: int
    role: str
    active: bool
    type: str | None
    facts: VolumeFacts | None = None
    check: Fact[CheckReport] = field(default_factory=lambda: Fact("absent"))
    boot: Fact[BootSector] = field(default_factory=lambda: Fact("absent"))
    reason: str | None = None
    corrupt: bool = False
    """``reason`` says damage, not merely something that Byre doesn't read."""


@dataclass(frozen=True, slots=True)
class HiveState:
    """One hive. ``state`` is that of a fact; ``problems`` what reading all of it met; ``replayed`` its logs were
    needed."""

    name: str
    path: str
    state: str
    reason: str | None = None
    problems: tuple[str, ...] = ()
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class PciInstance:
    """A device that was configured before: ``Enum\\PCI``. ``id`` in lower case, ``#`` for the separator."""

    id: str
    service: str


@dataclass(frozen=True, slots=True)
class SystemSettings:
    """What the next boot reads from SYSTEM. Texts as they stand there."""

    control_set: str
    known_dlls: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    kmode: str | None = None
    windows: str | None = None
    boot_execute: tuple[str, ...] = ()
    nls_files: tuple[tuple[str, str], ...] = ()
    """(value, file name) for ACP, OEMCP and the default language."""
    nls_missing: tuple[str, ...] = ()
    lsa_packages: tuple[str, ...] = ()
    mounted: tuple[tuple[str, int, int], ...] = ()
    """(drive letter, disk signature, start of the partition in bytes)."""
    pci: tuple[PciInstance, ...] = ()


@dataclass(frozen=True, slots=True)
class LogonSettings:
    """What winlogon reads from SOFTWARE. Texts as they stand there."""

    shell: str | None = None
    userinit: str | None = None
    gina: str | None = None
    drive: str = "C"


@dataclass(frozen=True, slots=True)
class Count:
    """A number of files and their bytes."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class BrokenImport:
    """A library that a program of the start brings with it and that isn't there or lacks what is imported.

    ``reason`` says which; ``importer`` is the first module that needs it; ``start`` the program that began it, with
    its ``rule``, ``stage`` and ``severity``; ``programs`` how many programs of the start it breaks.
    """

    library: str
    path: str | None
    reason: str
    importer: str
    start: str
    rule: str
    stage: Stage | None
    severity: str | None
    programs: int = 1


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """One file of the census: every regular file on the system's volume whose bytes are those of a program (a PE, or
    a boot loader), or that a rule asks for. Digests in lower-case hexadecimal; ``authenticode_sha1`` and
    ``authenticode_sha256`` leave out what a signature changes, None for a file that isn't a PE."""

    path: str
    size: int
    md5: str
    sha1: str
    sha256: str
    authenticode_sha1: str | None = None
    authenticode_sha256: str | None = None
    pe: PeFacts | None = None
    company: str | None = None
    signed: bool = False
    """A certificate table is inside; says nothing of its worth."""
    packed: str | None = None
    """Why it looks packed: the packer's section name, or an entropy."""
    known: str | None = None
    """Who knows it: a security catalog of the guest, or a list of hashes, by name."""
    stream: bool = False
    """It lies in a named stream beside another file; ``path`` ends in ``:NAME``."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that wasn't looked at, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hit:
    """What a scanner says of a file: the rule, the signature or the list. ``severity`` None: the rule's own."""

    path: str
    name: str
    about: str = ""
    severity: str | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """One scanner's pass. ``name``: ``yara``, ``clamav``, ``known-bad``, ``known-good``. ``used`` False: it wasn't
    asked for, or ``problem`` kept it from working. ``about`` says what it knows, ``date`` from when that is.
    ``skipped`` holds the first of the ``skipped_count`` files that it couldn't look at."""

    name: str
    used: bool
    about: str = ""
    date: str | None = None
    problem: str | None = None
    hits: tuple[Hit, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0


@dataclass(frozen=True, slots=True)
class Census:
    """One pass over the files of the system's volume. ``files`` counts them; ``skipped`` those whose bytes couldn't
    be read; ``truncated``: there were more than the audit looks at."""

    files: int = 0
    skipped: tuple[Skipped, ...] = ()
    skipped_count: int = 0
    truncated: bool = False
    scans: tuple[Scan, ...] = ()
    catalog_digests: int = 0
    """Digests that the guest's own security catalogs list."""
    catalog_problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """One image with the system that it would start. ``files`` by path in lower case; ``loader`` those on the active
    partition; ``leftovers`` what the private and lean questions count, by kind."""

    image: str
    container: Fact[CheckReport]
    table: PartitionTable
    mbr: Fact[MasterBootRecord]
    volumes: tuple[VolumeState, ...]
    guest: Guest | None
    kind: str
    """A key of ``rule.GUESTS``, or ``unknown``."""
    hives: tuple[HiveState, ...] = ()
    system: Fact[SystemSettings] = field(default_factory=lambda: Fact("absent"))
    logon: Fact[LogonSettings] = field(default_factory=lambda: Fact("absent"))
    files: Mapping[str, FileFacts] = field(default_factory=dict)
    loader: Mapping[str, FileFacts] = field(default_factory=dict)
    leftovers: Mapping[str, Count] = field(default_factory=dict)
    others: tuple[str, ...] = ()
    """Other installed systems on the disk, which this audit doesn't look at."""
    imports: Fact[tuple[BrokenImport, ...]] = field(default_factory=lambda: Fact("absent"))
    programs: Fact[tuple[ProgramFile, ...]] = field(default_factory=lambda: Fact("absent"))
    """The census: absent where it wasn't asked for."""
    census: Census = field(default_factory=Census)
    """What the census says beside the programs: scanners, what was skipped."""

    def file(self, path: str) -> FileFacts | None:
        return self.files.get(path.lower())

    def volume(self, index: int) -> VolumeState | None:
        return next((volume for volume in self.volumes if volume.index == index), None)
