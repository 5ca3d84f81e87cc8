"""The numbers that a conversion reports are those of the image that it made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from byre.cli.main import main

MIB = 1 << 20
TAIL = 3 * 512
SIZE = 20 * MIB + TAIL
STORED = MIB + 8 * 65536
"""A mebibyte of noise, and 500,000 bytes of it at 5 MiB: whole pieces of 64 KiB are stored."""


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file without holes, mostly zeros, whose last block is shorter than any format's."""
    noise = np.random.default_rng(61)
    content = bytearray(SIZE)
    content[:MIB] = noise.bytes(MIB)
    content[5 * MIB : 5 * MIB + 500_000] = noise.bytes(500_000)
    path = tmp_path_factory.mktemp("full") / "full.raw"
    path.write_bytes(content)
    return path


def converted(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    assert main(["convert", *map(str, arguments), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def mapped(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, int]:
    """Stored bytes of each kind, of the image's own files."""
    assert main(["map", str(path), "--json"]) == 0
    totals: dict[str, int] = {}
    for row in json.loads(capsys.readouterr().out)["extents"]:
        if row["depth"] == 0:
            totals[row["kind"]] = totals.get(row["kind"], 0) + row["stored"]
    return totals


KINDS = [
    ("qcow2", ""),
    ("vmdk", ""),
    ("vmdk", "twoGbMaxExtentSparse"),
    ("vmdk", "monolithicFlat"),
    ("raw", ""),
    ("vdi", ""),
    ("vhd", ""),
    ("vhdx", ""),
    ("vmdk", "streamOptimized"),
]


@pytest.mark.parametrize(("format", "subformat"), KINDS)
def test_what_was_read_is_what_was_stored_and_what_was_zeros(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str, subformat: str
) -> None:
    options = ["-o", f"subformat={subformat}"] if subformat else []
    done = converted(capsys, full, tmp_path / f"out.{format}", *options)
    assert done["bytes_read"] == SIZE
    assert done["zero_bytes_found"] == SIZE - STORED
    took = sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir())
    assert done["actual_size"] == took
    totals = mapped(capsys, tmp_path / f"out.{format}")
    if subformat == "streamOptimized":
        assert done["bytes_written"] == totals["compressed"]
    else:
        assert done["bytes_written"] == STORED
        # Blocks of a mebibyte and more are mapped whole.
        block = {"vdi": MIB, "vhd": 2 * MIB, "vhdx": 2 * MIB}.get(format)
        assert totals["data"] == (STORED if block is None else 2 * block)


def test_zeros_are_counted_only_where_they_were_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A page of zeros in a hole of 64 KiB: the block is looked at for 4,096 bytes' sake."""
    path = tmp_path / "holes.raw"
    with path.open("wb") as file:
        file.truncate(4 * MIB)
        file.seek(MIB)
        file.write(bytes(4096))
    done = converted(capsys, path, tmp_path / "out.qcow2")
    assert (done["bytes_read"], done["zero_bytes_found"], done["bytes_written"]) == (4096, 4096, 0)


@pytest.mark.parametrize(("compress", "kind"), [("zlib", "compressed"), ("zstd", "compressed")])
def test_compressed_bytes_are_those_of_the_streams(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], compress: str, kind: str
) -> None:
    path = tmp_path / "text.raw"
    path.write_bytes(b"what compresses well, and isn't zeros\n" * (4 * MIB // 38))
    done = converted(capsys, path, tmp_path / "out.qcow2", "--compress", compress)
    totals = mapped(capsys, tmp_path / "out.qcow2")
    clusters = -(-path.stat().st_size // 65536)
    assert totals[kind] - 512 * clusters <= done["bytes_written"] <= totals[kind]


@pytest.mark.parametrize("format", ["vdi", "vhd", "vhdx", "vmdk"])
def test_a_chains_numbers_are_the_sums_of_its_files(
    full: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    image = tmp_path / "disk.qcow2"
    converted(capsys, full, image)
    assert main(["snapshot", "create", str(image), "one"]) == 0
    from byre.disks.opening import open_disk

    with open_disk(image, writable=True) as disk:
        disk.write(9 * MIB + 5, b"changed")  # type: ignore[attr-defined]
    capsys.readouterr()
    done = converted(capsys, image, tmp_path / "chain", "-O", format, "--with-snapshots")
    files = sorted((tmp_path / "chain").glob(f"*.{format}"))
    assert len(files) == 2 and done["snapshots"] == 1
    assert done["actual_size"] == sum(path.stat().st_blocks * 512 for path in files)
    block = {"vdi": MIB, "vhd": 2 * MIB, "vhdx": 2 * MIB, "vmdk": 65536}[format]
    assert done["bytes_written"] == STORED + block
    assert mapped(capsys, files[1])["data"] == block
