"""Text that somebody else chose, made safe to stand among ours: what can't be seen is shown as an escape. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

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


def shell_command(words: Iterable[str]) -> str:
    r"""A command that means the same pasted from a page or a terminal as given: a word with something invisible in it
    becomes ``$'a\x0ab'``, byte by byte, as POSIX 2024 and the shells before it have it."""
    return " ".join(_bytewise(word) if _INVISIBLE.search(word) else shlex.quote(word) for word in words)


def _bytewise(word: str) -> str:
    plain = word.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{_INVISIBLE.sub(_bytes, plain)}'"


def _bytes(match: re.Match[str]) -> str:
    code = ord(match[0])  # a byte of a file name that isn't UTF-8 is half a surrogate pair
    data = bytes([code & 0xFF]) if 0xDC80 <= code <= 0xDCFF else match[0].encode("utf-8", "replace")
    return "".join(f"\\x{byte:02x}" for byte in data)
