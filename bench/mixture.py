"""The bench's own disk contents: the same bytes for the same size and seed, on every machine.

Shaped like the system disk of a small machine: noise (archives, pictures), text, records with much in common
(logs, indexes, programs), zeros that were written, and stretches that never were.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

PIECE = 4 << 20
_SHARES = (("noise", 0.20), ("text", 0.31), ("records", 0.29), ("zeros", 0.06), ("hole", 0.14))


def write_mixture(path: Path, data_bytes: int, seed: int = 1) -> int:
    """Write a raw disk with about ``data_bytes`` of data (written zeros included); returns its size in bytes."""
    rng = np.random.Generator(np.random.PCG64(seed))
    words = [rng.integers(97, 123, rng.integers(2, 11), dtype=np.uint8).tobytes() + b" " for _ in range(6000)]
    names, shares = zip(*_SHARES, strict=True)
    written = offset = 0
    with path.open("wb") as file:
        while written < data_bytes:
            span = int(rng.integers(1, 65)) * (64 << 10)  # 64 KiB to 4 MiB
            kind = names[int(rng.choice(len(names), p=shares))]
            if kind != "hole":
                file.seek(offset)
                file.write(_piece(kind, span, rng, words))
                written += span
            offset += span
        size = -(-offset // (1 << 20)) * (1 << 20)
        file.truncate(size)
    return size


def _piece(kind: str, span: int, rng: np.random.Generator, words: list[bytes]) -> bytes:
    if kind == "noise":
        return rng.bytes(span)
    if kind == "zeros":
        return bytes(span)
    if kind == "text":
        chosen = (rng.pareto(0.9, span // 4) * 40).astype(np.int64) % len(words)  # few words make most of a text
        return b"".join([words[index] for index in chosen.tolist()])[:span].ljust(span, b" ")
    rows = np.zeros((span // 64, 16), dtype="<u4")
    rows[:, 0] = np.arange(len(rows))
    rows[:, 1] = rng.integers(0, 1 << 32, dtype=np.uint32)
    rows[:, 2:8] = rng.integers(0, 1 << 12, (len(rows), 6))
    rows[:, 8] = rng.integers(0, 1 << 32, len(rows), dtype=np.uint32)
    rows[:, 12:] = rng.integers(0, 3, (len(rows), 4))
    return rows.tobytes().ljust(span, b"\0")


if __name__ == "__main__":
    write_mixture(Path(sys.argv[1]), int(sys.argv[2]))
