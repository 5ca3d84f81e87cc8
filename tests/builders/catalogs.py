"""Writes security catalogs without signers: a trust list of digests."""

from __future__ import annotations

from asn1crypto import core

from byre.windows.catalogs import TRUST_LIST


def der(tag: int, *parts: bytes) -> bytes:
    """One DER value: tag, length, contents."""
    body = b"".join(parts)
    size = len(body)
    length = bytes([size]) if size < 128 else bytes([0x82]) + size.to_bytes(2, "big")
    return bytes([tag]) + length + body


def oid(dotted: str) -> bytes:
    encoded: bytes = core.ObjectIdentifier(dotted).dump()
    return encoded


def catalog_of(digests: list[bytes]) -> bytes:
    """A catalog without signers, by the structure that Windows' have."""
    sequence, octets, set_of = 0x30, 0x04, 0x31
    members = [der(sequence, der(octets, digest), der(set_of)) for digest in digests]
    content = der(
        sequence,
        der(sequence, oid("1.3.6.1.4.1.311.12.1.1")),
        der(octets, b"list"),
        der(0x17, b"080415120000Z"),
        der(sequence, oid("1.3.6.1.4.1.311.12.1.2"), der(0x05)),
        der(sequence, *members),
    )
    sha1 = der(sequence, oid("1.3.14.3.2.26"))
    inner = der(sequence, oid(TRUST_LIST), der(0xA0, content))
    signed = der(sequence, der(0x02, b"\1"), der(set_of, sha1), inner, der(0xA0), der(set_of))
    return der(sequence, oid("1.2.840.113549.1.7.2"), der(0xA0, signed))
