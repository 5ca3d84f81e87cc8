"""Cylinders, heads and sectors as a VHD states them, and which size a VHD's writer meant."""

from __future__ import annotations

from dataclasses import dataclass

from byre.units import GIB, SECTOR

MAX_SIZE = 2040 * GIB
"""The format's limit; Windows enforces it."""
MAX_CHS_SECTORS = 65535 * 16 * 255

_GEOMETRY_CREATORS = (b"vpc ", b"qemu")
"""Virtual PC shows its guests a disk of cylinders x heads x sectors, and old QEMU did as it does. Everyone else
(Hyper-V ``win ``, disk2vhd ``d2v ``, XenServer ``tap``, XenConverter ``CTXS``, Azure ``wa``, VirtualBox ``vbox``,
QEMU with force_size ``qem2``) means the current size."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """Cylinders, heads and sectors a track, as the footer states them."""

    cylinders: int
    heads: int
    sectors: int

    @property
    def total(self) -> int:
        """Sectors of 512 bytes."""
        return self.cylinders * self.heads * self.sectors


def geometry_for(sectors: int) -> Geometry:
    """The geometry of a disk of so many sectors: the CHS calculation of the VHD specification's appendix.

    Rounds down: the product is at most ``sectors``.
    """
    sectors = min(sectors, MAX_CHS_SECTORS)
    if sectors >= 65535 * 16 * 63:
        return Geometry(sectors // 255 // 16, 16, 255)
    per_track = 17
    tracks = sectors // per_track
    heads = max(4, (tracks + 1023) // 1024)
    if tracks >= heads * 1024 or heads > 16:
        per_track, heads = 31, 16
        tracks = sectors // per_track
    if tracks >= heads * 1024:
        per_track, heads = 63, 16
        tracks = sectors // per_track
    return Geometry(tracks // heads, heads, per_track)


def rounded_up(sectors: int) -> tuple[int, Geometry]:
    """The smallest disk that holds ``sectors`` and is exactly its geometry, as Virtual PC and QEMU make them;
    beyond the largest geometry the size itself."""
    if sectors > MAX_CHS_SECTORS:
        return sectors, geometry_for(sectors)
    wanted = sectors
    while True:
        geometry = geometry_for(wanted)
        if geometry.total >= sectors:
            return geometry.total, geometry
        wanted += 1  # at most one cylinder: 4080 steps


def believed_size(creator: bytes, current_size: int, geometry: Geometry) -> tuple[int, str]:
    """``(bytes, rule)``: the size of the disk that the image's writer meant and whether ``geometry`` or
    ``current-size`` said so."""
    if creator in _GEOMETRY_CREATORS and 0 < geometry.total < MAX_CHS_SECTORS:
        return geometry.total * SECTOR, "geometry"
    return current_size, "current-size"
