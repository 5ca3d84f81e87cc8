"""Proxmox VE's API as the export uses it, against a server of our own.

A mock, for the reason that a whole Proxmox can't be run here: it is a real TLS server with a certificate of its own
CA, so that verification, upload and errors are the real ones; what it answers follows Proxmox's API viewer.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from builders.machines import a_machine
from byre.disks.opening import open_disk
from byre.errors import ByreError, MissingError, StorageError, UnsupportedError, UsageError
from byre.machine.evidence import Evidence
from byre.machine.export.proxmox_api import VARIABLE, Connection, Sent, read_token, send
from byre.machine.export.running import prepare
from byre.machine.export.targets import export_target
from oracles import require_tool
from programs import byre

TOKEN = "byre@pve!export=01234567-89ab-cdef-0123-456789abcdef"


@dataclass
class Host:
    """The server's side. Mutable: it remembers what was asked."""

    port: int = 0
    certificate: Path = Path()
    asked: list[tuple[str, str]] = field(default_factory=list)
    uploaded: bytes = b""
    created: dict[str, list[str]] = field(default_factory=dict)
    nodes: tuple[str, ...] = ("pve",)
    exit_status: str = "OK"
    answer: tuple[int, bytes] | None = None
    refuses: bytes | None = None
    """What it says to the creation of a machine, with status 400."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    require_tool("openssl")
    folder = tmp_path_factory.mktemp("tls")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", folder / "key.pem", "-out",
             folder / "cert.pem"]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.fixture
def host(certificate: tuple[Path, Path]) -> Iterator[Host]:
    state = Host(certificate=certificate[0])

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            return None

        def _answer(self, data: object, status: int = 200) -> None:
            if state.answer is not None:
                status, body = state.answer
            else:
                body = json.dumps({"data": data}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            state.asked.append(("GET", self.path))
            if self.headers["Authorization"] != f"PVEAPIToken={TOKEN}":
                self._answer(None, 401)
            elif self.path.endswith("/cluster/nextid"):
                self._answer("123")
            elif self.path.endswith("/nodes"):
                self._answer([{"node": name} for name in state.nodes])
            else:
                self._answer({"status": "stopped", "exitstatus": state.exit_status})

        def do_POST(self) -> None:
            state.asked.append(("POST", self.path))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Authorization"] != f"PVEAPIToken={TOKEN}":
                self._answer(None, 401)
                return
            if self.path.endswith("/upload"):
                boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
                parts = body.split(b"--" + boundary)
                assert b'name="content"' in parts[1] and parts[1].strip().endswith(b"import")
                assert re.search(rb'filename="xp-[0-9a-f]{8}\.qcow2"', parts[2])
                state.uploaded = parts[2].partition(b"\r\n\r\n")[2][:-2]
            elif state.refuses is not None:
                state.answer = (400, state.refuses)
            else:
                state.created = parse_qs(body.decode(), keep_blank_values=True)
            self._answer("UPID:pve:0001:0002:task:123:byre@pve!export:")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server = ThreadingHTTPServer(("localhost", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *arguments: None  # type: ignore[method-assign]  # a client that hangs up is a test
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "xp.raw"
    path.write_bytes(bytes(range(256)) * 4096 + bytes(3 << 20))
    return path


def sent(image: Path, server: Host, /, **values: Any) -> Sent:
    settings = {"token": TOKEN, "node": None, "storage": "local-lvm", "upload_to": "local", "vmid": None}
    chosen = {**settings, "ca": str(server.certificate), "host": f"localhost:{server.port}", **values}
    with open_disk(image, format="raw") as disk:
        evidence = Evidence("xp", "winxp", "made for the test")
        prepared = prepare(export_target("proxmox"), "qm", disk, a_machine(), evidence, source="xp.raw")
        return send(prepared, disk, Connection(**chosen))


def test_the_disk_is_uploaded_and_the_machine_made_of_it(image: Path, host: Host, tmp_path: Path) -> None:
    done = sent(image, host)
    assert (done.node, done.vmid) == ("pve", 123)
    (tmp_path / "arrived.qcow2").write_bytes(host.uploaded)
    with open_disk(tmp_path / "arrived.qcow2") as disk:
        assert disk.read(0, disk.size) == image.read_bytes()
    values = {name: value[0] for name, value in host.created.items()}
    assert values["vmid"] == "123" and values["name"] == "xp" and values["ostype"] == "wxp"
    assert values["ide0"] == f"local-lvm:0,import-from={done.volume}"
    assert re.fullmatch(r"local:import/xp-[0-9a-f]{8}\.qcow2", done.volume)
    assert values["net0"].endswith("link_down=1")
    assert host.asked[-2][1] == "/api2/json/nodes/pve/qemu"
    assert not list(tmp_path.glob("byre-proxmox-*"))


def test_a_certificate_of_an_unknown_ca_ends_it_before_the_token_is_sent(image: Path, host: Host) -> None:
    with pytest.raises(StorageError) as caught:
        sent(image, host, ca=None)
    assert "--ca" in (caught.value.hint or "") and host.asked == []
    assert TOKEN.partition("=")[2] not in str(caught.value)


def test_a_certificate_for_another_name_is_refused(image: Path, host: Host) -> None:
    with pytest.raises(StorageError) as caught:
        sent(image, host, host=f"127.0.0.1:{host.port}")
    assert "certificate" in caught.value.what and host.asked == []


def test_a_wrong_token_is_said_without_showing_it(image: Path, host: Host) -> None:
    wrong = "byre@pve!export=ffffffff-ffff-ffff-ffff-ffffffffffff"
    with pytest.raises(UnsupportedError) as caught:
        sent(image, host, token=wrong)
    assert "token" in caught.value.what and "ffff" not in str(caught.value)
    assert "ffff" not in repr(Connection("h", wrong, None, "s", "u", None, None))


def test_a_task_that_fails_says_why(image: Path, host: Host) -> None:
    host.exit_status = "no space left"
    with pytest.raises(UnsupportedError) as caught:
        sent(image, host)
    assert caught.value.found == "no space left"


def test_a_machine_that_is_refused_says_why_and_where_the_upload_is(image: Path, host: Host) -> None:
    host.refuses = b'{"data": null, "errors": {"vmid": "exists already"}}'
    with pytest.raises(UnsupportedError) as caught:
        sent(image, host)
    assert "exists already" in str(caught.value.found) and "400" in str(caught.value.found)
    assert "local:import/xp-" in (caught.value.hint or "") and host.uploaded


@pytest.mark.parametrize("answer", [(500, b"<html>no</html>"), (200, b"[]"), (200, b"{" * 100_000), (302, b"")])
def test_answers_that_make_no_sense_are_errors_of_ours(image: Path, host: Host, answer: tuple[int, bytes]) -> None:
    host.answer = answer
    with pytest.raises(ByreError):
        sent(image, host)


def test_several_nodes_need_a_choice(image: Path, host: Host) -> None:
    host.nodes = ("one", "two")
    with pytest.raises(UsageError) as caught:
        sent(image, host)
    assert caught.value.found == "one, two"


@pytest.mark.parametrize("name", ["a/b", "a b", "../x", "-x", ""])
def test_names_that_could_change_the_path_are_refused(image: Path, host: Host, name: str) -> None:
    for field_name in ("node", "storage", "upload_to"):
        with pytest.raises(UsageError):
            sent(image, host, **{field_name: name})
    with pytest.raises(UsageError):
        sent(image, host, host="localhost/evil")
    assert host.asked == []


def test_the_token_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    assert read_token(str(path)) == TOKEN
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert read_token(None) == TOKEN
    path.write_text("hunter2")
    with pytest.raises(UsageError) as caught:
        read_token(str(path))
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv(VARIABLE)
    with pytest.raises(MissingError):
        read_token(None)
    with pytest.raises(MissingError):
        read_token(str(tmp_path / "gone"))


def test_the_verb_sends_it_and_says_how_to_start_it(image: Path, host: Host, tmp_path: Path) -> None:
    where = ["--host", f"localhost:{host.port}", "--ca", host.certificate]
    done = byre("export", "-f", "raw", image, "--to", "proxmox", *where, environment={VARIABLE: TOKEN})
    assert "qm start 123" in done.stdout and TOKEN not in done.stdout + done.stderr
    byre("export", image, "--to", "libvirt", *where, status=64, environment={VARIABLE: TOKEN})
