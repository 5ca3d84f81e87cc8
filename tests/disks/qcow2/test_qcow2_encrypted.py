"""Encrypted images: their data can't be read here, and must not be harmed here either. QEMU holds the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from byre.cli.main import main
from oracles import run_tool

pytestmark = pytest.mark.oracle
SECRET = ("--object", "secret,id=key,data=abc")


def qemu_io(image: Path, method: str, *commands: str) -> str:
    options = f"driver=qcow2,encrypt.format={method},encrypt.key-secret=key,file.filename={image}"
    words = [word for command in commands for word in ("-c", command)]
    return run_tool("qemu-io", *SECRET, "--image-opts", options, *words)


@pytest.fixture(params=["luks", "aes"])
def encrypted(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """2 MiB of data, with free space below the second of them."""
    image, method = tmp_path / "x.qcow2", request.param
    quick = ",encrypt.iter-time=10" if method == "luks" else ""
    create = f"encrypt.format={method},encrypt.key-secret=key,cluster_size=4k{quick}"
    for _ in range(20):  # on a busy machine it fails to measure how fast it is
        run_tool("qemu-img", "create", "-q", "-f", "qcow2", *SECRET, "-o", create, image, "4M", status=None)
        if image.exists():
            break
    qemu_io(image, method, "write -P 7 0 1M", "write -P 8 1M 1M", "write -P 9 2M 1M", "discard 0 1M")
    return image, method


def assert_data(image: Path, method: str) -> None:
    told = qemu_io(image, method, "read -P 0 0 1M", "read -P 8 1M 1M", "read -P 9 2M 1M")
    assert "failed" not in told and told.count("read 1048576/1048576") == 3
    options = f"driver=qcow2,encrypt.format={method},encrypt.key-secret=key,file.filename={image}"
    assert "No errors" in run_tool("qemu-img", "check", *SECRET, "--image-opts", options)


def test_compact_leaves_encrypted_data_where_only_they_can_be_decrypted(encrypted: tuple[Path, str]) -> None:
    image, method = encrypted
    assert main(["compact", str(image), "--dry-run"]) == 0
    assert main(["compact", str(image)]) == 0
    assert_data(image, method)


def test_a_snapshots_life_leaves_encrypted_data_as_they_are(encrypted: tuple[Path, str]) -> None:
    image, method = encrypted
    assert main(["snapshot", "create", str(image), "one"]) == 0
    qemu_io(image, method, "write -P 1 1M 64k", "write -P 2 3M 64k")
    assert main(["snapshot", "revert", str(image), "one"]) == 0
    assert_data(image, method)
    assert main(["snapshot", "delete", str(image), "one", "--compact"]) == 0
    assert main(["check", str(image), "--repair", "all"]) == 0
    assert_data(image, method)


@pytest.mark.parametrize("words", [["convert", "{}", "{}.raw"], ["compact", "{}", "-o", "{}.new"], ["map", "{}"]])
def test_what_needs_the_data_is_refused_by_name(
    encrypted: tuple[Path, str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    image, method = encrypted
    assert main([word.format(image) for word in words]) == 69
    assert f"encrypted with {method.upper()}: reading it is not supported yet" in capsys.readouterr().err
