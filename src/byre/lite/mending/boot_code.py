"""Byre's own boot code: what of it lies in which sector.

The code itself, with what it does and what it can't, is the assembly in ``boot/`` beside this module;
``tools/assemble_boot.py`` made the bytes, and a test holds them to it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from byre.units import SECTOR

CODE_SIZE = 0x1B8
"""Where the disk signature begins: from there on a master boot record is data."""

NTLDR, FREELDR = "NTLDR", "FREELDR.SYS"
SIGNATURE = b"\x55\xaa"

_FOLDER = Path(__file__).parent / "boot"
_VOLUME_CODE = {
    ("ntfs", NTLDR): "ntfs",
    **{(f"fat{bits}", NTLDR): f"fat{bits}" for bits in (12, 16, 32)},
    **{(f"fat{bits}", FREELDR): f"fat{bits}-reactos" for bits in (12, 16, 32)},
}


@cache
def _bytes_of(name: str) -> bytes:
    return (_FOLDER / f"{name}.bin").read_bytes()


MASTER_CODE = _bytes_of("master")
"""The first 440 bytes of a master boot record."""


def with_master_code(sector: bytes) -> bytes:
    """A master boot record with our code; its signature, partitions and 55 AA stay."""
    return MASTER_CODE + sector[CODE_SIZE:510] + SIGNATURE


def volume_code(kind: str, loader: str) -> bytes | None:
    """The boot code for a file system (``ntfs``, ``fat12``, …) and what it is to load, whole sectors, its fields
    zeros; None where there is none."""
    name = _VOLUME_CODE.get((kind, loader))
    return None if name is None else _bytes_of(name)


def with_volume_code(sector: bytes, code: bytes) -> bytes:
    """A volume's boot sector with our code, and the code's further sectors; the file system's fields stay, which lie
    between the jump and where it leads to."""
    begin = code[1] + 2
    return code[:3] + sector[3:begin] + code[begin:SECTOR] + code[SECTOR:]
