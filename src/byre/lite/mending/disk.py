"""Mending what lies below the file systems: the master boot record and the boot sector of the active partition.

Sectors are looked at and planned one round at a time, since a table that couldn't be read shows its partitions only
once its signature is back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from byre.disks.disk import Disk
from byre.errors import ByreError
from byre.filesystems.opening import OpenVolume, open_volumes, read_partitions
from byre.lite.mending.boot_code import CODE_SIZE, with_master_code
from byre.lite.mending.plan import Options, Plan, Refusal, Step, WriteSector
from byre.units import SECTOR
from byre.volumes.boot_code import recognise_master, recognise_volume
from byre.volumes.mbr import is_plausible, parse_entries
from byre.volumes.partition import Partition, PartitionTable
from byre.windows.guest import find_roots

_SIGNATURE = b"\x55\xaa"
_ENTRIES = 0x1BE
_LOADERS = ("/NTLDR", "/bootmgr", "/freeldr.sys")
_SMALL_HEADS = ((2_114_445_312, 0x40), (4_228_374_780, 0x80))
"""(disks smaller than this, heads that NT 5 expects there); 255 above."""
_FIXBOOT = "fixboot in the Recovery Console, or the repair of the guest's own media, writes it"


def plan_disk(disk: Disk, options: Options) -> Plan:
    """What is wrong in the master boot record and in the active partition's boot sector; one round of it."""
    if disk.size < SECTOR:
        return Plan()
    sector = disk.read(0, SECTOR)
    if sector[510:] != _SIGNATURE:
        return _signature(sector, disk.size)
    table = read_partitions(disk)
    if table.scheme in ("superfloppy", "none"):
        reason = "the image has no partition table: it is one of a partition, or empty"
        return Plan((), (Refusal("the master boot record", reason, "put the volume on a disk with a table"),))
    if table.scheme == "gpt":
        reason = "a GPT isn't started by these systems under a BIOS"
        return Plan((), (Refusal("the partition table", reason, "copy the volume to a disk with an MBR"),))
    plan = plan_code(sector, new=options.new_mbr)
    chosen = plan.steps[0].action.data if plan.steps and isinstance(plan.steps[0].action, WriteSector) else sector
    volumes = open_volumes(disk, table)
    plan += _active(chosen, table, volumes)
    if plan.steps:
        return plan
    active = [part for part in table.partitions if part.active and part.role == "primary"]
    return plan + _boot_sector(disk, active[0], table.sector_size) if len(active) == 1 else plan


def _signature(sector: bytes, size: int) -> Plan:
    """55 AA at the end of sector 0, where what lies before it is a table."""
    mended = sector[:510] + _SIGNATURE
    entries = parse_entries(mended)
    if entries is None or not is_plausible(entries, size // SECTOR):
        reason = "55 AA is missing, and what lies there isn't a partition table"
        remedy = "find the partitions again (testdisk), then mend"
        return Plan((), (Refusal("the partition table", reason, remedy),))
    return Plan((Step("sector 0: 55 AA at its end", WriteSector(0, mended)),))


def plan_code(sector: bytes, *, new: bool = False) -> Plan:
    """Byre's boot code where there is none; where there is some only if ``new`` says so."""
    code = recognise_master(sector)
    if any(sector[:CODE_SIZE]) and not new:
        if not code.hooks:
            return Plan()
        reason = (
            "its code stays in memory and hooks the disk, as boot viruses do, and disk encryption and overlays too"
        )
        return Plan((), (Refusal("the master boot record's code", reason, "--new-mbr replaces it"),))
    mended = with_master_code(sector)
    if mended == sector:
        return Plan()
    return Plan((Step("sector 0: Byre's boot code, which starts the active partition", WriteSector(0, mended)),))


def _active(sector: bytes, table: PartitionTable, volumes: Sequence[OpenVolume]) -> Plan:
    """Exactly one partition active: the one with a loader, else the one with a system."""
    primaries = [part for part in table.partitions if part.role == "primary"]
    if sum(part.active for part in primaries) == 1 or not primaries:
        return Plan()
    by_index = {volume.partition.index: volume for volume in volumes}
    wanted = [part for part in primaries if _has_loader(by_index.get(part.index))]
    wanted = wanted or [part for part in primaries if _has_system(by_index.get(part.index))]
    if len(wanted) != 1:
        reason = "several partitions have a loader" if wanted else "no primary partition has a loader or a system"
        remedy = "set the flag of the right one from a partitioning tool (sfdisk -A)"
        return Plan((), (Refusal("the active flag", reason, remedy),))
    mended = bytearray(sector)
    for slot in range(4):
        mended[_ENTRIES + 16 * slot] = 0x80 if slot + 1 == wanted[0].index else 0
    said = f"sector 0: partition {wanted[0].index} is the active one"
    return Plan((Step(said, WriteSector(0, bytes(mended))),))


def _has_loader(volume: OpenVolume | None) -> bool:
    return volume is not None and any(_there(volume, path) for path in _LOADERS)


def _there(volume: OpenVolume, path: str) -> bool:
    try:
        return volume.filesystem is not None and not volume.filesystem.lookup(path).is_dir
    except ByreError:
        return False


def _has_system(volume: OpenVolume | None) -> bool:
    try:
        return volume is not None and volume.filesystem is not None and bool(find_roots(volume.filesystem))
    except ByreError:
        return False


def _boot_sector(disk: Disk, part: Partition, sector_size: int) -> Plan:
    """Its code from the file system's own copy, and its fields from where the partition lies."""
    if part.start + SECTOR > disk.size:
        return Plan()
    sector = disk.read(part.start, SECTOR)
    where = f"boot sector of partition {part.index}"
    copies = [(offset, disk.read(offset, SECTOR)) for offset in _copies(part) if offset + SECTOR <= disk.size]
    if sector[510:] != _SIGNATURE or not any(sector[0x54:510]):
        good = next((copy for _, copy in copies if _is_boot_sector(copy)), None)
        if good is None:
            reason = "it has no code or no 55 AA, and the file system's copy of it hasn't either"
            return Plan((), (Refusal(where, f"{reason}; Byre writes no such code", _FIXBOOT),))
        return Plan((Step(f"{where}: from the file system's own copy", WriteSector(part.start, good)),))
    plan = Plan()
    known = recognise_volume(sector).loader or ""
    if "not bootable" in known:
        reason = f"its code is that of {known}; Byre writes no code that loads NTLDR"
        plan = Plan((), (Refusal(where, reason, _FIXBOOT),))
    mended, said = mended_fields(sector, part.start // sector_size, disk.size)
    if mended == sector:
        return plan
    steps = [Step(f"{where}: {', '.join(said)}", WriteSector(part.start, mended))]
    steps += [
        Step(f"{where}: its copy at {offset:#x}", WriteSector(offset, mended))
        for offset, copy in copies
        if copy == sector
    ]
    return plan + Plan(tuple(steps))


def _copies(part: Partition) -> Iterator[int]:
    """Where NTFS (the partition's last sector) and FAT32 (its seventh) keep a copy."""
    yield part.stop - SECTOR
    yield part.start + 6 * SECTOR


def _is_boot_sector(sector: bytes) -> bool:
    jump = sector[0] == 0xEB or sector[0] == 0xE9
    named = sector[3:11] == b"NTFS    " or sector[0x52:0x5A] == b"FAT32   "
    return sector[510:] == _SIGNATURE and jump and named and any(sector[0x54:510])


def mended_fields(sector: bytes, start: int, disk_size: int) -> tuple[bytes, tuple[str, ...]]:
    """A boot sector of NTFS or FAT with the geometry that NT 5's code counts on, and what was changed. ``start`` is
    the partition's first sector, ``disk_size`` in bytes. Source: see the audit's rules BOOT-003 and BOOT-004."""
    is_fat = sector[0x36:0x39] == b"FAT" or sector[0x52:0x55] == b"FAT"
    if sector[3:11] != b"NTFS    " and not is_fat:
        return sector, ()
    mended, said = bytearray(sector), []
    sectors, heads, hidden = struct.unpack_from("<HHI", sector, 0x18)
    if hidden != start and start <= 0xFFFFFFFF:
        struct.pack_into("<I", mended, 0x1C, start)
        said.append(f"hidden sectors {start} instead of {hidden}")
    if not heads:
        count = next((heads for limit, heads in _SMALL_HEADS if disk_size < limit), 0xFF)
        struct.pack_into("<H", mended, 0x1A, count)
        said.append(f"{count} heads instead of 0")
    if not sectors:
        struct.pack_into("<H", mended, 0x18, 63)
        said.append("63 sectors a track instead of 0")
    return bytes(mended), tuple(said)
