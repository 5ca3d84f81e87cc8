"""A read-only NBD server: one thread for each connection, nothing ever written."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from byre.disks.disk import Disk
from byre.errors import ByreError, ExistsError, StorageError
from byre.extents import empty_table
from byre.serve import protocol
from byre.serve.protocol import ChunkType, Command, Errno, Option, OptionReply, Request

MAX_CONNECTIONS = 32
HANDSHAKE_SECONDS = 30.0
"""For the whole of it: a client that sends a byte now and then would keep its place for ever."""
PIECE = 4 << 20
"""Bytes of a reply that are in memory at a time: all connections together take 128 MiB, whatever they ask for."""
SKIP = 1 << 16
"""Bytes of a refused write that are passed over at a time."""
Log = Callable[[str], None]


class NbdServer:
    """Serves disks by export name ('' is the default one) until it is stopped. Mutable: it owns sockets."""

    def __init__(self, exports: Mapping[str, Disk], listener: socket.socket, *, log: Log = lambda _: None) -> None:
        self.exports = exports
        self.listener = listener
        self.log = log
        self.connections = 0
        """How many clients have reached an export so far."""
        self._stopping = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._clients: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def run(self, *, once: bool = False) -> None:
        """Accept clients until ``stop``; with ``once`` until the last of the first ones has gone."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            while not self._stopping.is_set():
                ready = {key.fileobj for key, _ in selector.select(0.2 if once else None)}
                if self.listener in ready:
                    self._accept()
                with self._lock:
                    idle = not self._clients
                if once and self.connections and idle:
                    return

    def stop(self) -> None:
        """End ``run`` and every connection; safe from a signal handler and from any thread."""
        self._stopping.set()
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"x")

    def close(self) -> None:
        """Close the listener and all clients, and wait for their threads: the disks may be closed afterwards."""
        self.stop()
        self.listener.close()
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _accept(self) -> None:
        client, _ = self.listener.accept()
        with self._lock:
            crowded = len(self._clients) >= MAX_CONNECTIONS
            if not crowded:
                self._clients.add(client)
        if crowded:
            client.close()
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = _Negotiation(client, self.exports)
            disk = session.run()
            if disk is not None:
                client.settimeout(None)
                with self._lock:
                    self.connections += 1
                _Transmission(client, disk, structured=session.structured, allocation=session.allocation).run()
        except (OSError, EOFError, ByreError) as error:
            if not self._stopping.is_set():
                self.log(f"a client's connection ended: {error}")
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()


class _Negotiation:
    """The handshake with one client, up to the export that it chooses."""

    def __init__(self, client: socket.socket, exports: Mapping[str, Disk]) -> None:
        self.client = client
        self.exports = exports
        self.structured = False
        self.allocation = False
        """The client set the base:allocation context."""

    def run(self) -> Disk | None:
        """The chosen disk, or None where the client left."""
        deadline = time.monotonic() + HANDSHAKE_SECONDS
        self.client.settimeout(HANDSHAKE_SECONDS)
        self.client.sendall(protocol.GREETING)
        no_zeroes = bool(int.from_bytes(_receive(self.client, 4, deadline), "big") & protocol.CLIENT_NO_ZEROES)
        while True:
            head = _receive(self.client, 16, deadline)
            option, length = struct.unpack(">II", head[8:])
            if head[:8] != protocol.OPTION_MAGIC or length > protocol.MAX_OPTION:
                return None
            data = _receive(self.client, length, deadline)
            if option == Option.EXPORT_NAME:
                disk = self.exports.get(data.decode("utf-8", "replace"))
                if disk is not None:
                    padding = b"" if no_zeroes else bytes(124)
                    self.client.sendall(protocol.export_info(disk.size, structured=self.structured) + padding)
                return disk
            if option == Option.ABORT:
                self._reply(option, OptionReply.ACK)
                return None
            chosen = self._answer(option, data)
            if chosen is not None:
                return chosen

    def _answer(self, option: int, data: bytes) -> Disk | None:
        if option == Option.LIST:
            for name in self.exports:
                encoded = name.encode()
                self._reply(option, OptionReply.SERVER, struct.pack(">I", len(encoded)) + encoded)
            self._reply(option, OptionReply.ACK)
        elif option == Option.STRUCTURED_REPLY:
            self.structured = True
            self._reply(option, OptionReply.ACK)
        elif option in (Option.INFO, Option.GO):
            return self._info(option, data)
        elif option in (Option.LIST_META_CONTEXT, Option.SET_META_CONTEXT):
            self._contexts(option, data)
        else:
            self._reply(option, OptionReply.ERR_UNSUP)
        return None

    def _info(self, option: int, data: bytes) -> Disk | None:
        parsed = protocol.parse_name(data)
        if parsed is None:
            self._reply(option, OptionReply.ERR_INVALID)
            return None
        disk = self.exports.get(parsed[0])
        if disk is None:
            self._reply(option, OptionReply.ERR_UNKNOWN)
            return None
        info = protocol.export_info(disk.size, structured=self.structured)
        self._reply(option, OptionReply.INFO, struct.pack(">H", 0) + info)
        preferred = min(max(4096, disk.block_size), 1 << 20)
        self._reply(option, OptionReply.INFO, struct.pack(">HIII", 3, 1, preferred, protocol.MAX_READ))
        self._reply(option, OptionReply.ACK)
        return disk if option == Option.GO else None

    def _contexts(self, option: int, data: bytes) -> None:
        parsed = protocol.parse_name(data)
        queries = None if parsed is None else protocol.parse_queries(parsed[1])
        if queries is None:
            self._reply(option, OptionReply.ERR_INVALID)
            return
        listing = option == Option.LIST_META_CONTEXT
        wanted = protocol.CONTEXT in queries or (listing and (not queries or "base:" in queries))
        if not listing:
            self.allocation = wanted and self.structured
        if wanted:
            number = 0 if listing else protocol.CONTEXT_ID
            self._reply(option, OptionReply.META_CONTEXT, struct.pack(">I", number) + protocol.CONTEXT.encode())
        self._reply(option, OptionReply.ACK)

    def _reply(self, option: int, kind: OptionReply, data: bytes = b"") -> None:
        self.client.sendall(protocol.option_reply(option, kind, data))


class _Transmission:
    """Requests and replies after the handshake."""

    def __init__(self, client: socket.socket, disk: Disk, *, structured: bool, allocation: bool) -> None:
        self.client = client
        self.disk = disk
        self.structured = structured
        self.allocation = allocation

    def run(self) -> None:
        """Serve until the client disconnects or breaks the protocol."""
        while True:
            request = protocol.parse_request(_receive(self.client, protocol.REQUEST.size))
            if request is None or request.command == Command.DISCONNECT:
                return
            if request.command == Command.READ:
                self._read(request)
            elif request.command == Command.BLOCK_STATUS and self.allocation:
                self._status(request)
            elif request.command == Command.FLUSH or request.command == Command.CACHE:
                self._done(request)
            elif request.command == Command.WRITE:
                if request.length > protocol.MAX_READ:
                    return  # its data can't be skipped safely
                for start in range(0, request.length, SKIP):
                    _receive(self.client, min(SKIP, request.length - start))
                self._fail(request, Errno.EPERM, "the export is read-only")
            elif request.command in (Command.TRIM, Command.WRITE_ZEROES):
                self._fail(request, Errno.EPERM, "the export is read-only")
            else:
                self._fail(request, Errno.EINVAL, "unknown command")

    def _read(self, request: Request) -> None:
        if not self._in_range(request) or request.length > protocol.MAX_READ:
            self._fail(request, Errno.EINVAL, "the range leaves the disk or is too long")
            return
        buffer = memoryview(bytearray(min(PIECE, request.length)))
        starts = range(0, request.length, PIECE)
        try:
            # Once data has been sent an error can't be told any more: a long read is tried first, its start last.
            for start in reversed(starts):
                self._fill(buffer, request, start)
        except ByreError as error:
            self._fail(request, Errno.EIO, str(error))
            return
        if self.structured:
            head = protocol.chunk(request.cookie, ChunkType.OFFSET_DATA, 8 + request.length)
            head += struct.pack(">Q", request.offset)
        else:
            head = protocol.simple_reply(request.cookie)
        self.client.sendall(head)
        self.client.sendall(buffer)
        for start in starts[1:]:
            self.client.sendall(self._fill(buffer, request, start))

    def _fill(self, buffer: memoryview, request: Request, start: int) -> memoryview:
        """The piece of the request's bytes that begins at ``start``, in the front of ``buffer``."""
        piece = buffer[: request.length - start]
        self.disk.read_into(request.offset + start, piece)
        return piece

    def _status(self, request: Request) -> None:
        if not self._in_range(request) or not request.length:
            self._fail(request, Errno.EINVAL, "the range leaves the disk")
            return
        slices = []
        rows = 0
        try:
            for piece in self.disk.extents(request.offset, request.offset + request.length):
                slices.append(piece)
                rows += len(piece)
                if rows >= protocol.MAX_STATUS_EXTENTS:
                    break
        except ByreError as error:
            self._fail(request, Errno.EIO, str(error))
            return
        table = np.concatenate(slices) if slices else empty_table()
        payload = protocol.block_status(table, request.length, one=bool(request.flags & protocol.REQUEST_ONE))
        self.client.sendall(protocol.chunk(request.cookie, ChunkType.BLOCK_STATUS, len(payload)) + payload)

    def _in_range(self, request: Request) -> bool:
        return request.offset + request.length <= self.disk.size

    def _done(self, request: Request) -> None:
        if self.structured:
            self.client.sendall(protocol.chunk(request.cookie, ChunkType.NONE, 0))
        else:
            self.client.sendall(protocol.simple_reply(request.cookie))

    def _fail(self, request: Request, error: Errno, message: str) -> None:
        if self.structured:
            self.client.sendall(protocol.error_chunk(request.cookie, error, message))
        else:
            self.client.sendall(protocol.simple_reply(request.cookie, error))


def listen_unix(path: Path) -> socket.socket:
    """A listening Unix socket that only its owner can reach. An existing file of that name is an ExistsError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        if path.exists():
            raise ExistsError("something is there already", path=path, hint="Choose another --socket.") from error
        raise StorageError(f"a socket can't be made: {error.strerror or error}", path=path) from error
    finally:
        os.umask(before)
    listener.listen(MAX_CONNECTIONS)
    return listener


def listen_tcp(host: str, port: int) -> socket.socket:
    """A listening TCP socket. Raises StorageError where the address or the port isn't to be had."""
    try:
        return socket.create_server((host, port), backlog=MAX_CONNECTIONS)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise StorageError(
            f"can't listen on {host}:{port}: {reason}", hint="Choose another --port, or --port 0 for any free one."
        ) from error


def _receive(client: socket.socket, length: int, deadline: float | None = None) -> bytes:
    """Exactly so many bytes, by ``deadline`` (of the monotonic clock). Raises EOFError, OSError."""
    buffer = bytearray(length)
    view = memoryview(buffer)
    while view:
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("it has taken too long")
            client.settimeout(left)
        count = client.recv_into(view)
        if not count:
            raise EOFError("the client went away")
        view = view[count:]
    return bytes(buffer)
