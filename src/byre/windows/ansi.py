"""Text in one of Windows' ANSI code pages, and which one a guest has.

Bytes that a code page doesn't define become what Windows makes of them: the control character of that number, and
the euro sign for 80 in code page 936. Source: Microsoft's tables of code pages (bestfit*.txt at unicode.org).
"""

from __future__ import annotations

import codecs

from byre.errors import ByreError, UnsupportedError, UsageError
from byre.windows.reg_paths import Registry

UTF_8 = 65001
_CODECS = {UTF_8: "utf-8", 1361: "johab", 10000: "mac_roman", 20866: "koi8_r", 21866: "koi8_u"}
"""Those that Python calls otherwise than ``cpN``."""
_EURO = {("gbk", 0x80): "\u20ac"}
_PRIVATE = {("cp932", byte): chr(0xF8F1 + byte - 0xFD) for byte in (0xFD, 0xFE, 0xFF)}
_ALONE = {**_EURO, **_PRIVATE, ("cp932", 0xA0): "\xa0"}
_DOUBLE = ("cp932", "gbk", "cp949", "cp950", "johab")
_HANDLER = "byre.ansi"


def codec_of(page: int) -> str:
    """Python's name of a code page. UnsupportedError where it has none."""
    name = _CODECS.get(page, f"cp{page}")
    try:
        codecs.lookup(name)
    except LookupError as error:
        raise UnsupportedError(
            "no such code page here", found=str(page), expected="for example 932, 936, 949, 950, 1250 to 1258"
        ) from error
    return name


def decode_ansi(data: bytes, page: int, *, path: str) -> str:
    """The text. UsageError with the byte that no letter of the code page begins with; ``path`` is named there."""
    try:
        return data.decode(codec_of(page), "strict" if page == UTF_8 else _HANDLER)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"no text in code page {page}",
            path=path,
            found=f"line {line}: the byte {data[error.start]:#04x} at {error.start}",
            hint="--code-page N says which one it is.",
        ) from error


def guest_code_page(registry: Registry) -> int:
    """The ANSI code page of the control set of the next boot. UnsupportedError where it isn't told."""
    place = r"HKLM\SYSTEM\CurrentControlSet\Control\Nls\CodePage"
    hint = "--code-page N says it."
    try:
        value = registry.locate(place).key.value("ACP")
    except ByreError as error:
        raise UnsupportedError("the guest's code page isn't known", found=str(error), hint=hint) from error
    text = (value.text or "").strip() if value is not None else ""
    if not text.isascii() or not text.isdecimal() or len(text) > 5:
        raise UnsupportedError("the guest's code page isn't known", path=place, found=repr(text[:20]), hint=hint)
    return int(text)


def _alone(error: UnicodeError) -> tuple[str, int]:
    """A byte that stands for nothing by itself; half of a letter is none."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte, codec = error.object[error.start], _python_name(error.encoding)
    if (codec, byte) in _ALONE:
        return _ALONE[codec, byte], error.start + 1
    if byte == 0x80 or (codec not in _DOUBLE and 0x80 < byte <= 0x9F):
        return chr(byte), error.start + 1
    raise error


def _python_name(encoding: str) -> str:
    return encoding.replace("-", "_").lower()


codecs.register_error(_HANDLER, _alone)
