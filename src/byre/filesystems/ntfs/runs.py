"""Mapping pairs: the runs of clusters of a non-resident attribute, in their packed form."""

from __future__ import annotations

from byre.errors import CorruptImageError

Run = tuple[int, int, int]
"""``(vcn, lcn, clusters)``; lcn is -1 for a sparse run."""

MAX_CLUSTERS = 1 << 51
"""More than any volume can hold: 2^63 bytes in clusters of 4 KiB."""


def decode_runs(data: bytes, first_vcn: int, clusters: int) -> list[Run]:
    """The runs from mapping pairs; ``clusters`` is how many the volume has.

    Raises CorruptImageError for a run outside the volume, of no length, or cut off. Source: the packed form
    is a byte of two nibbles (bytes of length, bytes of offset), then both numbers, signed, little-endian; the
    offset is relative to the run before.
    """
    runs: list[Run] = []
    position, vcn, lcn = 0, first_vcn, 0
    end = len(data)
    while position < end:
        header = data[position]
        if header == 0:
            return runs
        length_bytes, offset_bytes = header & 15, header >> 4
        middle = position + 1 + length_bytes
        position = middle + offset_bytes
        if not 0 < length_bytes <= 8 or offset_bytes > 8 or position > end:
            raise CorruptImageError("mapping pairs are malformed", found=f"{header:#04x}")
        length = int.from_bytes(data[middle - length_bytes : middle], "little", signed=True)
        if length <= 0 or vcn + length > MAX_CLUSTERS:
            raise CorruptImageError("a run of impossible length", found=length)
        if offset_bytes:
            lcn += int.from_bytes(data[middle:position], "little", signed=True)
            if lcn < 0 or lcn + length > clusters:
                raise CorruptImageError(
                    "a run lies outside the volume", found=f"{lcn}+{length}", expected=f"within {clusters} clusters"
                )
            runs.append((vcn, lcn, length))
        else:
            runs.append((vcn, -1, length))
        vcn += length
    raise CorruptImageError("mapping pairs without an end")
