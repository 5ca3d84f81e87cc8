"""MFT records taken apart and put together again: what ntfs-3g won't write by itself is made of what it wrote."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from byre.disks.opening import open_disk
from byre.filesystems.ntfs.filesystem import NtfsFileSystem
from byre.filesystems.opening import open_volumes

SIZE = 1024
_LIST_ENTRY = struct.Struct("<IHBBQQH6x")


@dataclass
class Volume:
    """A volume image with records of 1 KiB, whose bytes are changed in place. ``places``: byte offsets by record."""

    path: Path

    def __post_init__(self) -> None:
        with open_disk(self.path) as disk:
            files = open_volumes(disk)[0].filesystem
            assert isinstance(files, NtfsFileSystem)
            self.cluster = files.boot.cluster_size
            rows = files.extents(files.lookup("/$MFT"))
            self.places = {
                int(row["start"] + at) // SIZE: int(row["disk"] + at)
                for row in rows
                for at in range(0, int(row["length"]), SIZE)
            }
            self.free = [int(row["disk"]) for part in files.free_extents() for row in part]

    def read(self, number: int) -> bytes:
        """A record with its sectors' last words put back."""
        with self.path.open("rb") as file:
            file.seek(self.places[number])
            raw = bytearray(file.read(SIZE))
        at, count = struct.unpack_from("<HH", raw, 4)
        for index in range(1, count):
            raw[index * 512 - 2 : index * 512] = raw[at + 2 * index : at + 2 * index + 2]
        return bytes(raw)

    def write(self, number: int, record: bytes) -> None:
        raw = bytearray(record.ljust(SIZE, b"\0"))
        at, count = struct.unpack_from("<HH", raw, 4)
        raw[at : at + 2] = b"\x07\0"
        for index in range(1, count):
            raw[at + 2 * index : at + 2 * index + 2] = raw[index * 512 - 2 : index * 512]
            raw[index * 512 - 2 : index * 512] = b"\x07\0"
        self.put(self.places[number], bytes(raw))

    def put(self, offset: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)


def attributes(record: bytes) -> list[bytes]:
    found, at = [], struct.unpack_from("<H", record, 20)[0]
    while struct.unpack_from("<I", record, at)[0] != 0xFFFFFFFF:
        length = struct.unpack_from("<I", record, at + 4)[0]
        found.append(record[at : at + length])
        at += length
    return found


def with_attributes(record: bytes, rows: list[bytes], *, base: int | None = None) -> bytes:
    """The record with these attributes instead, numbered in their order; ``base``: it belongs to that reference."""
    head = bytearray(record[: struct.unpack_from("<H", record, 20)[0]])
    body = b"".join(row[:14] + struct.pack("<H", number) + row[16:] for number, row in enumerate(rows))
    struct.pack_into("<H", head, 22, struct.unpack_from("<H", head, 22)[0] | 1)
    struct.pack_into("<I", head, 24, len(head) + len(body) + 8)
    struct.pack_into("<H", head, 40, len(rows))
    if base is not None:
        struct.pack_into("<Q", head, 32, base)
    made = bytes(head) + body + b"\xff\xff\xff\xff" + bytes(4)
    assert len(made) <= SIZE - 2
    return made


def kind_of(attribute: bytes) -> int:
    kind: int = struct.unpack_from("<I", attribute)[0]
    return kind


def pieces(attribute: bytes, runs: int) -> tuple[bytes, bytes]:
    """A non-resident attribute cut in two behind so many runs."""
    start = struct.unpack_from("<H", attribute, 32)[0]
    at, clusters, place, seen = start, 0, 0, 0
    while seen < runs:
        length, offset = attribute[at] & 15, attribute[at] >> 4
        clusters += int.from_bytes(attribute[at + 1 : at + 1 + length], "little")
        place += int.from_bytes(attribute[at + 1 + length : at + 1 + length + offset], "little", signed=True)
        at += 1 + length + offset
        seen += 1
    rest = attribute[at:]
    length, offset = rest[0] & 15, rest[0] >> 4
    moved = place + int.from_bytes(rest[1 + length : 1 + length + offset], "little", signed=True)
    runs_behind = (
        bytes([0x40 | length]) + rest[1 : 1 + length] + struct.pack("<i", moved) + rest[1 + length + offset :]
    )
    first, second = bytearray(attribute[:at] + b"\0"), bytearray(attribute[:start] + runs_behind)
    struct.pack_into("<Q", first, 24, clusters - 1)
    struct.pack_into("<Q", second, 16, clusters)
    return _padded(first), _padded(second)


def _padded(attribute: bytearray) -> bytes:
    attribute += bytes(-len(attribute) % 8)
    struct.pack_into("<I", attribute, 4, len(attribute))
    return bytes(attribute)


def spread(
    volume: Volume, number: int, extension: int, moved: int, *, cut: int | None = None, apart: bool = False
) -> None:
    """Move the attribute of type ``moved`` from a record to ``extension``, an unused one, and list where each is;
    ``cut``: only what lies behind so many of its runs. ``apart``: the list isn't resident."""
    record, other = volume.read(number), volume.read(extension)
    rows = attributes(record)
    home, away = [], []
    for row in rows:
        if kind_of(row) != moved:
            home.append(row)
        elif cut is None:
            away.append(row)
        else:
            first, second = pieces(row, cut)
            home.append(first)
            away.append(second)
    references = [
        struct.unpack_from("<H", each, 16)[0] << 48 | which for each, which in ((record, number), (other, extension))
    ]
    # The list itself is attribute 0x20, behind $STANDARD_INFORMATION (0x10).
    listed = [(row, references[0], index + (index > 0)) for index, row in enumerate(home)]
    listed += [(row, references[1], index) for index, row in enumerate(away)]
    listed.sort(key=lambda item: (kind_of(item[0]), item[0][8] and struct.unpack_from("<Q", item[0], 16)[0]))
    data = b"".join(_entry(*item) for item in listed)
    home.insert(1, _apart(volume, data) if apart else _resident(data))
    volume.write(extension, with_attributes(other, away, base=references[0]))
    volume.write(number, with_attributes(record, home))


def _entry(row: bytes, reference: int, number: int) -> bytes:
    length = row[9]
    name_at = struct.unpack_from("<H", row, 10)[0]
    name = row[name_at : name_at + 2 * length]
    size = -(-(0x1A + len(name)) // 8) * 8
    lowest = struct.unpack_from("<Q", row, 16)[0] if row[8] else 0
    head = struct.pack("<IHBBQQH", kind_of(row), size, length, 0x1A, lowest, reference, number)
    return (head + name).ljust(size, b"\0")


def _resident(data: bytes) -> bytes:
    return struct.pack("<IIBBHHHIHH", 0x20, 24 + len(data), 0, 0, 24, 0, 0, len(data), 24, 0) + data


def _apart(volume: Volume, data: bytes) -> bytes:
    place = volume.free[-1]
    volume.put(place, data.ljust(volume.cluster, b"\0"))
    sizes = (volume.cluster, len(data), len(data))
    head = struct.pack("<IIBBHHHQQHHIQQQ", 0x20, 72, 1, 0, 64, 0, 0, 0, 0, 64, 0, 0, *sizes)
    return head + struct.pack("<BBI2x", 0x41, 1, place // volume.cluster)
