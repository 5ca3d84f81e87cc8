"""Cabinets: every method, every kind of LZX block, held against cabextract; damage is Byre's own error."""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from builders.cabinets import ALIGNED, STORED, VERBATIM, build_cabinet
from byre.errors import ByreError, CorruptImageError, UnsupportedError
from byre.windows.cabinets import expand, is_cabinet, open_cabinet
from oracles import require_tool


def text(size: int, seed: int = 1) -> bytes:
    """Bytes that compress like a program's: words that come again, calls, noise."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randint(2, 40)) for _ in range(200)]
    parts, length = [], 0
    while length < size:
        kind = rng.random()
        part = b"\xe8" + struct.pack("<i", rng.randint(-9000, 90000)) if kind < 0.1 else rng.choice(words)
        if kind > 0.95:
            part = rng.randbytes(30)
        elif kind > 0.93:
            part = bytes([rng.randrange(256)]) * rng.randint(20, 400)
        parts.append(part)
        length += len(part)
    return b"".join(parts)[:size]


FILES = {"ntdll.dll": text(70_001), "a\\b.txt": b"short", "empty": b"", "kernel32.dll": text(90_000, 2)}
LZX: list[tuple[str, dict[str, object]]] = [
    ("verbatim", {"kinds": [VERBATIM]}),
    ("aligned", {"kinds": [ALIGNED]}),
    ("stored", {"kinds": [STORED]}),
    ("mixed", {"kinds": [VERBATIM, STORED, ALIGNED]}),
    ("odd blocks", {"kinds": [VERBATIM, STORED, ALIGNED], "block": 10_007}),
    ("blocks across frames", {"kinds": [ALIGNED, VERBATIM], "block": 70_003}),
    ("a large window", {"kinds": [VERBATIM, ALIGNED], "window": 21}),
    ("calls", {"kinds": [VERBATIM], "e8_size": 160_006}),
    ("calls, 18 bits", {"kinds": [ALIGNED, STORED], "e8_size": 100_000, "window": 18}),
]
KINDS: list[tuple[str, str, dict[str, object]]] = [
    ("stored", "stored", {}),
    ("mszip", "mszip", {}),
    *(("lzx " + name, "lzx", options) for name, options in LZX),
]


@pytest.mark.parametrize(("method", "options"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
def test_files_come_out_as_they_went_in(method: str, options: dict[str, object]) -> None:
    data = build_cabinet(FILES, method, **options)
    assert is_cabinet(data)
    cabinet = open_cabinet(data, path="x.cab")
    assert [file.name for file in cabinet.files] == ["ntdll.dll", "a/b.txt", "empty", "kernel32.dll"]
    assert [cabinet.read(file) for file in cabinet.files] == list(FILES.values())
    assert cabinet.read(cabinet.files[0]) == FILES["ntdll.dll"]


@pytest.mark.oracle
@pytest.mark.parametrize(("method", "options"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
def test_cabextract_agrees_with_the_builder(method: str, options: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "x.cab"
    path.write_bytes(build_cabinet(FILES, method, **options))
    subprocess.run([require_tool("cabextract"), "-q", "-d", tmp_path / "out", path], check=True, capture_output=True)
    for name, data in FILES.items():
        assert (tmp_path / "out" / name.replace("\\", "/")).read_bytes() == data


@pytest.mark.oracle
@pytest.mark.parametrize("options", [(), ("-z",)], ids=["stored", "mszip"])
def test_what_gcab_writes_is_read(options: Sequence[str], tmp_path: Path) -> None:
    for name in ("one.dll", "two.dll"):
        (tmp_path / name).write_bytes(text(100_000, len(name)))
    subprocess.run([require_tool("gcab"), "-c", *options, "x.cab", "one.dll", "two.dll"], check=True, cwd=tmp_path)
    cabinet = open_cabinet((tmp_path / "x.cab").read_bytes(), path="x.cab")
    assert {file.name for file in cabinet.files} == {"one.dll", "two.dll"}
    for file in cabinet.files:
        assert cabinet.read(file) == (tmp_path / file.name).read_bytes()


@pytest.mark.oracle
@pytest.mark.parametrize("options", [(), ("-z",)], ids=["stored", "mszip"])
def test_a_flipped_bit_is_seen_by_the_checksum_that_gcab_wrote(options: Sequence[str], tmp_path: Path) -> None:
    """A driver from a damaged cache is refused, not put in place with the damage."""
    (tmp_path / "one.sys").write_bytes(text(100_001))
    subprocess.run([require_tool("gcab"), "-c", *options, "x.cab", "one.sys"], check=True, cwd=tmp_path)
    whole = (tmp_path / "x.cab").read_bytes()
    for at in random.Random(5).sample(range(len(whole) - 20_000, len(whole)), 20):
        data = bytearray(whole)
        data[at] ^= 4
        cabinet = open_cabinet(bytes(data), path="x.cab")
        with pytest.raises(CorruptImageError):
            cabinet.read(cabinet.files[0])


@pytest.mark.oracle
@pytest.mark.parametrize(("method", "options"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
def test_7z_agrees_with_the_builder_too(method: str, options: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "x.cab"
    path.write_bytes(build_cabinet(FILES, method, **options))
    subprocess.run([require_tool("7z"), "x", f"-o{tmp_path / 'out'}", path], check=True, capture_output=True)
    for name, data in FILES.items():
        assert (tmp_path / "out" / name.replace("\\", "/")).read_bytes() == data


@pytest.mark.parametrize("method", ["stored", "mszip", "lzx"])
def test_files_may_be_asked_for_in_any_order(method: str) -> None:
    cabinet = open_cabinet(build_cabinet(FILES, method), path="x.cab")
    wanted = list(zip(cabinet.files, FILES.values(), strict=True))
    for file, data in [*reversed(wanted), *wanted]:
        assert cabinet.read(file) == data


def test_a_damaged_block_spoils_what_follows_it_and_nothing_before() -> None:
    data = bytearray(build_cabinet({"first": text(20_000), "second": text(60_000, 3)}, "mszip"))
    second = data.index(b"CK", data.index(b"CK") + 2)
    data[second : second + 2] = b"XX"
    cabinet = open_cabinet(bytes(data), path="x.cab")
    for _ in range(2):
        assert cabinet.read(cabinet.files[0]) == text(20_000)
        with pytest.raises(CorruptImageError):
            cabinet.read(cabinet.files[1])


def test_a_compressed_file_of_the_media_is_one_file() -> None:
    assert expand(build_cabinet({"ntdll.dll": b"x" * 5000}, "lzx"), path="ntdll.dl_") == ("ntdll.dll", b"x" * 5000)
    with pytest.raises(CorruptImageError, match="more than one file"):
        expand(build_cabinet(FILES), path="x.dl_")


def test_quantum_and_other_cabinets_parts_are_unsupported() -> None:
    data = bytearray(build_cabinet({"a": b"x" * 100}, "stored"))
    struct.pack_into("<H", data, 36 + 6, 0x0402)
    with pytest.raises(UnsupportedError, match="Quantum"):
        open_cabinet(bytes(data), path="x").read(open_cabinet(bytes(data), path="x").files[0])
    struct.pack_into("<H", data, 36 + 8 + 8, 0xFFFD)
    with pytest.raises(UnsupportedError, match="another cabinet"):
        open_cabinet(bytes(data), path="x").read(open_cabinet(bytes(data), path="x").files[0])


@pytest.mark.parametrize("method", ["stored", "mszip", "lzx"])
def test_damage_is_byres_own_error_or_other_bytes(method: str) -> None:
    """Whatever the bytes: an error of Byre's own, or files of the length that the cabinet states."""
    whole = build_cabinet({"a.dll": text(40_000, 5)}, method)
    rng = random.Random(41)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        with contextlib.suppress(ByreError):
            cabinet = open_cabinet(bytes(data), path="fuzz")
            for file in cabinet.files[:3]:
                if file.size < 1 << 20:
                    assert len(cabinet.read(file)) == file.size
    with pytest.raises(CorruptImageError):
        open_cabinet(b"MZ" + bytes(100), path="x")


@pytest.mark.parametrize("claimed", [129 << 20, 0xFFFFFFFF])
def test_a_small_cabinet_cannot_claim_a_file_that_fills_the_memory(claimed: int) -> None:
    data = bytearray(build_cabinet({"x": b"hello"}))
    at = data.index(struct.pack("<I", 5), 36)
    data[at : at + 4] = struct.pack("<I", claimed)
    with pytest.raises(CorruptImageError) as caught:
        expand(bytes(data), path="x.cab")
    assert caught.value.found == claimed
