"""What was changed on a scratch disk becomes a new image, or the image's own new state: all of it or nothing."""

from __future__ import annotations

import numpy as np

from byre.disks.disk import Disk, SnapshotInfo
from byre.disks.qcow2.image import open_disk as open_qcow2
from byre.disks.qcow2.snapshots import create_snapshot, refuse_new_snapshot
from byre.disks.qcow2.writing import WritableQcow2Disk
from byre.disks.scratch import ScratchDisk
from byre.disks.writer import Int64Array
from byre.errors import ByreError, InterruptedByUserError, UnsupportedError
from byre.extents import Kind
from byre.lite.advance import Advance, quiet
from byre.ranges import touched

PIECE = 4 << 20


def refuse_in_place(disk: Disk, snapshot: str | None = None) -> WritableQcow2Disk:
    """The disk, where it can be changed in place behind a snapshot, of that name if one is wanted; UnsupportedError,
    ExistsError or UsageError say why not, before any work.

    Needs a qcow2 image of one's own clusters, opened for writing.
    """
    if not isinstance(disk, WritableQcow2Disk):
        raise UnsupportedError(
            f"{disk.format} images are not changed in place: they have no snapshot to go back to",
            path=disk.files[0].name if disk.files else None,
            hint="Write a new image: -o OUT.qcow2.",
        )
    if disk.source.geometry.data_file:
        raise UnsupportedError(
            "can't be changed in place: its data lie in an external data file, which has no snapshots",
            path=disk.storage.name,
            hint="Write a new image: -o OUT.qcow2.",
        )
    refuse_new_snapshot(disk.header, disk.snapshots(), snapshot, path=disk.storage.name)
    return disk


def save_in_place(
    disk: WritableQcow2Disk,
    work: ScratchDisk,
    snapshot: str,
    *,
    left_out: Int64Array | None = None,
    advance: Advance = quiet,
) -> SnapshotInfo:
    """Keep the disk as it is as ``snapshot``, then make the changes of ``work`` its new state by one write of the
    header. A cut at any moment leaves the old state or the new one, and the snapshot once it is there. ``left_out``
    are guest ranges (start, stop) that nothing needs: whole clusters of them are given up, and only the snapshot
    holds on to what they held.

    ``disk`` is stale afterwards and is only to be closed. Raises ExistsError where the snapshot's name is taken,
    StorageError where it can't be written, InterruptedByUserError where the user stops it: the image then shows what
    it showed before, unless only the very last flush was missing; the error names the snapshot.
    """
    refuse_in_place(disk)
    kept: SnapshotInfo | None = None
    try:
        kept = create_snapshot(disk.storage, snapshot).snapshot
        _switch(disk, work, left_out, advance)
    except ByreError as error:
        if kept is not None:
            said = _way_back(kept.name)
            error.hint = f"{error.hint} {said}" if error.hint else said
        raise
    except KeyboardInterrupt as interrupt:
        what = "interrupted: the image shows what it showed before, or all of the change"
        hint = _way_back(snapshot) if kept is not None else f"Its snapshot {snapshot!r} may have been taken by then."
        raise InterruptedByUserError(what, path=disk.storage.name, hint=hint) from interrupt
    return kept


def _switch(disk: WritableQcow2Disk, work: ScratchDisk, left_out: Int64Array | None, advance: Advance) -> None:
    """Write the changes beside the state that a snapshot just kept, and show them at once."""
    fresh = open_qcow2(disk.storage, disk.context)  # what was in memory of the tables has moved
    assert isinstance(fresh, WritableQcow2Disk)
    try:
        given_up = _stored_clusters(left_out, fresh)
        fresh.hold()
        for start, stop in work.changes():
            for position in range(start, stop, PIECE):
                size = min(PIECE, stop - position)
                fresh.write(position, work.read(position, size))
                advance(size)
        for start, stop in given_up:
            fresh.discard(start, stop - start)
        fresh.release()
    finally:
        if fresh.source.backing is not None:
            fresh.source.backing.close()  # its own; the image's storage is the caller's


def _way_back(name: str) -> str:
    return f"What the image was is its snapshot {name!r}: revert to it, or delete it to have its room back."


def _stored_clusters(ranges: Int64Array | None, disk: WritableQcow2Disk) -> list[tuple[int, int]]:
    """The whole clusters among the ranges, as far as anything is stored for them: the others have nothing to give."""
    if ranges is None:
        return []
    size = disk.block_size
    starts, stops = -(-ranges[:, 0] // size) * size, ranges[:, 1] // size * size
    held = [
        np.stack((rows["start"], rows["start"] + rows["length"]), axis=1)
        for table in disk.extents()
        for rows in (table[(table["kind"] != Kind.UNALLOCATED) & (table["kind"] != Kind.ZERO)],)
    ]
    stored = touched(np.concatenate(held), starts, stops) if held else np.zeros(len(starts), dtype=np.bool_)
    chosen = (starts < stops) & stored
    return list(zip(starts[chosen].tolist(), stops[chosen].tolist(), strict=True))
