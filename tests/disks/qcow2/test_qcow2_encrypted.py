"""Encrypted images: their data can't be read here, and must not be harmed here either. QEMU holds the key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from builders.qemu import create_encrypted
from byre.cli.main import main
from oracles import run_tool

pytestmark = pytest.mark.oracle


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An image that only QEMU can read; ``opening`` is how."""

    image: Path
    method: str
    opening: tuple[str, ...]

    def qemu_io(self, *commands: str) -> str:
        return run_tool("qemu-io", *self.opening, *(word for command in commands for word in ("-c", command)))


@pytest.fixture(params=["luks", "aes"])
def encrypted(request: pytest.FixtureRequest, tmp_path: Path) -> Encrypted:
    """2 MiB of data, with free space below the second of them."""
    image = tmp_path / "x.qcow2"
    made = Encrypted(image, request.param, create_encrypted(image, request.param, "cluster_size=4k"))
    made.qemu_io("write -P 7 0 1M", "write -P 8 1M 1M", "write -P 9 2M 1M", "discard 0 1M")
    return made


def assert_data(encrypted: Encrypted) -> None:
    told = encrypted.qemu_io("read -P 0 0 1M", "read -P 8 1M 1M", "read -P 9 2M 1M")
    assert "failed" not in told and told.count("read 1048576/1048576") == 3
    assert "No errors" in run_tool("qemu-img", "check", *encrypted.opening)


def test_compact_leaves_encrypted_data_where_only_they_can_be_decrypted(encrypted: Encrypted) -> None:
    assert main(["compact", str(encrypted.image), "--dry-run"]) == 0
    assert main(["compact", str(encrypted.image)]) == 0
    assert_data(encrypted)


def test_a_snapshots_life_leaves_encrypted_data_as_they_are(encrypted: Encrypted) -> None:
    image = str(encrypted.image)
    assert main(["snapshot", "create", image, "one"]) == 0
    encrypted.qemu_io("write -P 1 1M 64k", "write -P 2 3M 64k")
    assert main(["snapshot", "revert", image, "one"]) == 0
    assert_data(encrypted)
    assert main(["snapshot", "delete", image, "one", "--compact"]) == 0
    assert main(["check", image, "--repair", "all"]) == 0
    assert_data(encrypted)


@pytest.mark.parametrize("words", [["convert", "{}", "{}.raw"], ["compact", "{}", "-o", "{}.new"], ["map", "{}"]])
def test_what_needs_the_data_is_refused_by_name(
    encrypted: Encrypted, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(encrypted.image) for word in words]) == 69
    assert f"encrypted with {encrypted.method.upper()}: reading it is not supported yet" in capsys.readouterr().err
