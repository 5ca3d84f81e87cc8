"""An import made: the descriptor read, its disks opened where they lie, converted, and published with a profile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from byre.convert.convert import convert_image, convert_states
from byre.convert.states import State, states_of
from byre.disks.context import OpenContext, OpenOptions
from byre.disks.disk import Disk
from byre.disks.formats import format_named, probe
from byre.disks.layers import layers_of
from byre.disks.opening import open_disk
from byre.errors import CorruptImageError, MissingError, StorageError, UnsupportedError, UsageError
from byre.machine.export.quoting import plain_name
from byre.machine.hardware import Machine
from byre.machine.importing import libvirt, ovf, utm, vbox, vmx
from byre.machine.importing.archive import Entry, MemberStorage, read_index, read_manifest, verify
from byre.machine.importing.description import Description, DiskReference
from byre.machine.importing.places import Places, places_of
from byre.machine.importing.profile_file import machine_toml
from byre.machine.importing.tree import MAX_BYTES, parse_xml
from byre.machine.overrides import FILE_NAME, Value, override
from byre.machine.reading import gather_evidence, settled
from byre.storage.base import Storage
from byre.storage.local import open_file
from byre.storage.publish_folder import new_folder
from byre.storage.small_file import read_small_file

MAX_DESCRIPTOR = MAX_BYTES
_HEAD = 512


@dataclass(frozen=True, slots=True)
class OpenedDisk:
    """A disk of the machine, open, and its states, oldest first; one state means that there are no snapshots."""

    reference: DiskReference
    disk: Disk
    states: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """A machine of another hypervisor, ready to be imported. ``verified``: files that a manifest vouches for."""

    path: str
    description: Description
    settings: Mapping[str, Value]
    """Those of the description that a machine can have."""
    disks: tuple[OpenedDisk, ...]
    notes: tuple[str, ...]
    verified: int = 0


@dataclass(frozen=True, slots=True)
class Imported:
    """What was made: a folder, its images, and the machine that follows from them."""

    path: str
    images: tuple[str, ...]
    machine: Machine


@contextmanager
def open_machine(
    path: str | os.PathLike[str],
    *,
    allow_paths: Sequence[str | os.PathLike[str]] = (),
    check_manifest: bool = True,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Opened]:
    """Read an OVA, .ovf, .vbox, .vmx, domain XML or UTM bundle and open its disks. Raises any ByreError."""
    shown = os.fspath(path)
    descriptor = Path(path)
    if descriptor.is_dir():
        descriptor = descriptor / "config.plist"
        if not descriptor.exists():
            raise UnsupportedError(
                "is a folder, but no UTM bundle: it has no config.plist",
                path=shown,
                hint="Name the .ova, .ovf, .vbox, .vmx or domain XML in it.",
            )
    with ExitStack() as stack:
        storage = stack.enter_context(open_file(descriptor))
        head = storage.read(0, min(_HEAD, storage.size))
        if head[257:262] == b"ustar" or descriptor.suffix.lower() == ".ova":
            yield _open_archive(shown, storage, stack, check_manifest, advance)
            return
        if storage.size > MAX_DESCRIPTOR:
            raise UnsupportedError("is too large to describe a machine", path=shown, found=storage.size)
        data = storage.read(0, storage.size)
        places = places_of(descriptor, allow_paths)
        description = _describe(data, descriptor, shown)
        verified, notes = _beside(description, descriptor, check_manifest, advance)
        disks = []
        for reference in description.disks:
            disk, said = _open_file(reference, places, allow_paths)
            stack.callback(disk.close)
            notes += said
            disks.append(OpenedDisk(reference, disk, _states(disk, reference)))
        yield _opened(shown, description, tuple(disks), notes, verified)


def _describe(data: bytes, path: Path, shown: str) -> Description:
    """By what is in it; a .vmx alone goes by its name."""
    suffix = path.suffix.lower()
    if suffix == ".plist":
        return utm.describe(data, path=shown)
    if suffix == ".vmx":
        beside = path.with_suffix(".vmsd")
        snapshots = None
        if beside.is_file() and not beside.is_symlink():
            snapshots = read_small_file(beside, vmx.MAX_BYTES)
        return vmx.describe(data, snapshots, path=shown)
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<", b"\xff\xfe", b"\xfe\xff")):
        raise UnsupportedError(
            "isn't a machine that Byre can import",
            path=shown,
            expected="an .ova, .ovf, .vbox, .vmx, libvirt domain XML or UTM bundle",
            hint="A disk alone is an image already: 'byre info' and 'byre convert' take it.",
        )
    root = parse_xml(data, path=shown).tag
    readers = {"Envelope": ovf.describe, "VirtualBox": vbox.describe, "domain": libvirt.describe}
    if root not in readers:
        raise UnsupportedError(
            "isn't a machine that Byre can import", path=shown, found=f"<{root[:40]}>", expected="; ".join(readers)
        )
    return readers[root](data, path=shown)


def _open_file(
    reference: DiskReference, places: Places, allow_paths: Sequence[str | os.PathLike[str]]
) -> tuple[Disk, list[str]]:
    path, note = places.find(reference.path)
    notes = [note] if note else []
    parents = []
    for name in reference.parents:
        parent, note = places.find(name)
        parents.append(parent)
        notes += [note] if note else []
    disk = open_disk(path, format=reference.format, allow_paths=[places.folder, *allow_paths], parents=parents)
    return disk, notes


def _states(disk: Disk, reference: DiskReference) -> tuple[State, ...]:
    """The disk's states, oldest first, under the names that the machine's snapshots have."""
    if len(layers_of(disk)) < 2 and not disk.describe().snapshots:
        return ()
    states = states_of(disk)
    names = {_base(each.path): each for each in reference.states}
    named: list[State] = []
    taken: set[str] = set()
    for state in states:
        known = names.get(_base(state.disk.files[0].name)) if not disk.describe().snapshots else None
        if known is not None and known.name and known.name not in taken and state is not states[-1]:
            state = replace(state, name=known.name[:200], created=_moment(known.created) or state.created)
        taken.add(state.name)
        named.append(state)
    return tuple(named)


def _moment(text: str | None) -> str | None:
    """RFC 3339 as a snapshot keeps it, where the text is that."""
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    if moment is None or not 1970 <= moment.year < 2100:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2].lower()


def _open_archive(
    shown: str,
    storage: Storage,
    stack: ExitStack,
    check_manifest: bool,
    advance: Callable[[int], None] | None,
) -> Opened:
    entries = {each.name: each for each in read_index(storage)}
    first = next((each for each in entries.values() if each.name.lower().endswith(".ovf")), None)
    if first is None:
        raise CorruptImageError("has no .ovf in it", path=shown, found=", ".join(list(entries)[:5]))
    if first.size > MAX_DESCRIPTOR:
        raise UnsupportedError("has an .ovf that is too large", path=shown, found=first.size)
    description = ovf.describe(storage.read(first.offset, first.size), path=f"{shown}:{first.name}")
    notes: list[str] = []
    verified = 0
    manifest = entries.get(f"{Path(first.name).stem}.mf")
    if manifest is None:
        notes.append("it has no manifest: whether it is whole can't be told")
    elif check_manifest and manifest.size <= MAX_DESCRIPTOR:
        listed = read_manifest(storage.read(manifest.offset, manifest.size), path=f"{shown}:{manifest.name}")
        verified = verify(
            listed,
            lambda name: MemberStorage(storage, entries[name]) if name in entries else None,
            path=shown,
            advance=advance,
        )
        named = {first.name, *(each.path for each in description.disks)}
        notes += [f"the manifest says nothing of {name}" for name in sorted(named - listed.keys())]
    disks = []
    for reference in description.disks:
        entry = entries.get(reference.path)
        if entry is None:
            raise MissingError("lacks the file of a disk", path=shown, expected=reference.path[:100])
        disk = _open_member(storage, entry, reference)
        stack.callback(disk.close)
        disks.append(OpenedDisk(reference, disk, _states(disk, reference)))
    return _opened(shown, description, tuple(disks), notes, verified)


def _open_member(archive: Storage, entry: Entry, reference: DiskReference) -> Disk:
    """A disk inside the archive. It may name no other file: there is none that it could mean."""
    storage = MemberStorage(archive, entry)
    found = probe(storage) if reference.format is None else format_named(reference.format)
    context = OpenContext(options=OpenOptions(), folder=None, open_path=_no_path, open_storage=_no_storage)
    return found.load(storage.name).open_disk(storage, context)


def _no_path(path: Path, format: str | None, context: OpenContext) -> Disk:
    raise UnsupportedError("a disk inside an archive can't refer to another file", path=path)


def _no_storage(path: Path, options: OpenOptions) -> Storage:
    raise UnsupportedError("a disk inside an archive can't refer to another file", path=path)


def _beside(
    description: Description, descriptor: Path, check_manifest: bool, advance: Callable[[int], None] | None
) -> tuple[int, list[str]]:
    """For an .ovf that lies unpacked: its manifest, where one lies beside it."""
    if description.kind != "OVF":
        return 0, []
    manifest = descriptor.with_suffix(".mf")
    if not manifest.is_file():
        return 0, ["it has no manifest: whether it is whole can't be told"]
    if not check_manifest:
        return 0, []
    with open_file(manifest) as storage:
        if storage.size > MAX_DESCRIPTOR:
            raise UnsupportedError("is too large for a manifest", path=manifest, found=storage.size)
        listed = read_manifest(storage.read(0, storage.size), path=str(manifest))
    places = places_of(descriptor)
    with ExitStack() as stack:

        def named(name: str) -> Storage | None:
            try:
                return stack.enter_context(open_file(places.find(name)[0]))
            except MissingError:
                return None

        return verify(listed, named, path=str(manifest), advance=advance), []


def _opened(
    shown: str, description: Description, disks: tuple[OpenedDisk, ...], notes: list[str], verified: int
) -> Opened:
    if not disks:
        raise UnsupportedError("describes a machine without a disk", path=shown)
    settings: dict[str, Value] = {}
    said = [*description.notes, *notes]
    trial = _trial()
    for name, value in description.settings.items():
        try:
            override(trial, name, value)
        except UsageError as error:
            said.append(f"{name} is left to the guest's own facts: {error.what}")
        else:
            settings[name] = value
    for each in description.disks[1:]:
        if each.states:
            said.append(f"{each.path}: snapshots of further disks are kept in their own image")
    return Opened(shown, description, settings, disks, tuple(said), verified)


def _trial() -> Machine:
    """Any machine: to try settings on."""
    from byre.machine.evidence import Evidence
    from byre.machine.profile import profile

    return profile(Evidence("trial", "unknown", "nothing was looked at"))


def import_machine(
    opened: Opened,
    output: str | os.PathLike[str],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Imported:
    """Write the folder ``output``: an image for each disk, and ``MACHINE.toml``. Raises any ByreError."""
    name = plain_name(opened.description.name)
    images: list[str] = []
    with new_folder(output) as folder:
        for number, each in enumerate(opened.disks, 1):
            image = f"{name}.qcow2" if number == 1 else f"{name}-disk{number}.qcow2"
            _convert(each, folder / image, threads, advance)
            images.append(image)
        source = f"{Path(opened.path).name} ({opened.description.kind})"
        _write(folder / FILE_NAME, machine_toml(opened.settings, source))
        with open_disk(folder / images[0], force_share=True) as disk:
            evidence = gather_evidence(disk, name=images[0])
        machine = settled(evidence, "qemu", ())
        for key, value in opened.settings.items():
            machine = override(machine, key, value, f"said in {source}")
    return Imported(os.fspath(output), tuple(images), replace(machine, name=name))


def _convert(opened: OpenedDisk, path: Path, threads: int | None, advance: Callable[[int], None] | None) -> None:
    if not opened.states:
        convert_image(opened.disk, path, "qcow2", threads=threads, advance=advance)
    elif opened.disk.describe().snapshots and len(layers_of(opened.disk)) == 1:
        convert_image(opened.disk, path, "qcow2", with_snapshots=True, threads=threads, advance=advance)
    else:
        convert_states(opened.states, path, "qcow2", threads=threads, advance=advance)


def _write(path: Path, text: str) -> None:
    try:
        with path.open("xb") as file:
            file.write(text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"can't be written: {error.strerror}", path=path) from error
