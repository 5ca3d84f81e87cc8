"""What a format may open besides its own file, and on what terms.

A name that stands *inside* an image is the image author's choice, not the user's. It opens only beneath the
folder of the image that names it, or beneath a folder that the user allowed; everything else is refused with
the path and the option that would allow it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from byre.disks.disk import Disk
from byre.errors import CorruptImageError, MissingError, RefusedReferenceError, UnsupportedError
from byre.storage.base import Storage

MAX_CHAIN = 64
"""Deeper backing chains than this are refused; libvirt's own limit is 200, people's are below 20."""


@dataclass(frozen=True, slots=True)
class OpenOptions:
    """The user's wishes, the same for every image of a chain but for ``writable``."""

    writable: bool = False
    allow_paths: tuple[Path, ...] = ()
    """Folders beneath which references may lie, besides the image's own."""
    backing_format: str | None = None
    """The format of a backing image whose overlay doesn't state one."""
    parents: tuple[Path, ...] = ()
    """Files or folders in which parents of differencing images may be found."""
    with_backing: bool = True
    """False: the chain below isn't opened, and reading from it is a MissingError."""
    force_share: bool = False
    """Read although another program has the image open for writing."""
    metadata_only: bool = False
    """With ``writable``: an encrypted image is opened too, for what changes none of its data."""
    force_unlocked: bool = False
    """Write where the file system has no locks."""


@dataclass(frozen=True, slots=True)
class OpenContext:
    """Handed to a format's ``open_disk``: where the image is, and how it opens what it names."""

    options: OpenOptions
    folder: Path | None
    """The resolved folder of the image, beneath which its references may lie."""
    open_path: Callable[[Path, str | None, OpenContext], Disk]
    open_storage: Callable[[Path, OpenOptions], Storage]
    chain: tuple[tuple[int, int], ...] = ()
    """(device, inode) of every file from the top down to this one."""

    def resolve(self, name: str, role: str, *, image: str) -> Path:
        """The file that ``name`` means, seen from ``image``, which names it as its ``role``.

        Raises RefusedReferenceError outside the allowed folders, UnsupportedError for ``json:`` and protocol
        names, MissingError when it isn't there.
        """
        shown = name if len(name) <= 200 else name[:200] + "..."
        protocol, colon, _ = name.partition(":")
        if colon and "/" not in protocol and len(protocol) > 1 and protocol != "file":
            raise UnsupportedError(
                f"the {role} is named {shown!r}: {protocol}: names are not followed",
                path=image,
                hint="Rebase the image onto a plain file first.",
            )
        plain = name.removeprefix("file:") if protocol == "file" else name
        if not plain or "\0" in plain:
            raise CorruptImageError(f"the name of the {role} is empty or has a NUL in it", path=image)
        if self.folder is None:
            raise UnsupportedError(f"the {role} {shown!r} can't be followed from a remote image", path=image)
        try:
            target = Path(os.path.realpath(self.folder / plain))
        except (OSError, ValueError) as error:
            raise MissingError(f"the {role} {shown!r} can't be resolved: {error}", path=image) from error
        allowed = (self.folder, *self.options.allow_paths)
        if not any(target == root or target.is_relative_to(root) for root in allowed):
            raise RefusedReferenceError(
                f"names {shown!r} as its {role}, which lies outside the image's folder",
                path=image,
                found=target,
                expected=f"a file beneath {self.folder}",
                hint=f"If you trust the image: --allow-path {target.parent}",
            )
        if not target.exists():
            raise MissingError(f"the {role} {shown!r} is missing", path=image, expected=target)
        return target

    def open_reference(self, name: str, role: str, *, image: str, format: str | None) -> Disk:
        """Open the disk that ``name`` means, read-only, with its own chain. ``format`` None means: probe."""
        target = self.resolve(name, role, image=image)
        key = _identity(target)
        if key in self.chain:
            raise CorruptImageError(f"the backing chain loops: the {role} {name!r} is in it already", path=image)
        if len(self.chain) >= MAX_CHAIN:
            raise UnsupportedError(f"the backing chain is longer than {MAX_CHAIN} images", path=image)
        below = replace(
            self,
            options=replace(self.options, writable=False),
            folder=target.parent,
        )
        return self.open_path(target, format, below)

    def open_reference_storage(self, name: str, role: str, *, image: str, writable: bool = False) -> Storage:
        """Open the file that ``name`` means as plain bytes: an extent, a data file."""
        target = self.resolve(name, role, image=image)
        if _identity(target) in self.chain:
            raise CorruptImageError(f"names itself as its {role}", path=image)
        return self.open_storage(target, replace(self.options, writable=writable))


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise MissingError(f"can't be looked at: {error.strerror}", path=path) from error
    return status.st_dev, status.st_ino
