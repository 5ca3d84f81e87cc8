"""From a disk or an image's path to the evidence and the machine: the only part of the profile that reads."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from byre.audit.facts import Facts, FileFacts
from byre.audit.gathering import LOADER_FILES, read_file
from byre.audit.settings import guest_kind, read_system
from byre.disks.disk import Disk
from byre.disks.opening import open_disk, parse_address
from byre.errors import ByreError, MissingError, UsageError
from byre.filesystems.base import FileSystem
from byre.machine.evidence import Evidence, other_system, windows_system
from byre.machine.hardware import Machine
from byre.machine.overrides import FILE_NAME, MAX_FILE, Override, parse_file
from byre.machine.profile import profile
from byre.storage.small_file import read_small_file
from byre.storage.urls import is_url
from byre.windows.fact import absent
from byre.windows.guest import Guest, read_guest
from byre.windows.hives import open_hives
from byre.windows.inspection import Inspection

MAX_NAMES = 10_000
MAX_DRIVERS = 2_000
"""Services whose files are looked for; real systems have a few hundred."""
_ARCHITECTURES = {"x86": "i386", "x64": "x86_64"}


def profile_image(
    path: str | os.PathLike[str],
    *,
    target: str = "qemu",
    overrides: Sequence[Override] = (),
    **opening: Any,
) -> Machine:
    """The machine for ``IMAGE`` or ``IMAGE@SNAPSHOT``: its facts, then ``MACHINE.toml`` beside it, then
    ``overrides``. ``opening`` goes to ``open_disk``. Raises any ByreError."""
    with open_disk(path, **opening) as disk:
        evidence = gather_evidence(disk, name=os.fspath(path))
    return settled(evidence, target, (*beside(path), *overrides))


def settled(evidence: Evidence, target: str, overrides: Iterable[Override]) -> Machine:
    """The profile with overrides of which each names its source; the later ones win."""
    from byre.machine.overrides import override

    machine = profile(evidence, target)
    for each in overrides:
        machine = override(machine, each.name, each.value, f"said in {each.source}")
    return machine


def beside(path: str | os.PathLike[str]) -> tuple[Override, ...]:
    """What the ``MACHINE.toml`` in the image's folder says; nothing for a URL, or where there is none."""
    name = os.fspath(path)
    if is_url(name):
        return ()
    file = Path(parse_address(name).path).parent / FILE_NAME
    if file.is_fifo():  # nobody asked for it, and to read it would wait for ever
        raise UsageError("is a pipe, no file of settings", path=file, hint="Remove it, or give it another name.")
    try:
        data = read_small_file(file, MAX_FILE)
    except MissingError:
        return ()
    return parse_file(data, path=str(file))


def gather_evidence(disk: Disk, *, name: str) -> Evidence:
    """What is on the disk, as far as its machine depends on it. Raises only where the disk itself can't be read."""
    shown = Path(parse_address(name).path).name
    stem = shown[: -len(Path(shown).suffix)] if Path(shown).suffix else shown
    found = Inspection(disk, name=name)
    roots = [(volume, root) for volume, root in found.roots if volume.filesystem is not None]
    efi = any(each.partition.type_name.lower().startswith("efi") for each in found.volumes)
    active = any(each.partition.active for each in found.volumes)
    efi_only = efi and not active and not _boot_code(disk)
    if not roots:
        types = tuple(each.type for each in found.volumes if each.type is not None)
        system, why = other_system(types, found.table.scheme, _root_names(found))
        return Evidence(stem, system, why, scheme=found.table.scheme, efi_only=efi_only)
    volume, root = roots[0]
    assert volume.filesystem is not None
    files = volume.filesystem
    guest = read_guest(files, root, volume=volume.partition.index)
    loader = next((each.filesystem for each in found.volumes if each.partition.active and each.filesystem), files)
    facts = _facts(found, files, guest, loader)
    system, why = windows_system(guest)
    architecture = _ARCHITECTURES.get(guest.architecture.value or "")
    drivers = _drivers(facts, guest)
    return Evidence(stem, system, why, architecture, facts, drivers, found.table.scheme, efi_only)


def _root_names(found: Inspection) -> frozenset[str]:
    """The lower-case names in the root folders of the FAT volumes; what can't be read has none."""
    names: set[str] = set()
    for volume in found.volumes:
        if volume.filesystem is not None and (volume.type or "").startswith("fat"):
            with contextlib.suppress(ByreError):
                names |= {entry.name.lower() for entry in volume.filesystem.listdir("/")[:MAX_NAMES]}
    return frozenset(names)


def _boot_code(disk: Disk) -> bool:
    return disk.size >= 512 and any(disk.read(0, 440))


def _facts(found: Inspection, files: FileSystem, guest: Guest, loader: FileSystem) -> Facts:
    """The part of an audit's facts that the rules on controllers look at."""
    system = read_system(open_hives(files, guest.root), guest)
    kernel = read_file(files, f"{guest.root}/system32/ntoskrnl.exe", pe=True)
    loaded = {path.lower(): read_file(loader, path, pe=False) for path in LOADER_FILES}
    read: dict[str, FileFacts] = {}
    for service in (guest.services.value or ())[:MAX_DRIVERS]:
        if service.file is not None and service.is_driver:
            read.setdefault(service.file.lower(), read_file(files, service.file, pe=False))
    kind = guest_kind(guest, kernel, loaded)
    return Facts(
        found.name,
        absent(),
        found.table,
        absent(),
        (),
        guest=guest,
        kind=kind,
        system=system,
        files=read,
        loader=loaded,
    )


def _drivers(facts: Facts, guest: Guest) -> frozenset[str]:
    found = set()
    for service in guest.services.value or ():
        file = facts.file(service.file) if service.file is not None else None
        if service.start < 4 and file is not None and file.state == "present":
            found.add(service.name.lower())
    return frozenset(found)
