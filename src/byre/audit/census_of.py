"""The census of one installed system with what vouches for its programs and what looks into them."""

from __future__ import annotations

from dataclasses import replace

from byre.audit.census import take_census
from byre.audit.facts import Census, ProgramFile
from byre.audit.scanners import Scanners
from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.windows.catalog_index import read_catalog_index
from byre.windows.fact import Fact, known, unknown


def census_of(files: FileSystem, root: str, scanners: Scanners) -> tuple[Fact[tuple[ProgramFile, ...]], Census]:
    """The programs and what the scanners said; unknown with the reason where the volume can't be walked."""
    index = read_catalog_index(files, root)

    def vouched(digests: tuple[str, ...]) -> str | None:
        return next((name for digest in digests if (name := index.lists(digest)) is not None), None)

    try:
        programs, census = take_census(files, vouched=vouched, sha256_catalogs=index.has_sha256)
    except ByreError as error:
        return unknown(str(error)), Census()
    census = replace(census, catalog_digests=len(index.digests), catalog_problems=index.problems)
    return known(programs), census
