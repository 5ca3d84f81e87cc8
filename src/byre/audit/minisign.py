"""Signatures as minisign makes them: read and verified. Pure.

Source: minisign's own description of its formats (Ed25519; ``ED`` signs BLAKE2b-512 of the file, ``Ed`` the file).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from byre.errors import CorruptImageError, UsageError

MAX_SIGNATURE = 16384
_COMMENT, _TRUSTED = "untrusted comment:", "trusted comment:"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key of 32 bytes with its id of 8."""

    id: bytes
    key: bytes

    @property
    def name(self) -> str:
        """The id as minisign prints it."""
        return self.id[::-1].hex().upper()


@dataclass(frozen=True, slots=True)
class MiniSignature:
    """A signature file. ``prehashed``: it is over BLAKE2b-512 of the file; ``comment`` is covered by ``overall``."""

    key_id: bytes
    signature: bytes
    prehashed: bool
    comment: str
    overall: bytes


def parse_public_key(text: str) -> PublicKey:
    """A public key from its file's text or its one line. Raises UsageError."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(_COMMENT)]
    raw = _base64(lines[0]) if len(lines) == 1 else None
    if raw is None or len(raw) != 42 or raw[:2] != b"Ed":
        raise UsageError("is no public key of minisign", found=text[:60], expected="a line of 56 characters: RW…")
    return PublicKey(raw[2:10], raw[10:])


def parse_signature(data: bytes, *, path: str) -> MiniSignature:
    """A signature file from its bytes. Raises CorruptImageError."""
    lines = data[:MAX_SIGNATURE].decode("utf-8", "replace").splitlines()
    if len(lines) >= 4 and lines[0].startswith(_COMMENT) and lines[2].startswith(_TRUSTED):
        raw, overall = _base64(lines[1]), _base64(lines[3])
        if raw is not None and len(raw) == 74 and raw[:2] in (b"Ed", b"ED") and overall and len(overall) == 64:
            comment = lines[2][len(_TRUSTED) :].removeprefix(" ")
            return MiniSignature(raw[2:10], raw[10:], raw[:2] == b"ED", comment, overall)
    raise CorruptImageError("is no signature of minisign", path=path)


def _base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def verifies(signature: MiniSignature, key: PublicKey, message: bytes) -> bool:
    """Whether ``key`` signed ``message`` (the file, or where it is prehashed its BLAKE2b-512) and the comment."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if signature.key_id != key.id:
        return False
    try:
        public = Ed25519PublicKey.from_public_bytes(key.key)
        public.verify(signature.signature, message)
        public.verify(signature.overall, signature.signature + signature.comment.encode("utf-8"))
    except (InvalidSignature, ValueError):
        return False
    return True
