"""Sizes as people type and read them, and alignment."""

from __future__ import annotations

import re

from byre.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
SECTOR = 512

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[a-z]*)", re.IGNORECASE)
_POWERS = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_MAX_SIZE = (1 << 63) - 1


def parse_size(text: str) -> int:
    """Bytes from ``40G``, ``1.5T``, ``512MiB``, ``10MB`` or a bare number of bytes.

    A letter, with or without ``iB``, is a power of 1024 as in every disk tool; ``KB``, ``MB``, ``GB`` … are
    powers of 1000, as the drive's label means them. Raises UsageError, also where the result isn't whole.
    """
    match = _SIZE.fullmatch(text.strip())
    unit = match["unit"].lower() if match else ""
    decimal = len(unit) == 2 and unit.endswith("b")
    letter = unit.removesuffix("ib") if unit.endswith("ib") else unit[:1] if decimal else unit
    if match is None or letter not in _POWERS or (decimal and letter in ("", "b")):
        raise UsageError(
            f"{text!r} is not a size",
            hint="Sizes are bytes or a number with a unit: 40G, 1.5T, 512MiB, 10MB.",
        )
    base: int = 1000 if decimal else 1024
    whole, _, fraction = match["number"].partition(".")
    scale = int(base ** _POWERS[letter])
    value, rest = divmod(int(whole + fraction) * scale, int(10 ** len(fraction)))
    if rest:
        if scale == 1:
            raise UsageError(f"{text!r} is not a whole number of bytes")
        value += 1  # 1.3G isn't whole bytes: up, so that what was asked for fits
    if value > _MAX_SIZE:
        raise UsageError(f"{text!r} is larger than any disk", expected=f"at most {_MAX_SIZE} bytes")
    return value


def format_size(size: int) -> str:
    """``1536`` as ``1.5 KiB``: three significant digits, powers of 1024."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1000 or unit == "PiB":
            break
        value /= 1024
    if unit == "B":
        return f"{size} B"
    digits = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    shown = f"{value:.{digits}f}"
    if digits:
        shown = shown.rstrip("0").rstrip(".")
    return f"{shown} {unit}"


def align_down(value: int, alignment: int) -> int:
    """The largest multiple of ``alignment`` that isn't above ``value``."""
    return value - value % alignment


def align_up(value: int, alignment: int) -> int:
    """The smallest multiple of ``alignment`` that isn't below ``value``."""
    return -(-value // alignment) * alignment


def ceil_div(value: int, divisor: int) -> int:
    """How many pieces of ``divisor`` it takes to hold ``value``."""
    return -(-value // divisor)


def is_power_of_two(value: int) -> bool:
    """Whether one bit is set and no other; 0 and negative values are none."""
    return value > 0 and value & (value - 1) == 0


def format_count(count: int, what: str) -> str:
    """``1 file``, ``2 files``: for things whose plural is an s."""
    return f"{count} {what}{'' if count == 1 else 's'}"
