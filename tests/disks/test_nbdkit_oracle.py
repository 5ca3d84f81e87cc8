"""nbdkit as a second reader. It knows none of our formats, but a flat disk is raw bytes in one or more files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from builders.mixture import mixture, write_sparse
from byre.cli.main import main
from byre.disks.opening import open_disk

pytestmark = pytest.mark.oracle
SIZE = (9 << 20) + 7 * 512


def served(tmp_path: Path, *arguments: str) -> bytes:
    """The disk that an nbdkit with this plugin serves; it ends with the copy."""
    copy = tmp_path / "served.raw"
    command = ["nbdkit", "--exit-with-parent", "-U", "-", *arguments, "--run", f'nbdcopy "$uri" "{copy}"']
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return copy.read_bytes()


def test_the_flat_extent_that_byre_writes_is_the_disk(tmp_path: Path) -> None:
    content = mixture(SIZE, 81)
    raw = write_sparse(tmp_path / "disk.raw", content)
    assert main(["convert", str(raw), str(tmp_path / "d.vmdk"), "-o", "subformat=monolithicFlat"]) == 0
    assert served(tmp_path, "file", str(tmp_path / "d-flat.vmdk")) == raw.read_bytes()


def test_the_fixed_vhd_that_byre_writes_begins_with_the_disk(tmp_path: Path) -> None:
    raw = write_sparse(tmp_path / "disk.raw", mixture(SIZE, 82))
    assert main(["convert", str(raw), str(tmp_path / "d.vhd"), "-o", "subformat=fixed"]) == 0
    found = served(tmp_path, "--filter=offset", "file", str(tmp_path / "d.vhd"), "offset=0", f"range={SIZE}")
    assert found == raw.read_bytes()


def test_flat_pieces_are_read_as_nbdkit_joins_them(tmp_path: Path) -> None:
    """Pieces of uneven length, as a descriptor may name them; qemu-img only splits at 2 GiB."""
    pieces = [tmp_path / f"d-f{number:03d}.vmdk" for number in (1, 2, 3)]
    sizes = [3 << 20, 5 * 512, (2 << 20) + 512]
    for number, (path, size) in enumerate(zip(pieces, sizes, strict=True)):
        write_sparse(path, mixture(size, 83 + number))
    lines = [f'RW {size // 512} FLAT "{path.name}" 0' for path, size in zip(pieces, sizes, strict=True)]
    head = ["# Disk DescriptorFile", "version=1", "CID=1234abcd", "parentCID=ffffffff"]
    text = "\n".join([*head, 'createType="twoGbMaxExtentFlat"', *lines, 'ddb.adapterType = "ide"', ""])
    (tmp_path / "d.vmdk").write_text(text)
    with open_disk(tmp_path / "d.vmdk") as disk:
        assert disk.read(0, disk.size) == served(tmp_path, "split", *map(str, pieces))
