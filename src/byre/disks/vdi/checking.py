"""What is wrong with a VDI's block map: a pure function over the header and the map."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from byre.disks.disk import CheckReport, Problem
from byre.disks.maptable import Entries
from byre.disks.vdi.header import DISCARDED, ImageType, VdiHeader
from byre.disks.writer import Int64Array

SHOWN = 20
"""Problems of one kind that are listed one by one; the rest are counted."""


def check_map(
    header: VdiHeader, entries: Entries, file_size: int, *, parent_modified: bool | None = None
) -> CheckReport:
    """Entries past the end, blocks that two entries share, counts that don't agree, space that nothing uses."""
    used = np.flatnonzero(entries < DISCARDED)
    slots = entries[used].astype(np.int64)
    past, problems = _past_the_end(header, used, slots, file_size)
    ordered = np.sort(slots)
    repeats = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
    problems += _shared(header, used, slots, ordered)
    corruptions = past + repeats
    top = int(ordered[-1]) + 1 if len(ordered) else 0
    if header.blocks_allocated < top and not past:
        corruptions += 1
        problems.append(
            Problem(
                "corruption",
                "vdi.allocated-count-too-low",
                f"the header counts {header.blocks_allocated} blocks but block place {top - 1} is in use: "
                "VirtualBox would write its next block over it",
                offset=388,
            )
        )
    room = max(0, file_size - header.data_offset) // header.stride
    leaks = max(0, room - (len(ordered) - repeats)) if not past else 0
    if leaks:
        problems.append(
            Problem("leak", "vdi.block-unused", f"{leaks} blocks of the file belong to nothing", count=leaks)
        )
    problems += _notes(header, len(entries) - len(used), parent_modified)
    return CheckReport(
        format="vdi",
        corruptions=corruptions,
        leaks=leaks,
        problems=tuple(problems),
        allocated_blocks=len(used),
        total_blocks=len(entries),
        image_end=header.data_offset + top * header.stride,
    )


def _past_the_end(
    header: VdiHeader, used: Int64Array, slots: Int64Array, file_size: int
) -> tuple[int, list[Problem]]:
    """How many blocks lie past the end of the file, and the first of them."""
    # The last block of the disk may be stored short: only its part of the disk must be there.
    needed = np.minimum(header.block_size, header.disk_size - used * header.block_size)
    host = header.data_offset + header.block_extra + slots * header.stride
    past = host + np.maximum(needed, 0) > file_size
    problems = [
        Problem(
            "corruption",
            "vdi.block-past-end",
            f"block {int(used[row])} lies past the end of the file",
            offset=int(host[row]),
        )
        for row in np.flatnonzero(past)[:SHOWN].tolist()
    ]
    return int(np.count_nonzero(past)), problems


def _shared(header: VdiHeader, used: Int64Array, slots: Int64Array, ordered: Int64Array) -> Iterator[Problem]:
    """The first places in the file that several blocks have; ``ordered`` is ``slots``, sorted."""
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    for slot in shared[:SHOWN].tolist():
        owners = used[slots == slot]
        yield Problem(
            "corruption",
            "vdi.block-shared",
            f"blocks {', '.join(map(str, owners[:4].tolist()))} share one place in the file",
            offset=header.data_offset + slot * header.stride,
            count=len(owners) - 1,
        )


def _notes(header: VdiHeader, without_place: int, parent_modified: bool | None) -> Iterator[Problem]:
    """What is odd and breaks nothing."""
    if header.image_type == ImageType.FIXED and without_place:
        yield Problem("note", "vdi.fixed-with-free-blocks", f"{without_place} blocks of a fixed image have no place")
    if parent_modified:
        yield Problem(
            "note",
            "vdi.parent-modified",
            "the parent was written to since this image was made; what is read through it may not fit",
        )
