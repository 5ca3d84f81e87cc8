"""What is wrong with a VDI's block map: a pure function over the header and the map."""

from __future__ import annotations

import numpy as np

from byre.disks.disk import CheckReport
from byre.disks.findings import CORRUPTION, LEAK, NOTE, Findings
from byre.disks.maptable import Entries
from byre.disks.vdi.header import DISCARDED, ImageType, VdiHeader
from byre.disks.writer import Int64Array


def check_map(
    header: VdiHeader, entries: Entries, file_size: int, *, parent_modified: bool | None = None
) -> CheckReport:
    """Entries past the end, blocks that two entries share, counts that don't agree, space that nothing uses."""
    found = Findings("vdi")
    used = np.flatnonzero(entries < DISCARDED)
    slots = entries[used].astype(np.int64)
    ordered = np.sort(slots)
    past = _past_the_end(header, used, slots, file_size, found)
    repeats = _shared(header, used, slots, ordered, found)
    top = int(ordered[-1]) + 1 if len(ordered) else 0
    if header.blocks_allocated < top and not past:
        found.add(
            CORRUPTION,
            "allocated-count-too-low",
            f"the header counts {header.blocks_allocated} blocks but block place {top - 1} is in use: "
            "VirtualBox would write its next block over it",
            offset=388,
        )
    room = max(0, file_size - header.data_offset) // header.stride
    leaks = max(0, room - (len(ordered) - repeats)) if not past else 0
    found.add(LEAK, "block-unused", "a block of the file belongs to nothing", count=leaks)
    _notes(header, len(entries) - len(used), parent_modified, found)
    return found.report(
        allocated_blocks=len(used),
        total_blocks=len(entries),
        image_end=header.data_offset + top * header.stride,
    )


def _past_the_end(header: VdiHeader, used: Int64Array, slots: Int64Array, file_size: int, found: Findings) -> int:
    """How many blocks lie past the end of the file."""
    # The last block of the disk may be stored short: only its part of the disk must be there.
    needed = np.minimum(header.block_size, header.disk_size - used * header.block_size)
    host = header.data_offset + header.block_extra + slots * header.stride
    past = np.flatnonzero(host + np.maximum(needed, 0) > file_size)
    if len(past):
        what = f"a block lies past the end of the file; the first is number {int(used[past[0]])}"
        found.add(CORRUPTION, "block-past-end", what, offset=int(host[past[0]]), count=len(past))
    return len(past)


def _shared(header: VdiHeader, used: Int64Array, slots: Int64Array, ordered: Int64Array, found: Findings) -> int:
    """How many blocks have the place in the file of another; ``ordered`` is ``slots``, sorted."""
    repeats = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(repeats):
        slot = int(repeats[0])
        owners = ", ".join(map(str, used[slots == slot][:4].tolist()))
        what = f"blocks share one place in the file; the first are {owners}"
        found.add(
            CORRUPTION, "block-shared", what, offset=header.data_offset + slot * header.stride, count=len(repeats)
        )
    return len(repeats)


def _notes(header: VdiHeader, without_place: int, parent_modified: bool | None, found: Findings) -> None:
    """What is odd and breaks nothing."""
    if header.image_type == ImageType.FIXED:
        found.add(NOTE, "fixed-with-free-blocks", "a block of a fixed image has no place", count=without_place)
    if parent_modified:
        what = "the parent was written to since this image was made; what is read through it may not fit"
        found.add(NOTE, "parent-modified", what)
