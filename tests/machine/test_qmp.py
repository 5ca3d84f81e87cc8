"""The client never waits for ever, whatever answers at the other end."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from byre.errors import UnsupportedError
from byre.machine.qemu.qmp import QmpClosedError, QmpSilentError, connect

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": []}}
Peer = Callable[[socket.socket], None]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Peer], Path]]:
    """``serve(peer)`` is a socket whose first client ``peer`` talks to; where it has nothing more to say, the line
    stays open until the test ends, unless it closes it."""
    sockets: list[socket.socket] = []
    over = threading.Event()
    threads: list[threading.Thread] = []

    def begin(peer: Peer) -> Path:
        path = tmp_path / "qmp.sock"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        sockets.append(listener)

        def run() -> None:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            sockets.append(client)
            with client, suppress(OSError):  # the client may have had enough before all is said
                peer(client)
                if client.fileno() >= 0:
                    over.wait()

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()
        return path

    yield begin
    over.set()
    for thread in threads:
        thread.join(60)
    for each in sockets:
        each.close()


def send(client: socket.socket, *messages: object) -> None:
    client.sendall(b"".join(json.dumps(message).encode() + b"\r\n" for message in messages))


def receive(client: socket.socket) -> dict[str, object]:
    data = b""
    while not data.endswith(b"\n"):
        piece = client.recv(4096)
        if not piece:
            raise OSError
        data += piece
    found: dict[str, object] = json.loads(data)
    return found


def obedient(client: socket.socket) -> None:
    """Answers every command with its own name, after an event and a late reply to something else."""
    send(client, GREETING)
    try:
        while True:
            command = receive(client)
            event = {"event": "RESET", "data": {"guest": True}, "timestamp": {"seconds": 5, "microseconds": 500_000}}
            if command["execute"] == "break":
                send(client, {"error": {"class": "GenericError", "desc": "no such thing"}, "id": command["id"]})
            else:
                send(client, event, {"return": "late", "id": -1}, {"return": command["execute"], "id": command["id"]})
    except OSError:
        return


def test_replies_are_matched_and_events_kept(serve: Callable[[Peer], Path]) -> None:
    with connect(serve(obedient), timeout=60) as client:
        assert client.version == (7, 2, 22)
        assert client.execute("query-status") == "query-status"
        event = client.next_event(60)
        assert event is not None and (event.name, event.seconds, event.data["guest"]) == ("RESET", 5.5, True)


def test_a_refusal_is_told_in_qemus_words(serve: Callable[[Peer], Path]) -> None:
    with connect(serve(obedient), timeout=60) as client:
        with pytest.raises(UnsupportedError) as caught:
            client.execute("break")
        assert "no such thing" in caught.value.what


@pytest.mark.parametrize("words", [b"", b"hello there\n", b'{"QMP": 1}\n', b"[1]\n", b"[" * 100_000 + b"\n"])
def test_what_is_not_qemu_is_an_error_within_the_time(serve: Callable[[Peer], Path], words: bytes) -> None:
    def peer(client: socket.socket) -> None:
        client.sendall(words)  # and no more, for as long as the client may wait

    with pytest.raises((UnsupportedError, QmpSilentError)):
        connect(serve(peer), timeout=0.3)


def test_silence_after_the_greeting_ends_with_an_error(serve: Callable[[Peer], Path]) -> None:
    def peer(client: socket.socket) -> None:
        send(client, GREETING)
        command = receive(client)
        send(client, {"return": {}, "id": command["id"]})

    with connect(serve(peer), timeout=60) as client:
        assert client.next_event(0.05) is None
        with pytest.raises(QmpSilentError) as caught:
            client.execute("query-status", timeout=0.2)
        assert "byre ps" in (caught.value.hint or "")


def test_a_qemu_that_goes_away_is_told_from_a_silent_one(serve: Callable[[Peer], Path]) -> None:
    def peer(client: socket.socket) -> None:
        send(client, GREETING)
        command = receive(client)
        send(client, {"return": {}, "id": command["id"]})
        client.close()

    with connect(serve(peer), timeout=60) as client, pytest.raises(QmpClosedError):
        client.next_event(60)


def test_a_greeting_that_comes_late_is_waited_for_on_the_same_line(serve: Callable[[Peer], Path]) -> None:
    """A QEMU under load listens long before it speaks."""
    began = threading.Event()

    def peer(client: socket.socket) -> None:
        began.wait(0.5)
        obedient(client)

    with connect(serve(peer), timeout=0.1, greeting=60) as client:
        assert client.version == (7, 2, 22)


def test_nobody_there_is_said_after_the_time(tmp_path: Path) -> None:
    with pytest.raises(QmpClosedError):
        connect(tmp_path / "none.sock", timeout=0.1)
