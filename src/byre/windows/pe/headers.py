"""DOS, COFF and optional headers and the section table. Pure.

Source: Microsoft's "PE Format" specification.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from byre.errors import CorruptImageError, UnsupportedError

_COFF = struct.Struct("<HHIIIHH")
_SECTION = struct.Struct("<8sIIIIIIHHI")
_OPTIONAL_32 = struct.Struct("<HBBIIIIIIIIIHHHHHHIIIIHHIIIIII")
_OPTIONAL_64 = struct.Struct("<HBBIIIIIQIIHHHHHHIIIIHHQQQQII")
MAX_SECTIONS = 96
"""The Windows loader's own limit through XP; later ones take more, no legacy file has them."""

MACHINES = {
    0x014C: "x86",
    0x8664: "x64",
    0x0200: "ia64",
    0x01C0: "arm",
    0x01C4: "armnt",
    0xAA64: "arm64",
    0x0184: "alpha",
    0x0166: "mips",
    0x01F0: "powerpc",
}
SUBSYSTEMS = {
    0: "unknown",
    1: "native",
    2: "windows",
    3: "console",
    5: "os2",
    7: "posix",
    9: "windows-ce",
    10: "efi-application",
    11: "efi-boot-driver",
    12: "efi-runtime-driver",
    16: "boot-application",
}
DIRECTORIES = (
    *("export", "import", "resource", "exception", "security", "relocation", "debug", "architecture"),
    *("globalptr", "tls", "loadconfig", "boundimport", "iat", "delayimport", "clr", "reserved"),
)
IS_DLL = 0x2000


@dataclass(frozen=True, slots=True)
class Section:
    """One section. ``rva`` and ``virtual_size`` are memory bytes, ``offset`` and ``size`` file bytes."""

    name: str
    rva: int
    virtual_size: int
    offset: int
    size: int
    flags: int


@dataclass(frozen=True, slots=True)
class Headers:
    """What the headers say. ``directories`` maps a name of DIRECTORIES to (rva, size); for ``security`` the
    first is a file offset."""

    machine: int
    timestamp: int
    characteristics: int
    is_64: bool
    entry_point: int
    image_base: int
    section_alignment: int
    file_alignment: int
    os_version: tuple[int, int]
    image_version: tuple[int, int]
    subsystem: int
    subsystem_version: tuple[int, int]
    size_of_image: int
    size_of_headers: int
    checksum: int
    checksum_offset: int
    security_entry_offset: int
    """File offset of the security directory's entry, which a digest leaves out."""
    directories: dict[str, tuple[int, int]]
    sections: tuple[Section, ...]

    @property
    def machine_name(self) -> str:
        return MACHINES.get(self.machine, f"{self.machine:#06x}")

    @property
    def subsystem_name(self) -> str:
        return SUBSYSTEMS.get(self.subsystem, str(self.subsystem))

    @property
    def is_dll(self) -> bool:
        return bool(self.characteristics & IS_DLL)


def parse_headers(data: bytes, *, path: str) -> Headers:
    """The headers of a PE file. Raises CorruptImageError where they are cut off or can't be, UnsupportedError
    for 16-bit and OS/2 programs."""
    if len(data) < 64 or data[:2] != b"MZ":
        raise CorruptImageError("not a PE file", path=path, offset=0, found=data[:2], expected=b"MZ")
    at = int.from_bytes(data[60:64], "little")
    magic = data[at : at + 4]
    if magic[:2] in (b"NE", b"LE", b"LX"):
        raise UnsupportedError(f"a {magic[:2].decode()} program (16-bit Windows or OS/2), not PE", path=path)
    if magic != b"PE\0\0":
        raise CorruptImageError("no PE signature", path=path, offset=at, found=magic, expected=b"PE\0\0")
    if at + 24 > len(data):
        raise CorruptImageError("the PE header is cut off", path=path, offset=at, found=len(data))
    machine, sections, timestamp, _, _, optional_size, characteristics = _COFF.unpack_from(data, at + 4)
    optional = at + 24
    kind = int.from_bytes(data[optional : optional + 2], "little")
    layout = {0x10B: _OPTIONAL_32, 0x20B: _OPTIONAL_64}.get(kind)
    if layout is None:
        raise CorruptImageError(
            "the optional header has an unknown magic",
            path=path,
            offset=optional,
            found=kind,
            expected="0x10b, 0x20b",
        )
    if optional + layout.size > len(data) or optional_size < layout.size:
        raise CorruptImageError("the optional header is cut off", path=path, offset=optional, found=optional_size)
    fields = list(layout.unpack_from(data, optional))
    if kind == 0x10B:
        del fields[8]  # BaseOfData, which PE32+ hasn't
    count = min(fields[-1], 16, (optional_size - layout.size) // 8, (len(data) - optional - layout.size) // 8)
    pairs = struct.unpack_from(f"<{2 * count}I", data, optional + layout.size)
    return Headers(
        machine=machine,
        timestamp=timestamp,
        characteristics=characteristics,
        is_64=kind == 0x20B,
        entry_point=fields[6],
        image_base=fields[8],
        section_alignment=fields[9],
        file_alignment=fields[10],
        os_version=(fields[11], fields[12]),
        image_version=(fields[13], fields[14]),
        subsystem_version=(fields[15], fields[16]),
        size_of_image=fields[18],
        size_of_headers=fields[19],
        checksum=fields[20],
        checksum_offset=optional + 64,
        subsystem=fields[21],
        security_entry_offset=optional + layout.size + 32 if count > 4 else 0,
        directories={DIRECTORIES[index]: (pairs[2 * index], pairs[2 * index + 1]) for index in range(count)},
        sections=_parse_sections(data, optional + optional_size, sections, path),
    )


def _parse_sections(data: bytes, start: int, count: int, path: str) -> tuple[Section, ...]:
    if count > MAX_SECTIONS or start + count * _SECTION.size > len(data):
        raise CorruptImageError("the section table is too long or cut off", path=path, offset=start, found=count)
    found = []
    for index in range(count):
        name, virtual, rva, size, offset, *_, flags = _SECTION.unpack_from(data, start + index * _SECTION.size)
        text = name.split(b"\0", 1)[0].decode("latin-1")
        found.append(Section(text, rva, virtual, offset, size, flags))
    return tuple(found)
