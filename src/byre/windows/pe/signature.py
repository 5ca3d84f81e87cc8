"""Authenticode: is there a signature, and is the digest that it signs the file's own?

Says nothing of trust: whose certificate it is and whether it was valid is another question.
Source: Microsoft's "Windows Authenticode Portable Executable Signature Format".
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from byre.windows.pe.headers import Headers

_PKCS_SIGNED_DATA = 2
_DIGESTS = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}


@dataclass(frozen=True, slots=True)
class Signature:
    """The embedded signature. ``digest_valid`` is None where the structure can't be read (``reason`` says why)."""

    digest_algorithm: str | None
    digest_valid: bool | None
    signer: str | None = None
    reason: str | None = None


def read_signature(data: bytes, headers: Headers) -> Signature | None:
    """The signature that the certificate table holds; None where the file isn't signed."""
    start, size = headers.directories.get("security", (0, 0))
    if not start or not size:
        return None
    if start + 8 > len(data) or start + size > len(data):
        return Signature(None, None, reason="the certificate table lies outside the file")
    length, _, kind = struct.unpack_from("<IHH", data, start)
    if kind != _PKCS_SIGNED_DATA or not 8 < length <= size:
        return Signature(None, None, reason=f"the certificate is of type {kind}, {length} bytes")
    try:
        algorithm, signed, signer = _indirect_data(data[start + 8 : start + length])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        return Signature(None, None, reason=f"the signature can't be read: {type(error).__name__}")
    if algorithm not in _DIGESTS:
        return Signature(algorithm, None, signer, reason="the digest algorithm is unknown")
    name = _DIGESTS[algorithm]
    return Signature(name, authenticode_digest(data, headers, name) == signed, signer)


def authenticode_digest(data: bytes, headers: Headers, algorithm: str = "sha1") -> bytes:
    """The digest of the file without its CheckSum, its security directory entry and its certificate table."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    start, size = headers.directories.get("security", (0, 0))
    end = start if start and start + size <= len(data) else len(data)
    view = memoryview(data)
    digest.update(view[: headers.checksum_offset])
    after = headers.checksum_offset + 4
    if headers.security_entry_offset:
        digest.update(view[after : headers.security_entry_offset])
        after = headers.security_entry_offset + 8
    digest.update(view[after:end])
    if end < len(data):
        digest.update(view[start + size :])
    return digest.digest()


def _indirect_data(blob: bytes) -> tuple[str, bytes, str | None]:
    """(digest algorithm OID, signed digest, signer's common name) out of the PKCS#7 structure."""
    from asn1crypto import algos, cms, core, parser

    class Parts(core.SequenceOf):  # type: ignore[misc]
        _child_spec = core.Any

    content = cms.ContentInfo.load(blob)["content"]
    inner = parser.parse(content["encap_content_info"]["content"].dump())[4]  # without the explicit tag
    message = algos.DigestInfo.load(Parts.load(inner)[1].dump())
    algorithm = message["digest_algorithm"]["algorithm"].dotted
    signed = message["digest"].native
    signer = None
    certificates = content["certificates"]
    if len(certificates):
        serial = content["signer_infos"][0]["sid"].native.get("serial_number")
        for choice in certificates:
            if choice.chosen.serial_number == serial:
                subject = choice.chosen.subject.native
                signer = str(subject.get("common_name") or subject.get("organization_name"))
    return algorithm, signed, signer
