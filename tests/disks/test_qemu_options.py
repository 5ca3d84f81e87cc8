"""``-o`` as people know it from qemu-img gives the image that qemu-img would have made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from byre.cli.main import main
from oracles import run_tool


@pytest.mark.oracle
@pytest.mark.parametrize(
    ("suffix", "option"),
    [
        ("qcow2", "compat=0.10"),
        ("qcow2", "compat=1.1,encryption=off,compression_type=zstd"),
        ("qcow2", "compat=v3,extended_l2=on,cluster_size=32k"),
        ("vdi", "static=on"),
        ("vmdk", "compat6=on,adapter_type=lsilogic"),
        ("vmdk", "hwversion=6"),
        ("vhd", "force_size=on"),
    ],
)
def test_an_option_in_qemus_words_means_the_same(
    suffix: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = tmp_path / f"ours.{suffix}", tmp_path / f"theirs.{suffix}"
    assert main(["create", str(ours), "8M", "-o", option]) == 0
    run_tool("qemu-img", "create", "-q", "-f", {"vhd": "vpc"}.get(suffix, suffix), "-o", option, theirs, "8M")
    told = []
    for image in (ours, theirs):
        info = json.loads(run_tool("qemu-img", "info", "--output=json", image))
        specific = info.get("format-specific", {}).get("data", {})
        told.append((info["virtual-size"], {k: v for k, v in specific.items() if k not in ("cid", "extents")}))
    assert told[0] == told[1]
    if suffix == "vdi":
        assert min(ours.stat().st_size, theirs.stat().st_size) > 8 << 20
    if suffix == "vmdk" and "6" in option:
        assert b'virtualHWVersion = "6"' in ours.read_bytes()


@pytest.mark.parametrize("option", ["encryption=on", "encrypt.format=luks,encrypt.key-secret=s"])
def test_encryption_is_refused_by_name(option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["create", str(tmp_path / "x.qcow2"), "8M", "-o", option]) == 69
    assert "encrypted images are not written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["compat=2.0", "static=perhaps"])
def test_a_value_that_means_nothing_is_a_usage_error(option: str, tmp_path: Path) -> None:
    assert main(["create", str(tmp_path / "x.qcow2"), "8M", "-o", option]) == 64
