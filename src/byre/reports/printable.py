"""Text that somebody else chose, made safe to stand among ours: what can't be seen is shown as an escape. Pure."""

from __future__ import annotations

import re

_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
"""Control characters, those without width, those that change the direction of writing, and halves of surrogate
pairs (as a file name that isn't UTF-8 gives)."""


def printable(text: str) -> str:
    r"""The text with every invisible character as ``\x1b`` or ``\u202e``; line ends too, for a name with one in it
    could forge a line of ours. Markup is the form's own business: it is not escaped here."""
    return _INVISIBLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
