"""Loaders to be started under QEMU: they look about them, add up their own bytes, and say what they found."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from oracles import require_tool, run_tool

_SOURCE = """
bits 16
cpu 386
start:
        mov     bx, sp
        call    .here
.here:  pop     si
        sub     si, .here - start       ; where we were entered
        mov     di, dx
        mov     dx, 0xE9                ; QEMU's debug console
        mov     al, 'B'
        out     dx, al
        mov     ax, cs
        call    word_out
        mov     ax, si
        call    word_out
        mov     ax, ds
        call    word_out
        mov     ax, es
        call    word_out
        mov     ax, ss
        call    word_out
        mov     ax, bx
        call    word_out
        mov     ax, di
        call    word_out
        xor     ax, ax
        mov     ds, ax
        mov     ax, [0x7C1C]
        call    word_out
        mov     ax, [0x7C1E]
        call    word_out
        mov     ax, [0x7DFE]
        call    word_out
        mov     ax, cs                  ; from the segment in which we lie at 0
        shr     si, 4
        add     ax, si
        mov     ecx, LENGTH / 16
        xor     ebx, ebx
.next:  mov     ds, ax
        add     ebx, [0]
        add     ebx, [4]
        add     ebx, [8]
        add     ebx, [12]
        inc     ax
        dec     ecx
        jnz     .next
        push    ebx
        pop     ax
        call    word_out
        pop     ax
        call    word_out
        mov     al, 1
        out     0xF4, al                ; QEMU ends
        hlt
word_out:
        out     dx, al
        mov     al, ah
        out     dx, al
        ret
"""
_FIELDS = struct.Struct("<c10HI")
FOUND_SIZE = _FIELDS.size
_ESCAPES = re.compile(rb"\x1b\[[0-9;]*[A-Za-z]|\x1bc")


@dataclass(frozen=True)
class Started:
    """What a loader found. ``entry``: segment and offset; ``sum``: 0 where every byte was loaded."""

    entry: tuple[int, int]
    segments: tuple[int, int, int]
    stack: int
    drive: int
    hidden: int
    signature: int
    sum: int


def build_loader(size: int, folder: Path) -> bytes:
    """A loader of ``size`` bytes, a multiple of 16, whose dwords add up to 0."""
    source, target = folder / "loader.asm", folder / "loader.bin"
    source.write_text(_SOURCE)
    run_tool("nasm", "-f", "bin", f"-DLENGTH={size}", source, "-o", target)
    code = target.read_bytes()
    body = code + random.Random(size).randbytes(size - 4 - len(code))
    total = sum(struct.unpack(f"<{size // 4 - 1}I", body)) & 0xFFFFFFFF
    return body + struct.pack("<I", -total & 0xFFFFFFFF)


def start(disk: Path, said: str | None = None, *, seconds: float = 300, form: str = "raw") -> Started | str:
    """What the loader of a disk found; where none starts, what stands on the screen, which is waited for to be
    ``said``, or until the time is up."""
    require_tool("qemu-system-x86_64")
    console, screen = disk.with_suffix(".console"), disk.with_suffix(".screen")
    for path in (console, screen):
        path.unlink(missing_ok=True)
    machine = ["-M", "pc,graphics=off,accel=tcg", "-m", "8", "-display", "none", "-nodefaults", "-no-reboot"]
    devices = ["-debugcon", f"file:{console}", "-serial", f"file:{screen}"]
    ends = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
    drive = ["-snapshot", "-drive", f"file={disk},format={form},if=ide"]
    command = ["qemu-system-x86_64", *machine, *devices, *ends, *drive]
    deadline = time.monotonic() + seconds
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            while process.poll() is None and time.monotonic() < deadline and (said is None or _text(screen) != said):
                time.sleep(0.05)
            ended = process.poll()
        finally:
            process.kill()
        # Nobody but this test ends it: a QEMU that dies is no loader that doesn't start.
        assert ended is None or ended >= 0, f"signal {-ended}: {process.stderr.read() if process.stderr else b''!r}"
    found = _read(console)
    return parse_found(found) if len(found) == FOUND_SIZE else _text(screen)


def parse_found(found: bytes) -> Started:
    """From what the loader wrote to the debug console."""
    _, cs, ip, ds, es, ss, sp, dx, low, high, signature, total = _FIELDS.unpack(found)
    return Started((cs, ip), (ds, es, ss), sp, dx, low | high << 16, signature, total)


def _text(screen: Path) -> str:
    """What was written after the firmware's own lines."""
    text = _ESCAPES.sub(b"", _read(screen)).decode("latin-1")
    return text.rpartition("Booting from Hard Disk...")[2].strip()


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
