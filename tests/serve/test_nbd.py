"""The NBD export, read by real clients."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BYRE = [sys.executable, "-m", "byre"]


def tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} (Debian: {package}) is not installed")
    return found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(8 << 20)
        file.seek(1 << 20)
        file.write(bytes(range(256)) * 4096)
        file.seek((8 << 20) - 512)
        file.write(b"end!" * 128)
    return path


@contextmanager
def serving(image: Path, *options: str) -> Iterator[str]:
    process = subprocess.Popen([*BYRE, "serve", str(image), "--json", *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["uri"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        process.stdout.close()
    assert process.returncode == 0


@pytest.mark.oracle
def test_nbdcopy_and_nbdinfo_read_over_a_unix_socket(image: Path, tmp_path: Path) -> None:
    nbdcopy, nbdinfo = tool("nbdcopy", "libnbd-bin"), tool("nbdinfo", "libnbd-bin")
    with serving(image, "--socket", str(tmp_path / "s")) as uri:
        assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
        subprocess.run([nbdcopy, uri, tmp_path / "copy.raw"], check=True)
        facts = json.loads(subprocess.run([nbdinfo, "--json", uri], check=True, capture_output=True).stdout)
        extents = json.loads(
            subprocess.run([nbdinfo, "--map", "--json", uri], check=True, capture_output=True).stdout
        )
    assert (tmp_path / "copy.raw").read_bytes() == image.read_bytes()
    assert facts["exports"][0]["is_read_only"] and facts["exports"][0]["export-size"] == 8 << 20
    assert sum(row["length"] for row in extents) == 8 << 20 and any(row["type"] == 2 for row in extents)
    assert not (tmp_path / "s").exists()


@pytest.mark.oracle
def test_qemu_io_reads_and_may_not_write(image: Path) -> None:
    qemu_io = tool("qemu-io", "qemu-utils")
    with serving(image, "--port", "0") as uri:
        read = subprocess.run(
            [qemu_io, "-r", "-f", "raw", "-c", f"read -P 0x21 {(8 << 20) - 509} 1", uri],
            capture_output=True,
            text=True,
        )
        write = subprocess.run([qemu_io, "-f", "raw", "-c", "write 0 512", uri], capture_output=True, text=True)
    assert "Pattern verification failed" not in read.stdout and "read 1/1" in read.stdout
    assert write.returncode != 0


@pytest.mark.oracle
def test_once_ends_when_the_client_has_gone(image: Path) -> None:
    nbdinfo = tool("nbdinfo", "libnbd-bin")
    process = subprocess.Popen(
        [*BYRE, "serve", str(image), "--json", "--port", "0", "--once"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    uri = json.loads(process.stdout.readline())["uri"]
    subprocess.run([nbdinfo, "--map", uri], check=True, capture_output=True)
    assert process.wait(10) == 0
    process.stdout.close()


def test_garbage_from_a_client_ends_only_its_connection(image: Path) -> None:
    with serving(image, "--port", "0") as uri:
        where = ("127.0.0.1", int(uri.rsplit(":", 1)[1]))
        for garbage in (b"\0" * 64, os.urandom(4096), b"\0\0\0\3IHAVEOPT" + struct.pack(">II", 7, 1 << 31)):
            with socket.create_connection(where) as client:
                client.settimeout(5)
                client.sendall(garbage)
                client.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionResetError):
                    while client.recv(4096):
                        pass
        with socket.create_connection(where) as client:
            client.settimeout(5)
            client.recv(18)
            client.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0))
            assert struct.unpack(">QH", client.recv(10))[0] == 8 << 20
            client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 8 << 20, 512))
            assert struct.unpack(">IIQ", client.recv(16)) == (0x67446698, 22, 7)
            client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 8, (8 << 20) - 4, 4))
            reply = b""
            while len(reply) < 20:
                reply += client.recv(20 - len(reply)) or pytest.fail("the server closed the connection")
            assert reply[16:] == b"end!"


def test_a_port_that_is_taken_is_said(image: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = subprocess.run([*BYRE, "serve", str(image), "--port", str(port)], capture_output=True, text=True)
    assert run.returncode == 74 and "--port" in run.stderr
