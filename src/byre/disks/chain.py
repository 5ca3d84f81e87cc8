"""The chain of images below one, described without opening any image's data."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from byre.disks.context import MAX_CHAIN
from byre.disks.disk import Description
from byre.disks.opening import open_disk
from byre.errors import ByreError


@dataclass(frozen=True, slots=True)
class ChainLink:
    """One image below. ``reason`` says why it can't be opened, or why nothing is known of what it names.

    ``name`` and ``format`` are as the image above says them; ``resolved`` is the file that they mean. Sizes are
    bytes and None where the image couldn't be looked at.
    """

    name: str
    format: str | None
    resolved: str | None = None
    reason: str | None = None
    virtual_size: int | None = None
    actual_size: int | None = None


def describe_chain(
    top: Description,
    *,
    allow_paths: Iterable[str | os.PathLike[str]] = (),
    backing_format: str | None = None,
    parents: Iterable[str | os.PathLike[str]] = (),
) -> tuple[ChainLink, ...]:
    """What lies below ``top``, nearest first. Raises nothing: the last link says what stood in the way."""
    links: list[ChainLink] = []
    seen: set[tuple[int, int]] = set()
    backing = top.backing
    allowed, found_in = tuple(allow_paths), tuple(parents)
    while backing is not None:
        link = ChainLink(name=backing.name, format=backing.format, resolved=backing.resolved, reason=backing.reason)
        links.append(link)
        if link.resolved is None or link.reason is not None:
            break
        stated = link.format or backing_format
        if stated is None:
            # Probing would trust what a guest may have written into a raw disk.
            links[-1] = _because(link, "the image above doesn't state its format; --backing-format says it")
            break
        try:
            status = Path(link.resolved).stat()
            if (status.st_dev, status.st_ino) in seen or len(links) > MAX_CHAIN:
                links[-1] = _because(link, "the chain loops" if len(links) <= MAX_CHAIN else "the chain is too long")
                break
            seen.add((status.st_dev, status.st_ino))
            with open_disk(
                Path(link.resolved),  # not text: an @ in the name is no snapshot
                format=stated,
                allow_paths=allowed,
                backing_format=backing_format,
                parents=found_in,
                with_backing=False,
                force_share=True,
            ) as disk:
                below = disk.describe()
                links[-1] = ChainLink(
                    link.name, stated, link.resolved, None, below.virtual_size, disk.files[0].allocated
                )
        except ByreError as error:
            links[-1] = _because(link, error.what)
            break
        except OSError as error:
            links[-1] = _because(link, error.strerror or str(error))
            break
        backing = below.backing
    return tuple(links)


def _because(link: ChainLink, reason: str) -> ChainLink:
    return ChainLink(link.name, link.format, link.resolved, reason)
