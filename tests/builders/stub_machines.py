"""Disks that boot under QEMU without an operating system: boot sectors of our own, assembled by nasm.

``message_disk`` prints a text and waits, hangs, resets or goes off; ``stub_disk`` makes a machine look, from outside,
like one that runs an NT kernel: its memory, its picture, its STOP.
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from builders.boot_screens import Canvas, as_planes
from builders.nt_memory import BUG_CHECK_RVA, NtMemory, Spec
from oracles import run_tool

SOURCES = Path(__file__).parent / "machines"
TEXT_AT = 0x80
FIELDS_AT = 0x208
PAYLOAD_AT = 16 * 512
CHUNK = 64 * 512
LARGEST_PAYLOAD = 0x70000
PARTITION_AT = 1 << 20
_THEN = {"spin": 0, "dead": 1, "reset": 2}
_PAGING = {"32bit": 1, "pae": 2, "long": 3}


def message_disk(folder: Path, text: str, then: str = "wait", *, name: str = "message.img") -> Path:
    """A disk of 1 MiB whose boot sector prints ``text``; ``then``: wait, spin, dead, reset, serial or off."""
    sector = folder / "message.bin"
    run_tool("nasm", "-f", "bin", f"-DTHEN={then}", "-o", sector, SOURCES / "message.asm")
    data = bytearray(sector.read_bytes())
    raw = text.replace("\n", "\r\n").encode("ascii") + b"\0"
    assert TEXT_AT + len(raw) <= 510
    data[TEXT_AT : TEXT_AT + len(raw)] = raw
    image = folder / name
    image.write_bytes(bytes(data).ljust(1 << 20, b"\0"))
    return image


@dataclass(frozen=True)
class Stub:
    """A stub machine. ``memory``: what lies in memory; ``canvas``: what is drawn, in 640x480 with 16 colours;
    ``stop``: five values that the running machine stores as its KiBugCheckData; ``then``: spin, dead or reset;
    ``files``: what lies in \\WINDOWS of a FAT partition, by path."""

    memory: Spec | None = None
    canvas: Canvas | None = None
    stop: tuple[int, int, int, int, int] | None = None
    then: str = "spin"
    files: dict[str, bytes] = field(default_factory=dict)


def stub_disk(folder: Path, stub: Stub, *, name: str = "stub.img") -> Path:
    """The stub machine as a raw disk of 4 MiB."""
    stage = folder / "stub.bin"
    run_tool("nasm", "-f", "bin", "-o", stage, SOURCES / "stub_kernel.asm")
    data = bytearray(stage.read_bytes())
    payload = bytearray()
    rows: list[tuple[int, int, int]] = []
    paging = root = poke = 0
    values = (0,) * 5
    if stub.memory is not None:
        memory = NtMemory(stub.memory)
        paging, root = _PAGING[stub.memory.mode], memory.root
        for address, page in memory.pieces():
            kept = page.rstrip(b"\0")
            rows.append((len(payload), address, len(kept)))
            payload += kept.ljust(-(-len(kept) // 16) * 16, b"\0")
        if stub.stop is not None:
            poke, values = memory.kernel + BUG_CHECK_RVA, stub.stop
    planes = 0
    if stub.canvas is not None:
        payload += bytes(-len(payload) % 16 or 16)
        planes = len(payload)
        payload += as_planes(stub.canvas)
    assert len(payload) <= LARGEST_PAYLOAD and len(rows) <= 200
    chunks = -(-len(payload) // CHUNK)
    fields = struct.pack(
        "<HHHHIIQ5QI",
        *(0x12 if stub.canvas is not None else 3, paging, _THEN[stub.then], chunks, planes, root, poke, *values),
        len(rows),
    ) + b"".join(struct.pack("<III", *row) for row in rows)
    data[FIELDS_AT : FIELDS_AT + len(fields)] = fields
    image = folder / name
    with image.open("wb") as file:
        file.write(bytes(data).ljust(PAYLOAD_AT, b"\0") + payload)
        file.truncate(4 << 20)
    if stub.files:
        _add_partition(image, folder, stub.files)
    return image


def _add_partition(image: Path, folder: Path, files: dict[str, bytes]) -> None:
    volume = folder / "volume.fat"
    with volume.open("wb") as file:
        file.truncate(3 << 20)
    run_tool("mkfs.fat", "-F", "12", "-i", "12345678", volume)
    made: set[str] = set()
    for path, content in files.items():
        parts = path.strip("/").split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent not in made:
                run_tool("mmd", "-i", volume, f"::/{parent}")
                made.add(parent)
        source = folder / "content.bin"
        source.write_bytes(content)
        run_tool("mcopy", "-i", volume, source, f"::/{path.strip('/')}")
    entry = struct.pack(
        "<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x01, b"\xfe\xff\xff", PARTITION_AT // 512, (3 << 20) // 512
    )
    with image.open("r+b") as file:
        file.seek(0x1BE)
        file.write(entry)
        file.seek(PARTITION_AT)
        file.write(volume.read_bytes())


def needs_sector(sector: int) -> bytes:
    """Code for a master boot record: the machine prints the first line of that sector of its disk, and stops."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "code.bin")
        run_tool("nasm", "-f", "bin", "-o", made, SOURCES / "prints_sector.asm")
        return made.read_bytes()[:0x88] + struct.pack("<Q", sector)
