"""Reparse points: what a link points at. Source: [MS-FSCC] 2.1.2."""

from __future__ import annotations

import struct

from byre.filesystems.base import Reparse

KINDS = {
    0xA0000003: "junction",
    0xA000000C: "symlink",
    0x80000013: "deduplicated",
    0x80000017: "wof-compressed",
    0xA000001D: "wsl-symlink",
    0x80000006: "hsm",
    0x80000007: "single-instance",
    0x8000001B: "app-execution-alias",
}
STUBS = frozenset({0x80000006, 0x80000007, 0x80000013, 0x80000017})
"""Tags of files whose bytes aren't in the file: reading them plainly would give zeros."""

MAX_REPARSE = 16384
"""Windows' own limit, bytes."""


def parse_reparse(data: bytes) -> Reparse:
    """A reparse point's value; a malformed one has no target."""
    if len(data) < 8:
        return Reparse(0, "malformed", None)
    tag, length = struct.unpack_from("<IH", data)
    kind = KINDS.get(tag, "unknown")
    body = data[8 : 8 + length]
    header = 12 if tag == 0xA000000C else 8 if tag == 0xA0000003 else None
    target: str | None = None
    if header is not None and len(body) >= header:
        start, size = struct.unpack_from("<HH", body)
        text = body[header + start : header + start + size]
        if len(text) == size and size % 2 == 0:
            target = text.decode("utf-16-le", "surrogatepass")
            for prefix in ("\\??\\", "\\\\?\\"):
                target = target.removeprefix(prefix)
    elif tag == 0xA000001D and len(body) > 4:
        target = body[4:].decode("utf-8", "replace")
    return Reparse(tag, kind, target)
