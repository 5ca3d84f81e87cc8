"""The images of a chain as disks of their own."""

from __future__ import annotations

from byre.disks.disk import Disk


def layers_of(disk: Disk) -> tuple[Disk, ...]:
    """The disk, its parent, that one's parent and so on: each sees what lies below it, as it did when it was the
    newest. They belong to the disk that was opened, which closes them."""
    found: list[Disk] = []
    current: Disk | None = disk
    while current is not None:
        found.append(current)
        below = getattr(current, "parent", None) or getattr(getattr(current, "source", None), "backing", None)
        current = below if isinstance(below, Disk) else None
    return tuple(found)
