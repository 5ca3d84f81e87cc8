"""Where the parts of a dynamic VHD lie, and what is wrong with that: pure functions over header and table."""

from __future__ import annotations

import numpy as np

from byre.disks.disk import CheckReport, Problem
from byre.disks.findings import CORRUPTION, LEAK, Findings
from byre.disks.maptable import Entries
from byre.disks.vhd.footer import FOOTER_BYTES, HEADER_BYTES, UNUSED, DynamicHeader, Footer
from byre.disks.writer import Int64Array
from byre.units import SECTOR, align_up

FOOTER_BROKEN = "vhd.footer-broken"
COPY_BROKEN = "vhd.footer-copy-broken"


def blocks_end(file_size: int, problems: tuple[Problem, ...]) -> int:
    """Where the blocks must stop: at the footer, or where that is lost at the end of the file."""
    lost = any(problem.code == FOOTER_BROKEN for problem in problems)
    return file_size if lost else max(0, file_size - FOOTER_BYTES)


def metadata_ranges(footer: Footer, header: DynamicHeader, end: int) -> Int64Array:
    """Rows (begin, stop) of host bytes that are no blocks: footer copy, header, table, parent locators; none of
    them beyond ``end``, wherever a hostile header says that they are."""
    rows = [
        (0, FOOTER_BYTES),
        (footer.data_offset, footer.data_offset + HEADER_BYTES),
        (header.table_offset, header.table_offset + align_up(4 * header.max_table_entries, SECTOR)),
    ]
    for locator in header.locators:
        if locator.length and locator.offset < 1 << 62:
            rows.append((locator.offset, locator.offset + align_up(locator.length, SECTOR)))
    return np.array([(begin, min(stop, end)) for begin, stop in rows if begin < end], dtype=np.int64).reshape(-1, 2)


def check_table(footer: Footer, header: DynamicHeader, entries: Entries, end: int) -> CheckReport:
    """Blocks past ``end`` (where the blocks must stop), blocks over each other or over metadata, unused room."""
    found = Findings("vhd")
    used = np.flatnonzero(entries != UNUSED)
    host = entries[used].astype(np.int64) * SECTOR
    needed = np.minimum(header.block_size, footer.size - used * header.block_size)
    metadata = metadata_ranges(footer, header, end)
    past = np.flatnonzero(host + header.bitmap_size + needed > end)
    over = np.flatnonzero(_overlaps(host, header.stride, metadata))
    for rows, code, what in (
        (past, "block-past-end", "a block lies past the end of the file"),
        (over, "block-overlap", "a block lies over another or over metadata"),
    ):
        if len(rows):
            which = f"{what}; the first is number {int(used[rows[0]])}"
            found.add(CORRUPTION, code, which, offset=int(host[rows[0]]), count=len(rows))
    if header.table_offset + 4 * header.max_table_entries > end:
        what = f"the block allocation table's {header.max_table_entries} entries don't fit the file"
        found.add(CORRUPTION, "table-past-end", what, offset=header.table_offset)
    if not found.total(CORRUPTION):
        found.add(
            LEAK, "block-unused", "room for a block belongs to nothing", count=_unused(host, header, metadata, end)
        )
    return found.report(
        allocated_blocks=len(used),
        total_blocks=len(entries),
        image_end=end,
    )


def _overlaps(host: Int64Array, stride: int, metadata: Int64Array) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """For each block: does it begin inside, or reach into, something that begins before it or at it."""
    bad = np.zeros(len(host), dtype=bool)
    order = np.argsort(host, kind="stable")
    ordered = host[order]
    bad[order[1:]] = ordered[1:] < ordered[:-1] + stride
    for begin, stop in metadata.tolist():
        bad |= (host < stop) & (host + stride > begin)
    return bad


def _unused(host: Int64Array, header: DynamicHeader, metadata: Int64Array, end: int) -> int:
    """How many blocks would fit into the gaps."""
    rows = np.concatenate((np.stack((host, host + header.stride), axis=1), metadata, [[end, end]]))
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    reached = np.maximum.accumulate(rows[:, 1])[:-1]
    return int((np.maximum(rows[1:, 0] - reached, 0) // header.stride).sum())
