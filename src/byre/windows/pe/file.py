"""A PE file: parsed headers at once, everything else when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from byre.errors import CorruptImageError
from byre.windows.pe.directories import (
    DebugEntry,
    Export,
    Import,
    Mapped,
    read_debug,
    read_exports,
    read_imports,
)
from byre.windows.pe.headers import Headers, parse_headers
from byre.windows.pe.signature import Signature, authenticode_digest, read_signature
from byre.windows.pe.version import VersionInfo, read_version

MAX_PE = 512 << 20
MAX_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class PeProblem:
    """Damage met while reading."""

    what: str


class PeFile:
    """One PE file in memory. Mutable: it keeps what it has parsed and gathers problems."""

    def __init__(self, data: bytes, headers: Headers, *, path: str) -> None:
        self.data = data
        self.headers = headers
        self.path = path
        self.problems: list[PeProblem] = []
        self._mapped = Mapped(data, headers, self._report)
        for section in headers.sections:
            if section.size and section.offset + section.size > len(data):
                self._report(
                    f"section {section.name!r} is cut off: it ends at {section.offset + section.size}, "
                    f"the file at {len(data)}"
                )

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        return read_imports(self._mapped)

    @cached_property
    def exports(self) -> tuple[Export, ...]:
        return self._exports[1]

    @property
    def export_name(self) -> str | None:
        """What the file calls itself in its export directory."""
        return self._exports[0]

    @cached_property
    def version(self) -> VersionInfo | None:
        return read_version(self._mapped)

    @cached_property
    def debug(self) -> tuple[DebugEntry, ...]:
        return read_debug(self._mapped)

    @cached_property
    def signature(self) -> Signature | None:
        return read_signature(self.data, self.headers)

    @cached_property
    def computed_checksum(self) -> int:
        """The checksum that the header ought to carry: the image help library's sum, folded, plus the length."""
        at = self.headers.checksum_offset
        data = self.data
        if at % 2:  # the field straddles words: sum a copy without it
            data = data[:at] + bytes(4) + data[at + 4 :]
        words = np.frombuffer(data, dtype="<u2", count=len(data) // 2)
        total = int(words.sum(dtype=np.uint64)) + (data[-1] if len(data) & 1 else 0)
        if not at % 2:
            total -= int(words[at // 2 : at // 2 + 2].sum(dtype=np.uint64))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return total + len(data)

    def digest(self, algorithm: str = "sha1") -> bytes:
        """The Authenticode digest, as catalogs and signatures carry it."""
        return authenticode_digest(self.data, self.headers, algorithm)

    @property
    def truncated(self) -> bool:
        """A section's bytes go on past the end of the file."""
        return any(s.size and s.offset + s.size > len(self.data) for s in self.headers.sections)

    @cached_property
    def _exports(self) -> tuple[str | None, tuple[Export, ...]]:
        return read_exports(self._mapped)

    def _report(self, what: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(PeProblem(what))


def parse_pe(data: bytes, *, path: str) -> PeFile:
    """A PE file from its bytes. Raises CorruptImageError and UnsupportedError where the headers can't be read;
    lesser damage is gathered in ``PeFile.problems``."""
    if len(data) > MAX_PE:
        raise CorruptImageError("the file is too large for a PE", path=path, found=len(data), expected=MAX_PE)
    return PeFile(data, parse_headers(data, path=path), path=path)
