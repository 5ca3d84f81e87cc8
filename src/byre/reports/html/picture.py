"""The use of space as a picture: where each coloured piece of the bar begins and how wide it is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from byre.audit.facts import SpaceUse
from byre.units import format_size

WIDTH = 1000
SMALLEST = 4
"""Units of width below which nobody would see a piece."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One kind's piece of the bar, in units of ``WIDTH``; ``kind`` is its class in the style sheet."""

    kind: str
    title: str
    size: str
    share: str
    files: int
    x: float
    width: float


def pieces(space: Sequence[SpaceUse]) -> tuple[Piece, ...]:
    """The bar from left to right. What is tiny is drawn a little wider than it is, so that it is seen at all."""
    total = sum(each.bytes for each in space)
    if total <= 0:
        return ()
    wanted = [max(SMALLEST, WIDTH * each.bytes / total) for each in space]
    scale = WIDTH / sum(wanted)
    found, x = [], 0.0
    for each, width in zip(space, wanted, strict=True):
        share = 100 * each.bytes / total
        found.append(
            Piece(
                each.kind,
                each.title,
                format_size(each.bytes),
                f"{share:.0f} %" if share >= 1 else "< 1 %",
                each.files,
                round(x * scale, 2),
                round(width * scale, 2),
            )
        )
        x += width
    return tuple(found)
