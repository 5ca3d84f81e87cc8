"""Disks that start by Byre's own boot code: a partition with a volume, as 'byre mend' would leave it."""

from __future__ import annotations

import struct
from pathlib import Path

from byre.lite.mending.boot_code import NTLDR, volume_code, with_master_code, with_volume_code
from oracles import run_tool

_TYPES = {"ntfs": 0x07, "fat12": 0x01, "fat16": 0x06, "fat32": 0x0C}
_CHUNK = 1 << 20
_WITHOUT_LBA = """
bits 16
cpu 386
org 0x500
        xor     ax, ax
        mov     ds, ax
        mov     es, ax
        mov     ss, ax
        mov     sp, 0x7C00
        mov     si, sp
        mov     di, 0x500
        mov     cx, 128
        rep movsw
        jmp     0:moved
moved:
        mov     eax, [0x4C]
        mov     [old], eax
        mov     word [0x4C], hook
        mov     word [0x4E], 0
        mov     ax, 0x0201
        mov     bx, 0x7C00
        mov     cx, 2
        mov     dh, 0
        int     0x13
        jmp     0:0x7C00
hook:
        cmp     ah, 0x41
        je      refuse
        cmp     ah, 0x42
        je      refuse
        jmp     far [cs:old]
refuse:
        push    bp
        mov     bp, sp
        or      byte [bp + 6], 1
        pop     bp
        iret
old     dd 0
        times 510 - ($ - $$) db 0
        dw 0xAA55
"""
"""Makes the BIOS one that knows no LBA, then starts the second sector as if it were the first."""


def boot_disk(
    path: Path, volume: Path, kind: str, *, start: int = 63, slot: int = 0, loader: str = NTLDR, size: int = 0
) -> Path:
    """A disk with the volume from sector ``start`` on, active, in that row of the table; ``size`` in bytes at least.
    What is zero in the volume is left a hole."""
    code = volume_code(kind, loader)
    assert code is not None
    length = volume.stat().st_size
    entry = struct.pack("<B3sB3sII", 0x80, b"\x01\x01\x00", _TYPES[kind], b"\xfe\xff\xff", start, length // 512)
    rows = [bytes(16)] * 4
    rows[slot] = entry
    path.unlink(missing_ok=True)
    with path.open("wb") as out, volume.open("rb") as source:
        out.write(with_master_code(bytes(440) + b"\x01\x02\x03\x04\0\0" + b"".join(rows) + bytes(2)))
        out.truncate(max(size, start * 512 + length))
        for at in range(0, length, _CHUNK):
            data = source.read(_CHUNK)
            if at == 0:
                fields = bytearray(data[:512])
                struct.pack_into("<I", fields, 0x1C, start)
                written = with_volume_code(bytes(fields), code)
                data = written + data[len(written) :]
            if data.strip(b"\0"):
                out.seek(start * 512 + at)
                out.write(data)
    return path


def take_lba_away(disk: Path) -> None:
    """From here on the disk starts under a BIOS that reads by CHS only; sector 1 must be free."""
    source, stage = disk.with_suffix(".asm"), disk.with_suffix(".stage")
    source.write_text(_WITHOUT_LBA)
    run_tool("nasm", "-f", "bin", source, "-o", stage)
    with disk.open("r+b") as file:
        master = file.read(512)
        file.seek(0)
        file.write(stage.read_bytes() + master)
