"""ISO 9660 volume descriptors, and El Torito's boot catalogue.

Sources: ECMA-119; Joliet Specification 1.0 (1995); "El Torito" Bootable CD-ROM Format Specification 1.0.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.errors import ByreError, CorruptImageError
from byre.filesystems.iso9660.directory import DirectoryRecord, parse_record
from byre.volumes.partition import VolumeDisk
from byre.volumes.problems import Problems

SECTOR = 2048
MAX_DESCRIPTORS = 64
MAX_BOOT_ENTRIES = 64
JOLIET_ESCAPES = (b"%/@", b"%/C", b"%/E")
PLATFORMS = {0: "x86", 1: "PowerPC", 2: "Mac", 0xEF: "EFI"}
MEDIA = {0: "no-emulation", 1: "1.2 MB floppy", 2: "1.44 MB floppy", 3: "2.88 MB floppy", 4: "hard disk"}


@dataclass(frozen=True, slots=True)
class BootImage:
    """One entry of the El Torito catalogue. ``offset`` is in the volume, ``length`` the bytes that the firmware
    loads (512 for each sector it says), ``load_segment`` 0 means 0x7C0."""

    platform: str
    bootable: bool
    media: str
    load_segment: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class VolumeDescriptor:
    """A primary or a Joliet descriptor."""

    joliet: bool
    label: str
    system: str
    blocks: int
    block_size: int
    root: DirectoryRecord
    publisher: str
    application: str
    created: str | None


@dataclass(frozen=True, slots=True)
class Descriptors:
    """What the volume descriptors say; None for those that the disc lacks. ``udf``: there is a UDF volume as well."""

    primary: VolumeDescriptor | None
    joliet: VolumeDescriptor | None
    boot_images: tuple[BootImage, ...]
    udf: bool


def read_descriptors(volume: VolumeDisk, problems: Problems) -> Descriptors:
    """Everything from sector 16 to the terminator; raises CorruptImageError where there is no directory tree."""
    primary = joliet = None
    boot: tuple[BootImage, ...] = ()
    for number in range(16, 16 + MAX_DESCRIPTORS):
        offset = number * SECTOR
        if offset + SECTOR > volume.size:
            problems.add("iso9660.no-terminator", "the volume descriptors don't end", offset=offset)
            break
        data = volume.read(offset, SECTOR)
        if data[1:6] != b"CD001" or data[0] == 255:
            break
        try:
            if data[0] == 0 and data[7:30] == b"EL TORITO SPECIFICATION":
                boot = _boot_catalogue(volume, struct.unpack_from("<I", data, 0x47)[0], problems)
            elif data[0] == 1 and primary is None:
                primary = _parse(data, joliet=False)
            elif data[0] == 2 and data[88:91] in JOLIET_ESCAPES and joliet is None:
                joliet = _parse(data, joliet=True)
        except ByreError as error:
            problems.add("iso9660.descriptor", f"a volume descriptor is broken: {error}", offset=offset)
    if primary is None and joliet is None:
        raise CorruptImageError("no usable ISO 9660 volume descriptor", path=volume.name, offset=16 * SECTOR)
    return Descriptors(primary, joliet, boot, _has_udf(volume))


def _parse(data: bytes, *, joliet: bool) -> VolumeDescriptor:
    def text(start: int, length: int) -> str:
        raw = data[start : start + length]
        return raw.decode("utf-16-be" if joliet else "latin-1", "replace").rstrip(" \0")

    blocks, block_size = struct.unpack_from("<I", data, 80)[0], struct.unpack_from("<H", data, 128)[0]
    if block_size not in (512, 1024, 2048):
        raise CorruptImageError("impossible block size", found=block_size, expected=SECTOR)
    root = parse_record(data[156:190])
    if root is None or not root.is_dir:
        raise CorruptImageError("the root's directory record is broken")
    return VolumeDescriptor(
        joliet=joliet,
        label=text(40, 32),
        system=text(8, 32),
        blocks=blocks,
        block_size=block_size,
        root=root,
        publisher=text(318, 128),
        application=text(574, 128),
        created=_long_time(data[813:830]),
    )


def _long_time(raw: bytes) -> str | None:
    digits = raw[:14]
    if not digits.isdigit() or digits == b"0" * 14:
        return None
    text = digits.decode("ascii")
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}T{text[8:10]}:{text[10:12]}:{text[12:14]}"


def _boot_catalogue(volume: VolumeDisk, sector: int, problems: Problems) -> tuple[BootImage, ...]:
    data = volume.read(sector * SECTOR, SECTOR)
    if sum(struct.unpack_from("<16H", data)) & 0xFFFF or data[30:32] != b"\x55\xaa":
        problems.add("iso9660.boot-catalogue", "the boot catalogue fails its checksum", offset=sector * SECTOR)
        return ()
    platform = data[1]
    found: list[BootImage] = []
    position = 32
    while position + 32 <= len(data) and len(found) < MAX_BOOT_ENTRIES:
        mark = data[position]
        if mark in (0x90, 0x91):
            platform = data[position + 1]
        elif mark in (0x88, 0x00) and any(data[position : position + 32]):
            segment, _, count, start = struct.unpack_from("<HBxHI", data, position + 2)
            found.append(
                BootImage(
                    platform=PLATFORMS.get(platform, f"{platform:#x}"),
                    bootable=mark == 0x88,
                    media=MEDIA.get(data[position + 1] & 15, "unknown"),
                    load_segment=segment,
                    offset=start * SECTOR,
                    length=count * 512,
                )
            )
        elif mark != 0x44:
            break
        position += 32
    return tuple(found)


def _has_udf(volume: VolumeDisk) -> bool:
    for number in range(16, 32):
        offset = number * SECTOR
        if offset + 8 > volume.size:
            return False
        if volume.read(offset + 1, 5) in (b"NSR02", b"NSR03"):
            return True
    return False
