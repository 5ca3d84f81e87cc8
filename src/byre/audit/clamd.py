"""A client of ClamAV's daemon: files are handed over on its socket (INSTREAM), nothing is written to disk.

Source: clamd(8), "COMMANDS". clamd is a program of its own (Debian: clamav-daemon); Byre starts and stops none.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
from collections.abc import Iterator

from byre.audit.facts import Hit, Scan
from byre.errors import StorageError, UnsupportedError, UsageError

TIMEOUT = 120.0
CONNECT_TIMEOUT = 10.0
CHUNK = 1 << 18
MAX_SIZE = 64 << 20
MAX_REPLY = 4096
_FOUND = re.compile(r"^stream: (.{1,400}) FOUND$", re.DOTALL)
_POSSIBLY = re.compile(r"^(?:PUA|Heuristics)\.", re.IGNORECASE)
"""Names that ClamAV gives to what is possibly unwanted or only looks odd."""


class ClamdScanner:
    """A FileScanner; each file has a connection of its own, so threads don't meet."""

    name = "clamav"
    max_size = MAX_SIZE

    def __init__(self, address: str, version: str) -> None:
        self.address = address
        self.version = version

    def wants(self, path: str, size: int) -> bool:
        return True

    def scan(self, path: str, data: bytes) -> Iterator[Hit]:
        reply = instream(self.address, data)
        if reply == "stream: OK":
            return
        match = _FOUND.match(reply)
        if match is not None:
            yield Hit(path, match[1], "", "medium" if _POSSIBLY.match(match[1]) else None)
        elif "size limit exceeded" in reply:
            raise UnsupportedError("larger than clamd's StreamMaxLength", path=path)
        else:
            raise UnsupportedError(f"clamd says: {reply[:200] or 'nothing'}", path=path)

    def report(self) -> Scan:
        engine, _, rest = self.version.partition("/")
        number, _, date = rest.partition("/")
        about = f"{engine}, database {number}" if number else engine
        return Scan(self.name, used=True, about=about, date=date or None)


def open_clamd(address: str) -> ClamdScanner:
    """A scanner behind an address that answers. UsageError, StorageError."""
    version = command(address, b"VERSION")
    if not version.startswith("ClamAV"):
        raise UnsupportedError("this isn't clamd", path=address, found=version[:100], expected="ClamAV ...")
    return ClamdScanner(address, version)


def command(address: str, name: bytes) -> str:
    """The answer to a command without data."""
    try:
        with _connect(address) as link:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # what it said before that counts
                link.sendall(b"z" + name + b"\0")
            return _reply(link)
    except OSError as error:
        raise StorageError(
            f"clamd doesn't answer: {error}",
            path=address,
            hint="Is clamav-daemon running, and may you use its socket?",
        ) from error


def instream(address: str, data: bytes) -> str:
    """What clamd says of some bytes. StorageError where the connection fails."""
    try:
        with _connect(address) as link:
            try:
                link.sendall(b"zINSTREAM\0")
                for at in range(0, len(data), CHUNK):
                    piece = data[at : at + CHUNK]
                    link.sendall(struct.pack(">I", len(piece)) + piece)
                link.sendall(bytes(4))
            except (BrokenPipeError, ConnectionResetError):
                pass  # over its limit clamd answers and hangs up before it has everything
            return _reply(link)
    except OSError as error:
        raise StorageError(f"clamd's connection failed: {error}", path=address) from error


def _connect(address: str) -> socket.socket:
    """A path is a socket's, ``HOST:PORT`` a machine's."""
    host, colon, port = address.rpartition(":")
    if "/" in address or not colon:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.settimeout(CONNECT_TIMEOUT)
            link.connect(address)
        except BaseException:
            link.close()
            raise
    else:
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise UsageError("clamd's address is a socket's path or HOST:PORT", found=address)
        link = socket.create_connection((host.strip("[]") or "localhost", int(port)), CONNECT_TIMEOUT)
    link.settimeout(TIMEOUT)
    return link


def _reply(link: socket.socket) -> str:
    answer = b""
    while b"\0" not in answer and len(answer) < MAX_REPLY:
        piece = link.recv(MAX_REPLY)
        if not piece:
            break
        answer += piece
    return answer.split(b"\0", 1)[0].decode("utf-8", "replace").strip()
