"""Where the files of a machine are: beneath the folder of the file that names them, or where the user allowed it."""

from __future__ import annotations

import ntpath
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from byre.errors import CorruptImageError, MissingError, RefusedReferenceError, UnsupportedError

MAX_NAME = 4096


@dataclass(frozen=True, slots=True)
class Places:
    """``folder`` is that of the descriptor, resolved; ``allowed`` are more, resolved, by the user's leave."""

    descriptor: str
    folder: Path
    allowed: tuple[Path, ...] = ()

    def find(self, name: str) -> tuple[Path, str | None]:
        """The file that ``name`` means, and a note where it was looked for elsewhere than it says.

        An absolute path outside of what is allowed means the file of that name beside the descriptor, if there is
        one: that is how machines are moved. Raises RefusedReferenceError, MissingError, CorruptImageError,
        UnsupportedError.
        """
        shown = name if len(name) <= 200 else name[:200] + "..."
        if not name or "\0" in name or len(name) > MAX_NAME:
            raise CorruptImageError(
                "names a disk in a way that no file can be called", path=self.descriptor, found=shown
            )
        if "://" in name:
            raise UnsupportedError("names a disk by an address", path=self.descriptor, found=shown)
        plain = self._resolved(name)
        if plain is None and "\\" in name:
            plain = self._resolved(name.replace("\\", "/"))
        if plain is not None and self._is_allowed(plain):
            return self._regular(plain, shown), None
        base = ntpath.basename(name.replace("/", "\\"))
        beside = self._resolved(base) if base not in ("", ".", "..") else None
        absolute = os.path.isabs(name) or ntpath.isabs(name)  # noqa: PTH117
        if absolute and beside is not None and self._is_allowed(beside):
            return self._regular(beside, shown), f"{shown} was taken from beside the file that names it"
        if plain is not None or absolute:
            outside = plain if plain is not None else Path(name)
            raise RefusedReferenceError(
                f"names {shown!r} as a disk, which lies outside its folder",
                path=self.descriptor,
                found=outside,
                expected=f"a file beneath {self.folder}",
                hint=f"If you trust it: --allow-path {outside.parent}",
            )
        raise MissingError(f"the disk {shown!r} is missing", path=self.descriptor, expected=self.folder / name)

    def _resolved(self, name: str) -> Path | None:
        """The file with all links followed, where there is one."""
        try:
            path = Path(os.path.realpath(self.folder / name))
            return path if path.exists() else None
        except (OSError, ValueError):
            return None

    def _is_allowed(self, path: Path) -> bool:
        return any(path == root or path.is_relative_to(root) for root in (self.folder, *self.allowed))

    def _regular(self, path: Path, shown: str) -> Path:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnsupportedError("names a disk that is no plain file", path=self.descriptor, found=shown)
        return path


def places_of(descriptor: str | os.PathLike[str], allow_paths: Sequence[str | os.PathLike[str]] = ()) -> Places:
    """The places for a descriptor's path; a bundle's folder is its own."""
    path = Path(os.path.realpath(descriptor))
    return Places(os.fspath(descriptor), path.parent, tuple(Path(os.path.realpath(each)) for each in allow_paths))
