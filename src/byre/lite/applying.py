"""Changes applied to one volume of a scratch disk: which writer does what, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from byre.disks.disk import CheckReport
from byre.disks.scratch import ScratchDisk
from byre.errors import CorruptImageError, UnsupportedError, UsageError
from byre.extents import Kind
from byre.filesystems.base import FileExtents, FileSystem
from byre.filesystems.fat.filesystem import FatFileSystem
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.opening import OpenVolume
from byre.lite import fat_writer, ntfs_writer
from byre.lite.advance import Advance, quiet
from byre.lite.changes import Applied, Change, Overwrite
from byre.lite.guards import from_inside
from byre.volumes.types import PIECES


def changeable(volume: OpenVolume) -> bool:
    """Whether it is of a kind that Byre changes at all."""
    known = isinstance(volume.filesystem, (NtfsFileSystem, FatFileSystem))
    return known and volume.partition.type not in PIECES


def refuse_unsafe(volume: OpenVolume, report: CheckReport | None = None) -> FileSystem:
    """The volume's file system, where it may be changed; UnsupportedError with what to do where it may not.
    ``report``: what its own check says, where that has been asked already."""
    files = volume.filesystem
    if files is None and volume.reason is not None:
        raise volume.reason
    if not isinstance(files, (NtfsFileSystem, FatFileSystem)):
        raise UnsupportedError(
            f"{volume.type or 'unknown'} volumes are not changed by Byre", hint="NTFS and FAT are."
        )
    _refuse_piece(volume, files.volume.name)
    if isinstance(files, NtfsFileSystem):
        ntfs_writer.refuse_unsafe(files)
    else:
        fat_writer.refuse_unsafe(files)
    report = report or files.check()
    if report.corruptions:
        first = next((each for each in report.problems if each.kind == "corruption"), None)
        raise CorruptImageError(
            f"the file system of partition {volume.partition.index} is damaged, so nothing is changed",
            path=files.volume.name,
            found=f"{report.corruptions} problems" + (f", first: {first.message}" if first else ""),
            hint="Let the guest repair it (chkdsk /f), then try again.",
        )
    return files


def _refuse_piece(volume: OpenVolume, name: str) -> None:
    piece = PIECES.get(volume.partition.type)
    if piece is not None:
        raise UnsupportedError(
            f"the partition is {piece}: it is not changed from outside",
            path=name,
            found=f"partition {volume.partition.index}, type {volume.partition.type}",
            hint="Change it from inside the guest, or copy its files to a basic disk.",
        )


def refuse_sleeping(volumes: Iterable[OpenVolume]) -> None:
    """UnsupportedError where a volume holds a hibernated session, or may, whichever is to be changed: the system that
    sleeps there has the others open too, and goes on with what it remembers of them."""
    for volume in volumes:
        files = volume.filesystem
        if not isinstance(files, (NtfsFileSystem, FatFileSystem)):
            continue
        asleep = files.facts().hibernated
        if asleep is not False:
            said = "holds a hibernated session" if asleep else "may hold a hibernated session"
            raise UnsupportedError(
                f"partition {volume.partition.index} {said}: no volume of the disk is changed",
                path=files.volume.name,
                hint=f"{from_inside(files.volume.name)} Or 'byre mend IMAGE hibernation --discard-session' gives up "
                "what was open.",
            )


def apply_changes(
    work: ScratchDisk, volume: OpenVolume, changes: Sequence[Change], *, advance: Advance = quiet
) -> Applied:
    """Make the changes on the scratch disk. ``volume`` was opened on it, or on what lies under it, and is stale
    afterwards. On any error the scratch disk is to be thrown away.

    Overwrites come first, by the extents that the files have now; then names and files change, in order.
    """
    files = refuse_unsafe(volume)
    overwritten = [change for change in changes if isinstance(change, Overwrite)]
    for change in overwritten:
        overwrite(work, files, change)
        advance(1)
    rest = [change for change in changes if not isinstance(change, Overwrite)]
    if isinstance(files, NtfsFileSystem):
        script = ntfs_writer.make_script(files, rest)
        ntfs_writer.refuse_full(files, script)
        done = ntfs_writer.apply_script(work, volume.partition, script, advance=advance)
    else:
        assert isinstance(files, FatFileSystem)
        done = fat_writer.apply(work, files, rest, advance=advance)
    written = (*(change.path for change in overwritten), *done.written)
    return Applied(done.removed, written, done.freed, done.confined)


def check_changes(volume: OpenVolume, changes: Sequence[Change]) -> None:
    """Raise what ``apply_changes`` would raise, as far as that is known without reading what is put in: nothing is
    written."""
    files = refuse_unsafe(volume)
    for change in changes:
        if isinstance(change, Overwrite):
            _overwritable(files, change)
    rest = [change for change in changes if not isinstance(change, Overwrite)]
    if isinstance(files, NtfsFileSystem):
        ntfs_writer.refuse_full(files, ntfs_writer.make_script(files, rest))
    else:
        assert isinstance(files, FatFileSystem)
        fat_writer.check(files, rest)


def overwrite(work: ScratchDisk, files: FileSystem, change: Overwrite) -> None:
    """Put other bytes where a file's bytes lie. Raises UsageError for another size, UnsupportedError where its bytes
    aren't all on the disk as they are (resident, compressed, sparse)."""
    extents = _overwritable(files, change)
    for start, length, disk in zip(
        extents["start"].tolist(), extents["length"].tolist(), extents["disk"].tolist(), strict=True
    ):
        work.write(disk, change.data[start : start + length])


def _overwritable(files: FileSystem, change: Overwrite) -> FileExtents:
    """Where the file's bytes lie, where all of them may be replaced."""
    entry = files.lookup(change.path)
    if entry.is_dir or entry.size != len(change.data):
        raise UsageError(
            "a file is overwritten by as many bytes as it has",
            path=change.path,
            found=f"{len(change.data)} bytes",
            expected=f"{entry.size} bytes",
        )
    extents = files.extents(entry)
    if (extents["kind"] != Kind.DATA).any() or int(extents["length"].sum()) != entry.size:
        raise UnsupportedError(
            "its bytes don't lie on the disk as they are (compressed, sparse or never written)", path=change.path
        )
    return extents
