"""Disks that hold more than the one system that is meant: pieces of larger volumes are not changed."""

from __future__ import annotations

from pathlib import Path

import pytest

import byre as package
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
TYPE_OF_FIRST = 0x1BE + 4
pytestmark = pytest.mark.oracle


@pytest.fixture
def image(tmp_path: Path) -> Path:
    byre("convert", f"{SPECIMEN}@clean", tmp_path / "s.raw")
    return tmp_path / "s.raw"


def _patch(image: Path, offset: int, data: bytes) -> bytes:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    return image.read_bytes()


@pytest.mark.parametrize("kind", [0x42, 0x87])
@pytest.mark.parametrize(
    "words",
    [("slim",), ("rm", r"C:\pagefile.sys"), ("mend", "intelppm"), ("convert", "--drop-free")],
)
def test_a_piece_of_a_larger_volume_is_not_changed(
    words: tuple[str, ...], kind: int, image: Path, tmp_path: Path
) -> None:
    before = _patch(image, TYPE_OF_FIRST, bytes([kind]))
    out = tmp_path / "out.qcow2"
    verb, *more = words
    where = [out] if verb == "convert" else ["-o", out]
    said = byre_json(verb, image, *more, *where, status=69)
    assert "dynamic disk" in str(said) or "fault-tolerant" in str(said)
    assert image.read_bytes() == before and not out.exists()


def test_the_table_of_a_dynamic_disk_is_not_mended(image: Path, tmp_path: Path) -> None:
    before = _patch(image, TYPE_OF_FIRST, b"\x42")
    _patch(image, 0, bytes(440))
    said = byre_json("mend", image, "boot", "-o", tmp_path / "out.qcow2", status=1)
    assert "dynamic disk" in str(said) and image.read_bytes()[440:] == before[440:]
    assert not (tmp_path / "out.qcow2").exists()
