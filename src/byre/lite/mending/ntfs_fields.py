"""An NTFS boot sector's fields told again from what they led to: the first records of the MFT.

$MFT says where it lies, $MFTMirr the size of a cluster and its own place, the root directory the size of index
records, $BadClus how many clusters there are. Only the serial number is told nowhere else. Source: the public
descriptions of NTFS's system files (linux-ntfs).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from byre.disks.disk import Disk
from byre.errors import ByreError, CorruptImageError
from byre.extents import Kind
from byre.filesystems.ntfs.boot import OEM_ID, BootSector
from byre.filesystems.ntfs.records import DATA, FILE_NAME, INDEX_ROOT, STANDARD_INFORMATION, Attribute, parse_record
from byre.filesystems.ntfs.runs import decode_runs
from byre.units import SECTOR, is_power_of_two
from byre.volumes.partition import Partition

MAX_SCAN = 8 << 30
"""Bytes that are looked through: Setup of Windows XP puts the MFT at 3 GiB, format at the volume's third or less."""
MAX_TRIED = 4096
_PIECE = 1 << 20
_MIRROR, _ROOT, _BAD = 1, 5, 8
_NAME_OF_MFT = "$MFT".encode("utf-16-le")


def rebuilt_sector(disk: Disk, part: Partition) -> bytes | None:
    """A boot sector with sound fields, without code and geometry; None where no MFT is found, or one that
    contradicts itself."""
    for tried, position in enumerate(_records(disk, part)):
        if tried >= MAX_TRIED:
            return None
        try:
            found = _from_mft(disk, part, position)
        except ByreError:
            continue
        if found is not None:
            return found
    return None


def _records(disk: Disk, part: Partition) -> Iterator[int]:
    """Where sectors of the partition begin as an MFT record does, as guest offsets; holes aren't read."""
    stop = min(part.stop, disk.size, part.start + MAX_SCAN)
    for table in disk.extents(part.start, stop):
        held = table[(table["kind"] != Kind.UNALLOCATED) & (table["kind"] != Kind.ZERO)]
        for start, length in zip(held["start"].tolist(), held["length"].tolist(), strict=True):
            first = start + (part.start - start) % SECTOR
            end = min(start + length, stop)
            for at in range(first, end - SECTOR + 1, _PIECE):
                data = disk.read(at, (min(_PIECE, end - at)) // SECTOR * SECTOR)
                heads = np.frombuffer(data, dtype="<u4")[:: SECTOR // 4]
                yield from (at + SECTOR * np.flatnonzero(heads == int.from_bytes(b"FILE", "little"))).tolist()


def _from_mft(disk: Disk, part: Partition, position: int) -> bytes | None:
    """From the records that begin there, if they are those of the MFT or of its mirror."""
    size = int.from_bytes(disk.read(position + 0x1C, 4), "little")
    if size not in (512, 1024, 2048, 4096) or position + 2 * size > disk.size:
        return None
    first = parse_record(disk.read(position, size), 0).attributes
    if not any(each.type == FILE_NAME and each.value[0x42:] == _NAME_OF_MFT for each in first):
        return None
    mirror = _data(parse_record(disk.read(position + size, size), _MIRROR).attributes)
    cluster = mirror.allocated // (mirror.highest_vcn + 1) if mirror.highest_vcn >= 0 else 0
    if not is_power_of_two(cluster) or not SECTOR <= cluster <= 1 << 16:
        return None
    clusters = part.length // cluster
    lcn, mirror_lcn = _lcn(_data(first), clusters), _lcn(mirror, clusters)
    mft = part.start + lcn * cluster
    if mft + (_BAD + 1) * size > disk.size:
        return None

    def attributes(number: int) -> tuple[Attribute, ...]:
        return parse_record(disk.read(mft + number * size, size), number).attributes

    if _lcn(_data(attributes(0)), clusters) != lcn:
        return None
    root = _value(attributes(_ROOT), INDEX_ROOT, 12)
    total = _data(attributes(_BAD), "$Bad").size // cluster
    sectors = part.length // SECTOR - 1
    if sectors * SECTOR // cluster != total:
        sectors = total * cluster // SECTOR
    index = int.from_bytes(root[8:12], "little")
    serial = _value(first, STANDARD_INFORMATION, 8)[:8]  # when it was formatted: as good as any
    return _checked(cluster, sectors, (lcn, mirror_lcn), size, index, serial, part.length)


def _data(attributes: tuple[Attribute, ...], name: str = "") -> Attribute:
    found = next((each for each in attributes if each.type == DATA and each.name == name and not each.resident), None)
    if found is None:
        raise CorruptImageError("a system file has no data")
    return found


def _value(attributes: tuple[Attribute, ...], kind: int, least: int) -> bytes:
    found = next((each.value for each in attributes if each.type == kind and each.resident), b"")
    if len(found) < least:
        raise CorruptImageError("a system file lacks an attribute")
    return found


def _lcn(attribute: Attribute, clusters: int) -> int:
    runs = decode_runs(attribute.value, attribute.lowest_vcn, clusters)
    if not runs or runs[0][1] <= 0 or attribute.lowest_vcn:
        raise CorruptImageError("a system file doesn't begin on the disk")
    return runs[0][1]


def _checked(
    cluster: int, sectors: int, places: tuple[int, int], record: int, index: int, serial: bytes, length: int
) -> bytes | None:
    sector = bytearray(SECTOR)
    sector[:11] = b"\xeb\x52\x90" + OEM_ID
    struct.pack_into("<HB", sector, 0x0B, SECTOR, cluster // SECTOR)
    sector[0x15] = 0xF8
    sector[0x24:0x28] = b"\x80\0\x80\0"
    struct.pack_into("<QQQ", sector, 0x28, sectors, *places)
    for offset, size in ((0x40, record), (0x44, index)):
        if not is_power_of_two(size) or not 512 <= size <= 65536 or size // cluster > 127:
            return None
        struct.pack_into("<b", sector, offset, size // cluster if size >= cluster else 1 - size.bit_length())
    sector[0x48:0x50] = serial
    sector[510:] = b"\x55\xaa"
    parsed = BootSector.parse(bytes(sector))
    fits = (parsed.cluster_size, parsed.record_size, parsed.index_record_size) == (cluster, record, index)
    return bytes(sector) if fits and sectors * SECTOR <= length else None
