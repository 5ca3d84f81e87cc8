"""The directory of persistent dirty bitmaps: what is in it, and marking bitmaps inconsistent.

Source: docs/interop/qcow2.txt, "Bitmaps extension", "Bitmap directory"; caps as QEMU has them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.disks.disk import Bitmap
from byre.disks.qcow2.header import BITMAPS, EXT_BITMAPS, Header
from byre.errors import CorruptImageError
from byre.storage.base import Storage

EXTENSION = struct.Struct(">IIQQ")
"""nb_bitmaps, reserved, bitmap_directory_size, bitmap_directory_offset."""
_ENTRY = struct.Struct(">QIIBBHI")
IN_USE = 1 << 0
AUTO = 1 << 1
EXTRA_DATA_COMPATIBLE = 1 << 2
_RESERVED_FLAGS = 0xFFFF_FFF8
_FLAGS_AT = 12
MAX_BITMAPS = 65535
MAX_DIRECTORY_BYTES = 64 << 20
MAX_NAME = 1023


@dataclass(frozen=True, slots=True)
class BitmapEntry:
    """One entry. ``at`` is its host offset in bytes; ``table_size`` counts 8-byte entries."""

    at: int
    table_offset: int
    table_size: int
    flags: int
    type: int
    granularity_bits: int
    name: bytes
    extra: bytes = b""

    @property
    def flags_at(self) -> int:
        """The host offset of the 4 bytes of flags."""
        return self.at + _FLAGS_AT


def directory_place(header: Header) -> tuple[int, int, int] | None:
    """(number of bitmaps, host offset, bytes) of the directory, or None without one. Not checked."""
    data = header.extension(EXT_BITMAPS)
    if data is None or len(data) < EXTENSION.size:
        return None
    count, _, size, offset = EXTENSION.unpack_from(data)
    return count, offset, size


def read_directory(storage: Storage, header: Header) -> tuple[BitmapEntry, ...]:
    """All bitmaps of the image. Raises CorruptImageError."""
    place = directory_place(header)
    if place is None:
        return ()
    count, offset, size = place

    def corrupt(what: str, at: int, found: object) -> CorruptImageError:
        return CorruptImageError(f"the bitmap directory {what}", path=storage.name, offset=at, found=found)

    if count > MAX_BITMAPS or size > MAX_DIRECTORY_BYTES:
        raise corrupt("is too large", offset, f"{count} bitmaps in {size} bytes")
    if offset % header.cluster_size or offset + size > storage.size:
        raise corrupt("is not where a directory can be", offset, f"{size} bytes")
    data = storage.read(offset, size)
    entries = []
    position = 0
    for _ in range(count):
        if position + _ENTRY.size > size:
            raise corrupt("is cut short", offset + position, f"{size} bytes for {count} bitmaps")
        table_offset, table_size, flags, kind, granularity, name_size, extra_size = _ENTRY.unpack_from(data, position)
        end = position + _ENTRY.size + extra_size + name_size
        if end > size or not 1 <= name_size <= MAX_NAME:
            raise corrupt("has an entry that leaves it", offset + position, f"a name of {name_size} bytes")
        if granularity > 31 or flags & _RESERVED_FLAGS:
            raise corrupt("has an entry that can't be", offset + position, f"flags {flags:#x}, 2^{granularity} bytes")
        extra_end = position + _ENTRY.size + extra_size
        entries.append(
            BitmapEntry(
                at=offset + position,
                table_offset=table_offset,
                table_size=table_size,
                flags=flags,
                type=kind,
                granularity_bits=granularity,
                name=data[extra_end:end],
                extra=data[position + _ENTRY.size : extra_end],
            )
        )
        position = end + -end % 8
    return tuple(entries)


def describe_bitmaps(storage: Storage, header: Header) -> tuple[Bitmap, ...]:
    """The bitmaps as ``byre info`` shows them: none is consistent when a writer that doesn't know bitmaps has
    been there and cleared the autoclear bit."""
    trusted = bool(header.autoclear & BITMAPS)
    return tuple(
        Bitmap(
            name=entry.name.decode("utf-8", "backslashreplace"),
            granularity=1 << entry.granularity_bits,
            enabled=bool(entry.flags & AUTO),
            consistent=trusted and not entry.flags & IN_USE,
        )
        for entry in read_directory(storage, header)
    )


def mark_inconsistent(storage: Storage, header: Header, *, disabled_too: bool = False) -> bool:
    """Set the in-use flag of every enabled bitmap, so that nobody trusts it after our writes; True if any was
    written. The caller flushes before it changes guest data. ``disabled_too`` is for a change after which the
    disk isn't the one that any bitmap was of: a revert, another size.

    It is what QEMU itself does while it has the image open, so QEMU reports such bitmaps as inconsistent, keeps
    their clusters accounted for, and ``qemu-img bitmap --remove`` takes them away.
    """
    if not header.autoclear & BITMAPS:
        return False
    stale = [
        entry
        for entry in read_directory(storage, header)
        if not entry.flags & IN_USE and (disabled_too or entry.flags & AUTO)
    ]
    for entry in stale:
        storage.write(entry.flags_at, struct.pack(">I", entry.flags | IN_USE))
    return bool(stale)
