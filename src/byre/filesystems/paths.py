"""Paths inside a guest, as people type them."""

from __future__ import annotations

import re

from byre.errors import UsageError

MAX_PATH = 32767
"""Windows' own limit, in characters: a directory tree that goes deeper is a loop or a trap."""

_DRIVE = re.compile(r"[A-Za-z]:(?=[\\/]|$)")


def split_path(path: str) -> tuple[str, ...]:
    r"""The names in ``C:\WINDOWS\x``, ``/WINDOWS/x`` or ``WINDOWS/x``; ``.`` is dropped, ``..`` refused."""
    if len(path) > MAX_PATH:
        raise UsageError("the path is longer than any can be", expected=f"at most {MAX_PATH} characters")
    drive = _DRIVE.match(path)
    plain = path[drive.end() :] if drive else path
    names = tuple(name for name in re.split(r"[\\/]+", plain) if name not in ("", "."))
    if ".." in names:
        raise UsageError("'..' has no meaning in a guest path", found=path)
    return names


def join_path(folder: str, name: str) -> str:
    return f"/{name}" if folder == "/" else f"{folder}/{name}"
