"""Proxmox VE's API: the disk uploaded, the machine made. Over TLS that is always verified, with an API token.

Source: Proxmox VE's API viewer. A token is ``USER@REALM!NAME=SECRET``; it is read from a file or from the
environment, never from an argument, and stands in no error and no output.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, urlencode

from byre.disks.disk import Disk
from byre.errors import MissingError, StorageError, UnsupportedError, UsageError
from byre.machine.export import proxmox
from byre.machine.export.quoting import one_line, plain_name
from byre.machine.export.running import Prepared, write_disk
from byre.storage.small_file import read_small_file

if TYPE_CHECKING:
    import urllib3

MAX_TOKEN = 4096
VARIABLE = "BYRE_PROXMOX_TOKEN"
PORT = 8006
_TOKEN = re.compile(r"[^\s!=:@]+@[A-Za-z0-9._-]+![A-Za-z0-9._-]+=[0-9A-Za-z-]{8,128}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::([0-9]{1,5}))?")
_LARGEST_ANSWER = 1 << 20
_POLL = 0.5
_STEP = 1 << 20


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the machine goes. ``storage`` takes its disk, ``upload_to`` the file; None: the host is asked."""

    host: str
    token: str = field(repr=False)
    node: str | None
    storage: str
    upload_to: str
    vmid: int | None
    ca: str | None
    timeout: float = 3600.0
    """Seconds that one task of the host may take."""


@dataclass(frozen=True, slots=True)
class Sent:
    """The machine that was made. ``volume`` is the uploaded file, which stays until somebody removes it."""

    node: str
    vmid: int
    volume: str


def read_token(path: str | None) -> str:
    """The API token, from the file or else from the environment. Raises MissingError, UsageError, StorageError."""
    if path is not None:
        text = read_small_file(Path(path).expanduser(), MAX_TOKEN).decode("ascii", "replace").strip()
    else:
        text = os.environ.get(VARIABLE, "").strip()
        if not text:
            raise MissingError(
                "there is no API token",
                hint=f"Put USER@REALM!NAME=SECRET into a file (--token-file) or into ${VARIABLE}.",
            )
    if not _TOKEN.fullmatch(text):
        raise UsageError(
            "this is no API token", path=path or f"${VARIABLE}", expected="USER@REALM!NAME=SECRET, on one line"
        )
    return text


def send(
    prepared: Prepared,
    disk: Disk,
    connection: Connection,
    *,
    threads: int | None = None,
    advance: Callable[[int], None] | None = None,
) -> Sent:
    """Convert the disk, upload it and make the machine. What is uploaded stays there when a later step fails, and
    the error says so. Raises any ByreError."""
    api = Api(connection)
    node = connection.node or api.only_node()
    vmid = connection.vmid or api.next_number()
    name = f"{plain_name(prepared.subject.machine.name)}-{secrets.token_hex(4)}.qcow2"
    with TemporaryDirectory(prefix="byre-proxmox-") as folder:
        write_disk(prepared, disk, Path(folder), threads=threads, advance=advance)
        path = Path(folder) / prepared.plan.disk.path
        api.wait(node, api.upload(node, connection.upload_to, path, name, advance))
    volume = f"{connection.upload_to}:import/{name}"
    options = dict(proxmox.options(prepared.subject))
    options[proxmox.slot(prepared.subject)] = f"{connection.storage}:0,import-from={volume}"
    try:
        api.wait(node, api.post(f"/nodes/{quote(node)}/qemu", {"vmid": str(vmid), **options}))
    except (StorageError, UnsupportedError) as error:
        raise type(error)(
            error.what,
            path=error.path,
            found=error.found,
            expected=error.expected,
            hint=f"The disk was uploaded as {volume}, and is still there.",
        ) from error
    return Sent(node, vmid, volume)


class Api:
    """One host. Mutable: it keeps its connection."""

    def __init__(self, connection: Connection) -> None:
        import urllib3

        match = _HOST.fullmatch(connection.host)
        if match is None:
            raise UsageError("this is no host", found=one_line(connection.host), expected="HOST or HOST:PORT")
        for given in (connection.node, connection.storage, connection.upload_to):
            if given is not None and not _NAME.fullmatch(given):
                raise UsageError("this is no name of a node or storage", found=one_line(given))
        if connection.ca is not None and not Path(connection.ca).is_file():
            raise MissingError("the certificate's file is missing", path=connection.ca)
        self.host = f"{match[1]}:{match[2] or PORT}"
        self._timeout = connection.timeout
        self._headers = {"Authorization": f"PVEAPIToken={connection.token}"}
        self._pool: urllib3.PoolManager = urllib3.PoolManager(
            cert_reqs="CERT_REQUIRED",
            ca_certs=connection.ca,
            retries=False,
            timeout=urllib3.Timeout(connect=15, read=120),
        )

    def get(self, path: str) -> Any:
        return self._call("GET", path, None, {})

    def post(self, path: str, values: Mapping[str, str]) -> Any:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._call("POST", path, urlencode(values).encode(), form)

    def only_node(self) -> str:
        """The host's node, where it has just one."""
        rows = self.get("/nodes")
        if not isinstance(rows, list):
            raise self._strange("/nodes")
        names = [str(row["node"]) for row in rows if isinstance(row, dict) and "node" in row]
        if len(names) != 1 or not _NAME.fullmatch(names[0]):
            raise UsageError(
                "which node is meant?", path=self.host, found=one_line(", ".join(names)), hint="--node NAME"
            )
        return names[0]

    def next_number(self) -> int:
        """The next machine's number that is free."""
        said = str(self.get("/cluster/nextid"))
        if not said.isascii() or not said.isdecimal() or len(said) > 9:
            raise self._strange("/cluster/nextid")
        return int(said)

    def _strange(self, path: str) -> StorageError:
        return StorageError("answers as no Proxmox VE does", path=self.host, found=path, hint="Is it the right port?")

    def upload(self, node: str, storage: str, path: Path, name: str, advance: Callable[[int], None] | None) -> Any:
        """Upload a file as ``import`` content; gives the task."""
        boundary = secrets.token_hex(16)
        head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="content"\r\n\r\nimport\r\n'
            f'--{boundary}\r\nContent-Disposition: form-data; name="filename"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + path.stat().st_size + len(tail)),
        }
        with path.open("rb") as file:
            body = _Body(head, file, tail, advance)
            return self._call("POST", f"/nodes/{quote(node)}/storage/{quote(storage)}/upload", body, headers)

    def wait(self, node: str, task: Any) -> None:
        """Until the task has ended. Raises UnsupportedError with what it says when it failed."""
        if not isinstance(task, str):
            raise self._strange("no task")
        until = time.monotonic() + self._timeout
        while True:
            status = self.get(f"/nodes/{quote(node)}/tasks/{quote(task, safe='')}/status")
            if isinstance(status, dict) and status.get("status") == "stopped":
                said = str(status.get("exitstatus", ""))
                if said != "OK" and not said.startswith("WARNINGS"):
                    raise UnsupportedError("the host's task failed", path=self.host, found=one_line(said))
                return
            if time.monotonic() > until:
                raise StorageError("the host's task doesn't end", path=self.host, found=one_line(task))
            time.sleep(_POLL)

    def _call(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        import urllib3

        url = f"https://{self.host}/api2/json{path}"
        try:
            answer = self._pool.request(
                method,
                url,
                body=body,
                headers={**self._headers, **headers},
                redirect=False,
                preload_content=False,
            )
            data = answer.read(_LARGEST_ANSWER)
            answer.release_conn()
        except urllib3.exceptions.SSLError as error:
            raise StorageError(
                "the host's certificate can't be trusted",
                path=self.host,
                found=one_line(str(error)),
                hint="Give the certificate of its CA (/etc/pve/pve-root-ca.pem) with --ca.",
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise StorageError("the host can't be reached", path=self.host, found=one_line(str(error))) from error
        return self._content(answer.status, answer.reason, data, path)

    def _content(self, status: int, reason: str | None, data: bytes, path: str) -> Any:
        try:
            content = json.loads(data) if data else {}
        except (ValueError, RecursionError):
            content = {}
        if status == 401:
            raise UnsupportedError(
                "the host doesn't take the token", path=self.host, hint="Is it whole, and not expired?"
            )
        if status != 200 or not isinstance(content, dict):
            said = content.get("errors") if isinstance(content, dict) else None
            raise UnsupportedError(
                f"the host refused {path}",
                path=self.host,
                found=one_line(f"{status} {reason or ''} {said or ''}".strip()),
            )
        return content.get("data")


class _Body:
    """Head, file and tail as one stream. Mutable: it is read once."""

    def __init__(self, head: bytes, file: BinaryIO, tail: bytes, advance: Callable[[int], None] | None) -> None:
        self._parts: list[BinaryIO] = [BytesIO(head), file, BytesIO(tail)]
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        """The next bytes; empty at the end."""
        wanted = _STEP if size is None or size < 0 else size
        while self._parts:
            data = self._parts[0].read(wanted)
            if data:
                if self._advance is not None:
                    self._advance(len(data))
                return data
            self._parts.pop(0)
        return b""
