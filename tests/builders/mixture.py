"""Disk contents that look like real ones: noise, text-like, constant and empty stretches, from a seed."""

from __future__ import annotations

import random
from pathlib import Path

SECTOR = 512


def mixture(size: int, seed: int) -> bytes:
    """``size`` bytes (whole sectors) of stretches of 512 bytes to 300 KiB."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randrange(2, 9)) for _ in range(200)]
    pieces, length = [], 0
    while length < size:
        span = SECTOR * int(2 ** (rng.random() * 9.2))
        kind = rng.random()
        if kind < 0.3:
            piece = bytes(span)
        elif kind < 0.55:
            piece = rng.randbytes(span)
        elif kind < 0.6:
            piece = bytes([rng.randrange(1, 256)]) * span
        else:
            piece = b" ".join(rng.choices(words, k=span // 4))[:span]
        pieces.append(piece)
        length += len(piece)
    return b"".join(pieces)[:size]


def write_sparse(path: Path, data: bytes, block: int = 4096) -> Path:
    """A raw file with holes where whole blocks are zeros."""
    with path.open("wb") as file:
        for at in range(0, len(data), block):
            piece = data[at : at + block]
            if piece.strip(b"\0"):
                file.seek(at)
                file.write(piece)
        file.truncate(len(data))
    return path
