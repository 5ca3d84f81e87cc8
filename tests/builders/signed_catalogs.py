"""Signed security catalogs with certificates of our own making: what Windows' structures look like, nothing of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from asn1crypto import cms, core
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from byre.windows.catalogs import TRUST_LIST

SEQUENCE, OCTETS, SET_OF = 0x30, 0x04, 0x31


def der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    length = bytes([len(body)]) if len(body) < 128 else b""
    if not length:
        size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
        length = bytes([0x80 | len(size)]) + size
    return bytes([tag]) + length + body


def oid(text: str) -> bytes:
    return core.ObjectIdentifier(text).dump()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Authority:
    """A certificate with its key."""

    certificate: bytes
    key: rsa.RSAPrivateKey

    @property
    def parsed(self) -> asn1_x509.Certificate:
        return asn1_x509.Certificate.load(self.certificate)


@cache
def _key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@cache
def authority(name: str, issuer: Authority | None = None, *, start: int = 2001, years: int = 10) -> Authority:
    """A certificate called ``name``, self-signed or by ``issuer``, valid for ``years`` from ``start``."""
    key = _key(len(name))
    title = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    above = x509.load_der_x509_certificate(issuer.certificate).subject if issuer else title
    first = datetime(start, 1, 1, tzinfo=UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(title)
        .issuer_name(above)
        .public_key(key.public_key())
        .serial_number(1000 + len(name))
        .not_valid_before(first)
        .not_valid_after(first + timedelta(days=365 * years))
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Authority(built.public_bytes(serialization.Encoding.DER), key)


def members(digests: Sequence[bytes | tuple[bytes, str]]) -> bytes:
    """The trust list: each member a digest, or a digest with the name of its file."""
    rows = []
    for each in digests:
        digest, name = each if isinstance(each, tuple) else (each, "")
        attributes = b""
        if name:
            tag = der(0x1E, "File".encode("utf-16-be"))
            value = der(OCTETS, name.encode("utf-16-le") + b"\0\0")
            named = der(SEQUENCE, tag, core.Integer(0x10010001).dump(), value)
            attributes = der(SEQUENCE, oid("1.3.6.1.4.1.311.12.2.1"), der(SET_OF, named))
        rows.append(der(SEQUENCE, der(OCTETS, digest), der(SET_OF, attributes)))
    return der(
        SEQUENCE,
        der(SEQUENCE, oid("1.3.6.1.4.1.311.12.1.1")),
        der(OCTETS, b"list"),
        der(0x17, b"080415120000Z"),
        der(SEQUENCE, oid("1.3.6.1.4.1.311.12.1.2"), der(0x05)),
        der(SEQUENCE, *rows),
    )


def _signer_info(content: bytes, by: Authority, *, time: datetime | None, unsigned: bytes = b"") -> bytes:
    digest = hashlib.sha1(content).digest()
    attributes = [
        cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
        cms.CMSAttribute({"type": "message_digest", "values": [digest]}),
    ]
    if time is not None:
        attributes.append(
            cms.CMSAttribute({"type": "signing_time", "values": [cms.Time({"utc_time": time})]}),
        )
    signed = cms.CMSAttributes(attributes)
    signature = by.key.sign(signed.dump(), padding.PKCS1v15(), hashes.SHA1())
    certificate = by.parsed
    parts = [
        core.Integer(1).dump(),
        der(SEQUENCE, certificate.issuer.dump(), core.Integer(certificate.serial_number).dump()),
        der(SEQUENCE, oid("1.3.14.3.2.26"), der(0x05)),
        b"\xa0" + signed.dump()[1:],
        der(SEQUENCE, oid("1.2.840.113549.1.1.1"), der(0x05)),
        der(OCTETS, signature),
    ]
    if unsigned:
        parts.append(unsigned)
    return der(SEQUENCE, *parts)


def signed_catalog(
    digests: Sequence[bytes | tuple[bytes, str]],
    by: Authority,
    inside: Sequence[Authority],
    *,
    signed_content: bytes | None = None,
    stamp: tuple[Authority, datetime] | None = None,
) -> bytes:
    """A catalog signed ``by``, with the certificates ``inside``. ``signed_content``: what was signed instead of what
    it holds; ``stamp``: who countersigned it, and when."""
    held = members(digests)
    body = asn1_content(signed_content if signed_content is not None else held)
    info = _signer_info(body, by, time=None)
    if stamp is not None:
        who, when = stamp
        signature = cms.SignerInfo.load(info)["signature"].native
        counter = _signer_info(signature, who, time=when)
        attribute = der(SEQUENCE, oid("1.2.840.113549.1.9.6"), der(SET_OF, counter))
        info = _signer_info(body, by, time=None, unsigned=der(0xA1, attribute))
    certificates = der(0xA0, *(each.certificate for each in inside))
    inner = der(SEQUENCE, oid(TRUST_LIST), der(0xA0, held))
    sha1 = der(SEQUENCE, oid("1.3.14.3.2.26"), der(0x05))
    signed = der(SEQUENCE, der(0x02, b"\1"), der(SET_OF, sha1), inner, certificates, der(SET_OF, info))
    return der(SEQUENCE, oid("1.2.840.113549.1.7.2"), der(0xA0, signed))


def asn1_content(held: bytes) -> bytes:
    """The content without its outermost tag and length: what a signature's digest is made of."""
    from asn1crypto import parser

    return bytes(parser.parse(held)[4])
