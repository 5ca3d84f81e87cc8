"""Content that looks like another format than what it is read as, said aloud and never acted upon."""

from __future__ import annotations

from byre.disks.disk import Disk
from byre.disks.formats import RAW, Format, format_for_suffix, probe
from byre.disks.layers import layers_of
from byre.errors import ByreError, UsageError
from byre.storage.base import Storage


def ambiguities(disk: Disk, *, format: str | None) -> tuple[str, ...]:
    """One sentence for each file of the open disk whose bytes and name, or stated format, disagree.

    ``format`` is what the user said, None where the image was recognised by its bytes. A guest can write any
    header into a raw disk, so a raw image or extent that begins like a container stays raw where it was stated.
    """
    said: list[str] = []
    top = disk.files[0]
    named = format_for_suffix(top.name)
    if format is None and named is RAW and disk.format != "raw":
        said.append(
            f"{top.name}: named like a raw disk, but there is a {disk.format} header inside, so it is read as "
            f"{disk.format}; if a guest may have written that, say -f raw"
        )
    for depth, layer in enumerate(layers_of(disk)):
        for storage in _raw_files(layer):
            if depth == 0 and storage is top and format is None:
                continue  # it was probed: nothing was recognised
            found = _recognised(storage)
            if found is not None:
                what = "it was stated" if depth == 0 and storage is top else "the image above states"
                said.append(
                    f"{storage.name}: read as raw, as {what}, though it begins or ends like {found}; its bytes are "
                    "the guest's own"
                )
    return tuple(said)


def _raw_files(layer: Disk) -> tuple[Storage, ...]:
    """The files of one layer whose bytes are the guest's: a raw image, the flat extents of a VMDK."""
    if layer.format == "raw":
        return layer.files[:1]
    parts = getattr(layer, "parts", ())
    flat = [part.storage for part in parts if getattr(part, "kind", "") == "FLAT" and part.storage is not None]
    return tuple(flat)


def _recognised(storage: Storage) -> str | None:
    try:
        found: Format = probe(storage)
    except UsageError:
        return "several formats"
    except ByreError:
        return None
    return None if found is RAW else found.title
