"""An export made: the disk converted, the texts written, and all of it published at once."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from byre.convert.convert import convert_image, convert_states
from byre.convert.states import states_of
from byre.convert.targets import target_named
from byre.disks.disk import Disk, SnapshotInfo
from byre.disks.opening import open_disk
from byre.errors import ExistsError, StorageError, UnsupportedError, UsageError
from byre.machine.evidence import Evidence
from byre.machine.export import ovf
from byre.machine.export.archive import Member, check_size, write_archive
from byre.machine.export.plan import (
    DiskFile,
    DiskPart,
    Exporter,
    ExportPlan,
    Identity,
    Refusal,
    Subject,
    TextFile,
    WrittenDisk,
)
from byre.machine.export.targets import ExportTarget
from byre.machine.hardware import Choice, Machine
from byre.machine.impossible import controller_problem, problems
from byre.machine.systems import SYSTEMS
from byre.storage.publish import Publication, signals_as_errors
from byre.storage.publish_folder import new_folder
from byre.storage.urls import is_url, redact

_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class Prepared:
    """An export that could begin: nothing was written so far."""

    exporter: Exporter
    subject: Subject
    plan: ExportPlan
    refusals: tuple[Refusal, ...]
    """The plan's own, and what the guest can't live with there."""
    doubts: tuple[str, ...] = ()
    """What may stop the guest there, and can't be told from its disk."""

    def texts(self, disk: WrittenDisk | None = None) -> tuple[TextFile, ...]:
        return self.exporter.texts(self.subject, disk)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. ``path`` is the folder or file; ``size`` of its disk, bytes of file."""

    path: str
    files: tuple[str, ...]
    disk: WrittenDisk


def new_identity() -> Identity:
    """UUIDs, a MAC address and the time of a new export."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Identity(uuid4(), uuid4(), secrets.token_bytes(6), now)


def prepare(
    target: ExportTarget,
    form: str,
    disk: Disk,
    machine: Machine,
    evidence: Evidence,
    *,
    source: str,
    with_snapshots: bool = False,
    digest: str = "sha256",
    identity: Identity | None = None,
) -> Prepared:
    """Plan an export of an open disk. Raises UsageError where the target can't take snapshots or there are none."""
    if with_snapshots and form not in target.snapshots:
        raise UsageError(
            f"{target.title} can't take snapshots along as Byre writes it",
            hint="Export one state: IMAGE@SNAPSHOT. 'byre convert --with-snapshots' keeps them all in one file.",
        )
    subject = Subject(
        machine=machine,
        title=_title(evidence),
        source=_shown_name(source),
        disk_size=disk.size,
        sector_size=disk.sector_size,
        identity=identity or new_identity(),
        form=form,
        snapshots=_snapshots(disk) if with_snapshots else (),
        ahci=_has_ahci(evidence),
        digest=digest,
    )
    exporter = target.load()
    plan = exporter.plan(subject)
    refusals = plan.refusals
    doubts: tuple[str, ...] = ()
    if all(each.forceable for each in refusals):  # what can't be made at all isn't looked at further
        impossible, doubts = _impossible(evidence, machine, plan.controller)
        refusals += impossible
    return Prepared(exporter, subject, plan, refusals, doubts)


def _shown_name(source: str) -> str:
    """The image's name without its folder; of an address without what may be a secret."""
    return os.path.basename(redact(source).partition("?")[0] if is_url(source) else source)  # noqa: PTH119


def _title(evidence: Evidence) -> str:
    """What the system calls itself, else what it was taken for."""
    guest = evidence.guest
    if guest is None:
        return SYSTEMS[evidence.system].title
    return " ".join(filter(None, (guest.product.value or "an unnamed system", guest.service_pack.value)))


def _impossible(evidence: Evidence, machine: Machine, controller: str) -> tuple[tuple[Refusal, ...], tuple[str, ...]]:
    """What would stop the guest on the machine as the target will show it; and what can't be told."""
    there = replace(machine, controller=Choice(controller, "what the target has"))
    found = problems(evidence, there)
    said = [(each.certain, f"{each.setting} {each.value}: {each.consequence}") for each in found]
    return tuple(Refusal(text) for certain, text in said if certain), tuple(
        text for certain, text in said if not certain
    )


def _snapshots(disk: Disk) -> tuple[SnapshotInfo, ...]:
    return tuple(
        SnapshotInfo(each.id, each.name, each.created, each.disk.size, each.vm_state_size)
        for each in states_of(disk)[:-1]
    )


def _has_ahci(evidence: Evidence) -> bool | None:
    """Whether the guest has a driver for an AHCI controller at its start, by the audit's rules on controllers."""
    if evidence.facts is None:
        return None
    problem = controller_problem(evidence, "ich9-ahci")
    return True if problem is None else False if problem.certain else None


def check_allowed(prepared: Prepared, *, force: bool) -> None:
    """UnsupportedError that gives every reason against the export, unless they may be and are overridden."""
    hard = [each.reason for each in prepared.refusals if not each.forceable]
    soft = [] if force else [each.reason for each in prepared.refusals if each.forceable]
    if hard or soft:
        raise UnsupportedError(
            f"this machine should not go to {prepared.plan.title}: {'; '.join((*hard, *soft))}",
            path=prepared.subject.source,
            hint="Nothing was written." if hard else "To export it all the same: --force.",
        )


def export(
    prepared: Prepared,
    disk: Disk,
    output: str | os.PathLike[str],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Exported:
    """Write the export as ``output``, a new folder or file. Raises any ByreError; nothing half-made is left."""
    if prepared.plan.shape == "folder":
        return _export_folder(prepared, disk, output, threads, advance)
    return _export_archive(prepared, disk, output, threads, advance)


def _export_folder(
    prepared: Prepared,
    disk: Disk,
    output: str | os.PathLike[str],
    threads: int | None,
    advance: Callable[[int], None] | None,
) -> Exported:
    with new_folder(output) as folder:
        written = write_disk(prepared, disk, folder, threads=threads, advance=advance)
        texts = prepared.texts(written)
        for text in texts:
            _write_text(folder, text)
    disks = tuple(part.path for part in written.parts) or (prepared.plan.disk.path,)
    return Exported(os.fspath(output), (*(text.path for text in texts), *disks), written)


def write_disk(
    prepared: Prepared,
    disk: Disk,
    folder: Path,
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
    digest: str | None = None,
) -> WrittenDisk:
    """Convert the disk into the folder, as the plan wants it. ``digest`` names a hash to take of the file."""
    wanted = prepared.plan.disk
    path = folder / wanted.path
    path.parent.mkdir(parents=True, exist_ok=True)
    if wanted.chain:
        return _write_chain(wanted, disk, folder, threads, advance)
    keep = bool(prepared.subject.snapshots)
    done = convert_image(
        disk,
        path,
        wanted.format,
        wanted.options,
        # The target's rules are about one state: with snapshots the file is qcow2, which is all that they ask.
        for_target=None if keep else target_named(wanted.target),
        with_snapshots=keep,
        threads=threads,
        advance=advance,
    )
    return WrittenDisk(done.virtual_size, path.stat().st_size, _digest(path, digest) if digest else "")


def _write_chain(
    wanted: DiskFile, disk: Disk, folder: Path, threads: int | None, advance: Callable[[int], None] | None
) -> WrittenDisk:
    """A folder with an image for each state; their UUIDs are read back from what was written."""
    path = folder / wanted.path
    convert_states(states_of(disk), path, wanted.format, wanted.options, threads=threads, advance=advance)
    # Snapshots stand in the target's own settings: our list of them and QEMU's machine states are of no use there.
    for each in path.iterdir():
        if each.suffix != f".{wanted.format}":
            each.unlink()
    images = sorted(path.iterdir())
    parts = []
    for image in images:
        with open_disk(image, parents=[path], with_backing=False) as part:
            parts.append(DiskPart(f"{wanted.path}/{image.name}", str(part.describe().details["uuid"])))
    return WrittenDisk(disk.size, sum(image.stat().st_size for image in images), "", tuple(parts))


def _export_archive(
    prepared: Prepared,
    disk: Disk,
    output: str | os.PathLike[str],
    threads: int | None,
    advance: Callable[[int], None] | None,
) -> Exported:
    plan = prepared.plan
    digest = prepared.subject.digest
    with Publication(output, keep_off=disk.files) as target, workplace(target.path) as folder:
        written = write_disk(prepared, disk, folder, threads=threads, advance=advance, digest=digest)
        check_size(written.file_size, os.fspath(output))
        texts = [(text.path, text.text.encode("utf-8", "replace")) for text in prepared.texts(written)]
        members = [Member(path, data) for path, data in texts]
        if plan.shape == "ova":
            digests = [(path, hashlib.new(digest, data).hexdigest()) for path, data in texts]
            listed = ovf.manifest((*digests, (plan.disk.path, written.digest)), digest)
            members.append(Member(f"{Path(texts[0][0]).stem}.mf", listed.encode()))
        members.append(Member(plan.disk.path, folder / plan.disk.path))
        moment = int(datetime.fromisoformat(prepared.subject.identity.moment).timestamp())
        write_archive(target.storage, members, moment, advance)
    return Exported(os.fspath(output), tuple(member.name for member in members), written)


@contextmanager
def workplace(beside: Path) -> Iterator[Path]:
    """A hidden folder beside a file to be made, gone afterwards whatever happens."""
    with signals_as_errors():
        try:
            folder = Path(tempfile.mkdtemp(prefix=f".{beside.name[:80]}.byre-", suffix=".part", dir=beside.parent))
        except OSError as error:
            raise StorageError(f"can't be written beside: {error.strerror}", path=beside) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _write_text(folder: Path, text: TextFile) -> None:
    path = folder / text.path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("xb") as file:
            file.write(text.text.encode("utf-8", "replace"))
            file.flush()
            os.fsync(file.fileno())
        if text.executable:
            path.chmod(path.stat().st_mode | 0o111)
    except FileExistsError as error:
        raise ExistsError("would be written twice", path=text.path) from error
    except OSError as error:
        raise StorageError(f"can't be written: {error.strerror}", path=text.path) from error


def _digest(path: Path, name: str) -> str:
    made = hashlib.new(name)
    with path.open("rb") as file:
        while chunk := file.read(_STEP):
            made.update(chunk)
    return made.hexdigest()
