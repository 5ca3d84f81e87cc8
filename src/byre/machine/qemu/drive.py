"""The boot disk as QEMU's block nodes: a file, a chain of files, an overlay over them, our own NBD server. Pure.

Every node is named and every file spelled out: QEMU follows no name that stands inside an image (``backing`` is set
for every qcow2), so what an image's author wrote there opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DRIVERS = {"raw": "raw", "qcow2": "qcow2", "vdi": "vdi", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx"}
"""QEMU's names for our formats."""


@dataclass(frozen=True, slots=True)
class Drive:
    """``nodes`` are arguments of ``-blockdev``, the lowest first; ``top`` is the node that the disk is made of."""

    nodes: tuple[Mapping[str, Any], ...]
    top: str
    writable: bool = False


def chain_drive(files: tuple[tuple[Path, str], ...], *, writable: bool = False) -> Drive:
    """A disk of files (path, format), the topmost first. Only the topmost is written to, and only if ``writable``."""
    nodes: list[Mapping[str, Any]] = []
    below: str | None = None
    for depth in range(len(files) - 1, -1, -1):
        path, format = files[depth]
        changes = writable and depth == 0
        node: dict[str, Any] = {
            "node-name": f"disk{depth}",
            "driver": DRIVERS[format],
            "read-only": not changes,
            "file": {
                "driver": "file",
                "filename": str(path),
                "node-name": f"file{depth}",
                "read-only": not changes,
                "auto-read-only": False,
            },
        }
        if changes:
            node["discard"] = node["file"]["discard"] = "unmap"
        if format == "qcow2":
            node["backing"] = below
        nodes.append(node)
        below = f"disk{depth}"
    return Drive(tuple(nodes), "disk0", writable)


def nbd_drive(socket: Path) -> Drive:
    """A disk that our own NBD server hands out read-only on a Unix socket."""
    server = {"type": "unix", "path": str(socket)}
    return Drive(({"node-name": "served", "driver": "nbd", "server": server, "read-only": True},), "served")


def overlay_drive(overlay: Path, below: Drive) -> Drive:
    """A writable qcow2 over another disk, which is never written."""
    node = {
        "node-name": "overlay",
        "driver": "qcow2",
        "backing": below.top,
        "discard": "unmap",
        "cache": {"no-flush": True},  # nothing of it is to last, so nothing has to be safe
        "file": {
            "driver": "file",
            "filename": str(overlay),
            "node-name": "overlayfile",
            "discard": "unmap",
            "cache": {"no-flush": True},
        },
    }
    return Drive((*below.nodes, node), "overlay", writable=True)
