"""Whose signature is on a PKCS#7 structure, and whether it held when it was made.

A security catalog of Windows is such a structure. Three things are told apart: the signature doesn't fit what it
signs (*broken*), it fits but leads to no root that is known here (*unknown root*), it leads to one (*trusted*). The
certificates of Windows XP's catalogs have expired: they are held against the time that a countersignature vouches
for, and where there is none, validity in time is left open and said so.
Sources: RFC 2315 (PKCS#7), RFC 5652, Microsoft's "Windows Authenticode Portable Executable Signature Format".
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from byre.errors import CorruptImageError

KNOWN_ROOTS = {
    "a43489159a520f0d93d032ccaf37e7fe20a8b419": "Microsoft Root Authority",
    "cdd4eeae6000ac7f40c3802c171e30148030c072": "Microsoft Root Certificate Authority",
    "3b1efd3a66ea28b16697394703a72ca340a05bd5": "Microsoft Root Certificate Authority 2010",
    "8f43288ad272f3103b6fb1428485ea3014c0bcfe": "Microsoft Root Certificate Authority 2011",
}
"""SHA-1 of the root certificates that Windows' own catalogs lead to, as public lists of thumbprints have them."""
MAX_CERTIFICATES = 64
MAX_CHAIN = 8
MAX_KEY_BITS = 16384
_HASHES = ("md5", "sha1", "sha256", "sha384", "sha512")
_COUNTERSIGNATURE = "1.2.840.113549.1.9.6"
_MISREAD = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True)
class Trust:
    """``verdict``: ``trusted``, ``unknown root``, ``broken`` or ``unsigned``. ``signed_at`` is RFC 3339, there only
    where a countersignature vouches for it; ``reason`` what speaks against the signature, or what was left open."""

    verdict: str
    signer: str | None = None
    root: str | None = None
    signed_at: str | None = None
    reason: str | None = None


def verify_signed_data(data: bytes, *, path: str, certificates: Sequence[bytes] = ()) -> Trust:
    """Whose signature the first signer's is. ``certificates``: more of them (DER), to find a root among.

    Raises CorruptImageError where there is no such structure.
    """
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return _verify(data, certificates)
    except UnsupportedAlgorithm as error:
        return Trust("unknown root", reason=f"the key can't be used here: {error}")
    except _MISREAD as error:
        raise CorruptImageError(f"the signature can't be read: {type(error).__name__}", path=path) from error


def _verify(data: bytes, extra: Sequence[bytes]) -> Trust:
    from asn1crypto import cms, parser, x509

    signed = cms.ContentInfo.load(data)["content"]
    if not len(signed["signer_infos"]):
        return Trust("unsigned", reason="nobody signed it")
    signer = signed["signer_infos"][0]
    inner = parser.parse(signed["encap_content_info"]["content"].dump())[4]  # without the explicit tag
    content = parser.parse(inner)[4]  # the digest leaves the outermost tag and length out
    pool = [choice.chosen for choice in signed["certificates"]][:MAX_CERTIFICATES]
    for der in extra[:MAX_CERTIFICATES]:
        try:
            pool.append(x509.Certificate.load(der))
        except _MISREAD:
            continue
    own = _signer_certificate(signer, pool)
    if own is None:
        return Trust("broken", reason="the signer's certificate isn't inside")
    name = _name(own)
    wrong = _signature_problem(signer, content, own)
    if wrong is not None:
        return Trust("broken", name, reason=wrong)
    when = _countersigned(signer, pool)
    root, reason = _chain(own, pool, when)
    stated = when.isoformat().replace("+00:00", "Z") if when else None
    if root is None:
        return Trust("unknown root", name, None, stated, reason)
    left_open = (
        None if when else "when it was signed isn't vouched for, so the certificates' dates weren't held to it"
    )
    return Trust("trusted", name, root, stated, left_open)


def _signer_certificate(signer: Any, pool: Sequence[Any]) -> Any | None:
    """The certificate that the signer names by issuer and serial number."""
    sid = signer["sid"].chosen
    for each in pool:
        if each.serial_number == sid["serial_number"].native and each.issuer == sid["issuer"]:
            return each
    return None


def _name(certificate: Any) -> str:
    native = certificate.subject.native
    return str(native.get("common_name") or native.get("organization_name") or "nobody named")[:200]


def _signature_problem(signer: Any, content: bytes, certificate: Any) -> str | None:
    """Why a signer's signature doesn't fit ``content``; None where it does."""
    algorithm = _hash_name(signer["digest_algorithm"]["algorithm"].native)
    attributes = signer["signed_attrs"]
    if len(attributes):
        stated = _attribute(attributes, "message_digest")
        if stated is None:
            return "the signed attributes hold no digest"
        if stated != hashlib.new(algorithm, content, usedforsecurity=False).digest():
            return "the content isn't what was signed"
        signed = b"\x31" + attributes.dump()[1:]  # signed as a SET OF, stored with an implicit tag
    else:
        signed = content
    if not _fits(certificate, signer["signature"].native, signed, algorithm):
        return "the signature isn't the certificate's"
    return None


def _attribute(attributes: Any, name: str) -> Any | None:
    for each in attributes:
        if each["type"].native == name and len(each["values"]):
            return each["values"][0].native
    return None


def _hash_name(name: str) -> str:
    """The digest algorithm; one that nobody knows is a ValueError, as everything that can't be read is."""
    if name not in _HASHES:
        raise ValueError(f"the digest algorithm {name!r}")
    return name


def _fits(certificate: Any, signature: bytes, signed: bytes, algorithm: str) -> bool:
    """Whether the RSA key of a certificate made this signature (PKCS #1 v1.5)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    key_info = certificate.public_key
    if key_info.algorithm != "rsa":
        raise ValueError("not an RSA key")
    parsed = key_info["public_key"].parsed
    modulus, exponent = parsed["modulus"].native, parsed["public_exponent"].native
    if modulus.bit_length() > MAX_KEY_BITS or exponent.bit_length() > 64:
        raise ValueError("a key of that size")
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    kinds: dict[str, hashes.HashAlgorithm] = {
        "md5": hashes.MD5(),
        "sha1": hashes.SHA1(),
        "sha256": hashes.SHA256(),
        "sha384": hashes.SHA384(),
        "sha512": hashes.SHA512(),
    }
    try:
        key.verify(signature, signed, padding.PKCS1v15(), kinds[algorithm])
    except InvalidSignature:
        return False
    return True


def _countersigned(signer: Any, pool: Sequence[Any]) -> datetime | None:
    """The time that a countersignature vouches for, where it fits the signature that it is on."""
    for each in signer["unsigned_attrs"]:
        if each["type"].dotted != _COUNTERSIGNATURE:
            continue
        for other in each["values"]:
            certificate = _signer_certificate(other, pool)
            if certificate is None or _signature_problem(other, signer["signature"].native, certificate):
                continue
            when = _attribute(other["signed_attrs"], "signing_time")
            if isinstance(when, datetime):
                return when
    return None


def _chain(certificate: Any, pool: Sequence[Any], when: datetime | None) -> tuple[str | None, str | None]:
    """(the known root's name, why there is none): from issuer to issuer, each signature checked."""
    current = certificate
    for _ in range(MAX_CHAIN):
        if when is not None and not _valid_at(current, when):
            return None, f"the certificate of {_name(current)} wasn't valid when it signed"
        thumbprint = hashlib.sha1(current.dump(), usedforsecurity=False).hexdigest()
        if thumbprint in KNOWN_ROOTS:
            return KNOWN_ROOTS[thumbprint], None
        if current.subject == current.issuer:
            return None, f"the root {_name(current)} isn't known here"
        above = [each for each in pool if each.subject == current.issuer]
        issuer = next((each for each in above if _issued(current, each)), None)
        if issuer is None:
            what = "isn't what its issuer signed" if above else "has an issuer that isn't here"
            return None, f"the certificate of {_name(current)} {what}"
        current = issuer
    return None, "the chain of certificates is too long"


def _issued(certificate: Any, issuer: Any) -> bool:
    algorithm = _hash_name(certificate["signature_algorithm"].hash_algo)
    body = certificate["tbs_certificate"].dump()
    return _fits(issuer, certificate["signature_value"].native, body, algorithm)


def _valid_at(certificate: Any, when: datetime) -> bool:
    validity = certificate["tbs_certificate"]["validity"]
    return bool(validity["not_before"].native <= when <= validity["not_after"].native)
