"""From a file to an open VHD: which footer counts, the dynamic header, the table, the parent."""

from __future__ import annotations

from datetime import UTC, datetime

from byre.disks.context import OpenContext
from byre.disks.disk import Backing, Disk, Problem
from byre.disks.maptable import MapTable, load_table
from byre.disks.vhd.dynamic import DynamicVhdDisk
from byre.disks.vhd.fixed import FixedVhdDisk
from byre.disks.vhd.footer import (
    COOKIE,
    EPOCH,
    FOOTER_BYTES,
    HEADER_BYTES,
    DiskType,
    DynamicHeader,
    Footer,
    find_footer,
    parse_footer,
    parse_header,
)
from byre.disks.vhd.layout import COPY_BROKEN, FOOTER_BROKEN, blocks_end, check_table
from byre.disks.vhd.parent import open_vhd_parent
from byre.errors import ByreError, CorruptImageError, UnsupportedError
from byre.storage.base import Storage
from byre.units import SECTOR, ceil_div


def open_disk(storage: Storage, context: OpenContext) -> Disk:
    """Open a VHD with its chain. Raises CorruptImageError, UnsupportedError, MissingError for a lost parent,
    RefusedReferenceError for one that lies elsewhere."""
    try:
        footer, problems, which = _choose_footer(storage)
        if footer.disk_type == DiskType.FIXED:
            return _open_fixed(storage, footer, which)
        return _open_dynamic(storage, context, footer, problems, which)
    except BaseException:
        storage.close()
        raise


def _choose_footer(storage: Storage) -> tuple[Footer, list[Problem], str]:
    """The footer at the end; where it is broken, the copy in front; and what is wrong with either."""
    size = storage.size
    name = storage.name
    at = max(0, size - FOOTER_BYTES)
    tail = find_footer(storage.read(at, min(FOOTER_BYTES, size)))
    head = storage.read(0, min(FOOTER_BYTES, size))
    end, end_wrong = _attempt(tail, name, at)
    copy, copy_wrong = _attempt(head if head.startswith(COOKIE) and len(head) == FOOTER_BYTES else None, name, 0)
    if end is not None and end.disk_type == DiskType.FIXED:
        return end, [], "end"
    if end is None and copy is None:
        raise end_wrong or copy_wrong or CorruptImageError("has no VHD footer", path=name, offset=at)
    if end is not None and copy is not None:
        problems = []
        if end != copy:
            problems.append(
                Problem("note", "vhd.footers-differ", "the footer and its copy in front don't say the same", offset=0)
            )
        return end, problems, "end"
    if end is None:
        assert copy is not None
        if copy.disk_type == DiskType.FIXED:
            raise end_wrong or CorruptImageError(
                "a fixed VHD ends without its footer: the file was cut short", path=name, offset=at
            )
        what = "the footer at the end is missing or broken; the copy in front was used"
        return copy, [Problem("corruption", FOOTER_BROKEN, what, offset=at)], "copy"
    what = "the copy of the footer in front is missing or broken"
    return end, [Problem("corruption", COPY_BROKEN, what, offset=0)], "end"


def _attempt(data: bytes | None, path: str, offset: int) -> tuple[Footer | None, ByreError | None]:
    if data is None:
        return None, None
    try:
        footer = parse_footer(data, path=path, offset=offset)
    except (CorruptImageError, UnsupportedError) as error:
        return None, error
    if not footer.valid:
        wrong = CorruptImageError(
            "the checksum of the VHD footer is wrong",
            path=path,
            offset=offset + 64,
            found=data[64:68],
            hint="To read the file without its footer: -f raw.",
        )
        return None, wrong
    return footer, None


def _open_fixed(storage: Storage, footer: Footer, which: str) -> FixedVhdDisk:
    room = storage.size - FOOTER_BYTES + (storage.size % SECTOR == FOOTER_BYTES - 1)
    if footer.size > room:
        raise CorruptImageError(
            "the footer states a larger disk than the file holds",
            path=storage.name,
            offset=storage.size - FOOTER_BYTES + 48,
            found=f"{footer.size} bytes",
            expected=f"at most {room}",
        )
    return FixedVhdDisk(storage, footer, _details(footer, which))


def _open_dynamic(
    storage: Storage, context: OpenContext, footer: Footer, problems: list[Problem], which: str
) -> DynamicVhdDisk:
    header, table = _read_header(storage, footer)
    if not header.valid:
        what = "the checksum of the dynamic header is wrong"
        problems.append(Problem("corruption", "vhd.header-checksum", what, offset=footer.data_offset + 36))
    if context.options.writable:
        _check_writable(storage, footer, header, table, problems)
    details = _details(footer, which)
    details["block_size"] = header.block_size
    parent: Disk | None = None
    backing: Backing | None = None
    if footer.disk_type == DiskType.DIFFERENCING:
        details["parent_uuid"] = str(header.parent_uuid)
        details["parent_name"] = header.parent_name
        details["parent_timestamp"] = _time(header.parent_timestamp)
        parent, backing, note = open_vhd_parent(storage, footer, header, context)
        if note is not None:
            problems.append(note)
            details["parent_note"] = note.message
    if problems:
        details["problems"] = [problem.message for problem in problems]
    return DynamicVhdDisk(
        storage,
        footer,
        header,
        table,
        parent=parent,
        backing=backing,
        details=details,
        problems=tuple(problems),
    )


def _read_header(storage: Storage, footer: Footer) -> tuple[DynamicHeader, MapTable]:
    if footer.data_offset % SECTOR or footer.data_offset + HEADER_BYTES > storage.size:
        raise CorruptImageError(
            "the dynamic header lies outside the file",
            path=storage.name,
            offset=16,
            found=f"{footer.data_offset:#x}",
            expected=f"whole sectors within {storage.size} bytes",
        )
    header = parse_header(
        storage.read(footer.data_offset, HEADER_BYTES),
        path=storage.name,
        offset=footer.data_offset,
        disk_size=footer.size,
    )
    if header.table_offset >= 1 << 62:
        raise CorruptImageError(
            "the block allocation table lies outside the file",
            path=storage.name,
            offset=footer.data_offset + 16,
            found=f"{header.table_offset:#x}",
        )
    entries = ceil_div(footer.size, header.block_size)
    return header, load_table(storage, header.table_offset, entries, ">")


def _check_writable(
    storage: Storage, footer: Footer, header: DynamicHeader, table: MapTable, problems: list[Problem]
) -> None:
    report = check_table(footer, header, table.entries, blocks_end(storage.size, tuple(problems)))
    mended = (COPY_BROKEN, FOOTER_BROKEN)  # the first write restores these
    found = [
        problem
        for problem in (*problems, *report.problems)
        if problem.kind == "corruption" and problem.code not in mended
    ]
    if found or table.offset % SECTOR:
        raise CorruptImageError(
            "is damaged and can't be written to without more damage",
            path=storage.name,
            found=found[0].message if found else "a table that doesn't begin on a sector",
            hint=f"Run 'byre check {storage.name}', and convert what can still be read.",
        )


def _details(footer: Footer, which: str) -> dict[str, object]:
    return {
        "uuid": str(footer.uuid),
        "creator": footer.creator.decode("latin-1").rstrip(" \0"),
        "creator_version": f"{footer.creator_version >> 16}.{footer.creator_version & 0xFFFF}",
        "created": _time(footer.timestamp),
        "size_rule": footer.size_rule,
        "current_size": footer.current_size,
        "geometry": [footer.geometry.cylinders, footer.geometry.heads, footer.geometry.sectors],
        "geometry_size": footer.geometry.total * SECTOR,
        "saved_state": bool(footer.saved_state),
        "footer": which,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(EPOCH + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
