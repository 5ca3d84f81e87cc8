"""The NBD protocol's bytes: fixed newstyle negotiation and transmission. Pure.

Source: the NetworkBlockDevice project's doc/proto.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from byre.extents import ExtentTable, Kind

DEFAULT_PORT = 10809
GREETING = b"NBDMAGIC" + b"IHAVEOPT" + struct.pack(">H", 0b11)
"""Fixed newstyle, and the 124 zeros after an export's size can be left out."""
OPTION_MAGIC = b"IHAVEOPT"
OPTION_REPLY_MAGIC = 0x3E889045565A9
REQUEST = struct.Struct(">IHHQQI")
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY = struct.Struct(">IIQ")
SIMPLE_REPLY_MAGIC = 0x67446698
CHUNK = struct.Struct(">IHHQI")
CHUNK_MAGIC = 0x668E33EF
MAX_OPTION = 1 << 16
MAX_READ = 32 << 20
"""Bytes in one read: what the protocol tells servers to support, and all that we do."""
CLIENT_NO_ZEROES = 1 << 1
CONTEXT = "base:allocation"
CONTEXT_ID = 1
MAX_STATUS_EXTENTS = 1 << 16


class Option(IntEnum):
    """What a client asks for while negotiating."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class OptionReply(IntEnum):
    """What the server answers to an option; errors have the top bit."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = 1 << 31 | 1
    ERR_INVALID = 1 << 31 | 3
    ERR_UNKNOWN = 1 << 31 | 6
    ERR_TOO_BIG = 1 << 31 | 9


class Command(IntEnum):
    """What a client asks for in transmission."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class Errno(IntEnum):
    """The protocol's own error numbers."""

    EPERM = 1
    EIO = 5
    EINVAL = 22
    EOVERFLOW = 75


class ChunkType(IntEnum):
    """Kinds of structured reply chunks."""

    NONE = 0
    OFFSET_DATA = 1
    BLOCK_STATUS = 5
    ERROR = 1 << 15 | 1


DONE = 1
REQUEST_ONE = 1 << 3
STATUS_HOLE = 1
STATUS_ZERO = 2
EXPORT_FLAGS = 1 | 1 << 1 | 1 << 8
"""Has flags, read-only, several connections see the same."""
EXPORT_FLAG_DF = 1 << 7


@dataclass(frozen=True, slots=True)
class Request:
    """One request of the transmission phase. ``offset`` and ``length`` are bytes of the export."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int


def parse_request(data: bytes) -> Request | None:
    """The request in 28 bytes; None where the magic is wrong, after which nothing can be trusted."""
    magic, flags, command, cookie, offset, length = REQUEST.unpack(data)
    return Request(flags, command, cookie, offset, length) if magic == REQUEST_MAGIC else None


def option_reply(option: int, kind: OptionReply, data: bytes = b"") -> bytes:
    """An answer to one option of the negotiation."""
    return struct.pack(">QIII", OPTION_REPLY_MAGIC, option, kind, len(data)) + data


def export_info(size: int, *, structured: bool) -> bytes:
    """The size and flags of an export, as EXPORT_NAME and the info reply carry them."""
    return struct.pack(">QH", size, EXPORT_FLAGS | (EXPORT_FLAG_DF if structured else 0))


def simple_reply(cookie: int, error: int = 0) -> bytes:
    """The head of a simple reply; the bytes of a read follow it."""
    return SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, error, cookie)


def chunk(cookie: int, kind: ChunkType, length: int, *, last: bool = True) -> bytes:
    """The header of a structured reply chunk with ``length`` bytes of payload."""
    return CHUNK.pack(CHUNK_MAGIC, DONE if last else 0, kind, cookie, length)


def error_chunk(cookie: int, error: Errno, message: str) -> bytes:
    """The last chunk of a structured reply, where the request failed."""
    text = message.encode("utf-8", "backslashreplace")[:4000]  # a path in it need not be UTF-8
    payload = struct.pack(">IH", error, len(text)) + text
    return chunk(cookie, ChunkType.ERROR, len(payload)) + payload


def block_status(table: ExtentTable, length: int, *, one: bool) -> bytes:
    """The payload of a block status chunk for extents that cover ``length`` bytes, or the first of them."""
    rows: list[list[int]] = []
    for kind, size in zip(table["kind"].tolist(), table["length"].tolist(), strict=True):
        flags = {Kind.UNALLOCATED: STATUS_HOLE | STATUS_ZERO, Kind.ZERO: STATUS_ZERO}.get(Kind(kind), 0)
        if rows and rows[-1][1] == flags and rows[-1][0] + size < 1 << 32:
            rows[-1][0] += size
        elif len(rows) == (1 if one else MAX_STATUS_EXTENTS):
            break
        else:
            rows.append([size, flags])
    return struct.pack(">I", CONTEXT_ID) + b"".join(struct.pack(">II", *row) for row in rows)


def parse_name(data: bytes) -> tuple[str, bytes] | None:
    """A length-prefixed name and what follows it; None where it is cut off or no UTF-8."""
    if len(data) < 4:
        return None
    length = int.from_bytes(data[:4], "big")
    if length > 4096 or 4 + length > len(data):
        return None
    try:
        return data[4 : 4 + length].decode(), data[4 + length :]
    except UnicodeDecodeError:
        return None


def parse_queries(data: bytes) -> list[str] | None:
    """The queries of a meta context option, after its export name; None where they are malformed."""
    if len(data) < 4:
        return None
    count, rest = int.from_bytes(data[:4], "big"), data[4:]
    queries = []
    for _ in range(min(count, 1024)):
        parsed = parse_name(rest)
        if parsed is None:
            return None
        query, rest = parsed
        queries.append(query)
    return queries
