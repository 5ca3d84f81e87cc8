"""PE files, read-only: headers, imports, exports, version resource, signature, checksum."""

from byre.windows.pe.file import PeFile, PeProblem, parse_pe

__all__ = ["PeFile", "PeProblem", "parse_pe"]
