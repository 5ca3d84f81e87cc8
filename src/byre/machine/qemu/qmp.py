"""A client of QMP, QEMU's control protocol, over a Unix socket: synchronous, and nothing in it waits for ever.

Lines of JSON: a greeting, ``qmp_capabilities``, then commands with an ``id`` whose replies come in order, and events
in between (QEMU's ``docs/interop/qmp-spec``). The package qemu.qmp would bring asyncio and another licence for what
is 150 lines here.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from byre.errors import ByreError, StorageError, UnsupportedError

COMMAND_SECONDS = 60.0
"""How long an answer may take: milliseconds, but for a host that is loaded or swaps."""
MAX_LINE = 64 << 20
"""The largest reply that is taken; QEMU's longest (its schema) are under 1 MiB."""
MAX_EVENTS = 10_000


class QmpSilentError(StorageError):
    """QEMU is there and doesn't answer."""


class QmpClosedError(StorageError):
    """QEMU has closed the connection: it has ended, or someone else holds it."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``seconds`` is QEMU's host time, ``data`` as it came."""

    name: str
    seconds: float
    data: Mapping[str, Any] = field(default_factory=dict)


class QmpClient:
    """One connection. Mutable: it holds the socket, what was read too far, and events nobody has fetched yet.

    A single client may use one of QEMU's monitor sockets at a time; a second one waits unanswered.
    """

    def __init__(self, connection: socket.socket, *, name: str) -> None:
        self.connection = connection
        self.name = name
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)
        self.version: tuple[int, int, int] = (0, 0, 0)
        self._rest = bytearray()
        self._next_id = 0

    def execute(self, command: str, *, timeout: float = COMMAND_SECONDS, **arguments: Any) -> Any:
        """Run a command and return its ``return``; ``_`` in argument names stands for ``-``.

        Raises QmpSilentError after ``timeout`` seconds, QmpClosedError where QEMU has gone, UnsupportedError with
        QEMU's own words where it refuses.
        """
        self._next_id += 1
        request: dict[str, Any] = {"execute": command, "id": self._next_id}
        if arguments:
            request["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        until = time.monotonic() + timeout
        self._send(json.dumps(request).encode() + b"\n", until)
        while True:
            reply = self._message(until, waiting_for=command)
            if reply.get("id") != self._next_id:
                continue  # a late answer to a command that timed out
            error = reply.get("error")
            if isinstance(error, Mapping):
                raise UnsupportedError(f"QEMU refuses {command}: {error.get('desc')}", path=self.name)
            return reply.get("return")

    def human(self, line: str, *, timeout: float = COMMAND_SECONDS) -> str:
        """Run a line of the human monitor; what it prints. For commands that QMP lacks."""
        return str(self.execute("human-monitor-command", timeout=timeout, command_line=line))

    def next_event(self, timeout: float) -> Event | None:
        """The next event, or None after ``timeout`` seconds. Raises QmpClosedError where QEMU has gone."""
        if self.events:
            return self.events.popleft()
        until = time.monotonic() + timeout
        try:
            while not self.events:
                self._message(until, waiting_for="an event", any_reply=False)
        except QmpSilentError:
            return None
        return self.events.popleft()

    def wait_job(self, job: str, *, timeout: float = 600.0) -> None:
        """Wait until a background job has ended, and dismiss it; UnsupportedError with QEMU's words if it failed."""
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            for each in self.execute("query-jobs"):
                if each.get("id") == job and each.get("status") == "concluded":
                    self.execute("job-dismiss", id=job)
                    if each.get("error"):
                        raise UnsupportedError(f"QEMU couldn't: {each['error']}", path=self.name)
                    return
            time.sleep(0.05)
        raise QmpSilentError(f"the job {job} doesn't end", path=self.name, expected=f"within {timeout:.0f} s")

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def greet(self, timeout: float) -> None:
        """Take the greeting and leave the negotiation; part of connecting."""
        until = time.monotonic() + timeout
        greeting = self._message(until, waiting_for="its greeting").get("QMP")
        try:
            stated = greeting["version"]["qemu"]  # type: ignore[index]
            self.version = (int(stated["major"]), int(stated["minor"]), int(stated["micro"]))
        except (KeyError, TypeError, ValueError):
            raise UnsupportedError("what answers there isn't QEMU", path=self.name) from None
        self.execute("qmp_capabilities", timeout=max(0.1, until - time.monotonic()))

    def _send(self, data: bytes, until: float) -> None:
        try:
            self.connection.settimeout(max(0.01, until - time.monotonic()))
            self.connection.sendall(data)
        except TimeoutError as error:
            raise self._silent("to be told something") from error
        except OSError as error:
            raise self._closed() from error

    def _message(self, until: float, *, waiting_for: str, any_reply: bool = True) -> dict[str, Any]:
        """The next reply (or greeting); events on the way are kept. ``any_reply`` False also returns at an event."""
        while True:
            message = self._line(until, waiting_for)
            if "event" not in message:
                return message
            stamp = message.get("timestamp")
            seconds = 0.0
            if isinstance(stamp, Mapping):
                seconds = float(stamp.get("seconds", 0)) + float(stamp.get("microseconds", 0)) / 1e6
            data = message.get("data")
            self.events.append(Event(str(message["event"]), seconds, data if isinstance(data, Mapping) else {}))
            if not any_reply:
                return message

    def _line(self, until: float, waiting_for: str) -> dict[str, Any]:
        while b"\n" not in self._rest:
            left = until - time.monotonic()
            if left <= 0:
                raise self._silent(waiting_for)
            if len(self._rest) > MAX_LINE:
                raise UnsupportedError("an answer of QEMU's has no end", path=self.name)
            try:
                self.connection.settimeout(left)
                data = self.connection.recv(1 << 16)
            except TimeoutError as error:
                raise self._silent(waiting_for) from error
            except OSError as error:
                raise self._closed() from error
            if not data:
                raise self._closed()
            self._rest += data
        line, _, rest = self._rest.partition(b"\n")
        self._rest = bytearray(rest)
        try:
            message = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UnsupportedError("what answers there doesn't speak QMP", path=self.name) from error
        if not isinstance(message, dict):
            raise UnsupportedError("what answers there doesn't speak QMP", path=self.name)
        return message

    def _silent(self, waiting_for: str) -> ByreError:
        return QmpSilentError(
            f"QEMU doesn't answer (waiting for {waiting_for})",
            path=self.name,
            hint="Its monitor may be in use by another program; 'byre ps' shows the machine's process.",
        )

    def _closed(self) -> ByreError:
        return QmpClosedError("QEMU has closed its monitor", path=self.name, hint="'byre ps' shows what runs.")


def connect(path: Path, *, timeout: float = COMMAND_SECONDS, greeting: float | None = None) -> QmpClient:
    """Connect to a monitor's socket, waiting for it to appear for at most ``timeout`` seconds, and for its greeting
    for as long as ``greeting`` (None: what is left of ``timeout``).

    Raises QmpClosedError where nobody listens, QmpSilentError where nobody answers.
    """
    until = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(max(0.01, until - time.monotonic()))
            connection.connect(str(path))
            break
        except OSError as error:
            connection.close()
            if time.monotonic() >= until:
                raise QmpClosedError(
                    f"no machine listens there: {error.strerror or error}", path=path, hint="See 'byre ps'."
                ) from error
            time.sleep(0.02)
    client = QmpClient(connection, name=str(path))
    try:
        client.greet(max(0.1, until - time.monotonic()) if greeting is None else greeting)
    except BaseException:
        client.close()
        raise
    return client
