"""The NBD export, read by real clients."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import byre
from byre.disks.disk import Disk
from byre.serve import protocol, server

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
        process.wait(120)
        process.stdout.close()
    assert process.returncode == 0


@contextmanager
def in_process(exports: dict[str, Disk]) -> Iterator[tuple[str, int]]:
    """A server in this process; its address."""
    listener = server.listen_tcp("127.0.0.1", 0)
    address: tuple[str, int] = listener.getsockname()
    nbd = server.NbdServer(exports, listener)
    thread = threading.Thread(target=nbd.run)
    thread.start()
    try:
        yield address
    finally:
        nbd.stop()
        thread.join()
        nbd.close()
        for disk in exports.values():
            disk.close()


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
    assert process.wait(120) == 0
    process.stdout.close()


def test_garbage_from_a_client_ends_only_its_connection(image: Path) -> None:
    with serving(image, "--port", "0") as uri:
        where = ("127.0.0.1", int(uri.rsplit(":", 1)[1]))
        noise = random.Random(1).randbytes(4096)
        for garbage in (b"\0" * 64, noise, b"\0\0\0\3IHAVEOPT" + struct.pack(">II", 7, 1 << 31)):
            with socket.create_connection(where) as client:
                client.settimeout(60)
                try:
                    client.sendall(garbage)
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(4096):
                        pass
                except TimeoutError:
                    pytest.fail("the server keeps the connection")
                except OSError:  # it hung up before it had all: which call hears of that is chance
                    pass
        with socket.create_connection(where) as client:
            client.settimeout(60)
            assert len(client.recv(18, socket.MSG_WAITALL)) == 18
            client.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 0))
            assert struct.unpack(">QH", client.recv(10, socket.MSG_WAITALL))[0] == 8 << 20
            client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 7, 8 << 20, 512))
            assert struct.unpack(">IIQ", client.recv(16, socket.MSG_WAITALL)) == (0x67446698, 22, 7)
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


def _to_transmission(client: socket.socket) -> None:
    """Through the negotiation, to the default export."""
    client.settimeout(60)
    assert client.recv(18, socket.MSG_WAITALL)[:8] == b"NBDMAGIC"
    client.sendall(b"\0\0\0\3IHAVEOPT" + struct.pack(">II", 1, 0))
    assert len(client.recv(10, socket.MSG_WAITALL)) == 10


def _request(command: int, offset: int, length: int) -> bytes:
    return struct.pack(">IHHQQI", 0x25609513, 0, command, 7, offset, length)


def test_a_long_read_comes_whole(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(20 << 20)
    with (
        in_process({"": byre.open_disk(image)}) as where,
        socket.create_connection(where) as client,
    ):
        _to_transmission(client)
        client.sendall(_request(0, 512, 18 << 20))
        answer = bytearray()
        while len(answer) < 16 + (18 << 20):
            answer += client.recv(1 << 20)
    assert answer[16:] == image.read_bytes()[512 : 512 + (18 << 20)]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_long_reads_that_nobody_takes_cost_little_memory(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.write_bytes(bytes(range(256)) * (33 << 12))
    process = subprocess.Popen(
        [*BYRE, "serve", str(image), "--json", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        where = ("127.0.0.1", int(json.loads(process.stdout.readline())["uri"].rsplit(":", 1)[1]))
        with contextlib.ExitStack() as stack:
            for _ in range(31):
                client = stack.enter_context(socket.create_connection(where))
                _to_transmission(client)
                client.sendall(_request(0, 0, 32 << 20))
                assert client.recv(1)  # it is on its way
            status = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.terminate()
        process.wait(120)
        process.stdout.close()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    assert peak < 250 << 10, f"{peak} KiB"


@pytest.mark.parametrize(("count", "pause"), [(1, 0.05), (500, 0)], ids=["now and then", "without end"])
def test_a_client_that_never_comes_to_the_end_of_the_handshake_loses_its_place(
    image: Path, monkeypatch: pytest.MonkeyPatch, count: int, pause: float
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_SECONDS", 0.5)
    with in_process({"": byre.open_disk(image)}) as where, socket.create_connection(where) as client:
        client.settimeout(60)
        assert client.recv(18)
        began = time.monotonic()
        try:
            client.sendall(b"\0\0\0\3")
            while True:
                assert time.monotonic() - began < 60, "the server has listened to it for a minute"
                client.sendall((b"IHAVEOPT" + struct.pack(">II", 3, 0)) * count)
                if not client.recv(1 << 20):
                    break
                time.sleep(pause)
        except TimeoutError:
            pytest.fail("the server keeps the connection")
        except OSError:  # the end may come as a reset
            pass


def test_an_error_that_names_a_file_that_is_not_utf8_reaches_the_client() -> None:
    assert protocol.error_chunk(1, protocol.Errno.EIO, "n\udcff.raw: gone").endswith(b"n\\udcff.raw: gone")
