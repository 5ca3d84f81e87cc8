"""Changes the backing image that a header names, so that a cut leaves the old name or the new one.

Name, pointer and format have to change together, and only one sector is written whole or not at all. So the new
name goes to free space of the header's cluster first; then the first sector, with the pointer to it and every
extension that matters, switches; then extensions that only inform (feature names) come back behind.
"""

from __future__ import annotations

from dataclasses import replace

from byre.disks.qcow2.header import (
    EXT_BACKING_FORMAT,
    EXT_FEATURE_NAMES,
    MAX_BACKING_NAME,
    V2_LENGTH,
    Extension,
    Header,
    read_header,
)
from byre.errors import UnsupportedError, UsageError
from byre.storage.base import Storage
from byre.units import SECTOR, align_up


def change_backing(storage: Storage, name: str | None, format: str | None) -> Header:
    """Let the image name ``name`` (None: no backing image) of this format; returns the header as it is then."""
    header = read_header(storage)
    encoded = None if name is None else name.encode("utf-8", "surrogateescape")
    if encoded is not None and not 0 < len(encoded) <= MAX_BACKING_NAME:
        raise UsageError("the name of a backing image has 1 to 1023 bytes", path=storage.name, found=len(encoded))
    extensions = [entry for entry in header.extensions if entry.type != EXT_BACKING_FORMAT]
    if encoded is not None and format is not None:
        extensions.insert(0, Extension(EXT_BACKING_FORMAT, format.encode()))
    after = replace(header, backing_file=encoded, extensions=tuple(extensions))
    packed = after.pack()
    if len(packed) <= SECTOR:
        storage.write(0, packed.ljust(min(SECTOR, header.cluster_size), b"\0"))
        storage.flush()
        return after
    _change_in_steps(storage, header, after)
    return after


def _change_in_steps(storage: Storage, before: Header, after: Header) -> None:
    needed = tuple(entry for entry in after.extensions if entry.type != EXT_FEATURE_NAMES)
    names = tuple(entry for entry in after.extensions if entry.type == EXT_FEATURE_NAMES)
    first = replace(after, extensions=needed, backing_file=None).pack()
    whole = replace(after, extensions=needed + names, backing_file=None).pack()
    if len(first) > SECTOR:
        raise UnsupportedError(
            "the header's extensions don't fit into its first sector, so the name can't be changed safely",
            path=storage.name,
            found=f"{len(first)} bytes",
            expected=f"at most {SECTOR}",
            hint="Convert the image instead.",
        )
    name = after.backing_file or b""
    place = _free_place(storage, before, len(whole), len(name)) if name else 0
    if name:
        storage.write(place, name)
        storage.flush()
    storage.write(0, _pointing(first, place, len(name)).ljust(SECTOR, b"\0"))
    storage.flush()
    if names:
        pointed = _pointing(whole, place, len(name))
        storage.write(SECTOR, pointed[SECTOR:] + b"")
        storage.flush()
        storage.write(0, pointed[:SECTOR].ljust(SECTOR, b"\0"))
        storage.flush()


def _free_place(storage: Storage, before: Header, whole: int, length: int) -> int:
    """Where in the first cluster a name fits that overlaps neither the old header and name nor the new header."""
    old_place = int.from_bytes(storage.read(8, 8), "big")
    old_length = int.from_bytes(storage.read(16, 4), "big")
    old_extensions = len(replace(before, backing_file=None).pack())
    start = max(SECTOR, align_up(max(whole, old_extensions), 8))
    candidates = [start, align_up(max(start, old_place + old_length), 8)]
    for place in candidates:
        apart = place + length <= old_place or place >= old_place + old_length
        if place + length <= before.cluster_size and (apart or not old_place):
            return place
    raise UnsupportedError(
        "the header's cluster has no room for another backing name beside the old one",
        path=storage.name,
        found=f"{length} bytes",
        hint="Use a shorter name, or convert the image.",
    )


def _pointing(packed: bytes, place: int, length: int) -> bytes:
    """The header's bytes with this place and length of the backing name."""
    assert len(packed) >= V2_LENGTH
    return packed[:8] + place.to_bytes(8, "big") + length.to_bytes(4, "big") + packed[20:]
