"""The verbs that change an image's metadata, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from builders.qemu import assert_sound, qemu_img, qemu_io
from byre.cli.main import main
from byre.storage.local import open_file


def byre(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any]]:
    """(exit status, the JSON document)."""
    status = main([*map(str, words), "--json"])
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return status, document


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    qemu_img("create", "-f", "qcow2", path, "8M")
    qemu_io(path, ["write -P 1 0 2M"])
    return path


@pytest.mark.oracle
def test_a_snapshot_s_life(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert byre(capsys, "snapshot", "create", image, "one")[0] == 0
    status, error = byre(capsys, "snapshot", "create", image, "one")
    assert (status, error["schema"], error["error"]) == (73, "byre/error/1", "exists")
    assert byre(capsys, "snapshot", "rename", image, "--id", "1", "uno")[0] == 0
    status, listed = byre(capsys, "snapshot", "list", image)
    assert listed["schema"] == "byre/snapshot/1"
    assert [(entry["id"], entry["name"], entry["virtual_size"]) for entry in listed["snapshots"]] == [
        ("1", "uno", 8 << 20)
    ]
    assert byre(capsys, "snapshot", "list", image, "un")[1]["snapshots"] == listed["snapshots"]
    assert byre(capsys, "snapshot", "list", image, "x")[1]["snapshots"] == []
    assert byre(capsys, "snapshot", "revert", image, "un")[0] == 66  # prefixes only where nothing changes
    assert byre(capsys, "snapshot", "revert", image, "uno")[0] == 0
    status, tree = byre(capsys, "snapshot", "tree", image)
    assert tree["inferred"] is True
    assert [(node["name"], node["parent_id"]) for node in tree["nodes"]] == [("uno", None), (None, "1")]
    status, gone = byre(capsys, "snapshot", "delete", image, "uno", "--compact")
    assert status == 0
    assert gone["shortened"] >= 0
    assert_sound(image)


@pytest.mark.oracle
def test_two_snapshots_of_one_name_are_told_apart_by_id(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    qemu_img("snapshot", "-c", "same", image)
    qemu_img("snapshot", "-c", "same", image)
    status, error = byre(capsys, "snapshot", "delete", image, "same")
    assert (status, error["found"]) == (64, "ids 1, 2")
    assert byre(capsys, "snapshot", "delete", image, "--id", "2")[1]["snapshot"]["id"] == "2"
    assert_sound(image)


def test_raw_images_have_no_snapshots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = tmp_path / "plain.img"
    plain.write_bytes(bytes(4096))
    assert byre(capsys, "snapshot", "list", plain)[0] == 69
    assert byre(capsys, "check", plain)[0] == 69


@pytest.mark.oracle
def test_check_has_qemu_s_exit_statuses_and_repairs(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert byre(capsys, "check", image)[0] == 0
    data = bytearray(image.read_bytes())
    block = int.from_bytes(data[0x10000:0x10008], "big")
    data[block + 200 : block + 202] = b"\0\1"
    data += bytes(100 * 65536 + 65536 - len(data)) if len(data) < 101 * 65536 else b""
    image.write_bytes(data)
    status, report = byre(capsys, "check", image)
    assert (status, report["leaks"], report["verdict"]) == (3, 1, "leaks")
    status, plan = byre(capsys, "check", image, "--repair", "leaks", "--dry-run")
    assert status == 3
    assert len(plan["repair"]["actions"]) == 1
    assert image.read_bytes() == data
    status, after = byre(capsys, "check", image, "--repair", "leaks")
    assert (status, after["repair"]["before"]["leaks"]) == (0, 1)
    data = bytearray(image.read_bytes())
    data[block + 10 : block + 12] = b"\0\0"
    image.write_bytes(data)
    assert byre(capsys, "check", image)[0] == 2
    assert byre(capsys, "check", image, "--dry-run")[0] == 64
    assert byre(capsys, "check", image, "--repair", "all")[0] == 0
    assert_sound(image)


@pytest.mark.oracle
def test_resize_grows_and_shrinks_only_when_told_to(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert byre(capsys, "resize", image, "+8M")[1]["new_size"] == 16 << 20
    assert byre(capsys, "resize", image, "1M")[0] == 64
    status, refused = byre(capsys, "resize", image, "1M", "--shrink")
    assert (status, refused["found"]) == (64, "guest offset 0x100000")
    assert byre(capsys, "resize", image, "4M", "--shrink")[0] == 0
    assert byre(capsys, "resize", image, "1M", "--shrink", "--force")[1]["old_size"] == 4 << 20
    assert_sound(image)
    qemu_io(image, ["read -P 1 0 1M"])
    plain = image.with_suffix(".raw")
    plain.write_bytes(bytes(1 << 20))
    assert byre(capsys, "resize", plain, "3M")[0] == 0
    assert plain.stat().st_size == 3 << 20


@pytest.mark.oracle
def test_commit_and_rebase(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    overlay, want = tmp_path / "over.qcow2", tmp_path / "want.raw"
    qemu_img("create", "-f", "qcow2", "-b", image.name, "-F", "qcow2", overlay, "12M")
    qemu_io(overlay, ["write -P 5 1M 1M", "write -P 6 11M 64k"])
    qemu_img("convert", "-O", "raw", overlay, want)
    status, plan = byre(capsys, "commit", overlay, "--dry-run")
    assert (status, plan["bytes"]) == (0, (1 << 20) + (64 << 10))
    assert byre(capsys, "commit", overlay)[1]["emptied"] is True
    for path in (overlay, image):
        assert_sound(path)
        qemu_img("compare", "-f", "qcow2", "-F", "raw", path, want)
    assert byre(capsys, "rebase", overlay, "-b", "nowhere.qcow2", "-F", "qcow2")[0] == 66
    assert byre(capsys, "rebase", overlay, "-b", "over.qcow2", "-F", "qcow2")[0] == 64
    assert byre(capsys, "rebase", overlay, "-b", "disk.qcow2")[0] == 64
    status, alone = byre(capsys, "rebase", overlay, "-b", "")
    assert (status, alone["backing_file"]) == (0, None)
    image.unlink()
    qemu_img("compare", "-f", "qcow2", "-F", "raw", overlay, want)
    status, moved = byre(capsys, "rebase", overlay, "-b", "gone.img", "-F", "raw", "--unsafe")
    assert (status, moved["copied"]) == (0, 0)
    assert byre(capsys, "commit", overlay)[0] == 66


@pytest.mark.oracle
def test_compact_says_what_it_would_do_and_does_it(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qemu_io(image, ["write -P 2 4M 2M", "discard 0 2M"])
    before = image.stat().st_size
    _, plan = byre(capsys, "compact", image, "--dry-run")
    assert plan["shorter"] >= 2 << 20
    assert image.stat().st_size == before
    lean = tmp_path / "lean.qcow2"
    assert byre(capsys, "compact", image, "-o", lean)[0] == 0
    assert byre(capsys, "compact", image, "-o", lean)[0] == 73
    _, done = byre(capsys, "compact", image)
    assert done["saved"] == plan["shorter"]
    assert image.stat().st_size == before - done["saved"]
    for path in (image, lean):
        assert_sound(path)
        qemu_io(path, ["read -P 0 0 2M", "read -P 2 4M 2M"])


@pytest.mark.oracle
@pytest.mark.parametrize("how", [(), ("--unsafe",)])
def test_rebase_makes_no_chain_that_loops(
    how: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, overlay = tmp_path / "base.qcow2", tmp_path / "over.qcow2"
    qemu_img("create", "-f", "qcow2", base, "1M")
    qemu_img("create", "-f", "qcow2", "-b", base.name, "-F", "qcow2", overlay)
    before = base.read_bytes()
    for name in (overlay.name, base.name):
        status, error = byre(capsys, "rebase", base, "-b", name, "-F", "qcow2", *how)
        assert (status, error["error"]) == (64, "usage")
    assert base.read_bytes() == before


@pytest.mark.oracle
def test_compact_dry_run_reads_with_force_share(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_file(image, writable=True):
        assert byre(capsys, "compact", image, "--dry-run")[0] == 75
        assert byre(capsys, "compact", image, "--dry-run", "--force-share")[0] == 0
        assert byre(capsys, "compact", image, "--force-share")[0] == 75


def test_a_compacted_copy_keeps_snapshots_and_bitmaps(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qemu_img("bitmap", "--add", image, "backup")
    qemu_img("bitmap", "--add", "--disable", image, "weekly")
    qemu_img("snapshot", "-c", "one", image)
    qemu_io(image, ["write -P 2 4M 2M", "discard 0 1M"])
    lean = tmp_path / "lean.qcow2"
    assert byre(capsys, "compact", image, "-o", lean)[0] == 0
    told = [byre(capsys, "info", path)[1] for path in (image, lean)]
    assert told[0]["bitmaps"] == told[1]["bitmaps"]
    assert [entry["name"] for entry in told[1]["bitmaps"]] == ["backup", "weekly"]
    assert all(entry["consistent"] for entry in told[1]["bitmaps"])
    assert told[0]["snapshots"] == told[1]["snapshots"]
    qemu_img("compare", image, lean)
    assert_sound(lean)
    assert byre(capsys, "check", lean)[0] == 0


@pytest.mark.oracle
def test_an_overlay_with_snapshots_is_neither_committed_nor_rebased_but_renamed(
    image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overlay = tmp_path / "over.qcow2"
    qemu_img("create", "-f", "qcow2", "-b", image.name, "-F", "qcow2", overlay)
    qemu_img("snapshot", "-c", "one", overlay)
    qemu_io(overlay, ["write -P 5 1M 1M"])
    before = [path.read_bytes() for path in (image, overlay)]
    for words in (("commit", overlay), ("commit", overlay, "--dry-run"), ("rebase", overlay, "-b", "")):
        status, error = byre(capsys, *words)
        assert (status, error["error"], error["found"]) == (69, "unsupported", "1 snapshot")
        assert "byre convert" in error["hint"]
    assert [path.read_bytes() for path in (image, overlay)] == before
    image.rename(tmp_path / "moved.qcow2")
    assert byre(capsys, "rebase", overlay, "-b", "moved.qcow2", "-F", "qcow2", "--unsafe")[0] == 0
    assert_sound(overlay)
