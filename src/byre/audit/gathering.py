"""Reading the facts of one image: the only part of the audit that opens and reads anything."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from byre.audit import boot_path
from byre.audit.census_of import census_of
from byre.audit.container import check_chain, check_container, read_layout
from byre.audit.facts import (
    BootSector,
    Facts,
    FileFacts,
    HiveState,
    LogonSettings,
    MasterBootRecord,
    SystemSettings,
    VolumeState,
)
from byre.audit.imports import broken_imports, resolver_of
from byre.audit.lacking_facts import broken_programs, in_use, lost_classes
from byre.audit.leftovers import survey_volume
from byre.audit.personal import count_personal
from byre.audit.program_files import read_pe
from byre.audit.provenance import read_provenance, store_certificates
from byre.audit.scanners import Scanners
from byre.audit.settings import guest_kind, read_logon, read_system
from byre.audit.space_use import use_of_space
from byre.disks.disk import Disk
from byre.errors import ByreError, CorruptImageError, MissingError
from byre.filesystems.base import FileSystem
from byre.filesystems.opening import OpenVolume
from byre.volumes.boot_code import recognise_master, recognise_volume
from byre.volumes.geometry import needs_geometry, right_geometry, table_geometries
from byre.windows.boot_ini import MAX_TEXT, BootIni, arc_number, parse_boot_ini
from byre.windows.fact import Fact, absent, attempt, unknown
from byre.windows.guest import Guest, read_guest
from byre.windows.hives import MACHINE_HIVES, Hives, open_hives
from byre.windows.inf import MAX_INF, SourceFile, parse_inf, read_source_files
from byre.windows.inspection import Inspection
from byre.windows.paths import SystemPaths
from byre.windows.protection import Protection, read_protection
from byre.windows.system_paths import system_paths

BOOT_AREA = 8192
"""A boot sector with the loader code of NTFS behind it."""
MAX_PE = 64 << 20
MAX_FILES = 20_000
"""A real system has a few hundred services; a made-up one could keep the audit busy for days."""
MAX_HIVE_KEYS = 1_000_000
LOADER_FILES = (
    *("/NTLDR", "/NTDETECT.COM", "/boot.ini", "/ntbootdd.sys"),
    *("/bootmgr", "/Boot/BCD", "/freeldr.sys", "/freeldr.ini"),
)
STAGES = ("container", "partitions", "file systems", "system", "libraries", "space", "programs")
"""What ``gather`` says it is at, in this order."""
Progress = Callable[[str], None]


def _quiet(stage: str) -> None:
    return None


def gather(
    disk: Disk,
    *,
    name: str,
    progress: Progress = _quiet,
    scanners: Scanners | None = None,
    found: Inspection | None = None,
    counting: bool = True,
) -> Facts:
    """The facts of an image. Raises only where the disk itself can't be read, or a scanner can't be made ready.

    ``scanners`` None leaves the census out: no question that needs it was asked. ``found``: the disk has been looked
    into already, and what was learnt so needn't be learnt again. Without ``counting`` nothing is said of what is
    personal and what wastes space: neither Private nor Lean may be asked.
    """
    progress("container")
    container, chain = check_container(disk), check_chain(disk)
    progress("partitions")
    found = found or Inspection(disk, name=name)
    mbr = attempt(lambda: _master_boot_record(disk.read(0, 512))) if disk.size >= 512 else absent()
    progress("file systems")
    volumes = tuple(_volume(disk, volume) for volume in found.volumes)
    layout = attempt(lambda: read_layout(disk, found.volumes, {each.index: each.check for each in volumes}))
    facts = Facts(name, container, found.table, mbr, volumes, guest=None, kind="unknown", chain=chain, layout=layout)
    roots = _in_boot_order(found)
    if not roots:
        return facts
    volume, root = roots[0]
    assert volume.filesystem is not None
    progress("system")
    active = next((each for each in found.volumes if each.partition.active and each.filesystem), None)
    loader = (active or volume).filesystem or volume.filesystem
    state = facts.volume(volume.partition.index)
    return gather_system(
        facts,
        volume.filesystem,
        root,
        volume=volume.partition.index,
        loader=loader,
        file_system=state.facts.type if state and state.facts else volume.type,
        others=tuple(f"{other} on partition {where.partition.index}" for where, other in roots[1:]),
        progress=progress,
        scanners=scanners,
        counting=counting,
    )


def gather_system(
    facts: Facts,
    files: FileSystem,
    root: str,
    *,
    volume: int,
    loader: FileSystem,
    file_system: str | None,
    others: tuple[str, ...] = (),
    progress: Progress = _quiet,
    scanners: Scanners | None = None,
    counting: bool = True,
) -> Facts:
    """``facts`` with those of the system below ``root`` added."""
    guest = read_guest(files, root, volume=volume)
    if loader is not files:  # NTLDR and boot.ini on C:, Windows on D:
        guest = replace(guest, boot_ini=_boot_ini(loader))
    hives = open_hives(files, root)
    system = read_system(hives, guest)
    logon, software = read_logon(hives), hives.get("SOFTWARE")
    loaded = {path.lower(): read_file(loader, path, pe=False) for path in LOADER_FILES}
    kernel = read_file(files, f"{root}/system32/ntoskrnl.exe", pe=True)
    kind = guest_kind(guest, kernel, loaded)
    plan = boot_path.steps(guest, kind, file_system, system.value, logon.value)
    read = _read_start(files, root, guest, plan)
    progress("libraries")
    survey = survey_volume(files, root, counting=counting)
    used = in_use(survey.paths, root) if survey.complete else []
    resolver = resolver_of(files, root)
    imports = attempt(lambda: broken_imports(resolver, guest, plan, read))
    progress("space")
    whole = replace(
        facts,
        guest=guest,
        kind=kind,
        hives=hive_states(hives),
        system=system,
        logon=logon,
        files=read,
        loader=loaded,
        leftovers=survey.counts,
        others=others,
        paths=survey.paths if survey.complete else frozenset(),
        personal=count_personal(hives),
        provenance=read_provenance(hives, guest, survey.paths),
        media=_media(files, root),
        protection=_protection(files, hives, root, system.value, logon.value),
        imports=imports,
        broken_programs=attempt(lambda: broken_programs(resolver, used, read)),
        lost_classes=lost_classes(software, _paths(root, hives, logon.value), survey.paths)
        if survey.complete
        else (),
        space=use_of_space(files, root) if counting else (),
    )
    if scanners is None:
        return whole
    progress("programs")
    certificates = store_certificates(hives.get("SOFTWARE"))
    programs, census = census_of(files, root, scanners, certificates=certificates)
    return replace(whole, programs=programs, census=census)


def _boot_ini(loader: FileSystem) -> Fact[BootIni]:
    try:
        entry = loader.lookup("/boot.ini")
    except ByreError:
        return absent()
    return attempt(lambda: parse_boot_ini(loader.read(entry, length=MAX_TEXT)))


def _read_start(files: FileSystem, root: str, guest: Guest, plan: Sequence[boot_path.Step]) -> dict[str, FileFacts]:
    """What the start loads, by path in lower case: the steps' files, the kernels, then those of services."""
    wanted = {path.lower(): (path, step.pe) for step in plan for path in step.paths}
    # The kernels first: a guest that lists services without end must not push them out.
    more = (f"{root}/system32/ntoskrnl.exe", f"{root}/system32/ntkrnlpa.exe", *_service_files(guest))
    for path in more[:MAX_FILES]:
        wanted.setdefault(path.lower(), (path, True))
    return {key: read_file(files, path, pe=pe) for key, (path, pe) in wanted.items()}


def _media(files: FileSystem, root: str) -> tuple[SourceFile, ...]:
    """The installation media's own list; nothing where it isn't there or can't be read."""
    try:
        data = files.read(files.lookup(f"{root}/inf/layout.inf"), length=MAX_INF)
    except ByreError:
        return ()
    return read_source_files(parse_inf(data))


def _paths(root: str, hives: Hives, logon: LogonSettings | None) -> SystemPaths:
    return system_paths(root, logon.drive if logon is not None else "C", hives.get("SOFTWARE"))


def _protection(
    files: FileSystem, hives: Hives, root: str, system: SystemSettings | None, logon: LogonSettings | None
) -> Fact[Protection]:
    """Unknown where a hive that it needs can't be read."""
    if system is None or logon is None:
        return unknown("the SYSTEM or the SOFTWARE hive can't be read")
    hive = hives.get("SYSTEM")
    return attempt(
        lambda: read_protection(
            files, hives, hive.key(system.control_set) if hive else None, _paths(root, hives, logon)
        )
    )


def _in_boot_order(found: Inspection) -> list[tuple[OpenVolume, str]]:
    """The installed systems, the one that boot.ini starts by default first."""
    roots = list(found.roots)
    for guest in found.guests:
        chosen = guest.boot_ini.value.chosen if guest.boot_ini.value else None
        if chosen and chosen.arc:
            wanted = str(PurePosixPath("/", chosen.arc.folder.replace("\\", "/").lstrip("/"))).lower()
            number = chosen.arc.partition
            return sorted(
                roots,
                key=lambda pair: (
                    pair[1].lower() != wanted,
                    arc_number(found.table, pair[0].partition.index) != number,
                ),
            )
    return roots


def _master_boot_record(sector: bytes) -> MasterBootRecord:
    return MasterBootRecord(sector[510:512] == b"\x55\xaa", any(sector[:440]), recognise_master(sector))


def boot_sector(sector: bytes, master: bytes = b"", disk_size: int = 0) -> BootSector:
    """The fields of a partition's first sector that NTFS and FAT have in common. ``master``: the disk's first
    sector, whose table tells a geometry as well."""
    sectors, heads, hidden = struct.unpack_from("<HHI", sector, 0x18)
    signed, code = sector[510:512] == b"\x55\xaa", any(sector[0x54:510])
    known = recognise_volume(sector)
    right = None
    if disk_size and heads and sectors and needs_geometry(known):
        right = right_geometry(heads, sectors, disk_size, table_geometries(master))
    return BootSector(signed, code, sectors, heads, hidden, known, right)


def _volume(disk: Disk, volume: OpenVolume) -> VolumeState:
    part, files = volume.partition, volume.filesystem
    boot: Fact[BootSector] = absent()
    if part.start + 512 <= disk.size:
        boot = attempt(
            lambda: boot_sector(
                disk.read(part.start, BOOT_AREA if part.start + BOOT_AREA <= disk.size else 512),
                disk.read(0, 512) if part.role == "primary" else b"",
                disk.size if part.role == "primary" else 0,
            )
        )
    about = attempt(files.facts) if files is not None else None
    reason = str(volume.reason) if volume.reason else about.reason if about is not None else None
    return VolumeState(
        index=part.index,
        start=part.start,
        length=part.length,
        role=part.role,
        active=part.active,
        type=volume.type,
        facts=about.value if about else None,
        check=attempt(files.check) if files is not None else absent(),
        boot=boot,
        reason=reason,
        corrupt=isinstance(volume.reason, CorruptImageError),
    )


def read_file(files: FileSystem, path: str, *, pe: bool) -> FileFacts:
    """Whether a file is there and, for a program, what its headers say."""
    try:
        entry = files.lookup(path)
    except MissingError:
        return FileFacts(path, "missing")
    except ByreError as error:
        return FileFacts(path, "unread", reason=str(error), corrupt=isinstance(error, CorruptImageError))
    if entry.is_dir:
        return FileFacts(path, "missing", reason="a folder lies there")
    if pe and entry.size > MAX_PE:
        return FileFacts(path, "unread", entry.size, reason=f"larger than {MAX_PE} bytes")
    try:
        data = files.read(entry, length=MAX_PE) if pe else b""
    except ByreError as error:
        damaged = isinstance(error, CorruptImageError)
        return FileFacts(path, "unread", entry.size, reason=str(error), corrupt=damaged)
    return FileFacts(path, "present", entry.size, pe=read_pe(data, path) if pe else None)


def _service_files(guest: Guest) -> Iterable[str]:
    for service in guest.services.value or ():
        if service.start <= 3:
            yield from (path for path in (service.file, service.service_dll) if path is not None)


def hive_states(hives: Hives) -> tuple[HiveState, ...]:
    """The five hives of the machine, each walked whole."""
    found = []
    for name in MACHINE_HIVES:
        fact, path = hives.machine[name], hives.paths[name]
        if fact.value is None:
            found.append(HiveState(name, path, fact.state, fact.reason))
            continue
        hive = fact.value
        keys = 0

        def walk() -> bool:
            nonlocal keys
            for _, key in hive.walk():  # noqa: B023
                key.values()
                keys += 1
                if keys > MAX_HIVE_KEYS:
                    return False
            return True

        done = attempt(walk)
        problems = tuple(problem.what for problem in hive.problems[:20])
        if done.state == "unknown":
            problems += (done.reason or "its keys can't be read",)
        found.append(HiveState(name, path, "known", problems=problems, replayed=hive.replayed is not None))
    return tuple(found)
