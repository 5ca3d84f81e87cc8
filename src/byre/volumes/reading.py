"""From a disk to its partition table, of whatever kind."""

from __future__ import annotations

from collections.abc import Callable

from byre.disks.disk import Disk
from byre.volumes.gpt import SIGNATURE, read_gpt
from byre.volumes.mbr import MbrEntry, is_plausible, parse_entries, read_partitions
from byre.volumes.partition import Partition, PartitionTable, VolumeDisk
from byre.volumes.problems import Problems
from byre.volumes.types import GPT_LDM, LDM, PROTECTIVE

BOOT_SECTOR_TYPES = frozenset({"ntfs", "fat12", "fat16", "fat32", "exfat", "refs", "bitlocker", "luks", "xfs"})

Recogniser = Callable[[VolumeDisk], str | None]


def read_table(disk: Disk, recognise: Recogniser) -> PartitionTable:
    """The partitions of a disk. ``recognise`` names the file system at the start of a slice, or None.

    Damage is reported in ``problems``; only a disk that can't be read raises.
    """
    problems = Problems()
    if disk.size < 512:
        return PartitionTable("none", disk.sector_size)
    sector = disk.read(0, 512)
    entries = parse_entries(sector)
    gpt_sector = _gpt_sector_size(disk)
    protective = entries is not None and any(entry.type == PROTECTIVE for entry in entries)
    if gpt_sector is not None or protective:
        table = _read_gpt_table(disk, gpt_sector or disk.sector_size, entries, problems)
        if table is not None:
            return table
    kind = recognise(VolumeDisk(disk))
    if kind is not None and _wins_over_table(disk, kind, entries, recognise):
        return _superfloppy(disk, kind, problems)
    if entries is None or not any(entry.used for entry in entries):
        return PartitionTable("none", disk.sector_size, problems=tuple(problems))
    if not is_plausible(entries, disk.size // 512):
        problems.add("mbr.implausible", "the partition table makes no sense", offset=0x1BE)
    return _read_mbr_table(disk, sector, entries, recognise, problems)


def _read_gpt_table(
    disk: Disk, sector_size: int, entries: tuple[MbrEntry, ...] | None, problems: Problems
) -> PartitionTable | None:
    copy = read_gpt(disk, sector_size, problems)
    if copy is None:
        return None
    if entries is None or not any(entry.type == PROTECTIVE for entry in entries):
        problems.add("gpt.no-protective-mbr", "a GPT without its protective MBR", kind="note", offset=0)
    elif any(entry.used and entry.type != PROTECTIVE for entry in entries):
        problems.add("gpt.hybrid", "a hybrid MBR: its partitions may disagree with the GPT", kind="note", offset=0)
    _check_layout(disk, copy.partitions, problems)
    return PartitionTable(
        scheme="gpt",
        sector_size=sector_size,
        id=copy.header.disk_guid,
        partitions=copy.partitions,
        problems=tuple(problems),
        dynamic=any(partition.type in GPT_LDM for partition in copy.partitions),
    )


def _read_mbr_table(
    disk: Disk, sector: bytes, entries: tuple[MbrEntry, ...], recognise: Recogniser, problems: Problems
) -> PartitionTable:
    sector_size = disk.sector_size
    if sector_size == 512 and _looks_like_4096(disk, entries, recognise):
        sector_size = 4096
        problems.add("mbr.sectors-of-4096", "the table counts sectors of 4096 bytes", kind="note", offset=0x1BE)
    partitions = read_partitions(disk, entries, sector_size, problems)
    _check_layout(disk, partitions, problems)
    return PartitionTable(
        scheme="mbr",
        sector_size=sector_size,
        id=f"{int.from_bytes(sector[0x1B8:0x1BC], 'little'):#010x}",
        partitions=partitions,
        problems=tuple(problems),
        dynamic=any(entry.used and entry.type == LDM for entry in entries),
    )


def _superfloppy(disk: Disk, kind: str, problems: Problems) -> PartitionTable:
    partition = Partition(0, 0, disk.size, "whole-disk", kind, kind)
    return PartitionTable("superfloppy", disk.sector_size, partitions=(partition,), problems=tuple(problems))


def _wins_over_table(disk: Disk, kind: str, entries: tuple[MbrEntry, ...] | None, recognise: Recogniser) -> bool:
    """Whether a file system found at the start of the disk is what the disk holds.

    One with its own boot sector in sector 0 leaves no room for a table: what looks like one is boot code. The
    others keep off the first sectors: there the table wins if one of its partitions holds something known, for
    then the magic is a left-over; if none does, the table is there to boot from (a hybrid ISO).
    """
    if kind in BOOT_SECTOR_TYPES or entries is None or not is_plausible(entries, disk.size // 512):
        return True
    size = disk.sector_size
    starts = [entry.start * size for entry in entries if entry.used and 0 < entry.start * size < disk.size]
    return not any(recognise(VolumeDisk(disk, start)) is not None for start in starts)


def _gpt_sector_size(disk: Disk) -> int | None:
    """The sector size for which a GPT signature stands in LBA 1, or in the last sector."""
    sizes = (disk.sector_size, 512, 4096)
    for size in sizes:
        if disk.size >= 3 * size and disk.read(size, 8) == SIGNATURE:
            return size
    for size in sizes:
        if disk.size >= 3 * size and disk.read((disk.size // size - 1) * size, 8) == SIGNATURE:
            return size
    return None


def _looks_like_4096(disk: Disk, entries: tuple[MbrEntry, ...], recognise: Recogniser) -> bool:
    """A raw image doesn't know its sector size: whether file systems start where 4096 puts them, and only there."""

    def hits(size: int) -> int:
        return sum(
            recognise(VolumeDisk(disk, entry.start * size, entry.sectors * size)) is not None
            for entry in entries
            if entry.used and entry.start * size < disk.size
        )

    return hits(512) == 0 and hits(4096) > 0


def _check_layout(disk: Disk, partitions: tuple[Partition, ...], problems: Problems) -> None:
    solid = sorted(
        (partition for partition in partitions if partition.role != "extended"), key=lambda each: each.start
    )
    for partition in partitions:
        if not partition.length:
            problems.add("table.no-length", f"partition {partition.index} ends before it starts")
        elif partition.start >= disk.size:
            problems.add("table.outside", f"partition {partition.index} starts past the end of the disk")
        elif partition.stop > disk.size:
            problems.add(
                "table.cut",
                f"partition {partition.index} ends {partition.stop - disk.size} bytes past the end of the disk",
            )
        if partition.start == 0:
            problems.add("table.at-zero", f"partition {partition.index} starts at the table itself")
    reach: Partition | None = None
    for partition in solid:
        if reach is not None and partition.length and partition.start < reach.stop:
            problems.add("table.overlap", f"partitions {reach.index} and {partition.index} overlap")
        if reach is None or partition.stop > reach.stop:
            reach = partition
    outer = [each for each in partitions if each.role == "extended"]
    for inner in (each for each in partitions if each.role == "logical"):
        if not any(each.start <= inner.start and inner.stop <= each.stop for each in outer):
            problems.add("mbr.logical-outside", f"partition {inner.index} leaves the extended partition")
