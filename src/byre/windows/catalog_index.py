"""All security catalogs of one installed system: which digests they list.

Membership says that a catalog in the guest's own store lists a file. Whoever can write to the guest can add a
catalog; that a catalog is what Microsoft signed is another question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.windows.catalogs import MAX_CATALOG, parse_catalog
from byre.windows.hives import list_folder

MAX_CATALOGS = 8192
MAX_DIGESTS = 1 << 21
"""Two million digests are some 250 MB; Windows 7 with all its updates lists a few hundred thousand."""
MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class CatalogIndex:
    """Digest → the name of the first catalog that lists it. ``problems``: what couldn't be read."""

    digests: Mapping[bytes, str] = field(default_factory=dict)
    catalogs: int = 0
    problems: tuple[str, ...] = ()

    def lists(self, digest: str) -> str | None:
        """The catalog that lists a digest (hexadecimal), or None."""
        return self.digests.get(bytes.fromhex(digest))

    @property
    def has_sha256(self) -> bool:
        return any(len(digest) == 32 for digest in self.digests)


def read_catalog_index(files: FileSystem, root: str) -> CatalogIndex:
    """The index of ``system32\\CatRoot`` below the Windows folder ``root``. Never fails."""
    digests: dict[bytes, str] = {}
    problems: list[str] = []
    count = 0
    for folder in list_folder(files, f"{root}/system32/CatRoot"):
        if not folder.is_dir or folder.reparse is not None:
            continue
        for entry in list_folder(files, folder.path):
            if entry.is_dir or not entry.name.lower().endswith(".cat") or count >= MAX_CATALOGS:
                continue
            count += 1
            try:
                listed = parse_catalog(files.read(entry, length=MAX_CATALOG), path=entry.path).digests
            except ByreError as error:
                if len(problems) < MAX_PROBLEMS:
                    problems.append(f"{entry.path}: {error.what}")
                continue
            if len(digests) < MAX_DIGESTS:
                for digest in listed:
                    digests.setdefault(digest, entry.name)
    return CatalogIndex(digests, count, tuple(problems))
