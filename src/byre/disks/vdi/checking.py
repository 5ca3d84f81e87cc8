"""What is wrong with a VDI's block map: a pure function over the header and the map."""

from __future__ import annotations

import numpy as np

from byre.disks.disk import CheckReport, Problem
from byre.disks.maptable import Entries
from byre.disks.vdi.header import DISCARDED, ImageType, VdiHeader

SHOWN = 20
"""Problems of one kind that are listed one by one; the rest are counted."""


def check_map(
    header: VdiHeader, entries: Entries, file_size: int, *, parent_modified: bool | None = None
) -> CheckReport:
    """Entries past the end, blocks that two entries share, counts that don't agree, space that nothing uses."""
    problems: list[Problem] = []
    used = np.flatnonzero(entries < DISCARDED)
    slots = entries[used].astype(np.int64)
    # The last block of the disk may be stored short: only its part of the disk must be there.
    needed = np.minimum(header.block_size, header.disk_size - used * header.block_size)
    host = header.data_offset + header.block_extra + slots * header.stride
    past = host + np.maximum(needed, 0) > file_size
    for row in np.flatnonzero(past)[:SHOWN].tolist():
        problems.append(
            Problem(
                "corruption",
                "vdi.block-past-end",
                f"block {int(used[row])} lies past the end of the file",
                offset=int(host[row]),
            )
        )
    corruptions = int(np.count_nonzero(past))
    ordered = np.sort(slots)
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    repeats = int(np.count_nonzero(ordered[1:] == ordered[:-1]))
    for slot in shared[:SHOWN].tolist():
        owners = used[slots == slot]
        problems.append(
            Problem(
                "corruption",
                "vdi.block-shared",
                f"blocks {', '.join(map(str, owners[:4].tolist()))} share one place in the file",
                offset=header.data_offset + slot * header.stride,
                count=len(owners) - 1,
            )
        )
    corruptions += repeats
    distinct = len(ordered) - repeats
    top = int(ordered[-1]) + 1 if len(ordered) else 0
    if header.blocks_allocated < top and not past.any():
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
    leaks = max(0, room - distinct) if not past.any() else 0
    if leaks:
        problems.append(
            Problem("leak", "vdi.block-unused", f"{leaks} blocks of the file belong to nothing", count=leaks)
        )
    if header.image_type == ImageType.FIXED and len(used) < len(entries):
        missing = len(entries) - len(used)
        problems.append(
            Problem("note", "vdi.fixed-with-free-blocks", f"{missing} blocks of a fixed image have no place")
        )
    if parent_modified:
        problems.append(
            Problem(
                "note",
                "vdi.parent-modified",
                "the parent was written to since this image was made; what is read through it may not fit",
            )
        )
    return CheckReport(
        format="vdi",
        corruptions=corruptions,
        leaks=leaks,
        problems=tuple(problems),
        allocated_blocks=len(used),
        total_blocks=len(entries),
        image_end=header.data_offset + top * header.stride,
    )
