"""Byre's boot code as bytes, and the master boot record's under QEMU: the active partition's boot sector starts, told
what a BIOS would tell it."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from builders.boot_disks import take_lba_away
from byre.lite.mending.boot_code import CODE_SIZE, FREELDR, NTLDR, volume_code, with_master_code, with_volume_code
from byre.volumes.boot_code import recognise_master, recognise_volume
from oracles import require_tool

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


def _starts(disk: Path, seconds: float = 240) -> bytes:
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
    disk = _disk(tmp_path / "d.img", _entry(0x80, 63), at=63)
    take_lba_away(disk)
    assert _starts(disk) == b"B\x80\x80?"


@pytest.mark.oracle
def test_nothing_starts_where_no_partition_is_active(tmp_path: Path) -> None:
    assert _starts(_disk(tmp_path / "d.img", _entry(0, 2048), at=2048), seconds=4) == b""


@pytest.mark.oracle
def test_the_bytes_are_what_nasm_makes_of_the_sources_beside_them() -> None:
    require_tool("nasm")
    tool = Path(__file__).parents[2] / "tools" / "assemble_boot.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("kind", ["ntfs", "fat12", "fat16", "fat32"])
@pytest.mark.parametrize("loader", [NTLDR, FREELDR])
def test_what_is_written_to_a_volume_keeps_its_fields_and_is_known_again(kind: str, loader: str) -> None:
    code = volume_code(kind, loader)
    if (kind, loader) == ("ntfs", FREELDR):
        assert code is None
        return
    assert code is not None
    end = {"ntfs": 0x54, "fat32": 0x5A}.get(kind, 0x3E)
    old = bytes(range(256)) * 2
    new = with_volume_code(old, code)
    assert (new[3:end], new[510:512], len(new) % 512) == (old[3:end], b"\x55\xaa", 0)
    known = recognise_volume(new + bytes(512))
    name = "FREELDR" if loader == FREELDR else "NTLDR"
    assert (known.loader, known.known) == (f"Byre's own (byre mend, {name} on {kind.upper()})", True)


def test_the_first_sector_of_code_that_goes_on_is_not_known_without_the_others() -> None:
    code = volume_code("ntfs", NTLDR)
    assert code is not None
    known = recognise_volume(code[:512] + bytes(8192))
    assert known.loader is not None and known.loader.endswith("without its other sectors")
    assert (known.known, recognise_volume(code[:512]).known) == (False, True)


def test_what_is_data_in_the_sector_stays() -> None:
    old = bytes(range(256)) * 2
    new = with_master_code(old)
    assert (len(new), new[CODE_SIZE:510], new[510:]) == (512, old[CODE_SIZE:510], b"\x55\xaa")
    known = recognise_master(new)
    assert (known.loader, known.known, known.hooks) == ("Byre's own (byre mend)", True, False)
