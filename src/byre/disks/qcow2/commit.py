"""Writes what an overlay holds into its backing image. The overlay's view stays what it was at every moment."""

from __future__ import annotations

from collections.abc import Callable

from byre.disks.disk import Disk, WritableDisk
from byre.disks.qcow2.image import Qcow2Disk
from byre.disks.qcow2.resize import empty_image
from byre.errors import UnsupportedError
from byre.extents import Kind

PIECE = 4 << 20


def commit_size(overlay: Qcow2Disk) -> int:
    """Guest bytes that a commit writes."""
    return sum(
        int(table["length"][(table["kind"] != Kind.UNALLOCATED) & (table["depth"] == 0)].sum())
        for table in overlay.own_extents()
    )


def refuse_snapshots(overlay: Qcow2Disk, what: str) -> None:
    """An overlay's snapshots look through to the backing image as well: it may not change under them."""
    count = len(overlay.snapshot_table)
    if count:
        raise UnsupportedError(
            f"{what} would change what its snapshots show",
            path=overlay.storage.name,
            found=f"{count} snapshot{'s' if count > 1 else ''}",
            hint="Delete them first, or write the disk, or a snapshot of it, as an image that stands alone: "
            "byre convert.",
        )


def commit_overlay(
    overlay: Qcow2Disk, backing: WritableDisk, *, keep: bool, advance: Callable[[int], None] = lambda amount: None
) -> None:
    """Copy into ``backing`` (no shorter than the overlay), flush it, then empty the overlay unless ``keep``.

    The overlay is stale afterwards and is only to be closed.
    """
    refuse_snapshots(overlay, "committing")
    for table in overlay.own_extents():
        rows = table[table["depth"] == 0]
        for start, length, kind in zip(
            rows["start"].tolist(), rows["length"].tolist(), rows["kind"].tolist(), strict=True
        ):
            if kind == Kind.ZERO:
                backing.write_zeroes(start, length)
                advance(length)
            elif kind in (Kind.DATA, Kind.COMPRESSED):
                _copy(overlay, backing, start, length, advance)
    backing.flush()
    if not keep:
        empty_image(overlay.storage)


def _copy(source: Disk, target: WritableDisk, start: int, length: int, advance: Callable[[int], None]) -> None:
    for position in range(start, start + length, PIECE):
        size = min(PIECE, start + length - position)
        target.write(position, source.read(position, size))
        advance(size)
