"""Assembles the boot code that Byre writes: src/byre/lite/mending/boot/*.asm with nasm, into the .bin files beside.

    .venv/bin/python tools/assemble_boot.py

A test holds the .bin files to their sources; volumes/boot_code.py knows them by their digests, which this prints.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "src" / "byre" / "lite" / "mending" / "boot"
BUILDS: dict[str, tuple[str, ...]] = {
    "master": ("master.asm",),
    "ntfs": ("ntfs.asm",),
    **{f"fat{bits}": ("fat.asm", f"-DFAT={bits}") for bits in (12, 16, 32)},
    **{f"fat{bits}-reactos": ("fat.asm", f"-DFAT={bits}", "-DREACTOS") for bits in (12, 16, 32)},
}
"""Name of the .bin file -> its source, and what nasm is told besides."""


def assemble(name: str, target: Path) -> None:
    source, *defines = BUILDS[name]
    subprocess.run(["nasm", "-f", "bin", *defines, "-o", target, FOLDER / source], check=True)


def main() -> None:
    for name in BUILDS:
        target = FOLDER / f"{name}.bin"
        assemble(name, target)
        print(f"{target.name}: {target.stat().st_size} bytes, {hashlib.sha256(target.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    sys.exit(main())
