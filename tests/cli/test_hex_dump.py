"""Hex dumps: what a dump row by row would say, without reading what isn't there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from byre.cli.hex_dump import hex_dump
from byre.cli.main import main
from byre.disks.opening import open_disk
from oracles import run_tool

HOLE = 1 << 16


def by_rows(data: bytes, start: int) -> list[str]:
    """The dump as its definition says: each row, but for those like the one above it, the last one always."""
    lines: list[str] = []
    rows = [data[at : at + 16] for at in range(0, len(data), 16)]
    for number, row in enumerate(rows):
        if number and row == rows[number - 1] and number < len(rows) - 1:
            if lines[-1] != "*":
                lines.append("*")
            continue
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        shown = f"{row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}"
        lines.append(f"{start + number * 16:012x}  {shown}  |{text}|")
    return lines


@pytest.fixture
def holey(tmp_path: Path) -> Path:
    """Holes, data that is zeros, runs of one byte and noise, at odd places."""
    rng = random.Random(11)
    path = tmp_path / "holey.raw"
    with path.open("wb") as file:
        for _ in range(12):
            file.seek(rng.randrange(0, 2 * HOLE), 1)
            kind = rng.randrange(4)
            length = rng.randrange(1, 3000)
            file.write([bytes(length), b"\xaa" * length, rng.randbytes(length), bytes(HOLE)][kind])
        file.truncate(file.tell() + 3 * HOLE + 5)
    return path


def test_a_dump_says_what_one_row_by_row_says(holey: Path) -> None:
    data = holey.read_bytes()
    rng = random.Random(12)
    with open_disk(str(holey)) as disk:
        ranges = [(0, disk.size), (0, 0), (disk.size, disk.size), (7, disk.size - 3)]
        ranges += [(0, length) for length in (1, 15, 16, 17, 32, 33, 48)]
        for _ in range(60):
            start = rng.randrange(disk.size)
            ranges.append((start, rng.randint(start, min(disk.size, start + rng.choice((64, 9000, 400_000))))))
        for start, stop in ranges:
            whole = data[start:stop].ljust(stop - start, b"\0")
            assert list(hex_dump(disk, start, stop)) == by_rows(whole, start), (start, stop)


def test_a_hole_is_told_without_reading_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "huge.raw"
    with path.open("wb") as file:
        file.write(b"\1" * 16)
        file.truncate(1 << 40)
    with open_disk(str(path)) as disk:
        read = disk.read
        counted: list[int] = []

        def counting(offset: int, length: int) -> bytes:
            counted.append(length)
            assert sum(counted) <= 1 << 20
            return read(offset, length)

        monkeypatch.setattr(disk, "read", counting)
        lines = list(hex_dump(disk, 0, 1 << 40))
        assert counted
    assert [line[:12] for line in lines] == ["000000000000", "000000000010", "*", "00fffffffff0"]


def test_a_file_of_a_hole_is_a_hole(tmp_path: Path) -> None:
    image, piece = tmp_path / "huge.qcow2", tmp_path / "piece.raw"
    assert main(["create", str(image), "1T"]) == 0
    assert main(["read", str(image), "512", str((1 << 36) + 1), "-o", str(piece)]) == 0
    assert piece.stat().st_size == (1 << 36) + 1
    assert piece.stat().st_blocks * 512 <= 1 << 20


@pytest.mark.oracle
def test_rows_are_those_of_hexdump(holey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    length = holey.stat().st_size // 16 * 16
    piece = tmp_path / "piece"
    assert main(["read", str(holey), "0", str(length), "-o", str(piece)]) == 0
    seen = run_tool("hexdump", "-C", piece)
    capsys.readouterr()
    assert main(["read", str(holey), "0", str(length), "--hex"]) == 0
    ours = capsys.readouterr().out.splitlines()
    # hexdump says the length at the end instead of the last row where that is like the one above it.
    theirs = {line[10:] for line in seen.splitlines() if line.endswith("|")}
    assert {line[14:] for line in ours if line != "*"} == theirs
