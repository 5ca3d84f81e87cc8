"""Scheduled tasks of Windows 2000 to 2003: ``.job`` files. Pure.

Source: [MS-TSCH] 2.4, ".JOB File Format".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.errors import CorruptImageError


@dataclass(frozen=True, slots=True)
class Job:
    """What one task runs and as whom."""

    program: str
    parameters: str
    folder: str
    user: str
    comment: str


def parse_job(data: bytes, *, path: str) -> Job:
    """The task in a ``.job`` file. Raises CorruptImageError."""
    if len(data) < 70:
        raise CorruptImageError("the task is cut off", path=path, found=len(data), expected="at least 70 bytes")
    version, offset = struct.unpack_from("<H", data, 2)[0], struct.unpack_from("<H", data, 20)[0]
    if version != 1 or offset < 68:
        raise CorruptImageError("not a task file", path=path, offset=2, found=version, expected=1)
    texts = []
    at = offset
    for _ in range(5):
        if at + 2 > len(data):
            raise CorruptImageError("the task is cut off", path=path, offset=at)
        count = struct.unpack_from("<H", data, at)[0]
        raw = data[at + 2 : at + 2 + 2 * count]
        if len(raw) < 2 * count:
            raise CorruptImageError("a name in the task is cut off", path=path, offset=at, found=len(raw))
        texts.append(raw.decode("utf-16-le", "replace").split("\0", 1)[0])
        at += 2 + 2 * count
    return Job(*texts)
