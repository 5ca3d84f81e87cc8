"""Disks started under Bochs: another processor (a Pentium) and other BIOSes than QEMU's."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from builders.boot_loaders import FOUND_SIZE, Started, parse_found
from oracles import require_tool

BIOSES = ("BIOS-bochs-latest", "BIOS-bochs-legacy")
_FOLDER, _VIDEO = "/usr/share/bochs", "/usr/share/vgabios/vgabios.bin"
_SETTINGS = """\
display_library: rfb, options="timeout=0"
romimage: file={folder}/{bios}
vgaromimage: file={video}
cpu: model=pentium, ips=50000000
megs: 32
boot: disk
ata0-master: type=disk, path="{disk}", mode=flat, cylinders={cylinders}, heads=16, spt=63
port_e9_hack: enabled=1
log: {log}
panic: action=fatal
"""
_CYLINDER = 16 * 63 * 512


def start_in_bochs(disk: Path, bios: str, seconds: float = 240) -> Started | bytes:
    """What the loader of a raw disk found, or else the end of what Bochs said. The disk grows to whole cylinders."""
    for tool in ("bochs", f"{_FOLDER}/{bios}", _VIDEO):
        require_tool(tool)
    cylinders = -(-disk.stat().st_size // _CYLINDER)
    os.truncate(disk, cylinders * _CYLINDER)
    settings, commands, said = (disk.with_suffix(f".{each}") for each in ("bochsrc", "commands", "said"))
    log = disk.with_suffix(".log")
    fields = {"folder": _FOLDER, "video": _VIDEO, "bios": bios, "disk": disk, "cylinders": cylinders, "log": log}
    settings.write_text(_SETTINGS.format(**fields))
    commands.write_text("c\n")  # Debian's Bochs has the debugger built in: it waits to be told to go on
    command = ["bochs", "-q", "-f", settings, "-rc", commands]
    deadline = time.monotonic() + seconds
    found = b""
    with said.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None and time.monotonic() < deadline and len(found) < FOUND_SIZE:
                time.sleep(0.05)
                found = _found(said.read_bytes())
        finally:
            process.kill()
            process.wait()
    found = _found(said.read_bytes())  # it may have ended by itself since it was looked at
    return parse_found(found) if len(found) == FOUND_SIZE else said.read_bytes()[-500:]


def _found(said: bytes) -> bytes:
    """What was written to the debug console, which Bochs mixes with its own lines: 'B' and the segment."""
    at = said.find(b"B\x00\x20\x00\x00")
    return said[at : at + FOUND_SIZE] if at >= 0 else b""
