"""Formats known by sight: refused by name, with what reads them, and never taken for raw disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.qemu import qemu_img
from byre.cli.main import main
from byre.disks.formats import FORMATS, format_named, probe
from byre.disks.opening import open_disk
from byre.disks.refused import REFUSED
from byre.errors import UnsupportedError
from byre.storage.memory import MemoryStorage

HEADS = {
    "qed": b"QED\0",
    "parallels": b"WithouFreSpacExt",
    "bochs": b"Bochs Virtual HD Image",
    "cloop": b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0",
    "ewf": b"EVF\x09\x0d\x0a\xff\x00",
    "aff": b"AFF10\r\n\0",
    "luks": b"LUKS\xba\xbe\0\1",
    "gzip": b"\x1f\x8b\x08",
    "xz": b"\xfd7zXZ\0",
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": b"BZh91AY&SY",
    "7z": b"7z\xbc\xaf\x27\x1c",
    "zip": b"PK\x03\x04",
    "rar": b"Rar!\x1a\x07\0",
    "wim": b"MSWIM\0\0\0",
    "android-sparse": b"\x3a\xff\x26\xed",
    "partclone": b"partclone-image",
    "partimage": b"PaRtImAgE-VoLuMe",
    "ntfsclone": b"\0ntfsclone-image",
    "ghost": b"\xfe\xef\x01",
    "ova": b"xp.ovf".ljust(257, b"\0") + b"ustar\0",
}


@pytest.mark.parametrize(("name", "head"), HEADS.items())
def test_known_by_its_head_and_refused_with_a_remedy(tmp_path: Path, name: str, head: bytes) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(head.ljust(8192, b"\0"))
    with pytest.raises(UnsupportedError) as caught:
        open_disk(path)
    assert caught.value.path == str(path)
    assert caught.value.exit_code == 69
    assert caught.value.hint
    assert probe(MemoryStorage(path.read_bytes())).name == name


def test_dmg_is_known_by_its_tail(tmp_path: Path) -> None:
    path = tmp_path / "x.dmg"
    path.write_bytes(bytes(4096) + b"koly".ljust(512, b"\0"))
    with pytest.raises(UnsupportedError, match="DMG"):
        open_disk(path)


def test_every_refused_format_has_a_test_and_says_what_reads_it() -> None:
    assert {entry.name for entry in REFUSED} == {*HEADS, "dmg"}
    assert all(entry.refusal for entry in REFUSED)
    assert len({entry.name for entry in FORMATS}) == len(FORMATS)


def test_raw_can_be_forced(tmp_path: Path) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(b"\x1f\x8b\x08".ljust(4096, b"\0"))
    with open_disk(path, format="raw") as disk:
        assert disk.read(0, 3) == b"\x1f\x8b\x08"


def test_command_line_ends_with_69(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.qed"
    path.write_bytes(b"QED\0".ljust(4096, b"\0"))
    assert main(["info", str(path)]) == 69
    said = capsys.readouterr().err
    assert str(path) in said and "QED" in said and "qemu-img convert -f qed" in said


def test_naming_a_refused_format_is_refused_too() -> None:
    with pytest.raises(UnsupportedError):
        format_named("qed").load()


@pytest.mark.oracle
@pytest.mark.parametrize("format", ["qed", "parallels"])
def test_what_qemu_img_makes_is_recognised(tmp_path: Path, format: str) -> None:
    path = tmp_path / "a.img"
    qemu_img("create", "-q", "-f", format, path, "8M")
    assert probe(MemoryStorage(path.read_bytes())).name == format
