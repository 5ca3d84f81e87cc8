"""Writing the archive of an .ova or .box: a tar in USTAR form, whose members are files of at most 8 GiB.

Nothing of the host goes in: owner root, mode 0644, one time for all.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from byre.errors import UnsupportedError
from byre.storage.base import Storage

LARGEST = (8 << 30) - 1
"""Eleven octal digits."""
_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the archive: its bytes, or the path that they are read from."""

    name: str
    content: bytes | Path

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size


def check_size(size: int, path: str) -> None:
    """UnsupportedError for a disk that doesn't fit into a tar of this kind."""
    if size > LARGEST:
        raise UnsupportedError(
            "the disk is too large for an archive that every hypervisor reads",
            path=path,
            found=size,
            expected=f"at most {LARGEST} bytes",
            hint="Export a folder instead: --form vmx, --form vbox.",
        )


def write_archive(
    target: Storage, members: Sequence[Member], moment: int, advance: Callable[[int], None] | None = None
) -> None:
    """Write the whole archive from the storage's first byte. ``moment`` is seconds since 1970."""
    at = 0
    for member in members:
        check_size(member.size, member.name)
        info = tarfile.TarInfo(member.name)
        info.size, info.mode, info.mtime = member.size, 0o644, moment
        info.uname = info.gname = "root"
        header = info.tobuf(format=tarfile.USTAR_FORMAT)
        target.write(at, header)
        at += len(header)
        at = _copy(target, at, member, advance)
    target.write(at, bytes(1024))
    # Old readers want whole records of 10240 bytes.
    target.truncate(-(-(at + 1024) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE)


def _copy(target: Storage, at: int, member: Member, advance: Callable[[int], None] | None) -> int:
    if isinstance(member.content, bytes):
        target.write(at, member.content)
        done = len(member.content)
    else:
        done = 0
        with member.content.open("rb") as file:
            while chunk := file.read(_STEP):
                target.write(at + done, chunk)
                done += len(chunk)
                if advance is not None:
                    advance(len(chunk))
    pad = -done % tarfile.BLOCKSIZE
    target.write(at + done, bytes(pad))
    return at + done + pad
