"""convert, compare, create, map and read from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builders.mixture import mixture, write_sparse
from byre.cli.main import main
from oracles import run_tool
from programs import byre


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_sparse(tmp_path / "disk.raw", mixture(2 << 20, seed=7))


def told(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_convert_takes_the_format_from_the_suffix(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = raw.with_suffix(".qcow2")
    document = told(capsys, "convert", raw, target, "-o", "cluster_size=4K", "-c", "zstd", "--level", "5")
    assert document["schema"] == "byre/convert/1"
    assert (document["format"], document["source_format"]) == ("qcow2", "raw")
    assert document["virtual_size"] == 2 << 20
    assert document["bytes_written"] < document["bytes_read"]
    assert told(capsys, "info", target)["compression"] == "zstd"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["convert", "{raw}", "{dir}/new.xyz"], 64),
        (["convert", "{raw}", "{dir}/new.qcow2", "-o", "colour=blue"], 64),
        (["convert", "{raw}", "{dir}/new.qcow2", "--threads", "0"], 64),
        (["convert", "{raw}", "{dir}/new.raw", "--compress"], 64),
        (["convert", "{raw}", "{raw}", "--force"], 64),
        (["convert", "{raw}", "{dir}/new.qcow2", "--keep-backing"], 66),
        (["convert", "{raw}", "{dir}/new.qcow2", "--with-snapshots"], 64),
        (["convert", "{raw}", "{dir}/new.raw", "--with-snapshots"], 64),
        (["convert", "{raw}", "{dir}/new.qcow2", "--level", "9"], 64),
        (["convert", "{dir}/none.raw", "{dir}/new.qcow2"], 66),
        (["convert", "{raw}", "{dir}/none/new.qcow2"], 66),
        (["convert", "{raw}", "{raw}"], 64),
        (["create", "{dir}/new.qcow2"], 64),
        (["create", "{dir}/new.qcow2", "12 parsecs"], 64),
        (["create", "{raw}", "1G"], 73),
        (["create", "{dir}/new.qcow2", "--backing", "disk.raw"], 64),
        (["read", "{raw}", "2M", "512"], 64),
        (["map", "{dir}/none.raw"], 66),
        (["compare", "{raw}", "{dir}/none.raw"], 66),
    ],
)
def test_failures_have_their_exit_status_and_leave_nothing(
    raw: Path, words: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = raw.read_bytes()
    filled = [word.format(raw=raw, dir=raw.parent) for word in words]
    assert told(capsys, *filled, status=status)["exit_status"] == status
    assert [entry.name for entry in raw.parent.iterdir()] == ["disk.raw"]
    assert raw.read_bytes() == before


def test_an_existing_target_needs_force(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = raw.with_suffix(".qcow2")
    target.write_bytes(b"mine")
    told(capsys, "convert", raw, target, status=73)
    assert target.read_bytes() == b"mine"
    told(capsys, "convert", raw, target, "--force")
    assert target.read_bytes().startswith(b"QFI\xfb")


@pytest.mark.oracle
def test_convert_says_which_snapshots_it_leaves_behind(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = raw.with_suffix(".qcow2")
    told(capsys, "convert", raw, image)
    subprocess.run(["qemu-img", "snapshot", "-c", "one", image], check=True)
    assert main(["convert", str(image), str(raw.with_name("flat.qcow2"))]) == 0
    assert "1 internal snapshot will not be in the new image (--with-snapshots keeps them)" in capsys.readouterr().err
    document = told(capsys, "convert", image, raw.with_name("whole.qcow2"), "--with-snapshots")
    assert document["snapshots"] == 1
    assert told(capsys, "info", raw.with_name("whole.qcow2"))["snapshots"][0]["name"] == "one"


def test_compare_is_0_for_the_same_and_1_for_different(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = raw.with_name("other.raw")
    data = bytearray(raw.read_bytes())
    other.write_bytes(data)
    assert told(capsys, "compare", raw, other)["same"] is True
    data[1 << 20] ^= 1
    data[(1 << 20) + 4096] ^= 1
    other.write_bytes(data)
    document = told(capsys, "compare", raw, other, status=1)
    assert document["schema"] == "byre/compare/1" and not document["same"]
    assert document["differences"] == [
        {"start": 1 << 20, "length": 512, "kind": "content"},
        {"start": (1 << 20) + 4096, "length": 512, "kind": "content"},
    ]
    assert document["different_bytes"] == 1024
    assert main(["compare", str(raw), str(other)]) == 1
    assert "different in 2 ranges, 1 KiB" in capsys.readouterr().out


def test_map_covers_the_disk_and_streams_one_document(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = told(capsys, "map", raw)
    assert document["schema"] == "byre/map/1"
    position = 0
    for row in document["extents"]:
        assert row["start"] == position
        position += row["length"]
    assert position == document["virtual_size"] == 2 << 20
    part = told(capsys, "map", raw, "--start", "1M", "--length", "64K")["extents"]
    assert part[0]["start"] == 1 << 20 and sum(row["length"] for row in part) == 64 << 10
    assert told(capsys, "map", raw, "--start", "4M")["extents"] == []


def test_read_gives_bytes_hex_and_files(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = raw.read_bytes()
    command = [sys.executable, "-m", "byre", "read", str(raw), "0x200", "4K"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == data[512:4608]
    assert bytes.fromhex(told(capsys, "read", raw, "512", "64")["hex"]) == data[512:576]
    told(capsys, "read", raw, "1M", "1M", "-o", raw.with_name("piece"))
    assert raw.with_name("piece").read_bytes() == data[1 << 20 :]
    assert main(["read", str(raw), "0", "32", "--hex"]) == 0
    assert capsys.readouterr().out.startswith(f"000000000000  {data[:8].hex(' ')}")


@pytest.mark.oracle
def test_create_makes_what_qemu_img_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "new.qcow2"
    words = ["--cluster-size", "128K", "--extended-l2", "--refcount-bits", "8", "--lazy-refcounts"]
    document = told(capsys, "create", image, "1.5G", *words, "--compression-type", "zstd")
    assert document["virtual_size"] == 3 << 29
    seen = json.loads(subprocess.run(["qemu-img", "info", "--output=json", image], capture_output=True).stdout)
    assert seen["virtual-size"] == 3 << 29 and seen["cluster-size"] == 128 << 10
    told(capsys, "create", tmp_path / "top.qcow2", "--backing", "new.qcow2", "--backing-format", "qcow2")
    chain = subprocess.run(["qemu-img", "info", "--backing-chain", tmp_path / "top.qcow2"], capture_output=True)
    assert chain.returncode == 0
    assert told(capsys, "info", tmp_path / "top.qcow2")["virtual_size"] == 3 << 29


def test_create_refuses_to_replace_an_image_of_its_own_backing_chain(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, overlay, link = tmp_path / "base.qcow2", tmp_path / "over.qcow2", tmp_path / "link.qcow2"
    told(capsys, "create", base, "1M")
    told(capsys, "create", overlay, "-b", base.name, "-F", "qcow2")
    link.symlink_to(base)
    before = base.read_bytes()
    for target, backing in ((base, base), (link, base), (base, overlay), (overlay, overlay)):
        told(capsys, "create", target, "-b", backing.name, "-F", "qcow2", "--force", status=64)
    assert base.read_bytes() == before


def test_with_snapshots_makes_nothing_but_qcow2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "disk.qcow2"
    told(capsys, "create", image, "1M")
    told(capsys, "snapshot", "create", image, "clean")
    told(capsys, "convert", image, tmp_path / "new.raw", "--with-snapshots", status=64)
    assert not (tmp_path / "new.raw").exists()


def test_list_says_that_no_snapshot_fits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "disk.qcow2"
    told(capsys, "create", image, "1M")
    told(capsys, "snapshot", "create", image, "clean")
    assert main(["snapshot", "list", str(image), "zzz"]) == 0
    assert "no snapshots that begin with 'zzz'" in capsys.readouterr().out


@pytest.mark.oracle
def test_compact_to_a_copy_keeps_bitmaps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, copy = tmp_path / "disk.qcow2", tmp_path / "copy.qcow2"
    told(capsys, "create", image, "1M")
    subprocess.run(["qemu-img", "bitmap", "--add", image, "backup"], check=True)
    told(capsys, "snapshot", "create", image, "clean")
    told(capsys, "compact", image, "-o", copy)
    document = told(capsys, "info", copy)
    assert [entry["name"] for entry in document["bitmaps"]] == ["backup"]
    assert [entry["name"] for entry in document["snapshots"]] == ["clean"]
    assert subprocess.run(["qemu-img", "check", "-q", copy], check=False).returncode == 0


@pytest.mark.oracle
def test_what_stays_behind_is_told_only_of_a_conversion_that_begins(tmp_path: Path) -> None:
    image, target = tmp_path / "disk.qcow2", tmp_path / "new.raw"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
    run_tool("qemu-img", "snapshot", "-c", "one", image)
    assert "1 internal snapshot will not be" in byre("convert", image, target).stderr
    refused = byre("convert", image, target, status=73).stderr
    assert "exists already" in refused and "internal snapshot" not in refused
    itself = byre("convert", image, image, "--force", "-O", "raw", status=64).stderr
    assert "the source itself" in itself and "internal snapshot" not in itself


def test_options_may_be_said_as_to_qemu_img(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = tmp_path / "disk.qcow2"
    told(capsys, "create", image, "1M", "-o", "cluster_size=2M,extended_l2=on,compression_type=zstd")
    document = told(capsys, "info", image)
    assert (document["cluster_size"], document["compression"]) == (2 << 20, "zstd")
    assert told(capsys, "create", tmp_path / "b.qcow2", "1M", "-o", "cluster_size=2M,", status=64)["error"] == "usage"
