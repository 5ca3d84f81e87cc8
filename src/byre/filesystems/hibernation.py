"""Whether hiberfil.sys holds a sleeping Windows: its volumes must not be changed, nor trusted as they lie."""

from __future__ import annotations

SIGNATURES = {b"hibr": True, b"HIBR": True, b"rstr": True, b"RSTR": True, b"wake": False, b"WAKE": False}
"""The first four bytes. ``rstr`` stands while a resume is under way: as good as asleep."""


def is_hibernated(head: bytes) -> bool | None:
    """From the first bytes of the file; None where they say neither. A wiped header means: not."""
    known = SIGNATURES.get(head[:4])
    if known is not None:
        return known
    return None if head[:4096].strip(b"\0") else False
