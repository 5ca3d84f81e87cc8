"""The client of ClamAV's daemon with a real clamd and a database of our own, and with daemons that misbehave."""

from __future__ import annotations

import hashlib
import os
import pwd
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import byre as package
from builders.memory_files import MemoryFiles
from byre.audit.census import take_census
from byre.audit.clamd import ClamdScanner, command, instream, open_clamd
from byre.errors import StorageError, UnsupportedError, UsageError
from oracles import require_tool
from programs import byre, byre_json

NEEDLE = b"Byre's own test string, inert"
SPECIMEN = Path(package.__file__).parent / "samples" / "specimen.qcow2"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A clamd that knows one string and one digest, on a socket of its own."""
    program = require_tool("clamd")
    folder = tmp_path_factory.mktemp("clamd")
    (folder / "db").mkdir()
    (folder / "db" / "lab.ndb").write_text(f"Lab.Needle:0:*:{NEEDLE.hex()}\n")
    whole = b"known by its digest" * 10
    (folder / "db" / "lab.hdb").write_text(f"{hashlib.md5(whole).hexdigest()}:{len(whole)}:Lab.Digest\n")
    link = folder / "s"
    (folder / "clamd.conf").write_text(
        f"DatabaseDirectory {folder / 'db'}\nLocalSocket {link}\nForeground yes\nStreamMaxLength 2M\n"
        f"TemporaryDirectory {folder}\nUser {pwd.getpwuid(os.geteuid()).pw_name}\nConcurrentDatabaseReload no\n"
    )
    with subprocess.Popen(
        [program or "clamd", "-c", folder / "clamd.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            until = time.monotonic() + 240
            while not _answers(str(link)):
                assert server.poll() is None and time.monotonic() < until, "clamd didn't start"
                time.sleep(0.1)
            yield str(link)
        finally:
            server.terminate()
            server.wait(240)


def _answers(link: str) -> bool:
    """Its socket is there before anybody listens."""
    try:
        return command(link, b"PING") == "PONG"
    except StorageError:
        return False


@pytest.mark.oracle
def test_clamd_finds_what_it_knows_and_nothing_else(daemon: str) -> None:
    files = {
        "/a.txt": b"before " + NEEDLE + b" after",
        "/b.dat": b"known by its digest" * 10,
        "/c.txt": b"nothing here",
        "/large.dat": bytes(3 << 20),
    }
    found = take_census(MemoryFiles(files), scanners=[open_clamd(daemon)])[1].scans[0]
    assert {hit.path: hit.name.removesuffix(".UNOFFICIAL") for hit in found.hits} == {
        "/a.txt": "Lab.Needle",
        "/b.dat": "Lab.Digest",
    }
    assert [(each.path, each.reason) for each in found.skipped] == [
        ("/large.dat", "larger than clamd's StreamMaxLength")
    ]
    assert found.about.startswith("ClamAV")


@pytest.mark.oracle
def test_the_verb_asks_clamd_and_says_so(daemon: str) -> None:
    payload = byre_json("audit", SPECIMEN, "--only", "clean", "--clamd", daemon)
    row = next(each for each in payload["guest"]["looked"] if each["name"] == "ClamAV")
    assert (row["state"], row["about"].startswith("ClamAV"), row["problem"]) == ("used", True, None)


def test_a_daemon_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    byre("audit", SPECIMEN, "--clamd", tmp_path / "none", status=74)
    with pytest.raises(StorageError, match="doesn't answer") as caught:
        open_clamd(str(tmp_path / "none"))
    assert caught.value.path == str(tmp_path / "none")
    with pytest.raises(UsageError):
        command("localhost:port", b"PING")


def answering(tmp_path: Path, answer: Callable[[socket.socket], None]) -> str:
    """The path of a socket at which one connection is answered."""
    path = str(tmp_path / "s")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(path)
    server.listen()

    def run() -> None:
        with server, server.accept()[0] as link:
            answer(link)

    threading.Thread(target=run, daemon=True).start()
    return path


def test_a_daemon_that_hangs_up_leaves_the_file_unchecked(tmp_path: Path) -> None:
    path = answering(tmp_path, lambda link: None)
    with pytest.raises((UnsupportedError, StorageError)):
        list(ClamdScanner(path, "").scan("/x", bytes(1 << 20)))


def test_an_answer_without_end_is_cut(tmp_path: Path) -> None:
    def flood(link: socket.socket) -> None:
        link.recv(10)
        try:
            for _ in range(100):
                link.sendall(b"x" * 4096)
        except OSError:
            pass

    assert len(instream(answering(tmp_path, flood), b"")) <= 8192


def test_something_else_at_the_address_is_refused(tmp_path: Path) -> None:
    path = answering(tmp_path, lambda link: link.sendall(b"220 mail ready\0"))
    with pytest.raises(UnsupportedError, match="isn't clamd"):
        open_clamd(path)
