"""What goes wrong on the way: a clear error, the source untouched, the target absent."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import byre
from builders.mixture import mixture, write_sparse
from byre.convert.convert import convert_image
from byre.disks.raw import RawDisk
from byre.errors import ByreError, InterruptedByUserError, StorageError
from byre.storage.memory import MemoryStorage
from programs import PEAK

SIZE = 8 << 20
BYRE = [sys.executable, "-m", "byre"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return write_sparse(tmp_path / "in" / "source.raw", mixture(SIZE, seed=4))


def limited() -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))


@pytest.mark.parametrize("options", [[], ["--compress"], ["--compress", "zstd"]])
def test_no_room_for_the_target_leaves_nothing(source: Path, tmp_path: Path, options: list[str]) -> None:
    target = tmp_path / "out" / "new.qcow2"
    before = source.read_bytes()
    done = subprocess.run(
        [*BYRE, "convert", str(source), str(target), "--json", *options],
        capture_output=True,
        text=True,
        preexec_fn=limited,
        check=False,
    )
    assert done.returncode == 74, done.stderr
    error = json.loads(done.stdout)
    assert error["schema"] == "byre/error/1" and error["path"] == str(target) and error["offset"] is not None
    assert list((tmp_path / "out").iterdir()) == []
    assert source.read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_named_with_what_is_free(source: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", full], check=False)
    if mounted.returncode:
        pytest.skip("tmpfs can't be mounted here")
    try:
        with byre.open_disk(source) as disk, pytest.raises(StorageError) as caught:
            convert_image(disk, full / "new.qcow2", "qcow2")
        assert "free on its file system" in (caught.value.hint or "")
        assert list(full.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", full], check=True)


def test_a_source_that_shrinks_is_an_error_not_zeros(source: Path, tmp_path: Path) -> None:
    with byre.open_disk(source) as disk:
        os.truncate(source, SIZE // 2)
        with pytest.raises(StorageError) as caught:
            convert_image(disk, tmp_path / "out" / "new.qcow2", "qcow2")
    assert caught.value.path == str(source)
    assert list((tmp_path / "out").iterdir()) == []


class _BadSector(MemoryStorage):
    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        if offset <= 5 << 20 < offset + len(buffer):
            raise StorageError("read failed: Input/output error", path=self.name, offset=5 << 20)
        super().read_into(offset, buffer)


def test_a_read_error_comes_out_with_its_offset(tmp_path: Path) -> None:
    disk = RawDisk(_BadSector(mixture(SIZE, seed=5), name="disk"))
    with pytest.raises(StorageError) as caught:
        convert_image(disk, tmp_path / "new.qcow2", "qcow2")
    assert caught.value.offset == 5 << 20
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_copy_leaves_nothing(source: Path, tmp_path: Path) -> None:
    asked = []

    def cancelled() -> bool:
        asked.append(1)
        return len(asked) > 2

    with byre.open_disk(source) as disk, pytest.raises(InterruptedByUserError):
        convert_image(disk, tmp_path / "out" / "new.qcow2", "qcow2", {"compress": True}, cancelled=cancelled)
    assert list((tmp_path / "out").iterdir()) == []


HELD = """
import itertools, os, sys
from byre.cli.main import main
write, count = os.pwrite, itertools.count(1)
def held(*arguments):
    if next(count) == 4:
        print("middle", flush=True)
        sys.stdin.read()
    return write(*arguments)
os.pwrite = held
sys.exit(main(sys.argv[1:]))
"""
"""Byre, which in the middle of its writes says so and waits until its stdin ends."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    source = write_sparse(tmp_path / "source.raw", mixture(48 << 20, seed=6))
    (tmp_path / "out").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HELD, "convert", str(source), str(tmp_path / "out" / "new.qcow2"), "--compress"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "middle\n"
    assert list((tmp_path / "out").iterdir()) != []
    process.send_signal(number)
    _, said = process.communicate(timeout=240)  # it ends its stdin
    assert process.returncode == 130, said
    assert "Traceback" not in said and "left behind" in said
    assert list((tmp_path / "out").iterdir()) == []


def test_the_source_and_its_chain_are_never_the_target(source: Path, tmp_path: Path) -> None:
    top = tmp_path / "in" / "top.qcow2"
    before = source.read_bytes()
    with byre.open_disk(source) as disk:
        convert_image(disk, tmp_path / "in" / "base.qcow2", "qcow2")
    subprocess.run([*BYRE, "create", str(top), "--backing", "base.qcow2", "-F", "qcow2"], check=True)
    for image, target in ((source, source), (top, top), (top, tmp_path / "in" / "base.qcow2")):
        with byre.open_disk(image) as disk, pytest.raises(ByreError) as caught:
            convert_image(disk, target, "qcow2", force=True)
        assert caught.value.exit_code == 64
    assert source.read_bytes() == before


def test_memory_stays_bounded_by_the_buffers(tmp_path: Path) -> None:
    """A terabyte with data here and there is planned and copied in little memory."""
    image = tmp_path / "huge.raw"
    with image.open("wb") as file:
        for at in range(0, 1 << 40, 1 << 33):
            file.seek(at)
            file.write(b"data" * 1024)
        file.truncate(1 << 40)
    script = (
        "import sys, byre\n"
        "from byre.convert.convert import convert_image\n"
        "with byre.open_disk(sys.argv[1], format='raw') as disk:\n"
        "    done = convert_image(disk, sys.argv[2], 'qcow2')\n"
        "assert done.copied.written == 128 << 16, done\n"
        f"print({PEAK})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(image), str(tmp_path / "huge.qcow2")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 400 << 20
