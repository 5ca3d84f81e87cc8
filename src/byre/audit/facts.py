"""Everything that the checks look at, as frozen values. No check opens or reads anything itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from byre.audit.finding import Stage
from byre.disks.disk import CheckReport
from byre.filesystems.base import VolumeFacts
from byre.volumes.boot_code import BootCode
from byre.volumes.partition import PartitionTable
from byre.windows.fact import Fact
from byre.windows.guest import Guest
from byre.windows.inf import SourceFile
from byre.windows.protection import Protection
from byre.windows.signed_data import Trust


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
    signature_valid: bool | None = None
    """The signature inside is of this file's own digest; None where there is none, or it can't be read."""


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
    boot_code: BootCode | None = None


@dataclass(frozen=True, slots=True)
class BootSector:
    """The first sector of a partition, as its boot code reads it. ``hidden`` counts sectors."""

    signature: bool
    code: bool
    sectors_per_track: int
    heads: int
    hidden: int
    boot_code: BootCode | None = None
    geometry: tuple[int, int] | None = None
    """(heads, sectors of a track) that should be there, where its code needs them and others clearly are."""


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
class SpaceUse:
    """What one kind of files takes, in bytes of their allocation."""

    kind: str
    title: str
    bytes: int
    files: int


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
    """One scanner's pass. ``name``: ``yara``, ``clamav`` or ``known``. ``used`` False: it wasn't
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
    """The first of the catalogs that can't be read, with the reason."""
    catalogs: tuple[tuple[str, Trust], ...] = ()
    """Whose signature each security catalog carries, by its name."""
    named: frozenset[str] = frozenset()
    """File names in lower case that trusted catalogs state."""


@dataclass(frozen=True, slots=True)
class BrokenProgram:
    """A program beyond the start whose import closure lacks a library; ``importer`` the first module that needs it.
    The program's path and the library's name are in lower case."""

    program: str
    library: str
    importer: str


@dataclass(frozen=True, slots=True)
class LostClass:
    """A class that is registered while its server's file isn't there."""

    clsid: str
    server: str


@dataclass(frozen=True, slots=True)
class Odd:
    """A file that differs, and how."""

    path: str
    said: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """The system held against what it should come from. ``same`` files agree byte for byte; ``listed`` weren't
    expanded, since a catalog of the guest lists them. ``missing``: names, or paths below the Windows folder."""

    title: str
    kind: str
    same: int = 0
    listed: int = 0
    missing: tuple[str, ...] = ()
    altered: tuple[Odd, ...] = ()
    newer: tuple[Odd, ...] = ()
    older: tuple[Odd, ...] = ()
    unread: tuple[Odd, ...] = ()
    added: tuple[str, ...] = ()
    """Programs of the system's folders that the reference hasn't, and that nobody vouches for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the image holds the disk. ``clusters`` of data that it holds in its own blocks, ``out_of_order`` of them
    that don't lie behind the one before; ``free`` bytes that the file systems call free, ``held`` of them that the
    image nevertheless holds, ``taken`` what that takes in its files. ``distrust``: why free space wasn't judged."""

    clusters: int = 0
    out_of_order: int = 0
    free: int = 0
    held: int = 0
    taken: int = 0
    distrust: str | None = None


@dataclass(frozen=True, slots=True)
class Marker:
    """What a tool that repackages Windows, or goes round its activation, left behind. ``kind``: a key of
    ``provenance.MARKER_KINDS``; ``source``: where the marker is known from."""

    name: str
    kind: str
    where: str
    source: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """What the system says of where it comes from. Times are RFC 3339 in UTC.

    ``installed`` is SOFTWARE's InstallDate; ``set_up`` the time that the kernel noted at the end of Setup, and
    ``trial_minutes`` the length of the evaluation beside it (0: none). ``licence``: ``OEM`` where the product id says
    so. ``clone`` is what Sysprep wrote. ``subcomponents``: Setup's optional components, 1 installed. ``certificates``
    counts those of the machine's own root store.
    """

    installed: str | None = None
    set_up: str | None = None
    trial_minutes: int | None = None
    build_lab: str | None = None
    licence: str | None = None
    clone: str | None = None
    activation: bool = False
    """Windows Product Activation keeps its state here."""
    subcomponents: Mapping[str, int] = field(default_factory=dict)
    markers: tuple[Marker, ...] = ()


@dataclass(frozen=True, slots=True)
class Beside:
    """Statements that lie beside the image file. Each is (file, what it says or what is wrong with it).

    ``agrees``: a checksum list or a manifest that fits; ``contradicts``: one that doesn't; ``signed``: a signature
    by a key that the user trusts; ``unknown_key``: a signature that fits a key that nobody vouched for; ``forged``:
    a signature that doesn't fit; ``unread``: what couldn't be looked at.
    """

    agrees: tuple[tuple[str, str], ...] = ()
    contradicts: tuple[tuple[str, str], ...] = ()
    signed: tuple[tuple[str, str], ...] = ()
    unknown_key: tuple[tuple[str, str], ...] = ()
    forged: tuple[tuple[str, str], ...] = ()
    unread: tuple[tuple[str, str], ...] = ()


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
    protection: Fact[Protection] = field(default_factory=lambda: Fact("absent"))
    programs: Fact[tuple[ProgramFile, ...]] = field(default_factory=lambda: Fact("absent"))
    """The census: absent where it wasn't asked for."""
    space: tuple[SpaceUse, ...] = ()
    """The whole of the system's volume by kind; kinds don't overlap."""
    census: Census = field(default_factory=Census)
    """What the census says beside the programs: scanners, what was skipped."""
    paths: frozenset[str] = frozenset()
    """Every file of the system's volume, as a guest path in lower case, as far as there are no more than the audit
    looks at; empty where it couldn't be walked."""
    provenance: Fact[Provenance] = field(default_factory=lambda: Fact("absent"))
    media: tuple[SourceFile, ...] = ()
    """The installation media's own list (``layout.inf``); empty where it isn't there."""
    beside: Beside = field(default_factory=Beside)
    """What lies beside the image and speaks of it."""
    personal: Mapping[str, int] = field(default_factory=dict)
    """What the registry keeps of its users, by kind: numbers of entries."""
    chain: tuple[tuple[str, Fact[CheckReport]], ...] = ()
    """The images below the container, nearest first: the file's name and what its check said."""
    broken_programs: Fact[tuple[BrokenProgram, ...]] = field(default_factory=lambda: Fact("absent"))
    lost_classes: tuple[LostClass, ...] = ()
    reference: Fact[Comparison] = field(default_factory=lambda: Fact("absent"))
    """What it should come from, held against it; absent where nobody asked."""
    layout: Fact[Layout] = field(default_factory=lambda: Fact("absent"))
    """How the container holds the disk."""

    def file(self, path: str) -> FileFacts | None:
        return self.files.get(path.lower())

    def volume(self, index: int) -> VolumeState | None:
        return next((volume for volume in self.volumes if volume.index == index), None)
