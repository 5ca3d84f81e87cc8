"""The structures of a hive file: base block, cells, records. Pure.

Offsets named *cell* count from the start of the hive bins data, file offset 4096, as the format counts them.
Source: the public descriptions of the regf format (Suhanov's "Windows registry file format specification",
Norris' "The Internal Structure of the Windows Registry").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

import numpy as np

from byre.errors import CorruptImageError

BINS_START = 4096
"""File offset of the hive bins data."""
BASE_BLOCK = struct.Struct("<4sIIQIIIIIII")
NO_CELL = 0xFFFFFFFF
MAX_DEPTH = 512
"""Windows allows 512 levels of keys."""
BIG_DATA_SEGMENT = 16344
RESIDENT = 0x8000_0000

KEY_NODE = struct.Struct("<2sHQIIIIIIIIIIIIIIIHH")
"""nk: signature, flags, last written, access bits, parent, subkeys (stable, volatile), subkey lists (stable,
volatile), values, value list, security, class name, four largest lengths, work variable, name and class name
lengths."""
NAME_IS_LATIN1_KEY = 0x0020
NAME_IS_LATIN1_VALUE = 0x0001
KEY_IS_SYMLINK = 0x0010

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


class ValueType(IntEnum):
    """REG_* types."""

    NONE = 0
    SZ = 1
    EXPAND_SZ = 2
    BINARY = 3
    DWORD = 4
    DWORD_BIG_ENDIAN = 5
    LINK = 6
    MULTI_SZ = 7
    RESOURCE_LIST = 8
    FULL_RESOURCE_DESCRIPTOR = 9
    RESOURCE_REQUIREMENTS_LIST = 10
    QWORD = 11


@dataclass(frozen=True, slots=True)
class BaseBlock:
    """The first 512 bytes. ``file_type``: 0 a hive, 1 and 2 an old log, 6 a new log."""

    primary_sequence: int
    secondary_sequence: int
    written: int
    major: int
    minor: int
    file_type: int
    root_cell: int
    bins_size: int
    clustering: int
    file_name: str
    checksum_valid: bool

    @property
    def clean(self) -> bool:
        """Both sequence numbers agree: no write was under way."""
        return self.primary_sequence == self.secondary_sequence and self.checksum_valid


def parse_base_block(data: bytes | bytearray | memoryview, *, path: str) -> BaseBlock:
    """The base block at the start of ``data``. Raises CorruptImageError where it is none."""
    if len(data) < 512 or bytes(data[:4]) != b"regf":
        raise CorruptImageError("not a registry hive", path=path, offset=0, found=bytes(data[:4]), expected=b"regf")
    _, first, second, written, major, minor, kind, _, root, size, clustering = BASE_BLOCK.unpack_from(data)
    name = bytes(data[48:112]).decode("utf-16-le", "replace").split("\0", 1)[0]
    return BaseBlock(
        primary_sequence=first,
        secondary_sequence=second,
        written=written,
        major=major,
        minor=minor,
        file_type=kind,
        root_cell=root,
        bins_size=size,
        clustering=clustering,
        file_name=name,
        checksum_valid=base_block_checksum(data) == int.from_bytes(data[508:512], "little"),
    )


def base_block_checksum(data: bytes | bytearray | memoryview) -> int:
    """XOR of the first 127 words; 0 and all ones are stored as 1 and their complement less one."""
    words = np.frombuffer(bytes(data[:508]), dtype="<u4")
    value = int(np.bitwise_xor.reduce(words))
    if value == 0:
        return 1
    return 0xFFFFFFFE if value == 0xFFFFFFFF else value


def filetime_to_rfc3339(filetime: int) -> str | None:
    """100 ns since 1601 as RFC 3339 in UTC; None for 0 and for years that don't exist."""
    if filetime == 0:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=filetime // 10)
    except OverflowError:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment.year >= 1601 else None
