"""Assembles the boot code that Byre writes: src/byre/lite/mending/boot/*.asm with nasm, into the .bin files beside.

    .venv/bin/python tools/assemble_boot.py            # and prints the digests for volumes/boot_code.py
    .venv/bin/python tools/assemble_boot.py --check    # status 1 where a .bin file isn't what its source makes

A test runs the check.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

SECTOR = 512
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


def digests(code: bytes) -> str:
    """What volumes/boot_code.py knows it by: the code without the fields between, and what lies behind the sector."""
    if len(code) < SECTOR:
        return hashlib.sha256(code).hexdigest()
    first = hashlib.sha256(code[:3] + code[code[1] + 2 : 0x1FE]).hexdigest()
    return first + (f" {len(code) - SECTOR} {hashlib.sha256(code[SECTOR:]).hexdigest()}" if code[SECTOR:] else "")


def main() -> int:
    other = 0
    for name in BUILDS:
        target = FOLDER / f"{name}.bin"
        if "--check" in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as folder:
                made = Path(folder) / target.name
                assemble(name, made)
                if made.read_bytes() != target.read_bytes():
                    print(f"{target} isn't what its source makes")
                    other = 1
        else:
            assemble(name, target)
            print(f"{target.name} {digests(target.read_bytes())}")
    return other


if __name__ == "__main__":
    sys.exit(main())
