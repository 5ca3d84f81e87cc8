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


@pytest.mark.parametrize("size", ["5M", "6M", "3G"])
def test_an_encrypted_image_grows_without_its_key(encrypted: Encrypted, size: str) -> None:
    """Within its L2 table, within its L1 table's cluster, and beyond."""
    assert main(["resize", str(encrypted.image), size]) == 0
    assert_data(encrypted)
    end = int(size[:-1]) << (20 if size.endswith("M") else 30)
    told = encrypted.qemu_io(f"read -P 0 4M {end - (4 << 20)}" if end < 1 << 27 else f"read -P 0 {end - 65536} 64k")
    assert "failed" not in told
    encrypted.qemu_io(f"write -P 6 {end - 5000} 5000")
    assert "failed" not in encrypted.qemu_io(f"read -P 6 {end - 5000} 5000")
    assert_data(encrypted)


def test_what_an_earlier_shrink_left_behind_does_not_show_in_an_encrypted_image(encrypted: Encrypted) -> None:
    assert main(["snapshot", "create", str(encrypted.image), "before"]) == 0
    run_tool("qemu-img", "resize", "--shrink", *encrypted.opening, "2M")
    assert main(["resize", str(encrypted.image), "4M"]) == 0
    assert "failed" not in encrypted.qemu_io("read -P 8 1M 1M", "read -P 0 2M 2M")
    assert main(["snapshot", "revert", str(encrypted.image), "before"]) == 0
    assert_data(encrypted)


def test_an_encrypted_overlay_grows_over_a_longer_backing_image(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(b"\x05" * (3 << 20))
    image = tmp_path / "x.qcow2"
    base = ("backing_file=base.raw", "backing_fmt=raw")
    made = Encrypted(image, "luks", create_encrypted(image, "luks", *base, size="1M"))
    made.qemu_io("write -P 7 0 64k")
    assert main(["resize", str(image), "4M"]) == 0
    told = made.qemu_io("read -P 7 0 64k", "read -P 5 64k 960k", "read -P 0 1M 3M")
    assert "failed" not in told
    assert "No errors" in run_tool("qemu-img", "check", *made.opening)


@pytest.mark.parametrize(
    ("method", "options", "size", "new", "what"),
    [
        ("luks", (), "4M", "3M", "shrinking an image that is encrypted with LUKS"),
        ("aes", (), "4M", "3M", "shrinking an image that is encrypted with AES"),
        ("luks", (), "4100K", "8M", "takes the key: zeros would have to be encrypted where it ends"),
        ("aes", ("compat=0.10", "backing_file=base.raw", "backing_fmt=raw"), "1M", "8M", "takes the key"),
    ],
)
def test_a_new_size_that_takes_the_key_is_refused_and_nothing_changes(
    method: str,
    options: tuple[str, ...],
    size: str,
    new: str,
    what: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "base.raw").write_bytes(b"\x05" * (3 << 20))
    image = tmp_path / "x.qcow2"
    made = Encrypted(image, method, create_encrypted(image, method, *options, size=size))
    made.qemu_io(f"write -P 7 0 {size}")
    before = image.read_bytes()
    assert main(["resize", str(image), new, "--shrink"]) == 69
    assert what in capsys.readouterr().err
    assert image.read_bytes() == before


@pytest.mark.parametrize("words", [["convert", "{}", "{}.raw"], ["compact", "{}", "-o", "{}.new"], ["map", "{}"]])
def test_what_needs_the_data_is_refused_by_name(
    encrypted: Encrypted, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(encrypted.image) for word in words]) == 69
    assert f"encrypted with {encrypted.method.upper()}: reading it is not supported yet" in capsys.readouterr().err
