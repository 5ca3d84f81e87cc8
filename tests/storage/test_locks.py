"""QEMU's own programs on the other side of the locks."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from byre.errors import LockedError
from byre.storage import locks
from byre.storage.local import open_file

QEMU_IO = shutil.which("qemu-io") or "qemu-io"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(bytes(1 << 20))
    return path


@pytest.fixture
def qcow2(tmp_path: Path) -> Path:
    path = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "1M"], check=True)
    return path


@contextmanager
def qemu_io_holding(path: Path, *options: str, format: str = "raw") -> Iterator[subprocess.Popen[str]]:
    """qemu-io with the image open until the block is left."""
    process = subprocess.Popen(
        [QEMU_IO, "-f", format, *options, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write("length\n")
        process.stdin.flush()
        while "MiB" not in process.stdout.readline():
            assert process.poll() is None
        yield process
    finally:
        process.stdin.write("quit\n")
        process.stdin.close()
        process.wait(120)
        process.stdout.close()


@contextmanager
def storage_daemon_holding(path: Path, folder: Path) -> Iterator[None]:
    """qemu-storage-daemon exporting the image writable over NBD."""
    socket = folder / "nbd.sock"
    process = subprocess.Popen(
        [
            "qemu-storage-daemon",
            "--blockdev",
            f"driver=file,node-name=disk,filename={path}",
            "--nbd-server",
            f"addr.type=unix,addr.path={socket}",
            "--export",
            "type=nbd,id=e,node-name=disk,writable=on",
        ]
    )
    try:
        deadline = time.monotonic() + 120
        while not socket.exists() or not locks.in_use(path):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait(120)


def test_an_image_nobody_has_open_is_not_in_use(image: Path) -> None:
    assert locks.in_use(image) is False


def test_our_own_open_shows_as_in_use_until_it_is_closed(image: Path) -> None:
    with open_file(image, writable=True) as file:
        assert file.locked
        assert locks.in_use(image) is True
    assert locks.in_use(image) is False


def test_two_readers_share_an_image(image: Path) -> None:
    with open_file(image), open_file(image):
        pass


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (True, True)])
def test_a_writer_excludes_everyone(image: Path, first: bool, second: bool) -> None:
    with open_file(image, writable=first), pytest.raises(LockedError) as caught:
        open_file(image, writable=second)
    assert caught.value.path == str(image)
    with open_file(image, writable=second):  # the refused attempt left no lock behind
        pass


@pytest.mark.oracle
def test_what_qemu_io_writes_to_is_not_opened(image: Path) -> None:
    with qemu_io_holding(image):
        assert locks.in_use(image) is True
        for writable in (False, True):
            with pytest.raises(LockedError) as caught:
                open_file(image, writable=writable)
            assert caught.value.exit_code == 75
        with open_file(image, force_share=True) as file:
            assert file.read(0, 512) == bytes(512)


@pytest.mark.oracle
def test_what_qemu_io_only_reads_is_read_but_not_written(qcow2: Path) -> None:
    with qemu_io_holding(qcow2, "-r", format="qcow2"):
        with open_file(qcow2) as file:
            assert file.read(0, 4) == b"QFI\xfb"
        with pytest.raises(LockedError):
            open_file(qcow2, writable=True)


@pytest.mark.oracle
@pytest.mark.parametrize("writable", [False, True])
def test_qemu_io_refuses_to_write_to_what_we_have_open(image: Path, writable: bool) -> None:
    with open_file(image, writable=writable):
        done = subprocess.run(
            [QEMU_IO, "-f", "raw", "-c", "write 0 512", str(image)], capture_output=True, text=True, check=False
        )
    assert done.returncode != 0 and "lock" in done.stderr
    assert image.read_bytes()[:512] == bytes(512)


@pytest.mark.oracle
def test_qemu_io_reads_beside_our_reader_but_not_beside_our_writer(qcow2: Path) -> None:
    command = [QEMU_IO, "-r", "-f", "qcow2", "-c", "read 0 512", str(qcow2)]
    with open_file(qcow2):
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    with open_file(qcow2, writable=True):
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.oracle
def test_a_storage_daemon_keeps_us_off_its_image(image: Path, tmp_path: Path) -> None:
    with storage_daemon_holding(image, tmp_path), pytest.raises(LockedError):
        open_file(image)


def test_a_file_system_without_locks_is_not_written_without_leave(
    image: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # No file system without OFD locks can be mounted in a test; the flag is what such a system sets.
    monkeypatch.setattr(locks, "available", False)
    with pytest.raises(LockedError) as caught:
        open_file(image, writable=True)
    assert "--force-unlocked" in (caught.value.hint or "")
    with open_file(image, writable=True, force_unlocked=True) as file:
        assert not file.locked
    assert "no locks" in caplog.text
    assert locks.in_use(image) is None
