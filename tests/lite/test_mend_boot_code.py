"""Byre's master boot code under QEMU: the active partition's boot sector starts, told what a BIOS would tell it."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from byre.lite.mending.boot_code import CODE_SIZE, MASTER_CODE, with_master_code
from byre.volumes.boot_code import recognise_master
from oracles import require_tool, run_tool

_LOADER = bytes.fromhex(
    "88d3"  # mov bl,dl
    "baf803"  # mov dx,0x3f8: the serial line
    "b042ee"  # 'B'
    "88d8ee"  # the drive that it was told
    "8a04ee"  # the first byte of the entry at DS:SI
    "8a4408ee"  # the partition's first sector, its low byte
    "e6f4"  # out 0xf4,al: QEMU ends
    "f4"  # hlt
)

_WITHOUT_LBA = """
bits 16
org 0x8000
    xor ax,ax
    mov ds,ax
    mov es,ax
    mov ss,ax
    mov sp,0x7c00
    mov si,sp
    mov di,0x8000
    mov cx,256
    rep movsw
    jmp 0:moved
moved:
    mov eax,[0x4c]
    mov [old],eax
    mov word [0x4c],hook
    mov word [0x4e],0
    mov ax,0x0201
    mov bx,0x7c00
    mov cx,2
    mov dh,0
    int 0x13
    jmp 0:0x7c00
hook:
    cmp ah,0x41
    je refuse
    cmp ah,0x42
    je refuse
    jmp far [cs:old]
refuse:
    push bp
    mov bp,sp
    or byte [bp+6],1
    pop bp
    iret
old dd 0
times 510-($-$$) db 0
dw 0xaa55
"""
"""Makes the BIOS one that knows no LBA, then starts the second sector as if it were the first."""


def _entry(active: int, start: int) -> bytes:
    return struct.pack("<B3sB3sII", active, b"\x01\x01\x00", 0x07, b"\xfe\xff\xff", start, 64)


def _disk(path: Path, *entries: bytes, at: int, size: int = 8 << 20) -> Path:
    sector = with_master_code(bytes(CODE_SIZE) + b"\x01\x02\x03\x04\0\0" + b"".join(entries).ljust(66, b"\0"))
    with path.open("wb") as file:
        file.write(sector)
        file.seek(at * 512)
        file.write(_LOADER.ljust(510, b"\0") + b"\x55\xaa")
        file.truncate(size)
    return path


def _starts(disk: Path, seconds: float = 30) -> bytes:
    """What comes over the serial line until QEMU ends, or its time is up."""
    require_tool("qemu-system-x86_64")
    serial = disk.with_suffix(".serial")
    devices = ["-serial", f"file:{serial}", "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    command = ["qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-m", "8", "-display", "none", "-nodefaults"]
    drive = f"file={disk},format=raw,if=ide"
    with subprocess.Popen([*command, *devices, "-drive", drive], stdout=subprocess.DEVNULL) as process:
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
    return serial.read_bytes()


@pytest.mark.oracle
@pytest.mark.parametrize("slot", [0, 1, 3])
def test_the_active_partition_starts_whichever_row_of_the_table_it_has(tmp_path: Path, slot: int) -> None:
    rows = [_entry(0, 2048 + 64 * number) for number in range(4)]
    start = 2048 + 64 * slot
    rows[slot] = _entry(0x80, start)
    assert _starts(_disk(tmp_path / "d.img", *rows, at=start)) == bytes((0x42, 0x80, 0x80, start & 0xFF))


@pytest.mark.oracle
def test_a_partition_beyond_what_chs_reaches_starts(tmp_path: Path) -> None:
    start = 40 << 21  # 40 GiB
    disk = _disk(tmp_path / "d.img", _entry(0x80, start + 7), at=start + 7, size=41 << 30)
    assert _starts(disk) == b"B\x80\x80\x07"


@pytest.mark.oracle
def test_a_bios_without_lba_is_asked_for_the_entry_s_cylinder_head_and_sector(tmp_path: Path) -> None:
    require_tool("nasm")
    source, stage = tmp_path / "stage.asm", tmp_path / "stage.bin"
    source.write_text(_WITHOUT_LBA)
    run_tool("nasm", "-f", "bin", source, "-o", stage)
    disk = _disk(tmp_path / "d.img", _entry(0x80, 63), at=63)
    with disk.open("r+b") as file:
        master = file.read(512)
        file.seek(0)
        file.write(stage.read_bytes() + master)
    assert _starts(disk) == b"B\x80\x80?"


@pytest.mark.oracle
def test_nothing_starts_where_no_partition_is_active(tmp_path: Path) -> None:
    assert _starts(_disk(tmp_path / "d.img", _entry(0, 2048), at=2048), seconds=4) == b""


@pytest.mark.oracle
def test_the_bytes_are_the_instructions_that_their_comments_name(tmp_path: Path) -> None:
    require_tool("ndisasm")
    code = tmp_path / "code"
    code.write_bytes(MASTER_CODE[:0x95])
    rows = run_tool("ndisasm", "-b", "16", "-o", "0x600", code).splitlines()
    said = [" ".join(row.split()[2:]) for row in rows]
    assert said[0] == "cli"
    assert "push dword [di+0x8]" in said
    assert said.count("int 0x13") == 3
    assert not any(row.startswith("db ") for row in said)


def test_what_is_data_in_the_sector_stays() -> None:
    old = bytes(range(256)) * 2
    new = with_master_code(old)
    assert (len(new), new[CODE_SIZE:510], new[510:]) == (512, old[CODE_SIZE:510], b"\x55\xaa")
    known = recognise_master(new)
    assert (known.loader, known.known, known.hooks) == ("Byre's own (byre mend)", True, False)
