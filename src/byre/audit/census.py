"""The census: every file of the system's volume read once, on threads, for its digests, its headers and the scanners.

What is a program is decided by its first bytes, never by its name. Memory is bounded: small files go to the threads
in batches, large ones one at a time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import chain
from threading import Lock
from typing import Protocol

from byre.audit.facts import Census, Hit, PeFacts, ProgramFile, Scan, Skipped
from byre.audit.program_files import describe, is_program
from byre.errors import ByreError
from byre.filesystems.base import Entry, FileSystem

WORKERS = 4
MAX_ENTRIES = 1_000_000
MAX_WHOLE = 64 << 20
"""Bytes of a file that is held in memory; of a larger one only the plain digests are taken."""
ALONE = 8 << 20
"""Files above this are read one at a time, so that the threads together hold less than MAX_WHOLE + 4 of these."""
BATCH_FILES, BATCH_BYTES = 64, 8 << 20
HEAD = 512
MIN_PROGRAM = 64
"""A DOS header's bytes: nothing shorter is a program."""
MAX_SKIPPED = 100
MAX_HITS = 10_000
_LIKELY = (".exe", ".dll", ".sys", ".ocx", ".cpl", ".scr", ".drv", ".acm", ".ax", ".com", ".tlb", ".mui", ".tsp")
"""Read whole at once: reading the head first would read twice."""

Vouch = Callable[[tuple[str, ...]], str | None]


class FileScanner(Protocol):
    """Something that looks into files. ``scan`` may be called on several threads at once; a ByreError from it says
    why that one file couldn't be looked at."""

    name: str
    max_size: int

    def wants(self, path: str, size: int) -> bool:
        """Whether it looks at a file of this name that isn't a program; programs are all looked at."""
        ...

    def scan(self, path: str, data: bytes) -> Iterable[Hit]: ...

    def report(self) -> Scan:
        """What it is and knows; hits and what was skipped are added by the census."""
        ...


@dataclass
class _Tally:
    """What one scanner found so far. Mutable: threads add to it under the census's lock."""

    hits: list[Hit] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    count: int = 0

    def skip(self, path: str, reason: str) -> None:
        self.count += 1
        if len(self.skipped) < MAX_SKIPPED:
            self.skipped.append(Skipped(path, reason))


def take_census(
    files: FileSystem,
    *,
    scanners: Sequence[FileScanner] = (),
    vouched: Vouch = lambda digests: None,
    sha256_catalogs: bool = False,
    workers: int = WORKERS,
) -> tuple[tuple[ProgramFile, ...], Census]:
    """The programs of a volume in the order of the walk, and what the scanners said. Raises what the walk raises;
    a file that can't be read is skipped and told."""
    return _Pass(files, tuple(scanners), vouched, sha256_catalogs).run(workers)


@dataclass(frozen=True, slots=True)
class _Item:
    """One stream of bytes to look at."""

    entry: Entry
    stream: str
    size: int

    @property
    def path(self) -> str:
        return f"{self.entry.path}:{self.stream}" if self.stream else self.entry.path


class _Pass:
    """One census being taken. Mutable: it gathers."""

    def __init__(
        self, files: FileSystem, scanners: tuple[FileScanner, ...], vouched: Vouch, sha256_catalogs: bool
    ) -> None:
        self.files = files
        self.scanners = scanners
        self.vouched = vouched
        self.sha256_catalogs = sha256_catalogs
        self.tallies = [_Tally() for _ in scanners]
        self.unread = _Tally()
        self.seen = 0
        self.truncated = False
        self._lock = Lock()
        self._alone = Lock()

    def run(self, workers: int) -> tuple[tuple[ProgramFile, ...], Census]:
        programs: dict[str, ProgramFile] = {}
        by_id: dict[tuple[int, str], str] = {}
        aliases: list[tuple[str, str]] = []
        with ThreadPoolExecutor(workers, thread_name_prefix="census") as pool:
            waiting: list[Future[list[ProgramFile]]] = []
            try:
                for batch in _batches(self._first_of_each(by_id, aliases)):
                    waiting.append(pool.submit(self._look_at, batch))
                    if len(waiting) >= 4 * workers:
                        programs |= {each.path: each for each in waiting.pop(0).result()}
                for future in waiting:
                    programs |= {each.path: each for each in future.result()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        for path, other in aliases:
            if other in programs:
                programs[path] = replace(programs[other], path=path)
        return tuple(programs.values()), self._census()

    def _first_of_each(self, by_id: dict[tuple[int, str], str], aliases: list[tuple[str, str]]) -> Iterator[_Item]:
        """Every stream once: hard links are told as what they are names of."""
        for entry in self.files.walk():
            if entry.is_dir or entry.reparse is not None:
                continue
            self.seen += 1
            if self.seen > MAX_ENTRIES:
                self.truncated = True
                return
            for item in chain([_Item(entry, "", entry.size)], (_Item(entry, s.name, s.size) for s in entry.streams)):
                if entry.links > 1:
                    first = by_id.setdefault((entry.id, item.stream), item.path)
                    if first != item.path:
                        aliases.append((item.path, first))
                        continue
                if item.size:
                    yield item

    def _look_at(self, batch: list[_Item]) -> list[ProgramFile]:
        found = []
        for item in batch:
            try:
                program = self._one(item)
            except ByreError as error:
                with self._lock:
                    self.unread.skip(item.path, error.what)
                continue
            if program is not None:
                found.append(program)
        return found

    def _one(self, item: _Item) -> ProgramFile | None:
        if item.size <= ALONE:
            return self._read(item)
        with self._alone:
            return self._read(item)

    def _read(self, item: _Item) -> ProgramFile | None:
        wanted = [
            (scanner, tally)
            for scanner, tally in zip(self.scanners, self.tallies, strict=True)
            if scanner.wants(item.path, item.size)
        ]
        whole = item.size <= MAX_WHOLE
        likely = whole and (bool(wanted) or item.path.lower().endswith(_LIKELY))
        data = self.files.read(item.entry, item.stream, 0, item.size if likely else min(item.size, HEAD))
        program = item.size >= MIN_PROGRAM and is_program(data)
        if program and not likely and whole:
            data = self.files.read(item.entry, item.stream, 0, item.size)
        if program:
            wanted = list(zip(self.scanners, self.tallies, strict=True))
        for scanner, tally in wanted:
            self._scan(scanner, tally, item, data if whole else None)
        if not program:
            return None
        if not whole:
            return self._digests_of(item)
        made = describe(data, item.path, sha256_catalogs=self.sha256_catalogs, vouched=self.vouched)
        return replace(made, stream=True) if item.stream else made

    def _scan(self, scanner: FileScanner, tally: _Tally, item: _Item, data: bytes | None) -> None:
        limit = min(scanner.max_size, MAX_WHOLE)
        if data is None or item.size > limit:
            with self._lock:
                tally.skip(item.path, f"larger than {limit >> 20} MiB")
            return
        try:
            hits = list(scanner.scan(item.path, data))
        except ByreError as error:
            with self._lock:
                tally.skip(item.path, error.what)
            return
        if hits:
            with self._lock:
                tally.hits += hits[: max(0, MAX_HITS - len(tally.hits))]

    def _digests_of(self, item: _Item) -> ProgramFile:
        """A program too large to be taken apart: its plain digests."""
        digests = [hashlib.new(name, usedforsecurity=False) for name in ("md5", "sha1", "sha256")]
        size = 0
        for chunk in self.files.chunks(item.entry, item.stream):
            size += len(chunk)
            for digest in digests:
                digest.update(chunk)
        md5, sha1, sha256 = (digest.hexdigest() for digest in digests)
        why = PeFacts(problem=f"larger than {MAX_WHOLE >> 20} MiB: only its digests were taken")
        known = self.vouched((md5, sha1, sha256))
        return ProgramFile(item.path, size, md5, sha1, sha256, pe=why, known=known, stream=bool(item.stream))

    def _census(self) -> Census:
        scans = tuple(
            replace(
                scanner.report(),
                hits=tuple(sorted(tally.hits, key=lambda hit: (hit.path, hit.name))),
                skipped=tuple(tally.skipped),
                skipped_count=tally.count,
            )
            for scanner, tally in zip(self.scanners, self.tallies, strict=True)
        )
        return Census(
            files=self.seen,
            skipped=tuple(self.unread.skipped),
            skipped_count=self.unread.count,
            truncated=self.truncated,
            scans=scans,
        )


def _batches(items: Iterable[_Item]) -> Iterator[list[_Item]]:
    held: list[_Item] = []
    size = 0
    for item in items:
        held.append(item)
        size += item.size
        if len(held) >= BATCH_FILES or size >= BATCH_BYTES:
            yield held
            held, size = [], 0
    if held:
        yield held
