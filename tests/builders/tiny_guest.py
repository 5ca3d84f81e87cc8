"""The smallest guest that a run can be tried with: a boot sector that talks on the serial port.

It says ``A`` when it starts, says each key that is typed and writes it into the disk's third sector, and answers the
power button with ``Z`` and a shutdown, as an ACPI system does. Offsets of QEMU's PC: COM1 at 0x3F8, the PIIX4's power
management at 0x600 as SeaBIOS sets it up.
"""

from __future__ import annotations

from pathlib import Path

SECTOR = 512
KEY_SECTOR = 2
"""Where the last key lies, counted from 0."""
_CODE = (
    "fa",  # cli
    "31c0",  # xor ax,ax
    "8ed8",  # mov ds,ax
    "8ec0",  # mov es,ax
    "8ed0",  # mov ss,ax
    "bc007c",  # mov sp,0x7c00
    "fb",  # sti
    "ba0206",  # mov dx,0x602
    "b80001",  # mov ax,0x100
    "ef",  # out dx,ax
    "b041",  # mov al,'A'
    "e82a00",  # call say
    "f4",  # hlt
    "ba0006",  # mov dx,0x600
    "ed",  # in ax,dx
    "f6c401",  # test ah,1
    "752e",  # jnz off
    "b401",  # mov ah,1
    "cd16",  # int 0x16
    "74f0",  # jz loop
    "b400",  # mov ah,0
    "cd16",  # int 0x16
    "e81300",  # call say
    "a2007e",  # mov [0x7e00],al
    "b80103",  # mov ax,0x301
    "bb007e",  # mov bx,0x7e00
    "b90300",  # mov cx,3
    "ba8000",  # mov dx,0x80
    "cd13",  # int 0x13
    "ebd6",  # jmp loop
    "baf803",  # mov dx,0x3f8
    "ee",  # out dx,al
    "50",  # push ax
    "b40e",  # mov ah,0x0e
    "bb0700",  # mov bx,7
    "cd10",  # int 0x10
    "58",  # pop ax
    "c3",  # ret
    "b05a",  # mov al,'Z'
    "e8edff",  # call say
    "ba0406",  # mov dx,0x604
    "b80020",  # mov ax,0x2000
    "ef",  # out dx,ax
    "f4",  # hlt
)


def boot_sector() -> bytes:
    """Its 512 bytes."""
    code = bytes.fromhex("".join(_CODE))
    return code.ljust(510, b"\0") + b"\x55\xaa"


def write_guest(path: Path, size: int = 1 << 20) -> Path:
    """A raw disk with nothing but it."""
    path.write_bytes(boot_sector().ljust(size, b"\0"))
    return path
