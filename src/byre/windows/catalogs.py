"""Security catalogs (.cat): which digests they vouch for. Pure.

A catalog is PKCS#7 around a trust list; each member's digest stands raw or as upper-case hexadecimal in UTF-16.
Membership says what the catalog's author listed; whose signature it is, and whether it was valid, is another
question. Source: the public descriptions of the certificate trust list (1.3.6.1.4.1.311.10.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from byre.errors import CorruptImageError

TRUST_LIST = "1.3.6.1.4.1.311.10.1"
_NAME_VALUE = bytes.fromhex("060a2b060104018237 0c0201")
"""The object identifier 1.3.6.1.4.1.311.12.2.1: a name and a value."""
_FILE_TAG = b"\x1e\x08" + "File".encode("utf-16-be")
MAX_CATALOG = 64 << 20
MAX_MEMBERS = 1 << 18
_HEX = re.compile(r"[0-9A-Fa-f]{32,128}")


@dataclass(frozen=True, slots=True)
class Catalog:
    """The digests that a catalog lists (MD5, SHA-1 or SHA-256 by their length) and who signed it, by name.
    ``names``: the file's name in lower case of those members that state one."""

    digests: frozenset[bytes]
    signer: str | None = None
    names: Mapping[bytes, str] = field(default_factory=dict)


def parse_catalog(data: bytes, *, path: str) -> Catalog:
    """The members of a catalog. Raises CorruptImageError."""
    if len(data) > MAX_CATALOG:
        raise CorruptImageError("the catalog is too large", path=path, found=len(data), expected=MAX_CATALOG)
    try:
        return _parse(data)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise CorruptImageError(f"the catalog can't be read: {type(error).__name__}", path=path) from error


def _parse(data: bytes) -> Catalog:
    from asn1crypto import cms, core, parser

    class Parts(core.SequenceOf):  # type: ignore[misc]
        _child_spec = core.Any

    signed = cms.ContentInfo.load(data)["content"]
    inner = signed["encap_content_info"]
    if inner["content_type"].dotted != TRUST_LIST:
        raise ValueError("not a trust list")
    listed = Parts.load(parser.parse(inner["content"].dump())[4])
    digests: set[bytes] = set()
    stated: dict[bytes, str] = {}
    for part in listed:
        raw = part.dump()
        if raw[:1] != b"\x30" or not _is_sequence_of_sequences(raw, parser):
            continue
        for member in Parts.load(raw):
            digest = _digest(member.dump(), parser)
            if digest is not None and len(digests) < MAX_MEMBERS:
                digests.add(digest)
                name = _file_name(member.dump())
                if name is not None:
                    stated[digest] = name
    names = [choice.chosen.subject.native.get("common_name") for choice in signed["certificates"]]
    return Catalog(frozenset(digests), str(names[0]) if names and names[0] else None, stated)


def _is_sequence_of_sequences(raw: bytes, parser: object) -> bool:
    content = parser.parse(raw)[4]  # type: ignore[attr-defined]
    return bool(content[:1] == b"\x30")


def _digest(member: bytes, parser: object) -> bytes | None:
    """The member's digest: the first element of its sequence, an octet string."""
    content = parser.parse(member)[4]  # type: ignore[attr-defined]
    if content[:1] != b"\x04":
        return None
    value: bytes = parser.parse(content, strict=False)[4]  # type: ignore[attr-defined]
    if len(value) in (16, 20, 32):
        return value
    text = value.decode("utf-16-le", "replace").rstrip("\0")
    return bytes.fromhex(text) if _HEX.fullmatch(text) and len(text) % 2 == 0 else None


def _file_name(member: bytes) -> str | None:
    """The name that a member's attribute ``File`` states: a tag in UTF-16BE, an integer, the value in UTF-16LE."""
    at = member.find(_NAME_VALUE)
    while at >= 0:
        tag = member.find(_FILE_TAG, at)
        if tag < 0:
            return None
        value = tag + len(_FILE_TAG)
        if member[value : value + 1] == b"\x02" and value + 1 < len(member):
            value += 2 + member[value + 1]  # the integer between the two, of flags that don't matter here
        if member[value : value + 1] == b"\x04" and value + 2 <= len(member):
            length = member[value + 1]
            raw = member[value + 2 : value + 2 + length]
            if length < 0x80 and len(raw) == length:
                return raw.decode("utf-16-le", "replace").rstrip("\0").lower() or None
        at = member.find(_NAME_VALUE, at + 1)
    return None
