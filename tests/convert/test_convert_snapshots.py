"""qcow2 to qcow2 with internal snapshots: qemu-img reads every one as it was."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
from pathlib import Path

import pytest

import byre
from builders.mixture import mixture, write_sparse
from byre.convert.convert import convert_image
from byre.disks.qcow2 import Qcow2Disk
from byre.errors import UnsupportedError, UsageError

SIZE = 5 << 20


def run(*words: str | Path) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def history(image: Path) -> None:
    """Four snapshots with writes, zeros and a larger disk between them."""
    run("qemu-img", "snapshot", "-c", "installed", image)
    run("qemu-io", "-c", "write -P 1 1M 700k", "-c", "write -P 2 4M 64k", image)
    run("qemu-img", "snapshot", "-c", "updated", image)
    run("qemu-img", "snapshot", "-c", "same again", image)
    if "compat: 1.1" in run("qemu-img", "info", image):  # version 2 can't be resized over snapshots
        run("qemu-img", "resize", "-q", image, "8M")
    run("qemu-io", "-c", "write -z 2M 512k", "-c", "write -P 3 3M 100k", image)
    run("qemu-img", "snapshot", "-c", "last", image)
    run("qemu-io", "-c", "write -P 4 0 1k", image)


def assert_same_tree(old: Path, new: Path) -> None:
    run("qemu-img", "check", new)
    run("qemu-img", "compare", old, new)
    listed = [json.loads(run("qemu-img", "info", "--output=json", image))["snapshots"] for image in (old, new)]
    assert listed[0] == listed[1]
    for entry in listed[0]:
        option = f"snapshot.name={entry['name']}"
        flat = [image.with_suffix(f".{entry['id']}.raw") for image in (old, new)]
        for image, raw in zip((old, new), flat, strict=True):
            run("qemu-img", "convert", "-l", option, "-O", "raw", image, raw)
        assert flat[0].read_bytes() == flat[1].read_bytes(), entry["name"]


KINDS: list[tuple[list[str], dict[str, object]]] = [
    ([], {}),
    (["-o", "cluster_size=4k"], {}),
    (["-o", "extended_l2=on"], {}),
    (["-o", "compat=0.10"], {}),
    (["-o", "compat=0.10"], {"version": 3}),
    (["-c"], {}),
    (["-c"], {"compression": "zstd"}),
    (["-c", "-o", "compression_type=zstd"], {"compress": True, "compression": "zlib"}),
    ([], {"compress": True}),
    (["-o", "refcount_bits=8"], {"compress": True, "refcount_bits": 64}),
]


@pytest.mark.oracle
@pytest.mark.parametrize(("made_with", "options"), KINDS, ids=[f"{made}{options}" for made, options in KINDS])
def test_every_snapshot_is_kept(tmp_path: Path, made_with: list[str], options: dict[str, object]) -> None:
    raw = write_sparse(tmp_path / "source.raw", mixture(SIZE, seed=2))
    old, new = tmp_path / "old.qcow2", tmp_path / "new.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *made_with, raw, old)
    history(old)
    with byre.open_disk(old) as source:
        done = convert_image(source, new, "qcow2", options, with_snapshots=True)
    assert done.snapshots == 4
    assert_same_tree(old, new)
    # Shared clusters stay shared. (Subclusters that hold nothing are holes in QEMU's file, zeros in ours.)
    assert done.actual_size <= old.stat().st_blocks * 512 * (1.25 if "extended_l2=on" in made_with else 1.02)
    run("qemu-io", "-c", "write -P 5 0 2M", new)  # copy-on-write still works in it
    run("qemu-img", "snapshot", "-d", "updated", new)
    run("qemu-img", "snapshot", "-a", "installed", new)
    run("qemu-img", "check", new)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", raw, new)


@pytest.mark.oracle
@pytest.mark.parametrize("options", [{}, {"compress": True}])
def test_the_machine_state_is_kept(tmp_path: Path, options: dict[str, object]) -> None:
    old, new = tmp_path / "old.qcow2", tmp_path / "new.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", old, "64M")
    monitor = "savevm booted\nsavevm later\nquit\n"
    subprocess.run(
        ["qemu-system-x86_64", "-m", "32", "-display", "none", "-monitor", "stdio", "-S", "-drive", f"file={old}"],
        input=monitor,
        text=True,
        check=True,
        capture_output=True,
        timeout=240,
    )
    with byre.open_disk(old) as source:
        assert isinstance(source, Qcow2Disk)
        entries = source.snapshots()
        assert [entry.name for entry in entries] == ["booted", "later"] and entries[0].vm_state_size > 1 << 16
        convert_image(source, new, "qcow2", options, with_snapshots=True)
        with byre.open_disk(new) as made:
            assert isinstance(made, Qcow2Disk) and made.snapshots() == entries
            for entry in entries:
                state = [disk.read_vm_state(entry.id, 0, entry.vm_state_size) for disk in (source, made)]
                assert state[0] == state[1]
    run("qemu-img", "check", new)


@pytest.mark.oracle
def test_snapshots_over_a_backing_image_keep_it(tmp_path: Path) -> None:
    raw = write_sparse(tmp_path / "base.raw", mixture(SIZE, seed=3))
    old, new = tmp_path / "old.qcow2", tmp_path / "new.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", raw.name, "-F", "raw", old)
    history(old)
    with byre.open_disk(old) as source:
        with pytest.raises(UnsupportedError) as caught:
            convert_image(source, new, "qcow2", with_snapshots=True)
        assert "--keep-backing" in (caught.value.hint or "")
        convert_image(source, new, "qcow2", with_snapshots=True, keep_backing=True)
    assert_same_tree(old, new)


@pytest.mark.oracle
def test_what_would_change_the_clusters_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "old.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", old, "1M")
    run("qemu-io", "-c", "write 0 64k", old)
    run("qemu-img", "snapshot", "-c", "one", old)
    with byre.open_disk(old) as source, pytest.raises(UsageError):
        convert_image(source, tmp_path / "new.qcow2", "qcow2", {"cluster_size": "1M"}, with_snapshots=True)
    with byre.open_disk(f"{old}@one") as source, pytest.raises(UsageError):
        convert_image(source, tmp_path / "new.qcow2", "qcow2", with_snapshots=True)
    with byre.open_disk(old) as source, pytest.raises(UsageError):
        convert_image(source, tmp_path / "new.qcow2", "qcow2", {"refcount_bits": 1}, with_snapshots=True)


@pytest.mark.oracle
def test_bitmaps_are_kept_as_they_are(tmp_path: Path) -> None:
    old, new = tmp_path / "old.qcow2", tmp_path / "new.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", old, "64M")
    run("qemu-img", "bitmap", "--add", "-g", "64k", old, "backup")
    run("qemu-img", "bitmap", "--add", "--disable", old, "weekly")
    run("qemu-io", "-c", "write 1M 300k", "-c", "write 40M 64k", old)
    run("qemu-img", "snapshot", "-c", "one", old)
    with byre.open_disk(old) as source:
        convert_image(source, new, "qcow2", with_snapshots=True)
    run("qemu-img", "check", new)
    seen = [json.loads(run("qemu-img", "info", "--output=json", image)) for image in (old, new)]
    lists = [entry["format-specific"]["data"]["bitmaps"] for entry in seen]
    assert lists[0] == lists[1] and [entry["name"] for entry in lists[1]] == ["backup", "weekly"]
    maps = [_dirty(image, "backup") for image in (old, new)]
    assert maps[0] == maps[1] and any(not row["data"] for row in maps[1])


def _listens(path: Path) -> bool:
    """The name is there before anybody listens."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    return False


def _dirty(image: Path, bitmap: str) -> list[dict[str, object]]:
    """The bitmap's bits as QEMU tells them over NBD: dirty ranges show as not data."""
    link = image.with_suffix(".sock")
    server = subprocess.Popen(["qemu-nbd", "-t", "-r", "-f", "qcow2", "-B", bitmap, "-k", link, image])
    try:
        while not _listens(link):
            assert server.poll() is None
            time.sleep(0.02)
        options = f"driver=nbd,server.type=unix,server.path={link},x-dirty-bitmap=qemu:dirty-bitmap:{bitmap}"
        rows: list[dict[str, object]] = json.loads(run("qemu-img", "map", "--output=json", "--image-opts", options))
        return [{key: row[key] for key in ("start", "length", "data")} for row in rows]
    finally:
        server.terminate()
        server.wait(120)
