"""$LogFile's restart pages: whether the journal holds work that was never finished.

A volume whose log isn't clean can't be trusted as it lies: $Bitmap and the MFT may disagree until the log is
replayed, and only Windows replays it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from byre.filesystems.ntfs.records import STRIDE, apply_fixups

NO_CLIENT = 0xFFFF
VOLUME_IS_CLEAN = 2


@dataclass(frozen=True, slots=True)
class LogState:
    """``state``: ``clean``, ``unclean``, ``empty`` or ``unknown`` with its ``reason``; ``version`` as 1.1 or 2.0."""

    state: str
    version: str | None = None
    reason: str | None = None


def parse_log(data: bytes) -> LogState:
    """From the first bytes of $LogFile, both restart pages (2 x 4 KiB is enough; pages of 64 KiB are rare)."""
    if not data.strip(b"\xff"):
        return LogState("empty")
    best: tuple[int, LogState] | None = None
    reason = "no restart page"
    for start in (0, _page_size(data)):
        page = data[start : start + _page_size(data)]
        found = _parse_page(page)
        if isinstance(found, str):
            reason = found
        elif best is None or found[0] > best[0]:
            best = found
    return best[1] if best else LogState("unknown", reason=reason)


def _page_size(data: bytes) -> int:
    size = struct.unpack_from("<I", data, 16)[0] if len(data) >= 20 else 4096
    return size if size in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) else 4096


def _parse_page(page: bytes) -> tuple[int, LogState] | str:
    if page[:4] == b"CHKD":
        return 0, LogState("clean", reason="checked by chkdsk")
    if len(page) < STRIDE or len(page) % STRIDE or page[:4] != b"RSTR":
        return "no restart page"
    rows = np.frombuffer(bytearray(page), dtype=np.uint8).reshape(1, -1)
    _, sound = apply_fixups(rows, b"RSTR")
    if not sound[0]:
        return "a torn restart page"
    plain = rows.tobytes()
    area, minor, major = struct.unpack_from("<Hhh", plain, 24)
    if area % 8 or area + 48 > len(plain):
        return "a restart area outside its page"
    lsn, _, _, in_use, flags = struct.unpack_from("<QHHHH", plain, area)
    clean = in_use == NO_CLIENT or flags & VOLUME_IS_CLEAN
    return lsn, LogState("clean" if clean else "unclean", f"{major}.{minor}")
