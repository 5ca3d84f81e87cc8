"""A qcow2 image with VM state in a snapshot, saved by a real QEMU that never boots anything."""

from __future__ import annotations

import subprocess
from pathlib import Path

from builders.qemu import qemu_img
from oracles import require_tool


def save_vm(folder: Path, name: str = "running") -> Path:
    """A tiny image whose snapshot ``name`` holds the state of a stopped machine."""
    require_tool("qemu-system-x86_64")
    image = folder / "vm.qcow2"
    qemu_img("create", "-f", "qcow2", image, "4M")
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg", "-m", "2", "-S"]
    command += ["-drive", f"file={image},format=qcow2,if=ide", "-monitor", "stdio"]
    done = subprocess.run(command, input=f"savevm {name}\nquit\n", capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    return image
