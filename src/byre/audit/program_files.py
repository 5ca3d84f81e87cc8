"""What a program's bytes say of it: digests, headers, who made it, whether it looks packed. Pure.

Sources: Microsoft's "Windows Authenticode Portable Executable Signature Format" for the digests; section names are
those that the packers' own documentation and output show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from byre.audit.facts import PeFacts, ProgramFile
from byre.errors import CorruptImageError, UnsupportedError
from byre.windows.pe import PeFile, parse_pe

MAX_ENTROPY_BYTES = 256 << 10
"""Of the section that holds the entry point. Code stays below 6.8 bits a byte, what is compressed or encrypted is
above 7.5 already in its first kilobytes."""
MIN_ENTROPY_BYTES = 4096
PACKED_ENTROPY = 7.2
PACKERS = {
    "upx": "UPX",
    ".aspack": "ASPack",
    ".adata": "ASPack",
    "fsg!": "FSG",
    "mew": "MEW",
    ".petite": "Petite",
    "pec": "PECompact",
    "pebundle": "PEBundle",
    ".themida": "Themida",
    ".winlice": "WinLicense",
    ".vmp": "VMProtect",
    "nsp": "NsPack",
    ".nsp": "NsPack",
    ".mpress": "MPRESS",
    ".rlpack": "RLPack",
    ".upack": "Upack",
    ".yp": "Y0da's protector",
    "bitarts": "Crunch",
    "pelocknt": "PELock",
    ".perplex": "Perplex",
    ".wwpack": "WWPack",
    "kkrunchy": "kkrunchy",
    ".enigma": "Enigma",
    "_winzip_": "WinZip self-extractor",
}
"""Beginnings of section names in lower case."""


def is_program(head: bytes) -> bool:
    """Whether a file that begins like this is a DOS, 16-bit Windows or PE program."""
    return head[:2] in (b"MZ", b"ZM")


def read_pe(data: bytes, path: str) -> PeFacts:
    """The facts of a program from its bytes."""
    try:
        return _facts_of(parse_pe(data, path=path))
    except (CorruptImageError, UnsupportedError) as error:
        return PeFacts(problem=error.what)


def describe(
    data: bytes,
    path: str,
    *,
    sha256_catalogs: bool = False,
    vouched: Callable[[tuple[str, ...]], str | None] = lambda digests: None,
) -> ProgramFile:
    """All that the census keeps of a program.

    ``sha256_catalogs``: the guest's catalogs list SHA-256, so that digest is worth its time. ``vouched`` is asked
    with the digests, as hexadecimal, and names who knows the file.
    """
    md5, sha1, sha256 = (hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in _FLAT)
    try:
        parsed = parse_pe(data, path=path)
        pe = _facts_of(parsed)
    except (CorruptImageError, UnsupportedError) as error:
        pe = PeFacts(problem=error.what)
        return ProgramFile(path, len(data), md5, sha1, sha256, pe=pe, known=vouched((md5, sha1, sha256)))
    own = parsed.digest("sha1").hex()
    wide = parsed.digest("sha256").hex() if sha256_catalogs else None
    version = parsed.version
    return ProgramFile(
        path=path,
        size=len(data),
        md5=md5,
        sha1=sha1,
        sha256=sha256,
        authenticode_sha1=own,
        authenticode_sha256=wide,
        pe=pe,
        company=version.company if version else None,
        signed=parsed.headers.directories.get("security", (0, 0))[1] > 0,
        packed=packed(parsed),
        known=vouched(tuple(each for each in (own, wide, sha1, md5, sha256) if each)),
    )


_FLAT = ("md5", "sha1", "sha256")


def _facts_of(parsed: PeFile) -> PeFacts:
    version = parsed.version
    return PeFacts(
        machine=parsed.headers.machine_name,
        truncated=parsed.truncated,
        checksum=parsed.headers.checksum,
        computed_checksum=parsed.computed_checksum,
        original_filename=version.original_filename if version else None,
        file_version=version.file_version if version else None,
    )


def packed(parsed: PeFile) -> str | None:
    """Why a program looks packed, or None: a packer's section name, or the entropy of the section it starts in."""
    headers = parsed.headers
    for section in headers.sections:
        name = section.name.lower()
        for beginning, packer in PACKERS.items():
            if name.startswith(beginning):
                return f"a section {section.name!r}, as {packer} writes it"
    for section in headers.sections:
        if section.rva <= headers.entry_point < section.rva + max(section.size, section.virtual_size):
            bits = entropy(parsed.data[section.offset : section.offset + min(section.size, MAX_ENTROPY_BYTES)])
            if bits is not None and bits > PACKED_ENTROPY:
                return f"{bits:.1f} bits of entropy in each byte of its first section, {section.name!r}"
    return None


def entropy(data: bytes) -> float | None:
    """Shannon's entropy in bits for each byte; None where there is too little to say."""
    if len(data) < MIN_ENTROPY_BYTES:
        return None
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    shares = counts[counts > 0] / len(data)
    return float(-(shares * np.log2(shares)).sum())
