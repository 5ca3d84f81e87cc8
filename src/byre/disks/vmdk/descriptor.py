"""The text that describes a VMDK: its identity, its extents, its disk data base. Pure: text in, values out.

A line is a comment (``#``), an assignment (``key = value``, quoted or not) or an extent
(``ACCESS SECTORS TYPE "file" OFFSET``). Keys are compared without case; VMware writes UTF-8 unless ``encoding``
says otherwise, and older products wrote the host's code page without saying so.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from byre.errors import CorruptImageError, UnsupportedError
from byre.units import SECTOR

FIRST_LINE = "# Disk DescriptorFile"
MAX_EMBEDDED = 1 << 20
MAX_SEPARATE = 1 << 20
MAX_EXTENTS = 4096
MAX_LINES = 20_000
MAX_SECTORS = 1 << 46
NO_PARENT = 0xFFFFFFFF

_ACCESS = ("RW", "RDONLY", "NOACCESS")
TYPES = ("FLAT", "SPARSE", "ZERO", "VMFS", "VMFSSPARSE", "SESPARSE", "VMFSRDM", "VMFSRAW")
_EXTENT = re.compile(
    r"(?P<access>RW|RDONLY|NOACCESS)\s+(?P<sectors>\d{1,20})\s+(?P<type>[A-Za-z0-9]+)"
    r'(?:\s+"(?P<name>[^"]*)"(?:\s+(?P<offset>\d{1,20}))?(?P<rest>.*))?',
    re.IGNORECASE | re.ASCII,
)
_ASSIGNMENT = re.compile(r"(?P<key>[A-Za-z_][\w.:-]*)\s*=\s*(?P<value>.*)", re.ASCII)
_ENCODINGS = {"utf-8": "utf-8", "utf8": "utf-8", "gbk": "gbk", "big5": "big5", "shift_jis": "shift_jis"}
_CID_LINE = re.compile(rb"(?im)^([ \t]*CID[ \t]*=[ \t]*)([0-9a-f]{1,8})([ \t]*\r?)$")


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One extent as the descriptor states it. ``offset`` is sectors into the file."""

    access: str
    sectors: int
    type: str
    name: str | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a descriptor says. ``header`` and ``ddb`` keep every assignment, by the key as it was written."""

    cid: int
    parent_cid: int
    create_type: str
    extents: tuple[ExtentLine, ...]
    parent_hint: str | None = None
    version: int = 1
    encoding: str = "UTF-8"
    header: Mapping[str, str] = field(default_factory=dict)
    ddb: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_parent(self) -> bool:
        return self.parent_cid != NO_PARENT

    @property
    def sectors(self) -> int:
        return sum(line.sectors for line in self.extents)


def looks_like_descriptor(head: bytes) -> bool:
    """Whether a file begins as a descriptor does: the usual first line in any case, after a BOM or blank lines."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")[: len(FIRST_LINE) + 64]
    first = text.split(b"\n", 1)[0].strip().lower()
    return b"".join(first.split()) == b"#diskdescriptorfile"


def parse_descriptor(data: bytes, *, path: str, offset: int = 0) -> Descriptor:
    """Read a descriptor's bytes, up to the first NUL.

    Raises CorruptImageError for what breaks the format, UnsupportedError for extent types nobody here reads.
    """
    raw = data.split(b"\0", 1)[0]
    text, encoding = _decode(raw, path=path)
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise CorruptImageError("has a descriptor of absurd length", path=path, offset=offset, found=len(lines))
    values: dict[str, str] = {}
    extents: list[ExtentLine] = []
    for line in lines:
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        if stripped.split(None, 1)[0].upper() in _ACCESS:
            extents.append(_parse_extent(stripped, path=path))
            if len(extents) > MAX_EXTENTS:
                raise UnsupportedError("has too many extents", path=path, expected=f"at most {MAX_EXTENTS}")
        elif match := _ASSIGNMENT.fullmatch(stripped):
            values.setdefault(match["key"], _unquote(match["value"]))
    return _assemble(values, tuple(extents), encoding, path=path, offset=offset)


def _decode(raw: bytes, *, path: str) -> tuple[str, str]:
    raw = raw.removeprefix(codecs.BOM_UTF8)
    stated = re.search(rb'(?im)^[ \t]*encoding[ \t]*=[ \t]*"?([A-Za-z0-9_.-]{1,40})', raw)
    name = stated[1].decode("ascii") if stated else "UTF-8"
    codec = _ENCODINGS.get(name.lower())
    if codec is None and re.fullmatch(r"windows-125[0-8]|iso-8859-(?:[1-9]|1[0-6])|us-ascii", name, re.IGNORECASE):
        codec = name.lower()
    if codec is not None:
        try:
            return raw.decode(codec), name
        except (UnicodeDecodeError, LookupError):
            pass
    # Only names of files and comments can suffer; surrogates keep their bytes for the file system.
    return raw.decode("utf-8", "surrogateescape"), name


def _parse_extent(line: str, *, path: str) -> ExtentLine:
    match = _EXTENT.fullmatch(line)
    if match is None:
        raise CorruptImageError("has an extent line that can't be read", path=path, found=line[:120])
    kind = match["type"].upper()
    if kind not in TYPES:
        raise UnsupportedError(
            "has an extent of an unknown type", path=path, found=line[:120], expected=", ".join(TYPES[:6])
        )
    if kind in ("VMFSRDM", "VMFSRAW"):
        raise UnsupportedError("maps a raw device of an ESXi host", path=path, found=line[:120])
    name = match["name"]
    if kind != "ZERO" and not name:
        raise CorruptImageError("has an extent without a file", path=path, found=line[:120])
    sectors, start = int(match["sectors"]), int(match["offset"] or 0)
    negative = (match["rest"] or "").lstrip().startswith("-")  # the offset: other words may follow a VMFS extent
    if not 0 < sectors <= MAX_SECTORS or start > MAX_SECTORS or negative:
        raise CorruptImageError("has an extent of impossible size", path=path, found=line[:120])
    return ExtentLine(match["access"].upper(), sectors, kind, name, start)


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return value[1:-1]
    return value.strip('"')


def _assemble(
    values: dict[str, str], extents: tuple[ExtentLine, ...], encoding: str, *, path: str, offset: int
) -> Descriptor:
    folded = {key.lower(): value for key, value in reversed(values.items())}
    ddb = {key: value for key, value in values.items() if key.lower().startswith("ddb.")}
    for needed in ("cid", "createtype"):
        if needed not in folded:
            raise CorruptImageError(f"has a descriptor without {needed!r}", path=path, offset=offset)
    try:
        version = int(folded.get("version", "1"))
    except ValueError:
        version = -1
    if version not in (1, 2, 3, 4):
        raise UnsupportedError(
            "has a descriptor of an unknown version", path=path, found=folded["version"], expected="1 to 4"
        )
    if not extents:
        raise CorruptImageError("has a descriptor that lists no extent", path=path, offset=offset)
    if sum(line.sectors for line in extents) > MAX_SECTORS:
        raise CorruptImageError("has extents of impossible size", path=path, offset=offset)
    return Descriptor(
        cid=_hex(folded["cid"], "CID", path=path),
        parent_cid=_hex(folded.get("parentcid", "ffffffff"), "parentCID", path=path),
        create_type=folded["createtype"],
        extents=extents,
        parent_hint=folded.get("parentfilenamehint") or None,
        version=version,
        encoding=encoding,
        header={key: value for key, value in values.items() if key not in ddb},
        ddb=ddb,
    )


def _hex(text: str, what: str, *, path: str) -> int:
    if not re.fullmatch(r"(?:0x)?[0-9a-fA-F]{1,8}", text):
        raise CorruptImageError(f"has a {what} that isn't 32 bits in hexadecimal", path=path, found=text[:60])
    return int(text, 16)


def serialise_descriptor(descriptor: Descriptor) -> bytes:
    """The descriptor's text, with the first line that VirtualBox insists on, lines ended by a line feed."""
    lines = [
        FIRST_LINE,
        f"version={descriptor.version}",
        f'encoding="{descriptor.encoding}"',
        f"CID={descriptor.cid:08x}",
        f"parentCID={descriptor.parent_cid:08x}",
        f'createType="{descriptor.create_type}"',
    ]
    if descriptor.parent_hint is not None:
        lines.append(f'parentFileNameHint="{descriptor.parent_hint}"')
    lines += ["", "# Extent description"]
    for line in descriptor.extents:
        text = f"{line.access} {line.sectors} {line.type}"
        if line.name is not None:
            text += f' "{line.name}"'
        lines.append(text + (f" {line.offset}" if line.type == "FLAT" else ""))
    lines += ["", "# The Disk Data Base", "#DDB", ""]
    lines += [f'{key} = "{value}"' for key, value in descriptor.ddb.items()]
    return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")


def replace_cid(raw: bytes, cid: int) -> bytes:
    """The same descriptor with another CID, every other byte as it was."""
    return _CID_LINE.sub(lambda match: match[1] + b"%08x" % cid + match[3], raw, count=1)


def geometry(size: int, adapter: str) -> tuple[int, int, int]:
    """(cylinders, heads, sectors) that VMware gives a disk of ``size`` bytes behind ``adapter``.

    IDE: 16 heads, 63 sectors, at most 16,383 cylinders. SCSI: 64/32 below 1 GiB, 128/32 below 2 GiB, else 255/63.
    """
    sectors = size // SECTOR
    if adapter == "ide":
        return min(16383, max(1, sectors // (16 * 63))), 16, 63
    heads, per_track = (64, 32) if size < 1 << 30 else (128, 32) if size < 2 << 30 else (255, 63)
    return min(65535, max(1, sectors // (heads * per_track))), heads, per_track


def disk_database(
    size: int, adapter: str, hw_version: str, uuid: bytes, extra: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """The ``ddb`` entries of a new disk."""
    cylinders, heads, sectors = geometry(size, adapter)
    shown = uuid.hex(" ")
    return {
        "ddb.adapterType": adapter,
        "ddb.geometry.cylinders": str(cylinders),
        "ddb.geometry.heads": str(heads),
        "ddb.geometry.sectors": str(sectors),
        "ddb.uuid": f"{shown[:23]}-{shown[24:]}",
        "ddb.virtualHWVersion": hw_version,
        **dict(extra),
    }
