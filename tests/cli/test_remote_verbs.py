"""The verbs that read, over HTTP: each says of a URL what it says of the file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.qemu import qemu_img, qemu_io
from builders.range_server import serve
from byre.cli.main import main

pytestmark = pytest.mark.oracle


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "xp.qcow2"
    qemu_img("create", "-f", "qcow2", path, "8M")
    qemu_io(path, ["write -P 1 0 2M"])
    qemu_img("snapshot", "-c", "clean", path)
    qemu_io(path, ["write -P 2 1M 2M", "write -z 4M 64k"])
    return path


@pytest.fixture
def url(image: Path) -> Iterator[str]:
    with serve(image.read_bytes()) as address:
        yield address


def told(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> dict[str, Any]:
    assert main([*map(str, words), "--json"]) == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.mark.parametrize(
    "words",
    [
        ["check", "{}"],
        ["snapshot", "list", "{}"],
        ["snapshot", "tree", "{}"],
        ["map", "{}"],
        ["map", "{}@clean"],
    ],
)
def test_a_url_gives_what_the_file_gives(
    words: list[str], image: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = (told(capsys, *(word.format(where) for word in words)) for where in (image, url))
    assert json.dumps(here).replace(str(image), url) == json.dumps(there)


def test_info_over_http(image: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = told(capsys, "info", image), told(capsys, "info", url)
    for key in ("format", "virtual_size", "cluster_size", "snapshots", "bitmaps", "encrypted"):
        assert here[key] == there[key], key
    assert there["in_use"] is None


def test_compare_over_http(image: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "compare", image, url)["same"] is True
    there = told(capsys, "compare", url, f"{url}@clean", status=1)
    here = told(capsys, "compare", image, f"{image}@clean", status=1)
    assert there["differences"] == here["differences"]


def test_read_over_http(url: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for address, byte in ((url, b"\2"), (f"{url}@clean", b"\1")):
        assert main(["read", address, "1M", "70000"]) == 0
        assert capfdbinary.readouterr().out == byte * 70_000


def test_convert_over_http(image: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("flat.raw", []), ("small.qcow2", ["-c"]), ("whole.qcow2", ["--with-snapshots"])):
        target = tmp_path / name
        told(capsys, "convert", url, target, *more)
        qemu_img("compare", image, target)
    assert [entry["name"] for entry in told(capsys, "info", tmp_path / "whole.qcow2")["snapshots"]] == ["clean"]
    told(capsys, "convert", f"{url}@clean", tmp_path / "clean.raw")
    assert told(capsys, "compare", f"{image}@clean", tmp_path / "clean.raw")["same"] is True


@pytest.mark.parametrize(
    "words",
    [
        ["snapshot", "create", "{}", "new"],
        ["check", "{}", "--repair", "all"],
        ["resize", "{}", "+1M"],
        ["compact", "{}"],
        ["rebase", "{}", "-b", ""],
    ],
)
def test_a_url_is_never_written_to(words: list[str], url: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = told(capsys, *(word.format(url) for word in words), status=64)
    assert "can't be written to" in error["message"]
