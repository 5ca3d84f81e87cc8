from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import byre as package
from oracles import require_tool, run_tool
from programs import byre, byre_json

SAMPLE = Path(package.__file__).parent / "samples" / "farm.qcow2"


def lines(path: Path, *arguments: str) -> dict[str, str]:
    """The facts of the human output, by their label."""
    told = {}
    for line in byre("info", path, *arguments, environment={"COLUMNS": "40"}).stdout.splitlines()[1:]:
        label, _, value = line.strip().partition("  ")
        told[label] = value.strip()
    return told


def test_json_has_the_keys_of_the_contract_and_says_the_truth() -> None:
    told = byre_json("info", SAMPLE)
    assert told["schema"] == "byre/info/1"
    assert told["virtual_size"] == 24 << 20 and told["cluster_size"] == 4096
    assert told["encrypted"] is False and told["backing_file"] is None and told["backing_chain"] == []
    assert told["file_size"] == SAMPLE.stat().st_size and told["actual_size"] == SAMPLE.stat().st_blocks * 512
    clean, _spring = told["snapshots"]
    assert clean["id"] == "1" and clean["vm_state_size"] == 0 and clean["virtual_size"] == 24 << 20
    assert clean["created"].startswith("2026-") and clean["created"].endswith("Z")


def test_a_pipe_gets_every_word_of_it() -> None:
    told = byre("info", SAMPLE, environment={"COLUMNS": "20"}).stdout
    assert "virtual size   24 MiB (25,165,824 bytes)" in told
    assert "ID  NAME    CREATED" in told and "clean   2026-" in told


def test_a_snapshot_is_described_as_it_was(tmp_path: Path) -> None:
    """A copy of its own: other tests, in other processes, may have the sample itself open."""
    image = shutil.copyfile(SAMPLE, tmp_path / "farm.qcow2")
    told = byre_json("info", f"{image}@spring")
    assert told["virtual_size"] == 24 << 20 and told["in_use"] is not True


@pytest.mark.oracle
def test_the_whole_chain_is_told_with_sizes(tmp_path: Path) -> None:
    base, middle, top = tmp_path / "base.raw", tmp_path / "mid.qcow2", tmp_path / "top.qcow2"
    base.write_bytes(bytes(1 << 20))
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", middle, "2M")
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", top, "3M")
    chain = byre_json("info", top)["backing_chain"]
    assert [(link["name"], link["format"], link["virtual_size"]) for link in chain] == [
        ("mid.qcow2", "qcow2", 2 << 20),
        ("base.raw", "raw", 1 << 20),
    ]
    assert lines(top)["backing image"] == "mid.qcow2 (qcow2, 2 MiB)"
    assert lines(top)["below it"] == "base.raw (raw, 1 MiB)"
    middle.unlink()
    told = byre_json("info", top)
    assert "missing" in told["backing"]["reason"] and len(told["backing_chain"]) == 1
    assert "missing" in lines(top)["backing image"]


@pytest.mark.oracle
def test_what_stands_in_the_way_of_the_chain_is_the_last_link(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside.raw", tmp_path / "images"
    outside.write_bytes(bytes(512))
    folder.mkdir()
    image = folder / "x.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-b", "../outside.raw", "-F", "raw", image, "1M")
    (link,) = byre_json("info", image)["backing_chain"]
    assert "outside" in link["reason"] and link["virtual_size"] is None
    (link,) = byre_json("info", image, "--allow-path", tmp_path)["backing_chain"]
    assert link["reason"] is None and link["virtual_size"] == 512

    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "x.qcow2", "-F", "qcow2", image, "1M")
    chain = byre_json("info", image)["backing_chain"]
    assert "loops" in chain[-1]["reason"] and len(chain) <= 2


@pytest.mark.oracle
def test_a_backing_image_without_a_stated_format_is_never_probed(tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", base, "1M")
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "compat=0.10", top, "1M")
    data = bytearray(top.read_bytes())
    name = b"base.qcow2"
    data[8:16], data[16:20] = (1024).to_bytes(8, "big"), len(name).to_bytes(4, "big")
    data[1024 : 1024 + len(name)] = name
    top.write_bytes(data)
    (link,) = byre_json("info", top)["backing_chain"]
    assert "--backing-format" in link["reason"] and link["format"] is None
    (link,) = byre_json("info", top, "--backing-format", "qcow2")["backing_chain"]
    assert link["reason"] is None and link["virtual_size"] == 1 << 20


@pytest.mark.oracle
def test_features_and_bitmaps_are_named(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    options = "extended_l2=on,lazy_refcounts=on,compression_type=zstd,refcount_bits=32"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, image, "8M")
    run_tool("qemu-img", "bitmap", "--add", "-g", "128K", image, "weekly")
    told = lines(image)
    assert told["features"] == "extended L2, lazy refcounts" and told["compression"] == "zstd"
    assert told["refcount bits"] == "32" and "dirty bitmaps (1)" in told
    (bitmap,) = byre_json("info", image)["bitmaps"]
    assert bitmap == {"name": "weekly", "granularity": 128 << 10, "enabled": True, "consistent": True}


def test_an_encrypted_image_is_named_and_only_reading_it_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    data = bytearray(SAMPLE.read_bytes())
    data[32:36] = (1).to_bytes(4, "big")  # crypt_method: AES
    image.write_bytes(data)
    told = byre_json("info", image)
    assert (told["encrypted"], told["encryption"]) == (True, "AES")
    assert lines(image)["encryption"].startswith("AES")
    assert "encrypted with AES" in byre_json("read", image, "0", "512", status=69)["what"]


@pytest.mark.oracle
@pytest.mark.skipif(sys.platform != "linux", reason="QEMU's locks are Linux's")
def test_a_running_program_is_seen_and_does_not_keep_info_out(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    run_tool("qemu-img", "create", "-q", "-f", "qcow2", image, "1M")
    with subprocess.Popen(
        [require_tool("qemu-io"), image], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None and running.stdout is not None
        running.stdin.write("read 0 512\n")
        running.stdin.flush()
        while "bytes" not in running.stdout.readline():
            pass
        assert byre_json("info", image)["in_use"] is True
        assert lines(image)["in use"].startswith("yes")
        running.communicate("quit\n", timeout=120)
    assert byre_json("info", image)["in_use"] is False


def test_names_from_the_image_cannot_drive_the_terminal(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    data = bytearray(SAMPLE.read_bytes())
    at = data.rindex(b"clean")
    data[at : at + 5] = b"\x1b[2J\n"
    image.write_bytes(data)
    told = byre("info", image).stdout
    assert "\x1b" not in told and "\\x1b[2J\\x0a" in told
    assert json.loads(byre("info", image, "--json").stdout)["snapshots"][0]["name"] == "\x1b[2J\n"


def test_in_a_corrupt_image_the_error_says_where(tmp_path: Path) -> None:
    image = tmp_path / "x.qcow2"
    data = bytearray(SAMPLE.read_bytes())
    data[20:24] = (31).to_bytes(4, "big")  # cluster_bits
    image.write_bytes(data)
    told = byre_json("info", image, status=65)
    assert told["path"] == str(image) and told["offset"] is not None
