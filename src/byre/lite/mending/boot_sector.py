"""Mending the boot sector of the active partition: from the file system's own copy, its fields, Byre's own code."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from byre.disks.disk import Disk
from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.filesystems.fat.boot import FatBoot
from byre.filesystems.ntfs.boot import OEM_ID, BootSector
from byre.filesystems.opening import OpenVolume
from byre.lite.mending.boot_code import FREELDR, NTLDR, SIGNATURE, volume_code, with_volume_code
from byre.lite.mending.ntfs_fields import rebuilt_sector
from byre.lite.mending.plan import Options, Plan, Refusal, Step, WriteSector
from byre.units import SECTOR
from byre.volumes.boot_code import BootCode, recognise_volume
from byre.volumes.geometry import SECTORS, Geometry, heads_for, needs_geometry, right_geometry, table_geometries
from byre.volumes.partition import Partition
from byre.windows.roots import find_roots

FIXBOOT = "fixboot in the Recovery Console, or the repair of the guest's own media, writes it"
BOOT_AREA = 8192
"""What NTFS keeps for its boot code: the file $Boot."""
BOOTMGR = "bootmgr"
_LOADS = (
    ("NTLDR", NTLDR),
    ("Windows 2000", NTLDR),
    ("FREELDR", FREELDR),
    ("BOOTMGR", BOOTMGR),
    ("Windows Vista", BOOTMGR),
    ("Windows 7", BOOTMGR),
    ("Windows 8", BOOTMGR),
)
"""(what ``volumes.boot_code`` calls a code, what it loads)."""
_KINDS = ("ntfs", "fat12", "fat16", "fat32")
_NEW = "--new-vbr writes Byre's code, which loads {}"


@dataclass(frozen=True, slots=True)
class Fields:
    """What of a boot sector tells where the file system lies. ``kind``: ``ntfs``, ``fat12``, …; ``size`` in bytes;
    ``backup``: where FAT32 keeps its copy, a byte offset in the volume; ``refused``: why our code can't go there."""

    kind: str
    size: int
    backup: int | None = None
    refused: str | None = None


def parse_fields(sector: bytes, length: int) -> Fields | None:
    """The fields of an NTFS or FAT boot sector that fit a partition of ``length`` bytes; None where they are not
    sound. 55 AA and the code don't matter."""
    try:
        fields = _ntfs(sector) if sector[3:11] == OEM_ID else _fat(sector)
    except ByreError:
        return None
    return fields if fields.size <= length else None


def _ntfs(sector: bytes) -> Fields:
    boot = BootSector.parse(sector)
    refused = None
    if boot.sector_size != SECTOR or boot.cluster_size > 1 << 16:
        refused = "it has other sectors than of 512 bytes, or clusters of more than 64 KiB"
    elif not 512 <= boot.record_size <= 4096 or not 512 <= boot.index_record_size <= 1 << 15:
        refused = "its MFT or index records have an unusual size"
    return Fields("ntfs", boot.total_sectors * boot.sector_size, None, refused)


def _fat(sector: bytes) -> Fields:
    boot = FatBoot.parse(sector)
    refused = None
    if boot.sector_size != SECTOR:
        refused = "it has other sectors than of 512 bytes"
    elif boot.active_fat:
        refused = "its first FAT isn't in use"
    elif boot.kind != "fat32" and (not boot.root_entries or boot.root_entries % 16):
        refused = "its root directory has an unusual size"
    backup = boot.backup_offset if boot.backup_offset != boot.fsinfo_offset else None
    return Fields(boot.kind, boot.total_size, backup, refused)


def plan_boot_sector(
    disk: Disk, part: Partition, volume: OpenVolume | None, sector_size: int, options: Options
) -> Plan:
    """One round of it: a sector that comes back from its copy is looked at again."""
    if part.start + SECTOR > disk.size:
        return Plan()
    sector = disk.read(part.start, SECTOR)
    where = f"boot sector of partition {part.index}"
    if volume is not None and volume.detected is not None and volume.detected.type not in _KINDS:
        # A copy at its end is that of what was there before: an encrypted volume couldn't be opened with it any more.
        return Plan(notes=(f"{where}: it belongs to {volume.detected.name}, and is left alone",))
    fields = parse_fields(sector, part.length)
    whole = fields is not None and sector[510:] == SIGNATURE and has_code(sector)
    if not whole:
        copy = _from_copy(disk, part, sector, with_code=True) or (
            _from_copy(disk, part, sector, with_code=False) if fields is None else None
        )
        if copy is not None:
            return Plan((Step(f"{where}: from the file system's own copy", WriteSector(part.start, copy)),))
    if fields is None:
        if sector[510:] == SIGNATURE and has_code(sector):
            return Plan()  # of a file system that Byre doesn't start, or a loader's own
        if part.type == "0x07" and (rebuilt := rebuilt_sector(disk, part)) is not None:
            told = f"{where}: its fields, told again from the MFT; its serial number is a new one"
            return Plan((Step(told, WriteSector(part.start, rebuilt)),))
        reason = "its fields, which tell where the file system lies, are gone, and neither a copy nor an MFT is there"
        return Plan((), (Refusal(where, reason, "find it again from what lies behind it (testdisk), then mend"),))
    files = volume.filesystem if volume is not None else None
    code, plan = _code(disk, part, fields, files, sector_size, options)
    table = table_geometries(disk.read(0, SECTOR)) if code is None and _windows(disk, part) else None
    mended, said = mended_fields(sector, part.start // sector_size, disk.size, parsed=True, table=table)
    if code is not None:
        mended = with_volume_code(mended, code[1])
        said = (f"Byre's code, which loads {code[0]}", *said)
    if mended == disk.read(part.start, len(mended)):
        return plan + (_odd_geometry(mended, disk.size, where) if table is not None else Plan())
    steps = [Step(f"{where}: {', '.join(said)}", WriteSector(part.start, mended))]
    for offset, old in _copies(disk, part, fields):
        if code is not None or old == sector:
            steps.append(Step(f"{where}: its copy at {offset:#x}", WriteSector(offset, mended[:SECTOR])))
    return plan + Plan(tuple(steps))


def _windows(disk: Disk, part: Partition) -> bool:
    return needs_geometry(recognise_volume(disk.read(part.start, min(BOOT_AREA, disk.size - part.start))))


def _odd_geometry(sector: bytes, disk_size: int, where: str) -> Plan:
    """What is said where the partition table has the same unusual geometry: neither is clearly wrong."""
    sectors, heads = struct.unpack_from("<HH", sector, 0x18)
    expected = heads_for(disk_size)
    if sectors == SECTORS and heads in expected:
        return Plan()
    said = f"{where} states {heads} heads and {sectors} sectors a track, and so does the partition table: it stays"
    return Plan(notes=(f"{said}. A BIOS that goes by the disk's size (QEMU's) takes {expected[0]} and {SECTORS}",))


def has_code(sector: bytes) -> bool:
    """Whether there is anything where every file system's boot sector has its code."""
    return any(sector[0x5A:510])


def _from_copy(disk: Disk, part: Partition, sector: bytes, *, with_code: bool) -> bytes | None:
    """The first copy that can stand for the sector: NTFS keeps it in the partition's last sector, FAT32 mostly in the
    seventh. It may be one of an older file system: it must say what the sector still says, or lead somewhere."""
    sound = parse_fields(sector, part.length) is not None
    for offset in (part.stop - SECTOR, part.start + 6 * SECTOR):
        if not part.start < offset <= disk.size - SECTOR:
            continue
        copy = disk.read(offset, SECTOR)
        fields = parse_fields(copy, part.length)
        if copy == sector or copy[510:] != SIGNATURE or fields is None or copy[0] not in (0xEB, 0xE9):
            continue
        if fields.kind not in ("ntfs", "fat32") or (with_code and not has_code(copy)):
            continue
        if _identity(copy) == _identity(sector) if sound else _leads_somewhere(disk, part, copy):
            return copy
    return None


def _identity(sector: bytes) -> bytes:
    """What is the same in a boot sector and its copy: sizes and places, not geometry, drive and flags."""
    return sector[3:0x18] + sector[0x28 : 0x50 if sector[3:11] == OEM_ID else 0x34]


def _leads_somewhere(disk: Disk, part: Partition, sector: bytes) -> bool:
    """Whether the MFT, or the FAT, begins where these sound fields say."""
    if sector[3:11] == OEM_ID:
        boot = BootSector.parse(sector)
        place, expected = boot.mft_lcn * boot.cluster_size, b"FILE"
    else:
        place, expected = FatBoot.parse(sector).fat_offset, sector[0x15:0x16]
    if part.start + place + SECTOR > disk.size:
        return False
    return disk.read(part.start + place, len(expected)) == expected


def _copies(disk: Disk, part: Partition, fields: Fields) -> Iterator[tuple[int, bytes]]:
    """Where the copy of a sound boot sector belongs, and what is there: a boot sector, or nothing. What else lies
    there is left alone."""
    places = [part.start + fields.backup] if fields.backup is not None else []
    if fields.kind == "ntfs":
        behind = part.start + fields.size  # NTFS leaves the sector behind its last cluster to it
        places = [place for place in dict.fromkeys((behind, part.stop - SECTOR)) if place >= behind]
    for place in places:
        if place + SECTOR <= min(part.stop, disk.size):
            old = disk.read(place, SECTOR)
            if not any(old) or parse_fields(old, part.length) is not None:
                yield place, old


def _code(
    disk: Disk, part: Partition, fields: Fields, files: FileSystem | None, sector_size: int, options: Options
) -> tuple[tuple[str, bytes] | None, Plan]:
    """Our code and what it loads, where it is to be written; else why not, if there is anything to say."""
    where = f"boot sector of partition {part.index}"
    area = disk.read(part.start, min(BOOT_AREA, disk.size - part.start))
    known = recognise_volume(area)
    why = _missing(area, known)
    loaders = _loaders(files)
    if why is None and not options.new_vbr:
        return None, _doubts(where, known, loaders)
    why = why or "--new-vbr"
    if files is None:
        return None, _refused(where, f"{why}, and its file system can't be read", FIXBOOT)
    loader = _choice(loaders, options)
    code = volume_code(fields.kind, loader) if loader is not None else None
    if code is None:
        there = " and ".join(loaders) or "no loader and no system"
        reason = f"{why}; Byre's code loads NTLDR, from FAT FREELDR.SYS too, and in the root there is {there}"
        remedy = _NEW.format(NTLDR) if NTLDR in loaders else FIXBOOT
        return None, _refused(where, reason, remedy)
    refused = fields.refused or _no_room(part, files, fields, len(code), sector_size)
    if refused is not None:
        return None, _refused(where, f"{why}; Byre writes no code there: {refused}", FIXBOOT)
    if loader is None or area.startswith(with_volume_code(area[:SECTOR], code)):
        return None, Plan()
    return (loader, code), Plan((), (), () if options.new_vbr else (f"{where} before: {why}",))


def _doubts(where: str, known: BootCode, loaders: tuple[str, ...]) -> Plan:
    """What is to be said of code that is there and stays."""
    if known.hooks and not known.known:
        reason = "its code stays in memory and hooks the disk, as boot viruses do, and disk encryption too"
        return _refused(where, reason, _NEW.format(NTLDR))
    loads = next((name for text, name in _LOADS if text in (known.loader or "")), None)
    if loads is None or not loaders or loads in loaders:
        return Plan()
    remedy = FIXBOOT if loaders[0] == BOOTMGR else _NEW.format(loaders[0])
    return _refused(where, f"its code loads {loads}, and what belongs in the root is {' and '.join(loaders)}", remedy)


def _refused(what: str, reason: str, remedy: str) -> Plan:
    return Plan((), (Refusal(what, reason, remedy),))


def _missing(area: bytes, known: BootCode) -> str | None:
    """Why there is nothing that starts, None where something is that may. ``area``: the sector and what is behind."""
    sector, loader = area[:SECTOR], known.loader or ""
    if sector[510:] != SIGNATURE or not has_code(sector) or loader.startswith("none"):
        return "it has no code, or no 55 AA"
    if known.idle:
        return f"its code is that of {loader}"
    if known.known and loader.startswith("Windows") and sector[3:11] == OEM_ID and not any(area[SECTOR:]):
        return f"its code is that of {loader}, and the other sectors of it are zeros"
    return None


def _loaders(files: FileSystem | None) -> tuple[str, ...]:
    """What could be started from a volume: the loaders in its root, else what its system would have there."""
    if files is None:
        return ()
    found = tuple(name for name in (NTLDR, FREELDR, BOOTMGR) if _there(files, f"/{name}"))
    if found:
        return found
    try:
        roots = find_roots(files)
    except ByreError:
        return ()
    wanted = []
    for root in roots:
        vista = _there(files, f"{root}/system32/winload.exe")
        wanted.append(FREELDR if root.lower() == "/reactos" else BOOTMGR if vista else NTLDR)
    return tuple(dict.fromkeys(wanted))


def _there(files: FileSystem, path: str) -> bool:
    try:
        return not files.lookup(path).is_dir
    except ByreError:
        return False


def _choice(loaders: tuple[str, ...], options: Options) -> str | None:
    """The one loader; of several NTLDR, where the user asks for new code."""
    if len(loaders) == 1 and loaders[0] != BOOTMGR:
        return loaders[0]
    return NTLDR if options.new_vbr and NTLDR in loaders else None


def _no_room(part: Partition, files: FileSystem, fields: Fields, length: int, sector_size: int) -> str | None:
    """Why the code has no place, as far as that can't be read from the fields."""
    if sector_size != SECTOR or part.start // SECTOR > 0xFFFFFFFF:
        return "the disk has other sectors than of 512 bytes, or the partition lies beyond 2 TiB"
    if fields.kind != "ntfs":
        return None
    try:
        rows = files.extents(files.lookup("/$Boot"))
    except ByreError as error:
        return f"$Boot can't be read ({error})"
    if not len(rows) or int(rows["disk"][0]) != part.start or int(rows["length"][0]) < length:
        return f"$Boot hasn't {length} bytes at the volume's start"
    return None


def mended_fields(
    sector: bytes, start: int, disk_size: int, *, parsed: bool = False, table: tuple[Geometry, ...] | None = None
) -> tuple[bytes, tuple[str, ...]]:
    """A boot sector of NTFS or FAT with the geometry that NT 5's code counts on, and what was changed. ``start`` is
    the partition's first sector, ``disk_size`` in bytes; ``parsed``: it is known to be one of them; ``table``: its
    code needs the fields, and this is what the partition table says: what agrees with nothing is corrected, else
    only zeros. Source: see the audit's rules BOOT-003 and BOOT-004."""
    is_fat = sector[0x36:0x39] == b"FAT" or sector[0x52:0x55] == b"FAT"
    if not parsed and sector[3:11] != OEM_ID and not is_fat:
        return sector, ()
    mended, said = bytearray(sector), []
    sectors, heads, hidden = struct.unpack_from("<HHI", sector, 0x18)
    if hidden != start and start <= 0xFFFFFFFF:
        struct.pack_into("<I", mended, 0x1C, start)
        said.append(f"hidden sectors {start} instead of {hidden}")
    new_heads, new_sectors = heads or heads_for(disk_size)[0], sectors or SECTORS
    if table is not None:
        new_heads, new_sectors = right_geometry(new_heads, new_sectors, disk_size, table) or (new_heads, new_sectors)
    if new_heads != heads:
        said.append(f"{new_heads} heads instead of {heads}")
    if new_sectors != sectors:
        said.append(f"{new_sectors} sectors a track instead of {sectors}")
    struct.pack_into("<HH", mended, 0x18, new_sectors, new_heads)
    return bytes(mended), tuple(said)
