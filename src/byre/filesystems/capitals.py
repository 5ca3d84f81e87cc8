"""Names as Windows compares them: in capitals, letter by letter."""

from __future__ import annotations

from functools import cache

_LATER = 0x2C00
"""What has capitals from here on got them after Windows XP, full-width letters apart."""
_LATER_BELOW = (
    range(0x37F, 0x380),
    range(0x524, 0x530),
    range(0x10A0, 0x1100),
    range(0x13A0, 0x1400),
    range(0x1C80, 0x1CC0),
)
_FULL_WIDTH = range(0xFF21, 0xFF3B)


def capitals(name: str) -> str:
    """The name in capitals. A letter that has no capital of one letter of its own stays: "straße" and "STRASSE" are
    two names, "ı" is no "I". Checked against the $UpCase that mkntfs writes; good where a volume brings none."""
    return name.upper() if name.isascii() else "".join(map(_capital, name))


@cache
def _capital(letter: str) -> str:
    upper = letter.upper()
    if len(upper) != 1 or upper.lower() != letter or ord(letter) > 0xFFFF:
        return letter
    code = ord(upper)
    later = code >= _LATER and code not in _FULL_WIDTH
    return letter if later or any(code in each for each in _LATER_BELOW) else upper
