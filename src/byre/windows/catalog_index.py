"""All security catalogs of one installed system: which digests they list.

Membership says that a catalog in the guest's own store lists a file. Whoever can write to the guest can add a
catalog; that a catalog is what Microsoft signed is another question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.windows.catalogs import MAX_CATALOG, parse_catalog
from byre.windows.hives import list_folder
from byre.windows.signed_data import Trust, verify_signed_data

MAX_CATALOGS = 8192
MAX_DIGESTS = 1 << 21
"""Two million digests are some 250 MB; Windows 7 with all its updates lists a few hundred thousand."""
MAX_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class CatalogIndex:
    """Digest → the name of the first catalog that lists it; a catalog whose signature is broken lists nothing.
    ``problems``: what couldn't be read. ``trust``: whose signature each catalog carries, by its name. ``names``: the
    file names (lower case) that trusted catalogs state."""

    digests: Mapping[bytes, str] = field(default_factory=dict)
    catalogs: int = 0
    problems: tuple[str, ...] = ()
    trust: Mapping[str, Trust] = field(default_factory=dict)
    names: frozenset[str] = frozenset()

    def lists(self, digest: str) -> str | None:
        """The catalog that lists a digest (hexadecimal), or None."""
        return self.digests.get(bytes.fromhex(digest))

    @property
    def has_sha256(self) -> bool:
        return any(len(digest) == 32 for digest in self.digests)


def read_catalog_index(files: FileSystem, root: str, *, certificates: Sequence[bytes] = ()) -> CatalogIndex:
    """The index of ``system32\\CatRoot`` below the Windows folder ``root``. Never fails. ``certificates`` (DER): of
    the guest's own store, where a catalog doesn't hold its root's."""
    digests: dict[bytes, str] = {}
    trust: dict[str, Trust] = {}
    names: set[str] = set()
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
                data = files.read(entry, length=MAX_CATALOG)
                catalog = parse_catalog(data, path=entry.path)
                signature = verify_signed_data(data, path=entry.path, certificates=certificates)
            except ByreError as error:
                if len(problems) < MAX_PROBLEMS:
                    problems.append(f"{entry.path}: {error.what}")
                continue
            trust[entry.name] = signature
            if signature.verdict == "trusted":
                names.update(catalog.names.values())
            if signature.verdict != "broken" and len(digests) < MAX_DIGESTS:
                for digest in catalog.digests:
                    digests.setdefault(digest, entry.name)
    return CatalogIndex(digests, count, tuple(problems), trust, frozenset(names))
