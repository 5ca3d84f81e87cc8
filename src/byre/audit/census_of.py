"""The census of one installed system with what vouches for its programs and what looks into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from byre.audit.census import FileScanner, take_census
from byre.audit.facts import Census, Hit, ProgramFile, Scan
from byre.audit.scanners import Scanners
from byre.errors import ByreError
from byre.filesystems.base import FileSystem
from byre.windows.catalog_index import read_catalog_index
from byre.windows.fact import Fact, known, unknown


def census_of(
    files: FileSystem, root: str, scanners: Scanners, *, certificates: Sequence[bytes] = ()
) -> tuple[Fact[tuple[ProgramFile, ...]], Census]:
    """The programs and what the scanners said; unknown with the reason where the volume can't be walked. Raises
    where a scanner that was asked for can't be made ready."""
    ready, unused = open_scanners(scanners)
    index = read_catalog_index(files, root, certificates=certificates)

    def vouched(digests: tuple[str, ...]) -> str | None:
        return next((name for digest in digests if (name := index.lists(digest)) is not None), None)

    try:
        programs, census = take_census(files, scanners=ready, vouched=vouched, sha256_catalogs=index.has_sha256)
    except ByreError as error:
        return unknown(str(error)), Census()
    programs, hashes = ask_known(programs, scanners.known)
    census = replace(
        census,
        scans=(*census.scans, *unused, hashes),
        catalog_digests=len(index.digests),
        catalog_problems=index.problems,
        catalogs=tuple(sorted(index.trust.items())),
        named=index.names,
    )
    return known(programs), census


def ask_known(programs: tuple[ProgramFile, ...], path: Path | None) -> tuple[tuple[ProgramFile, ...], Scan]:
    """The programs with who knows them, and which of them are on a list of bad ones."""
    from byre.audit.known_hashes import default_path, open_known

    if path is None and not default_path().exists():
        return programs, Scan("known", used=False, problem="no lists of hashes were imported ('byre known import')")
    database = open_known(path or default_path())
    try:
        lists = database.lists()
        told, hits = [], []
        for program in programs:
            found = database.who_knows((program.sha1, program.sha256, program.md5))
            hits += [Hit(program.path, name, f"SHA-1 {program.sha1}") for name, bad in found if bad]
            good = next((name for name, bad in found if not bad), None)
            told.append(replace(program, known=program.known or good) if good is not None else program)
    finally:
        database.close()
    about = ", ".join(f"{each.name} ({'bad' if each.bad else 'good'}, {each.digests} digests)" for each in lists)
    dates = "; ".join(f"{each.name}: {each.dated or each.imported}" for each in lists)
    return tuple(told), Scan("known", used=True, about=about or "no lists", date=dates or None, hits=tuple(hits))


def open_scanners(scanners: Scanners) -> tuple[tuple[FileScanner, ...], tuple[Scan, ...]]:
    """The scanners to use, and those that aren't, with why."""
    ready: list[FileScanner] = []
    unused: list[Scan] = []
    if scanners.rules is not None or scanners.builtin:
        from byre.audit.yara import YaraScanner, open_yara

        made = open_yara(scanners.rules, builtin=scanners.builtin)
        if isinstance(made, YaraScanner):
            ready.append(made)
        else:
            unused.append(made)
    else:
        unused.append(Scan("yara", used=False, problem="no rules were given"))
    if scanners.clamd is not None:
        from byre.audit.clamd import open_clamd

        ready.append(open_clamd(scanners.clamd))
    else:
        unused.append(Scan("clamav", used=False, problem="no clamd was given (--clamd)"))
    return tuple(ready), tuple(unused)
