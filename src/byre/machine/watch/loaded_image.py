"""A program or driver as it lies in memory: its headers, its exports, its name. Nothing in it is trusted."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from byre.errors import ByreError
from byre.machine.watch.ram import PAGE
from byre.windows.pe.headers import Headers, parse_headers

LARGEST_IMAGE = 64 << 20
_MOST_EXPORTS = 16384
_LARGEST_DIRECTORY = 1 << 20


class Readable(Protocol):
    """Memory by address: shorter answers where it ends."""

    def read(self, address: int, length: int) -> bytes: ...


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """An image at ``base`` of ``memory``, laid out by RVA as a loader leaves it."""

    memory: Readable
    base: int
    headers: Headers

    @property
    def pointer(self) -> int:
        """Bytes in a pointer of this image."""
        return 8 if self.headers.is_64 else 4

    def at(self, rva: int, length: int) -> bytes:
        return self.memory.read(self.base + rva, length)


def read_loaded_image(memory: Readable, base: int) -> LoadedImage | None:
    """The image whose header page is at ``base``, or None where there is none."""
    page = memory.read(base, PAGE)
    try:
        headers = parse_headers(page, path="memory")
    except ByreError:
        return None
    return LoadedImage(memory, base, headers) if 0 < headers.size_of_image <= LARGEST_IMAGE else None


def export_rvas(image: LoadedImage, wanted: frozenset[str]) -> dict[str, int]:
    """RVAs of the exports of these names; those that aren't there are left out."""
    rva, size = image.headers.directories.get("export", (0, 0))
    if not rva or not 40 <= size <= _LARGEST_DIRECTORY:
        return {}
    blob = image.at(rva, size)
    if len(blob) < 40:
        return {}
    functions, names, function_rva, name_rva, ordinal_rva = struct.unpack_from("<5I", blob, 20)
    if not 0 < names <= _MOST_EXPORTS or not 0 < functions <= _MOST_EXPORTS:
        return {}
    name_table = _column(image, name_rva, names, "<u4")
    ordinals = _column(image, ordinal_rva, names, "<u2")
    addresses = _column(image, function_rva, functions, "<u4")
    found: dict[str, int] = {}
    for name_at, ordinal in zip(name_table, ordinals, strict=False):
        start = name_at - rva
        end = blob.find(b"\0", start, start + 128) if 0 <= start < len(blob) else -1
        if end < 0 or ordinal >= len(addresses):
            continue
        name = blob[start:end].decode("latin-1")
        if name in wanted and addresses[ordinal] < image.headers.size_of_image:
            found[name] = addresses[ordinal]
    return found


def own_name(image: LoadedImage) -> str | None:
    """What the image calls itself: the name in its export directory, or that of its symbol file."""
    rva, size = image.headers.directories.get("export", (0, 0))
    if rva and size >= 40:
        raw = image.at(rva + 12, 4)
        name = _text(image.at(int.from_bytes(raw, "little"), 64)) if len(raw) == 4 else None
        if name:
            return name
    rva, size = image.headers.directories.get("debug", (0, 0))
    for index in range(min(size // 28, 4)):
        raw = image.at(rva + 28 * index, 28)
        if len(raw) < 28:
            break
        kind, length, where = struct.unpack_from("<III", raw, 12)
        if kind == 2 and where:
            view = image.at(where, min(length, 512))
            skip = {b"RSDS": 24, b"NB10": 16}.get(view[:4])
            name = _text(view[skip:]) if skip is not None else None
            if name:
                stem = name.replace("/", "\\").rsplit("\\", 1)[-1]
                return stem[:-4] + ".sys" if stem.lower().endswith(".pdb") else stem
    return None


def image_around(memory: Readable, address: int) -> LoadedImage | None:
    """The loaded image that a virtual address lies in: its header page is looked for downwards."""
    for back in range(LARGEST_IMAGE // PAGE // 4):
        base = address // PAGE * PAGE - back * PAGE
        if base <= 0:
            return None
        if memory.read(base, 2) == b"MZ":
            image = read_loaded_image(memory, base)
            if image is not None and address - base < image.headers.size_of_image:
                return image
    return None


def _column(image: LoadedImage, rva: int, count: int, kind: str) -> list[int]:
    width = int(kind[-1])
    raw = image.at(rva, count * width)
    values: list[int] = np.frombuffer(raw, kind, len(raw) // width).tolist()
    return values


def _text(raw: bytes) -> str | None:
    text, end, _ = raw.partition(b"\0")
    return text.decode("latin-1") if end and len(text) >= 3 and all(32 <= c < 127 for c in text) else None
