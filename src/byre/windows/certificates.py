"""Root certificates in the registry's stores: which are there, whose they say they are.

Each is a key named by its SHA-1 thumbprint with a value ``Blob``: properties of (id, 1, length, bytes), of which id
32 is the certificate. Source: Microsoft's "System Store Locations"; the blob's layout: public descriptions of it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from byre.windows.registry import Key

_STORES = (
    ("SystemCertificates", r"{0}Microsoft\SystemCertificates\Root\Certificates"),
    ("policy", r"{0}Policies\Microsoft\SystemCertificates\Root\Certificates"),
    ("enterprise", r"{0}Microsoft\EnterpriseCertificates\Root\Certificates"),
)
_CERTIFICATE = 32
_THUMBPRINT = re.compile(r"[0-9A-Fa-f]{40}")
MAX_CERTIFICATES = 2048
MAX_BLOB = 1 << 16


@dataclass(frozen=True, slots=True)
class RootCertificate:
    """One root. ``owner`` names the user, or the machine; ``subject`` None where the certificate can't be read."""

    owner: str
    store: str
    thumbprint: str
    subject: str | None


def read_root_certificates(top: Key | None, prefix: str, owner: str) -> Iterator[RootCertificate]:
    """The roots below a hive's root. ``prefix`` is ``Software\\`` in a user's hive."""
    for store, pattern in _STORES:
        key = top.at(pattern.format(prefix)) if top is not None else None
        for child in (key.subkeys() if key is not None else ())[:MAX_CERTIFICATES]:
            if not _THUMBPRINT.fullmatch(child.name):
                continue
            blob = child.value("Blob")
            subject = _subject(blob.data[:MAX_BLOB]) if blob is not None else None
            yield RootCertificate(owner, store, child.name.lower(), subject)


def _subject(blob: bytes) -> str | None:
    at = 0
    while at + 12 <= len(blob):
        identifier, _, size = struct.unpack_from("<III", blob, at)
        if size > len(blob) - at - 12:
            return None
        if identifier == _CERTIFICATE:
            return _name(blob[at + 12 : at + 12 + size])
        at += 12 + size
    return None


def _name(data: bytes) -> str | None:
    from asn1crypto import x509

    try:
        subject = x509.Certificate.load(data).subject.native
        names = (
            subject.get("common_name"),
            subject.get("organizational_unit_name"),
            subject.get("organization_name"),
        )
        chosen = next((each for each in names if each), None)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return None
    return None if chosen is None else str(chosen)
