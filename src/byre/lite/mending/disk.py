"""Mending what lies below the file systems: the master boot record and the boot sector of the active partition.

Sectors are looked at and planned one round at a time, since a table that couldn't be read shows its partitions only
once its signature is back.
"""

from __future__ import annotations

from collections.abc import Sequence

from byre.disks.disk import Disk
from byre.errors import ByreError
from byre.filesystems.opening import OpenVolume, open_volumes, read_partitions
from byre.lite.mending.boot_code import CODE_SIZE, SIGNATURE, with_master_code
from byre.lite.mending.boot_sector import plan_boot_sector
from byre.lite.mending.plan import Options, Plan, Refusal, Step, WriteSector
from byre.units import SECTOR
from byre.volumes.boot_code import recognise_master
from byre.volumes.mbr import is_plausible, parse_entries
from byre.volumes.partition import PartitionTable
from byre.windows.roots import find_roots

_ENTRIES = 0x1BE
_STARTABLE = ("0x01", "0x04", "0x06", "0x07", "0x0b", "0x0c", "0x0e")
"""Types of partitions that hold FAT or NTFS."""
_LOADERS = ("/NTLDR", "/bootmgr", "/freeldr.sys")


def plan_disk(disk: Disk, options: Options) -> Plan:
    """What is wrong in the master boot record and in the active partition's boot sector; one round of it."""
    if disk.size < SECTOR:
        return Plan()
    sector = disk.read(0, SECTOR)
    if sector[510:] != SIGNATURE:
        return _signature(sector, disk.size)
    table = read_partitions(disk)
    if table.scheme in ("superfloppy", "none"):
        reason = "the image has no partition table: it is one of a partition, or empty"
        return Plan((), (Refusal("the master boot record", reason, "put the volume on a disk with a table"),))
    if table.scheme == "gpt":
        reason = "a GPT isn't started by these systems under a BIOS"
        return Plan((), (Refusal("the partition table", reason, "copy the volume to a disk with an MBR"),))
    if table.dynamic:
        reason = "a dynamic disk: its volumes needn't be the partitions that the table shows"
        return Plan((), (Refusal("the partition table", reason, "copy the volume to a basic disk"),))
    plan = plan_code(sector, new=options.new_mbr)
    chosen = plan.steps[0].action.data if plan.steps and isinstance(plan.steps[0].action, WriteSector) else sector
    volumes = open_volumes(disk, table)
    plan += _active(chosen, table, volumes)
    if plan.steps:
        return plan
    active = [part for part in table.partitions if part.active and part.role == "primary"]
    if len(active) != 1:
        return plan
    volume = next((each for each in volumes if each.partition.index == active[0].index), None)
    return plan + plan_boot_sector(disk, active[0], volume, table.sector_size, options)


def _signature(sector: bytes, size: int) -> Plan:
    """55 AA at the end of sector 0, where what lies before it is a table."""
    mended = sector[:510] + SIGNATURE
    entries = parse_entries(mended)
    if entries is None or not is_plausible(entries, size // SECTOR):
        reason = "55 AA is missing, and what lies there isn't a partition table"
        remedy = "find the partitions again (testdisk), then mend"
        return Plan((), (Refusal("the partition table", reason, remedy),))
    return Plan((Step("sector 0: 55 AA at its end", WriteSector(0, mended)),))


def plan_code(sector: bytes, *, new: bool = False) -> Plan:
    """Byre's boot code where there is none; in the place of other code only if ``new`` says so."""
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
    step = Step("sector 0: Byre's boot code, which starts the active partition", WriteSector(0, mended))
    return Plan((step,))


def _active(sector: bytes, table: PartitionTable, volumes: Sequence[OpenVolume]) -> Plan:
    """Exactly one partition active: the one with a loader, else the one with a system."""
    primaries = [part for part in table.partitions if part.role == "primary"]
    if sum(part.active for part in primaries) == 1 or not primaries:
        return Plan()
    by_index = {volume.partition.index: volume for volume in volumes}
    wanted = [part for part in primaries if _has_loader(by_index.get(part.index))]
    wanted = wanted or [part for part in primaries if _has_system(by_index.get(part.index))]
    if not wanted and not any(_read(by_index.get(part.index)) for part in primaries):
        wanted = [part for part in primaries if part.type in _STARTABLE]
    if len(wanted) != 1:
        reason = "several partitions could be it" if wanted else "no primary partition has a loader or a system"
        remedy = "set the flag of the right one from a partitioning tool (sfdisk -A)"
        return Plan((), (Refusal("the active flag", reason, remedy),))
    mended = bytearray(sector)
    for slot in range(4):
        mended[_ENTRIES + 16 * slot] = 0x80 if slot + 1 == wanted[0].index else 0
    said = f"sector 0: partition {wanted[0].index} is the active one"
    return Plan((Step(said, WriteSector(0, bytes(mended))),))


def _read(volume: OpenVolume | None) -> bool:
    return volume is not None and volume.filesystem is not None


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
