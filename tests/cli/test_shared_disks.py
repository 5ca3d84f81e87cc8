"""Disks that hold more than the one system that is meant: pieces of larger volumes are not changed, and nothing is
while another system sleeps on the disk."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import byre as package
from oracles import run_tool
from programs import byre, byre_json

SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"
TABLE = 0x1BE
TYPE_OF_FIRST = TABLE + 4
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


@pytest.fixture
def beside_a_sleeper(image: Path, tmp_path: Path) -> Path:
    """A second partition, with a session in its hiberfil.sys."""
    session = tmp_path / "hiberfil.sys"
    session.write_bytes(b"hibr" + b"what was open" * 5000)
    volume = tmp_path / "d.img"
    run_tool("mkfs.fat", "-F", "16", "-C", volume, str(20 << 10))
    byre("put", volume, session, "/hiberfil.sys", "-o", tmp_path / "asleep.raw")
    start = image.stat().st_size // 512
    data = (tmp_path / "asleep.raw").read_bytes()
    entry = struct.pack("<B3sB3sII", 0, b"\1\1\0", 0x06, b"\xfe\xff\xff", start, len(data) // 512)
    _patch(image, TABLE + 16, entry)
    _patch(image, start * 512, data)
    return image


@pytest.mark.parametrize("words", [("slim",), ("rm", r"C:\pagefile.sys"), ("mend", "intelppm")])
def test_nothing_is_changed_while_another_system_sleeps(
    words: tuple[str, ...], beside_a_sleeper: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.qcow2"
    said = byre_json(words[0], beside_a_sleeper, *words[1:], "-o", out, status=69)
    assert "partition 2 holds a hibernated session" in said["what"] and not out.exists()
    dry = byre(words[0], beside_a_sleeper, *words[1:], "--dry-run", status={"slim": 0, "rm": 69, "mend": 1}[words[0]])
    assert "hibernated session" in dry.stdout + dry.stderr


def test_the_session_of_another_system_is_given_up_on_demand(beside_a_sleeper: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.qcow2"
    words = ("mend", beside_a_sleeper, "hibernation", "intelppm")
    assert "/hiberfil.sys" not in str(byre_json(*words, "-o", out, status=69))
    said = byre_json(*words, "--discard-session", "-o", out)
    steps = next(row["steps"] for row in said["mends"] if row["name"] == "hibernation")
    assert steps == ["/hiberfil.sys of partition 2: its first 4096 bytes zeroed, the session is given up"]
    byre("rm", out, "/pagefile.sys", "-o", tmp_path / "again.qcow2")


def test_what_may_be_a_session_is_given_up_like_one(beside_a_sleeper: Path, tmp_path: Path) -> None:
    data = beside_a_sleeper.read_bytes()
    _patch(beside_a_sleeper, data.index(b"hibrwhat was open"), b"what")
    words = ("mend", beside_a_sleeper, "hibernation", "intelppm", "-o", tmp_path / "out.qcow2")
    assert "may hold a hibernated session" in byre_json(*words, status=69)["what"]
    byre_json(*words, "--discard-session")


def test_a_partition_that_the_disk_has_not_is_no_hindrance(image: Path, tmp_path: Path) -> None:
    sectors = image.stat().st_size // 512
    for row, start in enumerate((sectors + 5000, sectors - 1), 1):
        entry = struct.pack("<B3sB3sII", 0, b"\1\1\0", 0x07, b"\xfe\xff\xff", start, 2048)
        _patch(image, TABLE + 16 * row, entry)
    byre("slim", image, "-o", tmp_path / "out.qcow2")
